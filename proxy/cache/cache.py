"""The cache: decides what an answer is made of, and sees to it that one object is fetched once."""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import assert_never

import structlog
from multidict import CIMultiDict

from proxy.cache.asking import Question
from proxy.cache.clock import Clock
from proxy.cache.digesting import Digesting
from proxy.cache.fetch import Freshened, Held, Outcome, Passed, Storing
from proxy.cache.fetching import Fetching
from proxy.cache.lease import Lease, passing
from proxy.cache.leasing import STALE_IF_ERROR, Leasing
from proxy.cache.partitions import Partitions
from proxy.cache.resuming import Resumptions
from proxy.cache.sources import Growing, Passing
from proxy.cache.underway import Waits
from proxy.cache.wanted import Wanted
from proxy.cache.warm import Warm
from proxy.errors import NotValidated, OnlyIfCached, OriginError, Overloaded, SpoolError
from proxy.fill.fill import Fill
from proxy.incidents import Incidents
from proxy.semantics import reuse
from proxy.semantics.authorization import asked_first
from proxy.semantics.cache_status import CacheStatus, Forward
from proxy.semantics.freshness import FAILURES, Lifetime, Stored, current_age, is_fresh, lifetime
from proxy.semantics.key import CacheKey
from proxy.semantics.purging import Everything, Purge
from proxy.spool.entry import Entry
from proxy.spool.spool import Spool

_log = structlog.stdlib.get_logger("cache")


