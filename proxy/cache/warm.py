"""Warm records: what answers a request from memory and an open file, without asking anybody again.

A record is kept under the raw first line and Host of requests, and stands for one stored object that every client may
have: whole, without Vary, found under no other condition than the target.  Its epoch is read before the object was
looked up, and compared at each use: whatever happens to what is stored under the target, or begins to arrive for it,
ends the record.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from multidict import CIMultiDict

from proxy.cache.lease import Lease
from proxy.cache.sources import Complete
from proxy.cache.wanted import Wanted
from proxy.errors import SpoolError
from proxy.fill.fill import Fill
from proxy.semantics import reuse
from proxy.semantics.cache_status import CacheStatus
from proxy.semantics.policy import CachePolicy
from proxy.semantics.preconditions import Verdict, evaluate
from proxy.semantics.request import ClientRequest
from proxy.semantics.shape import MOST_CONDITIONS, read_lines
from proxy.spool.body import Body
from proxy.spool.entry import Entry
from proxy.spool.epochs import NEVER, Epoch, Epochs

MOST: Final = 1024
"""Records; their bodies are those that the spool keeps open anyway."""
CONDITIONS: Final = 64
"""Different conditional fields whose verdict a record remembers, ..."""
SHORT: Final = 256
"""... of at most so many bytes: clients may say what they like."""
LONGEST: Final = 16 << 10
"""Bytes of an answer's head that may become a record's: it is copied for each request."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The heads of answers, in which `AGE` and `TTL` stand for what changes with time.  A `partial` one is followed
    by the range, and `partial_rest` by the length.  With `by_site`, they are for requests without Origin.
    """

    target: str
    route: str
    origin: str
    by_site: bool
    whole: bytes
    partial: bytes
    partial_rest: bytes
    not_modified: bytes


AGE: Final = 777_777_777_777_771
TTL: Final = 777_777_777_777_773
"""Numbers that no object has."""


def frozen(
    target: str, *, route: str, origin: str, by_site: bool, whole: bytes, partial: bytes, not_modified: bytes
) -> Answers | None:
    """From whole heads, of which `partial` is that of the range 0-0; None if they are too long, or something in them
    looks like the numbers that stand for others.
    """
    before, mark, after = partial.partition(b"\r\nContent-Range: bytes ")
    rest = after.removeprefix(b"0-0").removesuffix(b"1\r\n\r\n")
    unequivocal = all(
        head.count(b"%d" % number) == 1 for head in (whole, partial, not_modified) for number in (AGE, TTL)
    )
    if len(partial) > LONGEST or len(whole) > LONGEST:
        return None
    if not unequivocal or len(rest) != len(after) - 8 or not rest.endswith(b"\r\nContent-Length: "):
        return None
    return Answers(target, route, origin, by_site, whole, before + mark, rest, not_modified)


@dataclass(slots=True)
class Record:
    """`body` is not held, so that it can be evicted: whoever uses the record looks whether it is open still.

    `age` and `ttl` are those at `made`, seconds since the epoch.  Requests with credentials may use it where it is
    `for_credentials`; `about` is a request for it without fields.  The heads are those of this `second`, and so are
    the credentials that have `entered`.
    """

    entry: Entry
    body: Body
    slot: int
    epoch: Epoch
    made: int
    age: int
    ttl: int
    policy: CachePolicy
    for_credentials: bool
    about: ClientRequest
    answers: Answers
    generation: str
    length: int
    second: int = -1
    whole: bytes = b""
    partial: bytes = b""
    partial_rest: bytes = b""
    not_modified: bytes = b""
    entered: set[bytes] = field(default_factory=set)
    _verdicts: dict[bytes, tuple[Verdict | None, bool]] = field(default_factory=dict)

    def render(self, now: int) -> None:
        """The heads of this second."""
        age, ttl = b"%d" % (self.age + now - self.made), b"%d" % (self.ttl - now + self.made)

        def at(head: bytes) -> bytes:
            return head.replace(b"%d" % AGE, age).replace(b"%d" % TTL, ttl)

        answers = self.answers
        self.whole, self.not_modified = at(answers.whole), at(answers.not_modified)
        self.partial, self.partial_rest = at(answers.partial), at(answers.partial_rest)
        self.entered.clear()
        self.second = now

    def verdict(self, conditions: bytes) -> tuple[Verdict | None, bool]:
        """What these lines of conditional fields come to, and whether a Range applies if there is one; None if they
        need another look.
        """
        found = self._verdicts.get(conditions)
        if found is None:
            found = self._verdict(conditions)
            if len(conditions) > SHORT:
                return found
            if len(self._verdicts) >= CONDITIONS:
                self._verdicts.clear()
            self._verdicts[conditions] = found
        return found

    def _verdict(self, conditions: bytes) -> tuple[Verdict | None, bool]:
        fields = read_lines(conditions)
        if fields is None or len(fields) > MOST_CONDITIONS:
            return None, False
        fields["Range"] = "bytes=0-0"
        evaluation = evaluate(replace(self.about, fields=fields), self.entry.stored.representation.validators)
        return evaluation.verdict, evaluation.range_applies


class Spool(Protocol):
    """What tells whether a record holds: `proxy.spool.spool`, or what a worker knows of another one's."""

    @property
    def secret(self) -> bytes: ...
    @property
    def epochs(self) -> Epochs: ...
    @property
    def used_lately(self) -> set[str]: ...
    def use(self, entry: Entry, body: Body) -> bool: ...
    async def has_others(self, entry: Entry) -> bool: ...


class Underway(Protocol):
    """What is being fetched here."""

    def fills(self) -> Iterator[Fill]: ...


