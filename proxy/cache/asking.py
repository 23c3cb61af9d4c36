"""One question to the origin, and what its answer means for the spool."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.cache.comparison import Comparison
from proxy.cache.fetch import Freshened, Held, Outcome, Passed, Storing
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, OriginMalformed, SpoolError
from proxy.fill import Fill, Incoming
from proxy.origin import OriginRequest, OriginResponse
from proxy.semantics.cache_status import Forward
from proxy.semantics.fields import Fields, joined
from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.own_tags import own_tag
from proxy.semantics.purging import tags_of
from proxy.semantics.representation import Representation
from proxy.semantics.storing import UNASKED, Judgement, Pass, Store, divided, judge
from proxy.semantics.validation import confirms, describes, freshened
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry, new_generation
from proxy.spool.spool import Spool

FAILURES = frozenset({500, 502, 503, 504})
"""Statuses by which an origin says that it fails (RFC 5861 section 4)."""

ORIGIN_FAILED = "origin-failed"
"""Why a failure is not stored where there is something to serve in its stead."""

_log = structlog.stdlib.get_logger("cache")


@dataclass(frozen=True, slots=True)
class Question:
    """Why the origin is asked, and what is stored that its answer may be about.

    `stale` is what the request selects, and the siblings that `conditions` name; without `selects` only siblings.
    With a `fallback`, an origin that fails is not to replace what is stored.
    """

    reason: Forward
    stale: tuple[Held, ...] = ()
    conditions: Fields = field(default_factory=CIMultiDict)
    selects: bool = True
    fallback: bool = False

    @property
    def selected(self) -> Held | None:
        """What would answer the request if it were fresh enough."""
        return self.stale[0] if self.stale and self.selects else None


class Asking:
    """`now` gives seconds since the epoch; `on_fill` hears of a fill that succeeds another one.

    `admits` tells whether something may be stored for a partition that a client has sent the credentials of.
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
        self.count = 0
        """Requests sent to origins in order to store the answer."""

    async def ask(self, wanted: Wanted, question: Question) -> Outcome:
        """Ask, up to the head of the answer.  Raises AdapterError."""
        if wanted.request.method == "HEAD" and (confirmed := await self._ask_for_head(wanted, question)):
            return confirmed
        fields = CIMultiDict(wanted.fields())
        fields.extend(question.conditions)
        self.count += 1
        request_time, epoch = self._now(), self._spool.epoch
        response = await wanted.origin.fetch_whole(
            OriginRequest("GET", wanted.target, fields, interim=wanted.interim)
        )
        try:
            if response.status != 304 or not question.conditions:
                return await self.receive(wanted, question, response, request_time, epoch)
            confirmed = await self._confirmed(wanted, question, response, request_time, epoch)
        except BaseException:
            response.close()
            raise
        response.close()
        if confirmed is not None:
            return confirmed
        return await self.ask(wanted, replace(question, conditions=CIMultiDict()))

    # What is stored, confirmed

    async def _ask_for_head(self, wanted: Wanted, question: Question) -> Freshened | None:
        """A client wants no more than the head: the origin's may freshen what is stored (RFC 9111 section 4.3.5).

        None if it does not, or if there is nothing: many legacy origins are wrong about HEAD.
        """
        held = question.selected
        if held is None or not held.is_whole:
            return None
        self.count += 1
        request_time, epoch = self._now(), self._spool.epoch
        try:
            response = await wanted.origin.fetch(OriginRequest("HEAD", wanted.target, wanted.fields()))
        except OriginMalformed:  # it sends a body, say
            return None
        try:
            if not describes(held.current.stored, response.status, response.fields, response.content_length):
                return None
            return await self.freshen(wanted, held, response, request_time, epoch)
        finally:
            response.close()

    async def _confirmed(
        self, wanted: Wanted, question: Question, response: OriginResponse, request_time: int, epoch: int
    ) -> Freshened | None:
        """What a 304 speaks of; None if that is nothing that we have, or allows no reuse."""
        meant = [held for held in question.stale if confirms(held.current.stored, response.fields)]
        if "ETag" not in response.fields and (len(question.stale) > 1 or not question.selects):
            return None  # it does not say which
        return await self.freshen(wanted, meant[0], response, request_time, epoch) if meant else None

    async def freshen(
        self, wanted: Wanted, held: Held, response: OriginResponse, request_time: int, epoch: int
    ) -> Freshened | None:
        """`held` with these news of it; None if it may not be reused any more."""
        entry = held.current
        stored = freshened(entry.stored, response.fields, request_time, self._now())
        match self._judge(wanted, stored.representation.status, stored.representation.fields):
            case Pass():
                if held.fill is not None:
                    held.fill.retract()
                if entry.stored.representation.complete_length is not None:
                    await self._spool.drop([entry])
                return None
            case Store(Scope.PARTITION) if entry.partition is None:
                return None
            case Store() as verdict:
                representation = replace(stored.representation, fields=CIMultiDictProxy(verdict.fields))
                stored = replace(stored, representation=representation)
        tags = tags_of(response.fields, wanted.policy.tag_fields) or entry.tags
        fresh = replace(entry, stored=stored, tags=tags, epoch=epoch)
        if held.fill is not None:
            held.fill.entry = fresh
        if held.is_whole:
            try:
                await self._spool.update(fresh)
            except SpoolError as error:
                _log.warning("a validation could not be recorded", object=entry.label, why=str(error))
        _, withheld = divided(response.fields, wanted.policy)
        return Freshened(Held(fresh, held.fill), response.status, withheld)

    # A new answer

    async def receive(
        self, wanted: Wanted, question: Question, response: OriginResponse, request_time: int, epoch: int
    ) -> Outcome:
        if response.status in UNASKED:
            raise OriginMalformed(f"the origin answered {response.status}, which nobody asked for")
        if question.fallback and response.status in FAILURES:
            return Passed(response, ORIGIN_FAILED)
        match self._judge(wanted, response.status, response.fields):
            case Pass(reason):
                return Passed(response, reason.value)
            case Store() as verdict:
                return await self._store(wanted, question, verdict, response, request_time, epoch)

    def _judge(self, wanted: Wanted, status: int, fields: Fields) -> Judgement:
        return judge(wanted.request, status, fields, wanted.policy, self._now())

    async def _store(
        self,
        wanted: Wanted,
        question: Question,
        verdict: Store,
        response: OriginResponse,
        request_time: int,
        epoch: int,
    ) -> Outcome:
        length = response.content_length
        if length is not None and length > self._spool.max_object_size:
            return Passed(response, "too-large")
        entry = _new_entry(wanted, verdict, response, request_time, self._now(), epoch)
        if entry.partition is not None and not self._admits(entry.partition, wanted.request.client):
            return Passed(response, "partition-count")
        fill = await self._compared(entry, question.selected, response)
        if fill is None:
            try:
                writer = await self._spool.create(entry, length)
            except SpoolError as error:
                _log.warning("an answer passes without being stored", object=entry.label, why=str(error))
                return Passed(response, error.reason)
            fill = Fill(response, writer, limit=self._spool.max_object_size)
        return Storing(fill, response.status, verdict.withheld)

    async def _compared(self, entry: Entry, old: Held | None, response: OriginResponse) -> Fill | None:
        """A fill that looks whether `old` still holds; None if that cannot be, by the head of the answer alone."""
        if old is None or old.fill is not None or not (twin := _twin(entry, old.entry)):
            return None
        try:
            body = await self._spool.open_body(old.entry)
        except AdapterError:  # lost, or too many files are open: then it is not compared
            return None

        async def change(rest: Incoming) -> None:
            try:
                writer = await self._spool.create(entry, response.content_length)
            except SpoolError as error:
                _log.warning("a changed object is not stored", object=entry.label, why=str(error))
                rest.close()
                return
            fill.successor = Fill(rest, writer, limit=self._spool.max_object_size)
            if fill.retracted:
                fill.successor.retract()
            self._on_fill(fill.successor)

        comparison = Comparison(self._spool, twin, body, response, change)
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


def _new_entry(
    wanted: Wanted, verdict: Store, response: OriginResponse, request_time: int, now: int, epoch: int
) -> Entry:
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
                status=response.status,
                fields=fields,
                validators=origin_validators(fields, own_tag(generation)),
                complete_length=response.content_length,
            ),
            request_time=request_time,
            response_time=now,
            vary=verdict.vary,
            scope=verdict.scope,
        ),
        location=wanted.location,
        tags=tags_of(response.fields, wanted.policy.tag_fields),
        epoch=epoch,
    )
