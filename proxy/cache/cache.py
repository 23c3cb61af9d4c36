"""The cache: decides what an answer is made of, and sees to it that one object is fetched once."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

import structlog
from multidict import CIMultiDictProxy

from proxy.cache.asking import Asking, Question
from proxy.cache.fetch import Fetch, Freshened, Held, Outcome, Passed, Storing
from proxy.cache.partitions import Partitions
from proxy.cache.sources import Complete, Growing, Passing, Source
from proxy.cache.underway import Underway, Waits
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, OnlyIfCached, SpoolError
from proxy.fill import Fill
from proxy.origin import OriginResponse
from proxy.semantics import reuse
from proxy.semantics.cache_status import CacheStatus, Forward
from proxy.semantics.fields import end_to_end, format_http_date
from proxy.semantics.freshness import Lifetime, Stored, current_age, lifetime
from proxy.semantics.representation import Representation
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry
from proxy.spool.spool import Spool

PASSING_READ_AHEAD = 64 << 10
"""Bytes read ahead of a client whose answer is not stored: it may be slow, and one of many."""

_FOLLOWING = CacheStatus(forward=Forward.URI_MISS, collapsed=True)

_log = structlog.stdlib.get_logger("cache")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to read one representation until `close`, which is called once.

    `age` is None for what is not reused.
    """

    source: Source
    status: CacheStatus
    age: int | None
    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        self.source.close()
        if self.on_close is not None:
            self.on_close()


