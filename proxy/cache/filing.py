"""An answer that may be stored, on its way into the spool: as a new generation, as the rest of one that broke off, or
compared with the old one.
"""

from collections.abc import Callable

import structlog

from proxy.cache.answer import Answer, Asker
from proxy.cache.comparison import Comparison
from proxy.cache.fetch import Held, Passed, Storing
from proxy.cache.generations import new_entry, same_as, whole_of
from proxy.cache.recent import Recent
from proxy.cache.resuming import Resuming, Resumptions
from proxy.cache.subject import Subject
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, SpoolError, SpoolFull, SpoolSuspended
from proxy.fill.ends import Incoming
from proxy.fill.fill import Fill
from proxy.incidents import Incidents
from proxy.semantics.storing import Store
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry
from proxy.spool.filling import Filling
from proxy.spool.partials import Partial
from proxy.spool.spool import Spool

DOUBTED_FOR = 3600.0
"""Seconds for which it is remembered that a body ended earlier than it should."""

_log = structlog.stdlib.get_logger("cache")


class Filing:
    """`now` gives seconds since the epoch.

    `on_successor` hears of a fill that succeeds another one, and of what caused it; `admits` says whether something
    may be kept for a partition and a client's address.
    """

    def __init__(
        self,
        spool: Spool,
        asker: Asker,
        incidents: Incidents,
        now: Callable[[], int],
        on_successor: Callable[[Wanted, Fill], None],
        admits: Callable[[bytes, str], bool],
    ) -> None:
        self.spool = spool
        self.asker = asker
        self.incidents = incidents
        self.now = now
        self.resumptions = Resumptions()
        self._on_successor = on_successor
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
        if length is not None and length > self.spool.max_object_size:
            return Passed(response, "too-large")
        entry = new_entry(wanted, verdict, answer, self.now())
        if entry.partition is not None and not self._admits(entry.partition, wanted.request.client):
            return Passed(response, "partition-count")
        fill = self._resumed(wanted, entry, old, answer) or await self._compared(wanted, entry, old, answer)
        if fill is None:
            try:
                writer = await self.spool.create(entry, length)
            except SpoolSuspended as error:
                return Passed(response, error.reason)
            except SpoolError as error:
                _log.warning("an answer passes without being stored", object=entry.label, why=str(error))
                return Passed(response, error.reason)
            fill = self._new_fill(wanted, writer, answer, known_length=_length_of(old))
        return Storing(fill, response.status, verdict.withheld)

    def _new_fill(
        self,
        wanted: Wanted,
        writer: Filling,
        answer: Answer | None,
        incoming: Incoming | None = None,
        *,
        stored: int = 0,
        provisional: bool = False,
        known_length: int | None = None,
    ) -> Fill:
        subject = Subject(self, wanted, known_length)
        source = Resuming(
            subject,
            self.resumptions,
            patience=wanted.origin.resume,
            answer=answer,
            incoming=incoming,
            stored=stored,
        )
        fill = Fill(
            source,
            writer,
            limit=self.spool.max_object_size,
            stored=stored,
            provisional=provisional,
            keeps=wanted.policy.authorize is None,
        )
        subject.fill = source.fill = fill
        return fill

    # What broke off

    def go_on(self, wanted: Wanted, partial: Partial) -> Fill | None:
        """A fill that asks the origin for the rest of what is stored; None if somebody else does that already."""
        if not self.spool.partials.take(partial):
            return None
        fill = self._new_fill(
            wanted, partial.filling, None, stored=partial.written, provisional=not partial.confirmed
        )
        fill.entry = partial.entry
        fill.note_break()
        return fill

    def _resumed(self, wanted: Wanted, entry: Entry, old: Held | None, answer: Answer) -> Fill | None:
        """A fill that looks whether an answer is the whole of what broke off; None if that cannot be."""
        partial = None if old is None else old.partial
        if partial is None:
            return None
        twin = whole_of(entry, partial.entry, partial.written)
        if twin is None or not self.spool.partials.take(partial):
            return None
        tag = entry.stored.representation.validators.etag
        is_tagged = (
            tag == origin_validators(entry.stored.representation.fields, None).etag and tag is not None
        )
        fill = self._new_fill(
            wanted,
            partial.filling,
            answer,
            stored=partial.written,
            provisional=not (is_tagged and partial.confirmed),
        )
        fill.entry = twin
        return fill

    # What is whole, and stale

    async def _begin(self, entry: Entry, length: int | None, *, instead_of: Entry) -> Filling:
        """Room for a new generation; the old one, known to be out of date, goes before its time if need be."""
        try:
            return await self.spool.create(entry, length)
        except SpoolFull:
            await self.spool.drop([instead_of])
            return await self.spool.create(entry, length)

    async def succeed(self, fill: Fill, wanted: Wanted, entry: Entry, answer: Answer, rest: Incoming) -> None:
        """Another object has come in the place of what `fill` stands for: its fill, if it can be stored."""
        length = answer.response.content_length
        try:
            if length is not None and length > self.spool.max_object_size:
                raise SpoolFull(f"body is larger than {self.spool.max_object_size} bytes", reason="too-large")
            writer = await self._begin(entry, length, instead_of=fill.entry)
        except SpoolError as error:
            if not isinstance(error, SpoolSuspended):
                _log.warning("a changed object is not stored", object=entry.label, why=str(error))
            rest.close()
            return
        fill.successor = self._new_fill(wanted, writer, answer, rest)
        if fill.retracted:
            fill.successor.retract()
        self._on_successor(wanted, fill.successor)

    async def _compared(self, wanted: Wanted, entry: Entry, old: Held | None, answer: Answer) -> Fill | None:
        """A fill that looks whether `old` still holds; None if that cannot be, by the head of the answer alone."""
        if old is None or old.partial is not None or (old.fill is not None and not old.fill.provisional):
            return None
        twin = same_as(entry, old.current)
        if twin is None:
            return None
        try:
            body = await self.spool.open_body(old.current)
        except AdapterError:  # lost, or too many files are open: then it is not compared
            return None

        async def change(rest: Incoming) -> None:
            await self.succeed(fill, wanted, entry, answer, rest)

        def doubts() -> bool:
            """An end without a last chunk or a length is doubted once, and believed when it comes again."""
            return self.doubts(twin, 0)

        comparison = Comparison(self.spool, twin, body, answer.response, change, doubts)
        fill = Fill(comparison, comparison, limit=self.spool.max_object_size, provisional=True)
        return fill

    def doubts(self, entry: Entry, received: int) -> bool:
        """Is this the first time that its body ended there?"""
        end = entry.key + received.to_bytes(8)
        if end in self._doubted:
            return False
        self._doubted.add(end)
        return True


def _length_of(old: Held | None) -> int | None:
    """Of what an earlier fetch brought."""
    if old is None or old.current.stored.representation.status != 200:
        return None
    return old.current.stored.representation.complete_length
