"""Leases on what is there: whole, arriving, or the beginning of something."""

from dataclasses import replace

from proxy.cache.digesting import Digesting
from proxy.cache.fetch import Held
from proxy.cache.fetching import Fetching
from proxy.cache.lease import Lease
from proxy.cache.sources import Broken, Complete, Growing
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, OnlyIfCached, SpoolError
from proxy.incidents import Incidents
from proxy.semantics.cache_status import CacheStatus, Forward
from proxy.semantics.digests import wants_digest
from proxy.semantics.fields import parse_directives
from proxy.semantics.reuse import Reuse
from proxy.spool.partials import Partial
from proxy.spool.spool import Spool

STALE_WHILE_REVALIDATE = "stale-while-revalidate"
STALE_IF_ERROR = "stale-if-error"
UNFINISHED = "unfinished"


class Leasing:
    """`age` and `ttl` are in seconds, `ttl` negative of what is stale."""

    def __init__(self, spool: Spool, incidents: Incidents, fetching: Fetching, digesting: Digesting) -> None:
        self._spool = spool
        self._incidents = incidents
        self._fetching = fetching
        self._digesting = digesting

    async def reuse(self, wanted: Wanted, held: Held, age: int, ttl: int) -> Lease | None:
        """A lease on what is held; None if that is over, or was lost on the disk and is forgotten now."""
        entry, fill = held.entry, held.fill
        if held.partial is not None:
            return self._go_on(wanted, held.partial, age, ttl)
        if fill is not None:
            if fill.joinable:
                whole = fill.written == fill.complete_length
                why = Forward.STALE if fill.provisional else Forward.URI_MISS
                status = CacheStatus(hit=True, ttl=ttl) if whole else CacheStatus(forward=why, collapsed=True)
                return Lease(Growing(fill), status, age)
            entry = fill.entry
            if fill.error is not None or fill.retracted or fill.complete_length is None:
                return None
        if wants_digest(wanted.request.fields, entry.stored.representation):
            entry = await self._digesting.with_digest(entry)
        try:
            body = await self._spool.open_body(entry)
        except SpoolError as error:
            text, reason, label = str(error), error.reason, entry.label
            self._incidents.note(
                "a stored object was lost", about="spool", reason=reason, why=text, object=label
            )
            return None
        return Lease(Complete(entry, body), CacheStatus(hit=True, ttl=ttl), age)

    def _go_on(self, wanted: Wanted, partial: Partial, age: int, ttl: int) -> Lease | None:
        """A lease on the beginning of an object: with the rest, unless the origin has just failed to give that."""
        if "only-if-cached" in parse_directives(wanted.request.fields):
            error = OnlyIfCached("only a part is stored, and the client wants nothing else")
            return self._broken_lease(partial, error, age, ttl)
        if self._fetching.failing.holds(partial.entry.key, wanted):
            return self._broken_lease(partial, partial.error, age, ttl)
        status = CacheStatus(forward=Forward.PARTIAL)
        wanted.forwarded(status)
        fill = self._fetching.go_on(wanted, partial)
        return None if fill is None else Lease(Growing(fill), status, age)

    @staticmethod
    def _broken_lease(partial: Partial, error: AdapterError, age: int, ttl: int) -> Lease:
        """Raises `error` where nobody may have what is stored."""
        if not partial.confirmed:
            raise error
        broken = Broken(partial.entry, partial.filling.body.hold(), partial.written, error)
        return Lease(broken, CacheStatus(hit=True, ttl=ttl, detail=UNFINISHED), age)

    async def serve_stale(self, wanted: Wanted, stale: Reuse, chosen: Held, why: str) -> Lease | None:
        """As `reuse`, of what is not fresh any more."""
        if chosen.partial is not None:
            partial = chosen.partial
            lease: Lease | None = self._broken_lease(partial, partial.error, stale.age, stale.ttl)
        else:
            lease = await self.reuse(wanted, chosen, stale.age, stale.ttl)
        return lease and replace(lease, status=replace(lease.status, detail=why))