class Cache:
    """One spool and the fills into it.

    `clock` gives seconds since the epoch.  What is stored for one credential alone ends when that has not been
    seen for `partition_ttl` seconds.
    """

    def __init__(
        self, spool: Spool, *, partition_ttl: float = 300.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.spool = spool
        self._clock = clock
        self._asking = Asking(spool, self._now)
        self._underway = Underway()
        self._partitions = Partitions(spool, partition_ttl)
        self._sweeping = asyncio.create_task(self._partitions.sweep(), name="partition sweep")
        self._tasks: set[asyncio.Task[None]] = set()
        self._filled_bytes = 0

    def fills(self) -> Iterator[Fill]:
        """Those that run now."""
        return self._underway.fills()

    @property
    def fetched(self) -> int:
        """Requests sent to origins in order to store the answer."""
        return self._asking.count

    @property
    def filled_bytes(self) -> int:
        """All bytes that ever came through fills."""
        return self._filled_bytes + sum(fill.written for fill in self.fills())

    async def acquire(self, wanted: Wanted) -> Lease:
        """What answers `wanted`: stored, arriving or passing.  Raises AdapterError."""
        if wanted.partition is None:
            return await self._acquire(wanted)
        await self._partitions.enter(wanted.partition)
        lease = await self._acquire(wanted)
        return replace(lease, on_close=partial(self._partitions.note_use, wanted.partition))

    async def _acquire(self, wanted: Wanted) -> Lease:
        waits = Waits()
        while True:
            held = self._held(wanted)
            stored = [each.entry.stored for each in held]
            decision = reuse.decide(wanted.request, stored, wanted.policy, self._now())
            match decision:
                case reuse.Reuse(chosen, age, ttl):
                    lease = await self._reuse(_of(held, chosen), age, ttl)
                case reuse.Validate(chosen, conditions, reason):
                    lease = await self._ask(wanted, Question(reason, _of(held, chosen), conditions), waits)
                case reuse.Fetch(reason):
                    lease = await self._ask(wanted, Question(reason), waits)
                case reuse.Refuse():
                    raise OnlyIfCached("nothing fresh is stored, and the client wants nothing else")
                case _:
                    assert_never(decision)
            if lease is not None:
                return lease

    async def invalidate(self, wanted: Wanted) -> None:
        """An unsafe request for this target has succeeded: ask anew before using what there is (section 4.4).

        That goes for everyone's copies.  And the partition of its credentials ends: whoever has logged out, or
        paid, sees another site.
        """
        self._underway.retract(wanted)
        await self.spool.drop_target(wanted.target_key.digest)
        if wanted.partition is not None:
            await self.spool.drop_partition(wanted.partition)

    # What there is

    def _held(self, wanted: Wanted) -> list[Held]:
        """Everything arriving or stored under the keys of `wanted`."""
        stored = [Held(entry) for key in wanted.keys for entry in self.spool.lookup(key)]
        return [*self._underway.joinable(wanted), *stored]

    async def _reuse(self, held: Held, age: int, ttl: int) -> Lease | None:
        """A lease on what is held; None if that is over, or was lost on the disk and is forgotten now."""
        entry, fill = held.entry, held.fill
        if fill is not None:
            if fill.joinable:
                whole = fill.written == fill.complete_length
                status = CacheStatus(hit=True, ttl=ttl) if whole else _FOLLOWING
                return Lease(Growing(fill), status, age)
            entry = fill.entry
            if fill.error is not None or fill.retracted or fill.complete_length is None:
                return None
        try:
            body = await self.spool.open_body(entry)
        except SpoolError as error:
            _log.warning("a stored object was lost", object=entry.label, why=str(error))
            return None
        return Lease(Complete(entry, body), CacheStatus(hit=True, ttl=ttl), age)

    # What has to be fetched

    async def _ask(self, wanted: Wanted, question: Question, waits: Waits) -> Lease | None:
        """A lease on the origin's answer, whoever asked for it; None if that was not for this request."""
        fetch = self._underway.awaited(wanted, waits)
        if fetch is None:
            fetch = self._start(wanted, question)
            status = CacheStatus(forward=question.reason)
            return await self._own_lease(wanted, await fetch.own_head(), status)
        outcome = await fetch.head()
        status = CacheStatus(forward=question.reason, collapsed=True)
        match outcome:
            case Storing(fill) if self._is_for(wanted, fill.entry, fetch):
                return Lease(Growing(fill), replace(status, forward_status=outcome.status), None)
            case Freshened(held) if self._is_for(wanted, held.entry, fetch):
                return await self._freshened_lease(wanted, held, status)
            case _:
                return None

    def _is_for(self, wanted: Wanted, entry: Entry, fetch: Fetch) -> bool:
        """May `wanted` have what `fetch` brought?

        What the origin wants to be asked about each time was granted to the sender's credentials: others ask too.
        """
        same = fetch.wanted.partition == wanted.partition
        return wanted.may_have(entry) and (same or self._is_fresh(entry.stored, wanted))

    def _is_fresh(self, stored: Stored, wanted: Wanted) -> bool:
        """By itself, without the origin's word?"""
        granted = self._lifetime(stored, wanted)
        return granted.seconds > current_age(stored, self._now(), granted.basis)

    def _lifetime(self, stored: Stored, wanted: Wanted) -> Lifetime:
        representation = stored.representation
        return lifetime(representation.status, representation.fields, wanted.policy, stored.response_time)

    async def _own_lease(self, wanted: Wanted, outcome: Outcome, status: CacheStatus) -> Lease | None:
        """A lease for the one who caused the fetch."""
        match outcome:
            case Storing(fill, forward_status):
                return Lease(Growing(fill), replace(status, stored=True, forward_status=forward_status), None)
            case Freshened(held):
                return await self._freshened_lease(wanted, held, status)
            case Passed(response, reason):
                response.read_ahead(PASSING_READ_AHEAD)
                status = replace(status, forward_status=response.status, detail=reason)
                return Lease(Passing(response, _passing_representation(response, self._now())), status, None)
            case _:
                assert_never(outcome)

    async def _freshened_lease(self, wanted: Wanted, held: Held, status: CacheStatus) -> Lease | None:
        stored = held.entry.stored
        age = current_age(stored, self._now(), self._lifetime(stored, wanted).basis)
        lease = await self._reuse(held, age, 0)
        return lease and replace(lease, status=replace(status, forward_status=304))

    def _start(self, wanted: Wanted, question: Question) -> Fetch:
        fetch = Fetch(wanted)
        self._underway.enter_fetch(fetch)
        task = asyncio.create_task(self._run(fetch, question), name=f"fetch {wanted.shared_key.text}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return fetch

    async def _run(self, fetch: Fetch, question: Question) -> None:
        try:
            outcome = await self._asking.ask(fetch.wanted, question)
        except AdapterError as error:
            fetch.fail(error)
            return
        except BaseException:
            fetch.fail(AdapterError("the request to the origin was stopped"))
            raise
        finally:
            self._underway.leave_fetch(fetch)
        self._underway.learn(fetch.wanted, outcome)
        if isinstance(outcome, Storing):
            await self._fill(fetch, outcome)
        else:
            await fetch.resolve(outcome)

    async def _fill(self, fetch: Fetch, outcome: Storing) -> None:
        fill = outcome.fill
        if fetch.retracted:
            fill.retract()
        self._underway.enter_fill(fill)
        try:
            try:
                await fetch.resolve(outcome)
            except asyncio.CancelledError:
                _cancel_this_task()  # again, in `run`, which then leaves everything in order
            await fill.run()
            if fill.error is None and not fill.retracted:
                self._underway.supersede(fill)
        finally:
            self._underway.leave_fill(fill)
            self._filled_bytes += fill.written
        if fill.error is not None:
            _log.warning("a fill failed", object=fill.entry.label, why=str(fill.error), written=fill.written)
        elif fill.retracted and fill.complete_length is not None:
            await self.spool.drop([fill.entry])  # it may have been retracted while it was committed

    # The end

    async def close(self) -> None:
        """Stop what is being fetched.  The spool stays open."""
        for fill in list(self.fills()):
            fill.stop()
        for task in list(self._tasks):
            task.cancel()
        self._sweeping.cancel()
        await asyncio.gather(*self._tasks, self._sweeping, return_exceptions=True)
        await self._partitions.close()

    def _now(self) -> int:
        return int(self._clock())


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def _of(held: list[Held], stored: Stored) -> Held:
    return next(each for each in held if each.entry.stored is stored)


def _passing_representation(response: OriginResponse, now: int) -> Representation:
    fields = end_to_end(response.fields)
    fields.setdefault("Date", format_http_date(now))
    return Representation(
        status=response.status,
        fields=CIMultiDictProxy(fields),
        validators=origin_validators(fields, None),
        complete_length=response.content_length,
    )
