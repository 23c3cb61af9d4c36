"""GET and HEAD on an adapted route: take a lease, plan the answer, deliver it."""

import asyncio
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Protocol

from multidict import CIMultiDict

from proxy.cache.lease import Lease
from proxy.cache.wanted import Wanted
from proxy.cache.warm import AGE, TTL, Answers, Warm, frozen
from proxy.errors import SpoolError, Unconfirmed
from proxy.origin import Origin
from proxy.routes import Route, Routed
from proxy.semantics import forward
from proxy.semantics.cors import add_cors
from proxy.semantics.fields import MAX_LENGTH, Fields, joined
from proxy.semantics.forward import Network
from proxy.semantics.key import CacheKey, credentials, key_fields, location, primary_key
from proxy.semantics.normalization import authority
from proxy.semantics.plan import ResponsePlan, plan
from proxy.semantics.policy import CachePolicy
from proxy.semantics.preconditions import Verdict, evaluate
from proxy.semantics.ranges import Ignored, RangeLimits, Slice, parse_range
from proxy.semantics.request import ClientRequest
from proxy.server.access import Access, Visit
from proxy.server.delivery import deliver
from proxy.server.exchange import Exchange, answer_head
from proxy.server.reading import first_lines
from proxy.spool.epochs import Epoch