class Cache:
    """One spool and the fills into it.

    Answers are fresh by `clock`.  What is stored for one credential alone ends when that has not been
    seen for `partition_ttl` seconds; each client may have `partitions_per_client` such credentials.
    """

    def __init__(
        self,
        spool: Spool,
        incidents: Incidents,
        *,
        partition_ttl: float = 300.0,
        partitions_per_client: int = 32,
        clock: Clock | None = None,
    ) -> None:
        self.spool = spool
        self._incidents = incidents
        self._clock = Clock() if clock is None else clock
        self._doubting: asyncio.Task[None] | None = None
        self._partitions = Partitions(spool, partition_ttl, partitions_per_client)
        self._fetching = Fetching(spool, incidents, self._now, self._partitions.admit)
        self._underway = self._fetching.underway
        self._digesting = Digesting(spool)
        self.warm = Warm(spool, self._underway, self._partitions, self._now)
        self._leasing = Leasing(spool, incidents, self._fetching, self._digesting)
        self._sweeping = asyncio.create_task(self._partitions.sweep(), name="partition sweep")

    def fills(self) -> Iterator[Fill]:
        """Those that run now."""
        return self._fetching.fills()

    @property
    def idle(self) -> bool:
        """Is nothing being fetched?"""
        return self._fetching.idle

    @property
    def fetched(self) -> int:
        """Requests sent to origins in order to store the answer."""
        return self._fetching.fetched

    @property
    def resumptions(self) -> Resumptions:
        """How often an origin broke off, and what came of it."""
        return self._fetching.resumptions

    @property
    def filled_bytes(self) -> int:
        """All bytes that ever came through fills."""
        return self._fetching.filled_bytes

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
            decision = self._decide(wanted, held)
            if wanted.policy.authorize is not None:
                decision = asked_first(decision, wanted.request, partial(self._is_granted, wanted, held))
            match decision:
                case reuse.Reuse(chosen, age, ttl, None):
                    lease = await self._leasing.reuse(wanted, _of(held, chosen), age, ttl)
                case reuse.Reuse(chosen, _, _, refresh) if refresh and _of(held, chosen).partial:
                    lease = await self._ask(wanted, refresh, held, waits)
                # A moment ago something else came, which may not be stored.
                case reuse.Reuse(_, _, _, refresh) if refresh and self._underway.passes(wanted):
                    lease = await self._ask(wanted, refresh, held, waits)
                case reuse.Reuse(_, _, _, refresh) as stale:
                    lease = await self._leasing.serve_stale(
                        wanted, stale, _of(held, stale.stored), "stale-while-revalidate"
                    )
                    if lease is not None and refresh is not None:
                        self._fetching.refresh(wanted, _question(refresh, held))
                case reuse.Ask():
                    lease = await self._ask(wanted, decision, held, waits)
                case reuse.Refuse():
                    raise OnlyIfCached("nothing fresh is stored, and the client wants nothing else")
                case _:
                    assert_never(decision)
            if lease is not None:
                return lease

    async def successor(self, wanted: Wanted, lease: Lease) -> Lease | None:
        """The same right to what has replaced the object since; None if `wanted` has to ask for itself."""
        fill = lease.source.successor if isinstance(lease.source, Growing) else None
        cause = None if fill is None else self._fetching.caused(fill)
        if fill is None or cause is None:
            return None
        open_to_others = wanted.policy.authorize is None and self._is_for(wanted, fill.entry, cause)
        if not open_to_others and cause.request is not wanted.request:
            return None
        return replace(lease, source=Growing(fill), age=None)

    def has_caused(self, wanted: Wanted, lease: Lease) -> bool:
        """Is what arrives there fetched for this very request?"""
        cause = self._fetching.caused(lease.source.fill) if isinstance(lease.source, Growing) else None
        return cause is not None and cause.request is wanted.request

    async def invalidate(self, target: CacheKey, owners: Collection[bytes]) -> None:
        """An unsafe request for this target has succeeded: ask anew before using what there is (section 4.4).

        That goes for everyone's copies.  And the partitions of its credentials, `owners`, end: whoever has logged
        out, or paid, sees another site.
        """
        self._underway.retract(target, owners)
        self._fetching.permits.end(target, owners)
        await self.spool.drop_target(target.digest)
        for owner in owners:
            self._partitions.forget(owner)
            await self.spool.drop_partition(owner)

    async def purge(self, what: Purge, *, soft: bool) -> None:
        """Remove what is purged, or make it stale: for the next request already, and for good.

        Those who follow what is arriving have it to its end.  Raises SpoolError, Overloaded.
        """
        then = partial(self._underway.purge, what)
        try:
            await self.spool.ban(what, soft=soft, now=self._now(), then=then)
        except Overloaded:
            await self.spool.purged()
            await self.spool.ban(what, soft=soft, now=self._now(), then=then)

    # What there is

    def _held(self, wanted: Wanted) -> list[Held]:
        """Everything arriving or stored under the keys of `wanted`."""
        held = self._underway.joinable(wanted)
        held += [Held(entry) for key in wanted.keys for entry in self.spool.lookup(key)]
        if wanted.policy.authorize is None:
            partials = (partial for key in wanted.keys for partial in self.spool.partials.lookup(key))
            held += [Held(partial.entry, partial=partial) for partial in partials]
        return held

    def _decide(self, wanted: Wanted, held: list[Held]) -> reuse.Decision:
        """What is being compared, or is not whole, is taken only where nothing else will do."""
        firm = [each for each in held if each.is_firm]
        decision = self._decide_among(wanted, firm)
        if len(firm) == len(held) or isinstance(decision, reuse.Reuse):
            return decision
        return self._decide_among(wanted, held)

    def _decide_among(self, wanted: Wanted, held: list[Held]) -> reuse.Decision:
        stored = [each.entry.stored for each in held]
        return reuse.decide(wanted.request, stored, wanted.policy, self._now())

    def _is_granted(self, wanted: Wanted, held: list[Held], stored: Stored) -> bool:
        return self._fetching.permits.holds(wanted, _of(held, stored).entry.generation)

    # What has to be fetched

    def _being_compared(self, wanted: Wanted, held: list[Held], question: Question) -> Fill | None:
        """A fill that finds out just now whether what is selected still holds, for everybody who may have it."""
        if question.selected is None or wanted.policy.authorize is not None:
            return None
        generation = question.selected.current.generation
        fills = (each.fill for each in held if each.current.generation == generation)
        comparing = (fill for fill in fills if fill is not None and fill.provisional and fill.joinable)
        return next((fill for fill in comparing if self._may_join(wanted, fill.entry)), None)

    def _may_join(self, wanted: Wanted, entry: Entry) -> bool:
        """By what the new head says, not the one that was stored."""
        return wanted.may_have(entry) and is_fresh(entry.stored, wanted.policy, self._now())

    async def _ask(self, wanted: Wanted, ask: reuse.Ask, held: list[Held], waits: Waits) -> Lease | None:
        """A lease on the origin's answer, whoever asked for it, or on what is served in its stead.

        None if the answer was not for this request.
        """
        fallback = ask.fallback
        question = _question(ask, held)
        if not ask.conditions and (comparing := self._being_compared(wanted, held, question)):
            return Lease(Growing(comparing), CacheStatus(forward=ask.reason, collapsed=True), None)
        if fallback is not None and self._fetching.failing.holds(
            _of(held, fallback.stored).entry.key, wanted
        ):
            return await self._leasing.serve_stale(
                wanted, fallback, _of(held, fallback.stored), "stale-if-error"
            )
        try:
            lease = await self._fetched(wanted, question, waits)
        except (OriginError, Overloaded) as error:
            lease = None
            if fallback is not None:
                lease = await self._leasing.serve_stale(
                    wanted, fallback, _of(held, fallback.stored), "stale-if-error"
                )
            if lease is None and ask.strict and isinstance(error, OriginError):
                raise NotValidated(str(error), reason=error.reason) from error
            if lease is None:
                raise
            return replace(lease, status=replace(lease.status, hit=False, forward=ask.reason))
        passes = lease is not None and isinstance(lease.source, Passing)
        if lease is not None and passes and lease.status.forward_status in FAILURES and fallback is not None:
            forwarded = lease.status
            lease.close()
            stale = await self._leasing.serve_stale(
                wanted, fallback, _of(held, fallback.stored), "stale-if-error"
            )
            return stale and replace(
                stale, status=replace(forwarded, ttl=fallback.ttl, detail=STALE_IF_ERROR)
            )
        return lease

    async def _fetched(self, wanted: Wanted, question: Question, waits: Waits) -> Lease | None:
        fetch = self._underway.awaited(wanted, waits)
        status = CacheStatus(forward=question.reason, collapsed=fetch is not None)
        wanted.forwarded(status)
        if fetch is None:
            fetch = self._fetching.start(wanted, question)
            return await self._own_lease(wanted, await fetch.own_head(), status)
        outcome = await fetch.head()
        match outcome:
            case Storing(fill) if self._is_for(wanted, fill.entry, fetch.wanted):
                return Lease(Growing(fill), replace(status, forward_status=outcome.status), None)
            case Freshened(held, kept=True) if self._is_for(wanted, held.entry, fetch.wanted):
                return await self._freshened_lease(wanted, outcome, status)
            case _:
                return None

    def _is_for(self, wanted: Wanted, entry: Entry, cause: Wanted) -> bool:
        """May `wanted` have what was fetched for `cause`?

        What the origin wants to be asked about each time was granted to the sender's credentials: others ask too.
        """
        same = cause.partition == wanted.partition
        return wanted.may_have(entry) and (same or is_fresh(entry.stored, wanted.policy, self._now()))

    def _lifetime(self, stored: Stored, wanted: Wanted) -> Lifetime:
        representation = stored.representation
        return lifetime(representation.status, representation.fields, wanted.policy, stored.response_time)

    async def _own_lease(self, wanted: Wanted, outcome: Outcome, status: CacheStatus) -> Lease | None:
        """A lease for the one who caused the fetch."""
        match outcome:
            case Storing(fill, forward_status, withheld):
                status = replace(status, stored=True, forward_status=forward_status)
                return Lease(Growing(fill), status, None, withheld)
            case Freshened(withheld=withheld):
                lease = await self._freshened_lease(wanted, outcome, status)
                return lease and replace(lease, withheld=withheld)
            case Passed(response, reason):
                status = replace(status, forward_status=response.status, detail=reason)
                return Lease(passing(response, self._now()), status, None)
            case _:
                assert_never(outcome)

    async def _freshened_lease(self, wanted: Wanted, outcome: Freshened, status: CacheStatus) -> Lease | None:
        stored = outcome.held.entry.stored
        age = current_age(stored, self._now(), self._lifetime(stored, wanted).basis)
        lease = await self._leasing.reuse(wanted, outcome.held, age, 0)
        if wanted.policy.authorize is not None:  # that something is stored is told to those who may have it
            status = replace(status, forward=Forward.REQUEST, detail="authorized")
        return lease and replace(lease, status=replace(status, forward_status=outcome.status))

    # The end

    async def close(self) -> None:
        """Stop what is being fetched.  The spool stays open."""
        self._sweeping.cancel()
        await self._fetching.close()
        running = [self._sweeping] if self._doubting is None else [self._sweeping, self._doubting]
        await asyncio.gather(*running, return_exceptions=True)
        await self.warm.close()
        await self._partitions.close()
        await self._digesting.close()

    def _now(self) -> int:
        now = self._clock()
        if self._clock.set_back and self._doubting is None and self.spool.condition.trouble is None:
            self._doubting = asyncio.create_task(self._doubt(), name="clock set back")
        return now

    async def _doubt(self) -> None:
        """Nobody knows any more how old anything is that was stored by another time: it is asked for anew."""
        try:
            await self.purge(Everything(), soft=True)
        except (SpoolError, Overloaded) as error:  # it is tried again
            _log.error("the clock was set back, and what is stored cannot be doubted", why=str(error))
        else:
            _log.warning("the clock was set back: what is stored is validated before it is used again")
            self._clock.accept()
        finally:
            self._doubting = None


def _question(ask: reuse.Ask, held: list[Held]) -> Question:
    """Of what is not whole, a 304 would be no help."""
    candidates = tuple(_of(held, stored) for stored in ask.candidates)
    is_partial = any(each.partial is not None for each in candidates)
    return Question(
        ask.reason,
        candidates,
        CIMultiDict() if is_partial else ask.conditions,
        selects=ask.reason is not Forward.VARY_MISS,
    )


def _of(held: list[Held], stored: Stored) -> Held:
    return next(each for each in held if each.entry.stored is stored)