class Partitions(Protocol):
    """Which credentials are in use."""

    def is_in_use(self, partition: bytes) -> bool: ...


class Warm:
    """The records; `clock` is the cache's."""

    def __init__(
        self, spool: Spool, underway: Underway, partitions: Partitions, clock: Callable[[], int]
    ) -> None:
        self.clock = clock
        self._partitions = partitions
        self._spool = spool
        self._epoch = spool.epochs.read
        self._note_use = spool.used_lately.add
        self._underway = underway
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self._refused: OrderedDict[bytes, Epoch] = OrderedDict()
        self._making: dict[bytes, asyncio.Task[None]] = {}
        self.find = self._records.get

    def __len__(self) -> int:
        return len(self._records)

    @property
    def secret(self) -> bytes:
        """What the keys of credentials are made with."""
        return self._spool.secret

    def clear(self) -> None:
        """Remember nothing, and no record stands any more."""
        for record in self._records.values():
            record.epoch = NEVER
        self._records.clear()
        self._refused.clear()

    def epoch(self, wanted: Wanted) -> Epoch:
        """To be read before a lease is taken that may become a record."""
        epochs = self._spool.epochs
        return epochs.read(epochs.slot(wanted.target_key.digest))

    def use(self, record: Record) -> bool:
        """Has nothing happened to it since it was made, as far as memory tells?  Then this use of it is noted."""
        if self._epoch(record.slot) != record.epoch or not record.body.is_open:
            return False
        self._note_use(record.generation)
        return True

    def holds(self, key: bytes, record: Record) -> bool:
        """Is it still what the cache would answer with?  Its file is looked at once a second."""
        return self.use(record) and (record.second == int(time.time()) or self._renew(key, record))

    def _renew(self, key: bytes, record: Record) -> bool:
        now = self.clock()
        is_fresh = record.made <= now < record.made + record.ttl
        if not is_fresh or not self._spool.use(record.entry, record.body):
            return False
        self._records.move_to_end(key)
        record.render(now)
        return True

    def drop(self, key: bytes) -> None:
        """It holds no more."""
        self._records.pop(key, None)

    def enters(self, record: Record, partition: bytes) -> bool:
        """May these credentials use it, without anything having to end for them first?  Their use is noted once a
        second.
        """
        if partition not in record.entered:
            if not record.for_credentials or not self._partitions.is_in_use(partition):
                return False
            record.entered.add(partition)
        return True

    def keep(
        self,
        key: bytes,
        wanted: Wanted,
        lease: Lease,
        epoch: Epoch,
        make: Callable[[ClientRequest], Answers | None],
    ) -> None:
        """Make a record of what `wanted` was answered with, if all may have it, and nothing has changed `epoch`
        since.  `make` makes the heads of answers to such requests.
        """
        source = lease.source
        if key in self._records or self._refused.get(key) == epoch or key in self._making:
            return
        is_hit = lease.status == CacheStatus(hit=True, ttl=lease.status.ttl)
        if not is_hit or not isinstance(source, Complete) or source.file is None:
            return
        if not _is_plain(source.entry, wanted):
            self._refuse(key, epoch)
            return
        making = self._make(key, wanted, source.entry, source.file, epoch, make)
        task = self._making[key] = asyncio.create_task(making, name="warm record")
        task.add_done_callback(lambda _: self._making.pop(key))

    async def _make(
        self,
        key: bytes,
        wanted: Wanted,
        entry: Entry,
        body: Body,
        epoch: Epoch,
        make: Callable[[ClientRequest], Answers | None],
    ) -> None:
        try:
            if await self._spool.has_others(entry):
                self._refuse(key, epoch)
                return
        except SpoolError:  # it is known
            return
        # From here on no await: what holds now, holds for the epoch.
        arriving = any(fill.entry.target == entry.target for fill in self._underway.fills())
        if arriving or self.epoch(wanted) != epoch or not body.is_open:
            return
        about = replace(wanted.request, method="GET", fields=CIMultiDict({"Host": wanted.request.host}))
        now, policy = self.clock(), wanted.policy
        decision = reuse.decide(about, [entry.stored], policy, now)
        is_fresh = isinstance(decision, reuse.Reuse) and decision.refresh is None and decision.ttl > 0
        answers = make(about) if is_fresh else None
        if not isinstance(decision, reuse.Reuse) or answers is None:
            self._refuse(key, epoch)
            return
        signed_in = replace(about, fields=CIMultiDict({"Cookie": "a=b"}))
        self._records[key] = Record(
            entry=entry,
            body=body,
            slot=self._spool.epochs.slot(entry.target),
            epoch=epoch,
            made=now,
            age=decision.age,
            ttl=decision.ttl,
            policy=policy,
            for_credentials=reuse.usable_shared(entry.stored, signed_in, replace(policy, ignore_cookies=())),
            about=about,
            answers=answers,
            generation=entry.generation,
            length=entry.length,
        )
        if len(self._records) > MOST:
            self._records.popitem(last=False)

    def _refuse(self, key: bytes, epoch: Epoch) -> None:
        """Nobody shall try again until something has changed."""
        self._refused[key] = epoch
        if len(self._refused) > MOST:
            self._refused.popitem(last=False)

    async def close(self) -> None:
        """Make no more of them."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)


def _is_plain(entry: Entry, wanted: Wanted) -> bool:
    """Is it found by its target alone, and for everybody?"""
    return (
        entry.partition is None
        and not entry.stored.vary
        and entry.stored.representation.status == 200
        and entry.length > 0
        and wanted.shared_key == wanted.target_key
        and wanted.policy.authorize is None
    )