ATTEMPTS = 3
"""How often an answer is begun anew, because the object has changed, or was lost, before its head was out."""
OF_THE_OBJECT = ("Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
"""What is about the object, and not about a page that somebody gets who may not have it."""
UNCONFIRMED = ("If-None-Match", "If-Modified-Since")
"""What may not be answered 304 yet while the object is being compared with the origin's."""


class Spool(Protocol):
    """What it needs to know of the spool."""

    @property
    def secret(self) -> bytes: ...
    def failed(self, error: Exception) -> None: ...


class Cache(Protocol):
    """What answers are made of: `proxy.cache.cache`, or that of another worker."""

    @property
    def spool(self) -> Spool: ...
    @property
    def warm(self) -> Warm: ...
    async def acquire(self, wanted: Wanted) -> Lease: ...
    async def successor(self, wanted: Wanted, lease: Lease) -> Lease | None: ...
    async def invalidate(self, target: CacheKey, owners: Collection[bytes]) -> None: ...


class Adapting:
    """`name` is what we are called in Via."""

    def __init__(
        self,
        cache: Cache,
        origins: Mapping[str, Origin],
        access: Access,
        *,
        policies: Sequence[CachePolicy],
        name: str,
        trusted: Sequence[Network],
        server_timing: bool,
        cache_status_key: bool,
    ) -> None:
        self._cache = cache
        self._origins = origins
        self._access = access
        self._policies = policies
        self._name = name
        self._trusted = trusted
        self._server_timing = server_timing
        self._cache_status_key = cache_status_key

    async def answer(self, exchange: Exchange, visit: Visit, request: ClientRequest, routed: Routed) -> None:
        """Raises AdapterError, ConnectionError, TimeoutError."""
        wanted = replace(self.wanted(request, routed), interim=exchange.interim, forwarded=visit.forwarded)
        visit.key = wanted.shared_key.text if self._cache_status_key else None
        epoch = self._cache.warm.epoch(wanted)
        successor: Lease | None = None
        for attempt in range(ATTEMPTS):
            lease = successor or await self._cache.acquire(wanted)
            try:
                self._keep_warm(lease, exchange, visit.key, wanted, routed, epoch)
                await self._answer_from(lease, exchange, visit, request, routed)
                return
            except (Unconfirmed, SpoolError) as error:
                if exchange.started or attempt == ATTEMPTS - 1:
                    raise
                if isinstance(error, Unconfirmed):
                    successor = await self._cache.successor(wanted, lease)
                else:
                    successor = None
                # What the disk could not read is not found again.  If it cannot read what is new either, then the
                # next answer passes.
                if attempt and isinstance(error, SpoolError):
                    self._cache.spool.failed(error)
            finally:
                lease.close()

    async def _answer_from(
        self, lease: Lease, exchange: Exchange, visit: Visit, request: ClientRequest, routed: Routed
    ) -> None:
        """Raises Unconfirmed and BodyLost, too: as long as the exchange has not started, a new answer can be had."""
        visit.status = lease.status
        if visit.key is not None:
            visit.key = lease.key or visit.key
        available = await _settle_length(lease, request, routed.route)
        response = _plan(lease, request, routed, available)
        if not await _is_confirmed(lease, response, routed.route):
            response = _plan(lease, _without(request, *UNCONFIRMED), routed, available)
        with suppress(TimeoutError):  # then what is there is sent, and the rest waited for
            async with asyncio.timeout(routed.route.unknown_length_wait):
                await lease.source.ensure(_reach(response))
        visit.ignored_range(response.range_ignored)
        fields = self._fields(response, lease, request, routed, visit)
        await deliver(replace(response, fields=fields), lease.source, exchange, int(time.time()))

    def _keep_warm(
        self,
        lease: Lease,
        exchange: Exchange,
        cache_key: str | None,
        wanted: Wanted,
        routed: Routed,
        epoch: Epoch,
    ) -> None:
        """So that the next who asks for the object is answered by the warm lane, if that may be: he need not wait
        until this one has been.
        """
        request, route = wanted.request, routed.route
        key = first_lines(exchange.request)
        plain = request.method == "GET" and route.limits.max_ranges > 0
        if key is None or not plain or self._server_timing or forward.is_trusted(request.peer, self._trusted):
            return

        def answers(about: ClientRequest) -> Answers | None:
            status = replace(lease.status, ttl=TTL)
            timeless = replace(lease, age=AGE, status=status)
            told = Visit(status=status, key=cache_key and (lease.key or cache_key))

            def head(**fields: str) -> bytes:
                asked = replace(about, fields=CIMultiDict(fields))
                response = _plan(lease, asked, routed, None)
                sent = self._fields(response, timeless, asked, routed, told)
                return answer_head(response.status, sent, response.length)

            by_site = route.cors is not None and "*" not in route.cors.allow_origins
            return frozen(
                exchange.request.raw_path,
                route=route.name,
                origin=route.origin,
                by_site=by_site,
                whole=head(),
                partial=head(Range="bytes=0-0"),
                not_modified=head(**{"If-None-Match": "*"}),
            )

        self._cache.warm.keep(key, wanted, lease, epoch, answers)

    async def invalidate(self, request: ClientRequest, routed: Routed) -> None:
        """`request` has changed something: forget what a GET of its target, here `routed`, was answered with."""
        # The same cookies are other credentials to a route that ignores others.
        found = (credentials(request, policy, self._cache.spool.secret) for policy in self._policies)
        owners = {owner for owner in found if owner is not None}
        await self._cache.invalidate(self.wanted(request, routed).target_key, owners)

    def wanted(self, request: ClientRequest, routed: Routed) -> Wanted:
        """What a request that this route takes asks of the cache."""
        route = routed.route
        who = credentials(request, route.policy, self._cache.spool.secret)
        owner = None if route.policy.one_copy else who
        key = (route.origin, request.host, routed.path, routed.query, route.key)
        target_key = primary_key(*key, scheme=request.scheme)
        said = key_fields(request, route.key)
        return Wanted(
            request=request,
            origin=self._origins[route.origin],
            target=routed.fetch_target,
            fields=partial(self._fill_fields, request, route),
            policy=route.policy,
            target_key=target_key,
            location=location(request, route.key),
            shared_key=primary_key(*key, scheme=request.scheme, fields=said) if said else target_key,
            partition_key=None
            if owner is None
            else primary_key(*key, scheme=request.scheme, fields=said, partition=owner),
            partition=owner,
            credentials=who,
        )

    def _fill_fields(self, request: ClientRequest, route: Route) -> Fields:
        # The origin hears the host as it stands in the key: some make their answer of its spelling.
        return forward.fill_fields(
            replace(request, host=authority(request.host, request.scheme)),
            host=route.host,
            key=route.key,
            ignore_cookies=route.policy.ignore_cookies,
            via=self._name,
            trusted_peer=forward.is_trusted(request.peer, self._trusted),
        )

    def _fields(
        self, response: ResponsePlan, lease: Lease, request: ClientRequest, routed: Routed, visit: Visit
    ) -> CIMultiDict[str]:
        """The planned fields, and those of the way from the store to the client."""
        fields = forward.to_client(response.fields, via=self._name)
        if lease.age is not None:
            fields["Age"] = str(lease.age)
        upstream = joined(fields, "Cache-Status")
        fields["Cache-Status"] = self._access.cache_status(visit.cache_status(), upstream)
        if routed.route.cors is not None:
            add_cors(fields, routed.route.cors, request)
        for name, value in lease.withheld.items():
            if name not in response.fields:
                fields.add(name, value)
        if self._server_timing:
            milliseconds = (time.monotonic() - visit.begun) * 1000
            fields.add("Server-Timing", f"cache;dur={milliseconds:.1f}")
        return fields


async def _is_confirmed(lease: Lease, response: ResponsePlan, route: Route) -> bool:
    """Wait, where the representation may yet prove to be replaced, until the answer's first byte is known to hold.

    An answer without any waits for the last one, as long as `route` allows; False if that was not enough.  Raises
    ObjectChanged.
    """
    source = lease.source
    if not source.provisional:
        return True
    first = next((part.start for part in response.parts if not isinstance(part, bytes)), None)
    if first is not None:
        await source.wait(first)
        return True
    try:
        async with asyncio.timeout(route.unknown_length_wait):
            await source.wait_for_end()
    except TimeoutError:
        return False
    return True


def _reach(response: ResponsePlan) -> int:
    """Below which offset the bytes lie that the answer is made of."""
    ends = (
        0 if isinstance(part, bytes) else part.stop if isinstance(part, Slice) else MAX_LENGTH
        for part in response.parts
    )
    return max(ends, default=0)


async def _settle_length(lease: Lease, request: ClientRequest, route: Route) -> int | None:
    """Where the answer hangs on a length that nobody knows yet, wait for the fill to end, as long as `route` allows.

    Returns how many bytes there are by then.
    """
    source = lease.source
    known = source.representation.complete_length is not None
    if known or not source.seekable or not _hangs_on_length(lease, request, route.limits):
        return None
    try:
        async with asyncio.timeout(route.unknown_length_wait):
            return await source.wait_for_end()
    except TimeoutError:
        return await source.wait(-1)


def _hangs_on_length(lease: Lease, request: ClientRequest, limits: RangeLimits) -> bool:
    """Is it for a range that is not ignored anyway, or for the head of the whole?  A 304 needs no length."""
    representation = lease.source.representation
    evaluation = evaluate(request, representation.validators, representation.status)
    if evaluation.verdict is not Verdict.PROCEED:
        return False
    if request.method == "HEAD":
        return True
    return evaluation.range_applies and not isinstance(parse_range(request.fields["Range"], limits), Ignored)


def _plan(lease: Lease, request: ClientRequest, routed: Routed, available: int | None) -> ResponsePlan:
    source, policy = lease.source, routed.route.policy
    # A page to log in on must not become a 206, nor one of its ranges a part of the film.
    as_it_is = (
        policy.authorize is not None
        and not source.seekable
        and not policy.is_media(source.representation.fields)
    )
    if as_it_is:
        request = _without(request, *OF_THE_OBJECT)

    def planned(request: ClientRequest) -> ResponsePlan:
        return plan(
            request,
            source.representation,
            limits=routed.route.limits,
            boundary=secrets.token_hex(16),
            available=available,
        )

    response = planned(request)
    if not source.seekable and not _ascends(response):
        # The bytes pass once, forwards: such a set is answered with the whole.
        whole = planned(_without(request, "Range"))
        response = replace(whole, range_ignored="descending-ranges")
    if as_it_is or (not source.seekable and response.length is None):
        response.fields.popall("Accept-Ranges", None)
    return response


def _ascends(response: ResponsePlan) -> bool:
    slices = [part for part in response.parts if isinstance(part, Slice)]
    return all(before.stop <= after.start for before, after in pairwise(slices))


def _without(request: ClientRequest, *names: str) -> ClientRequest:
    fields = CIMultiDict(request.fields)
    for name in names:
        fields.popall(name, None)
    return replace(request, fields=fields)
