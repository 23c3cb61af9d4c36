"""What aiohttp calls for each request: read it, route it, see that it is answered, and tell of it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from aiohttp import web
from multidict import CIMultiDict

from proxy.errors import AdapterError, MethodNotAllowed, PreconditionFailed
from proxy.origin import Origin
from proxy.routes import Mode, Route, Routed, RouteTable
from proxy.semantics import forward
from proxy.semantics.cache_status import CacheStatus, Forward
from proxy.semantics.cors import add_cors, preflight_fields
from proxy.semantics.fields import joined
from proxy.semantics.forward import Network
from proxy.semantics.own_tags import without_own_tags
from proxy.semantics.request import ClientRequest
from proxy.semantics.treatment import Treatment, hops_left, treatment, upgrade_wanted
from proxy.server.access import Access, Visit
from proxy.server.adapting import Adapting
from proxy.server.exchange import Exchange
from proxy.server.invalidation import changed, changes
from proxy.server.purging import Purging
from proxy.server.reading import read_request
from proxy.server.relay import Relay
from proxy.server.warm import Lane

_log = structlog.stdlib.get_logger("server")


class Handler:
    """`send_idle` is in seconds, `send_rate` in bytes a second, as for `Exchange`."""

    def __init__(
        self,
        routes: RouteTable,
        origins: Mapping[str, Origin],
        adapting: Adapting,
        purging: Purging,
        access: Access,
        lane: Lane,
        *,
        name: str,
        trusted: Sequence[Network],
        send_idle: float,
        send_rate: float,
    ) -> None:
        self._routes = routes
        self._origins = origins
        self._adapting = adapting
        self._purging = purging
        self._access = access
        self._lane = lane
        self._name = name
        self._trusted = trusted
        self._send_idle = send_idle
        self._send_rate = send_rate
        self._running: dict[asyncio.Task[object], Exchange] = {}
        self._ending = asyncio.Event()

    @property
    def running(self) -> frozenset[asyncio.Future[Any]]:
        """The requests that are being answered."""
        return frozenset(self._running) | self._lane.sendings

    @property
    def draining(self) -> bool:
        """Has the end begun?"""
        return self._ending.is_set()

    def drain(self) -> None:
        """From now on, each answer is the last on its connection.  Tunnels, which have no answer to finish, end."""
        self._ending.set()
        self._lane.drain()
        for exchange in self._running.values():
            exchange.keep_alive = False

    def close(self) -> None:
        """Nothing is being answered any more."""
        self._access.lines.hand_over()

    async def __call__(self, request: web.BaseRequest) -> Exchange:
        exchange = Exchange(request, send_idle=self._send_idle, send_rate=self._send_rate)
        visit = Visit()
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = exchange
        if self._ending.is_set():
            exchange.keep_alive = False
        try:
            await self._answer_or_refuse(exchange, visit)
        except ConnectionError:
            visit.reason = "client-gone"
            exchange.abort()
        except TimeoutError as error:
            visit.reason = "send-timeout"
            exchange.end_slow(error)
        except asyncio.CancelledError:
            visit.reason = "stopped" if self._ending.is_set() else "client-gone"
            exchange.cut_short()
            raise
        finally:
            del self._running[task]
            self._access.record(exchange, visit)
        return exchange

    async def _answer_or_refuse(self, exchange: Exchange, visit: Visit) -> None:
        try:
            await self._answer(exchange, visit)
            return
        except AdapterError as error:
            failure = error
            self._access.failed(visit, error)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  # the client gets its 500, the log the traceback
            _log.exception("a request failed by a fault of ours", route=visit.route, exc_info=error)
            failure = AdapterError("an unexpected error")
            visit.reason = failure.reason
        if exchange.started:
            exchange.cut_short()
        if not exchange.started:  # or not any more: its head had not left yet
            await self._access.refuse(exchange, failure, visit)

    async def _answer(self, exchange: Exchange, visit: Visit) -> None:
        request = visit.request = read_request(exchange.request, self._trusted)
        if self._purging.takes(request):
            await self._purging.answer(exchange, visit, request)
            return
        routed = self._routes.match(request)
        route = routed.route
        visit.route, visit.origin, visit.cors = route.name, route.origin, route.cors
        match treatment(request, adapts=route.mode is Mode.ADAPT, cors=route.cors is not None):
            case Treatment.ADAPT:
                await self._adapting.answer(exchange, visit, request, routed)
            case Treatment.PREFLIGHT:
                assert route.cors is not None
                await self._answer_here(exchange, 204, preflight_fields(route.cors, request), "preflight")
            case Treatment.LAST_HOP:
                await self._answer_as_last(exchange, request)
            case Treatment.METHOD:
                await self._relay(exchange, visit, request, routed, Forward.METHOD)
            case _:
                await self._relay(exchange, visit, request, routed, Forward.BYPASS)

    async def _answer_as_last(self, exchange: Exchange, request: ClientRequest) -> None:
        """The request may go no further, so that it is for us (RFC 9110 section 7.6.2)."""
        if request.method == "TRACE":
            # The echo would show credentials to scripts that cannot see them otherwise.
            raise MethodNotAllowed("requests are not echoed")
        await self._answer_here(exchange, 200, CIMultiDict(), "max-forwards")

    async def _answer_here(
        self, exchange: Exchange, status: int, fields: CIMultiDict[str], detail: str
    ) -> None:
        """An answer without a body, which asks no origin."""
        fields["Cache-Status"] = self._access.cache_status(CacheStatus(detail=detail))
        await exchange.start(status, fields, length=None if status == 204 else 0, now=int(time.time()))
        await exchange.finish()

    async def _relay(
        self, exchange: Exchange, visit: Visit, request: ClientRequest, routed: Routed, why: Forward
    ) -> None:
        route = routed.route
        visit.status = CacheStatus(forward=why)
        fields = self._relayed_fields(request, route)
        relay = Relay(exchange, self._origins[route.origin], self._ending)
        response = await relay.ask(request.method, routed.target, fields)
        try:
            visit.status = replace(visit.status, forward_status=response.status)
            if changes(request, response.status):
                url = self._origins[route.origin].url
                for each in changed(self._routes, request, routed, response.fields, url):
                    await self._adapting.invalidate(*each)
            answer = forward.to_client(response.fields, via=self._name, version=response.version)
            answer["Cache-Status"] = self._access.cache_status(visit.status, joined(answer, "Cache-Status"))
            if route.cors is not None:
                add_cors(answer, route.cors, request)
            await relay.answer(response, answer, int(time.time()))
        finally:
            response.close()

    def _relayed_fields(self, request: ClientRequest, route: Route) -> CIMultiDict[str]:
        if route.mode is Mode.ADAPT:
            known = without_own_tags(request.fields)
            if known is None:
                raise PreconditionFailed("If-Match names only tags that are ours, not the origin's")
            request = replace(request, fields=known)
        fields = forward.to_origin(
            request,
            host=route.host,
            via=self._name,
            trusted_peer=forward.is_trusted(request.peer, self._trusted),
            upgrade=upgrade_wanted(request),
        )
        if hops := hops_left(request):
            fields["Max-Forwards"] = str(hops - 1)
        return fields
