"""An answer that may be stored, on its way into the spool: as a new generation, or compared with the old one."""

from collections.abc import Callable
from dataclasses import replace

import structlog
from multidict import CIMultiDictProxy

from proxy.cache.answer import Answer
from proxy.cache.comparison import Comparison
from proxy.cache.fetch import Held, Passed, Storing
from proxy.cache.recent import Recent
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, SpoolError, SpoolFull, SpoolSuspended
from proxy.fill import Fill, Incoming
from proxy.origin import OriginResponse
from proxy.semantics.fields import joined
from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.own_tags import own_tag
from proxy.semantics.purging import tags_of
from proxy.semantics.representation import Representation
from proxy.semantics.storing import Store
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry, new_generation
from proxy.spool.filling import Filling
from proxy.spool.spool import Spool

DOUBTED_FOR = 3600.0
"""Seconds for which it is remembered that a body ended earlier than the one that is stored."""

_log = structlog.stdlib.get_logger("cache")


class Filing:
    """`now` gives seconds since the epoch.

    `on_fill` hears of a fill that succeeds another one; `admits` says whether something may be kept for a partition
    and a client's address.
    """

    def __init__(
        self,
        spool: Spool,
        now: Callable[[], int],
        on_fill: Callable[[Fill], None],
        admits: Callable[[bytes, str], bool],
    ) -> None:
        self._spool = spool
        self._now = now
        self._on_fill = on_fill
        self._admits = admits
        self._doubted = Recent(DOUBTED_FOR)

    async def store(
        self,
        wanted: Wanted,
        old: Held | None,
        verdict: Store,
        answer: Answer,
    ) -> Storing | Passed:
        """Begin to store an answer that may be; `old` is what it would replace.  Its head arrives now."""
        response, length = answer.response, answer.response.content_length
        if length is not None and length > self._spool.max_object_size:
            return Passed(response, "too-large")
        entry = _new_entry(wanted, verdict, answer, self._now())
        if entry.partition is not None and not self._admits(entry.partition, wanted.request.client):
            return Passed(response, "partition-count")
        fill = await self._compared(entry, old, response)
        if fill is None:
            try:
                writer = await self._spool.create(entry, length)
            except SpoolSuspended as error:
                return Passed(response, error.reason)
            except SpoolError as error:
                _log.warning("an answer passes without being stored", object=entry.label, why=str(error))
                return Passed(response, error.reason)
            fill = Fill(response, writer, limit=self._spool.max_object_size)
        return Storing(fill, response.status, verdict.withheld)

    async def _begin(self, entry: Entry, length: int | None, *, instead_of: Entry) -> Filling:
        """Room for a new generation; the old one, known to be out of date, goes before its time if need be."""
        try:
            return await self._spool.create(entry, length)
        except SpoolFull:
            await self._spool.drop([instead_of])
            return await self._spool.create(entry, length)

    async def _compared(self, entry: Entry, old: Held | None, response: OriginResponse) -> Fill | None:
        """A fill that looks whether `old` still holds; None if that cannot be, by the head of the answer alone."""
        if old is None or (old.fill is not None and not old.fill.provisional):
            return None
        twin = _twin(entry, old.current)
        if twin is None:
            return None
        try:
            body = await self._spool.open_body(old.current)
        except AdapterError:  # lost, or too many files are open: then it is not compared
            return None

        async def change(rest: Incoming) -> None:
            try:
                writer = await self._begin(entry, response.content_length, instead_of=twin)
            except SpoolError as error:
                if not isinstance(error, SpoolSuspended):
                    _log.warning("a changed object is not stored", object=entry.label, why=str(error))
                rest.close()
                return
            fill.successor = Fill(rest, writer, limit=self._spool.max_object_size)
            if fill.retracted:
                fill.successor.retract()
            self._on_fill(fill.successor)

        def doubts() -> bool:
            """An end without a last chunk or a length is doubted once, and believed when it comes again."""
            generation = twin.generation.encode()
            if generation in self._doubted:
                return False
            self._doubted.add(generation)
            return True

        comparison = Comparison(self._spool, twin, body, response, change, doubts)
        fill = Fill(comparison, comparison, limit=self._spool.max_object_size, provisional=True)
        return fill


def _twin(entry: Entry, old: Entry) -> Entry | None:
    """`old`, with what a new answer says of it; None if the two cannot have the same bytes and the same tag."""
    new, was = entry.stored, old.stored
    fields = new.representation.fields
    validators = origin_validators(fields, own_tag(old.generation))
    is_the_same = (
        entry.key == old.key
        and new.vary == was.vary
        and new.representation.status == was.representation.status == 200
        and new.representation.complete_length in {None, old.length}
        and validators.etag == was.representation.validators.etag
        and all(
            joined(fields, name) == joined(was.representation.fields, name)
            for name in ("Content-Type", "Content-Encoding")
        )
    )
    if not is_the_same or old.length == 0:
        return None
    representation = replace(new.representation, validators=validators, complete_length=old.length)
    return replace(
        entry,
        generation=old.generation,
        digest=old.digest,
        stored=replace(new, representation=representation),
    )


def _new_entry(wanted: Wanted, verdict: Store, answer: Answer, now: int) -> Entry:
    generation = new_generation()
    key, partition = wanted.shared_key, None
    if verdict.scope is Scope.PARTITION:
        assert wanted.partition_key is not None, "only credentials make an answer personal"
        key, partition = wanted.partition_key, wanted.partition
    fields = CIMultiDictProxy(verdict.fields)
    return Entry(
        key=key.digest,
        target=wanted.target_key.digest,
        generation=generation,
        label=key.text,
        partition=partition,
        stored=Stored(
            representation=Representation(
                status=answer.response.status,
                fields=fields,
                validators=origin_validators(fields, own_tag(generation)),
                complete_length=answer.response.content_length,
            ),
            request_time=answer.request_time,
            response_time=now,
            vary=verdict.vary,
            scope=verdict.scope,
        ),
        location=wanted.location,
        tags=tags_of(answer.response.fields, wanted.policy.tag_fields),
        epoch=answer.epoch,
    )
