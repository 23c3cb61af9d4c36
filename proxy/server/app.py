"""The wiring: a `Config` becomes a running service.  Nothing else puts the house's parts together."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import assert_never

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from yarl import URL

from proxy.admin.listener import admin_app
from proxy.admin.state import State
from proxy.admin.token import FILE as TOKEN_FILE
from proxy.admin.token import Token
from proxy.cache.cache import Cache
from proxy.config import Config
from proxy.config.addresses import Address, TcpAddress, UnixAddress
from proxy.config.model import Origin as OriginSection
from proxy.errors import ConnectTimeout, OriginDown
from proxy.incidents import Incidents
from proxy.origin import Origin
from proxy.routes import RouteTable
from proxy.server.accepting import SPARE, SPARE_FOR_ADMIN, Acceptor, Site, Spare, Take
from proxy.server.access import Access, Visit
from proxy.server.adapting import Adapting
from proxy.server.connection import Listener
from proxy.server.entrance import Entrance
from proxy.server.exchange import Exchange
from proxy.server.handler import Handler
from proxy.server.metrics import Metrics
from proxy.server.purging import Purging
from proxy.server.warm import Lane
from proxy.spool.scrub import Scrub
from proxy.spool.spool import Spool

CUT_WITHIN = 1.0
"""Seconds in which connections close whose answers were cut."""

_log = structlog.stdlib.get_logger("service")


class Service:
    """A running adapter.  `addresses` and `admin_address` are URLs, with the ports that were really taken."""

    def __init__(
        self,
        handler: Handler,
        cache: Cache,
        public: web.BaseRunner,
        state: State,
        parts: AsyncExitStack,
        *,
        drain: float,
    ) -> None:
        """`parts` ends what was started, in the opposite order."""
        self.addresses: list[str] = []
        self.admin_address: str | None = None
        self._handler = handler
        self._cache = cache
        self._public = public
        self._state = state
        self._parts = parts
        self._drain = drain
        self._stopping: asyncio.Task[None] | None = None

    @property
    def in_progress(self) -> int:
        """Requests that are being answered now."""
        return len(self._handler.running)

    @property
    def draining(self) -> bool:
        """Has the end begun?  Then no new connection is taken."""
        return self._state.draining

    async def stop(self) -> None:
        """End gracefully: no new connections, running answers may finish within `drain`, then everything ends."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        async with self._parts:  # whichever of them fails to end, the others do
            self._state.draining = True
            self._handler.drain()
            for site in list(self._public.sites):
                await site.stop()
            if self._public.server is not None:
                self._public.server.pre_shutdown()
            if running := self._handler.running:
                _, late = await asyncio.wait(running, timeout=self._drain)
                for task in late:
                    task.cancel()


async def start(config: Config) -> Service:
    """Start everything.  Raises SpoolError or OSError, in words for the person who started us."""
    async with AsyncExitStack() as parts:
        incidents = Incidents()
        watching = asyncio.create_task(incidents.watch(), name="incidents")
        parts.callback(watching.cancel)
        origins: dict[str, Origin] = {}
        for name, section in config.origins.items():
            origins[name] = _origin(name, section, incidents)
            parts.push_async_callback(origins[name].close)
        spool = await Spool.open(
            Path(config.spool.path),
            max_size=config.spool.max_size,
            max_object_size=config.spool.max_object_size,
            min_free=config.spool.min_free,
            partition_size=config.spool.partition_size,
        )
        parts.push_async_callback(spool.close)
        scrub = Scrub(spool, rate=config.spool.scrub_rate, interval=config.spool.scrub_interval)
        parts.push_async_callback(scrub.close)
        cache = Cache(
            spool,
            incidents,
            partition_ttl=config.spool.partition_ttl,
            partitions_per_client=config.spool.partitions_per_client,
        )
        parts.push_async_callback(cache.close)
        registry = CollectorRegistry()
        spare = Spare(SPARE)
        parts.callback(spare.close)
        handler, entrance, listener, purging = _public_side(
            config, cache, origins, spare, incidents, registry
        )
        parts.callback(handler.close)
        parts.callback(entrance.close)
        parts.callback(asyncio.create_task(entrance.watch(), name="entrance").cancel)
        state = State(
            cache,
            scrub,
            registry,
            started=time.monotonic(),
            in_progress=lambda: len(handler.running),
            origins=origins.values(),
            connections=entrance.report,
        )
        public: web.BaseRunner = web.ServerRunner(listener, shutdown_timeout=CUT_WITHIN)
        parts.push_async_callback(public.cleanup)
        door = partial(
            Acceptor,
            take=partial(entrance.take, listener.connection),
            spare=spare,
            incidents=incidents,
            about="clients",
            keep=SPARE_FOR_ADMIN,
        )
        addresses = await _listen(public, config.server.listen, door)
        admin_address = None
        if config.admin.listen is not None:
            app = admin_app(state, purging, await _admin_token(config, spool))
            admin = web.AppRunner(app, access_log=None, shutdown_timeout=CUT_WITHIN)
            parts.push_async_callback(admin.cleanup)
            door = partial(
                Acceptor, take=_admin_take(admin), spare=spare, incidents=incidents, about="admin", keep=0
            )
            [admin_address] = await _listen(admin, [config.admin.listen], door)
        service = Service(handler, cache, public, state, parts.pop_all(), drain=config.server.timeouts.drain)
    service.addresses, service.admin_address = addresses, admin_address
    return service


def _public_side(
    config: Config,
    cache: Cache,
    origins: dict[str, Origin],
    spare: Spare,
    incidents: Incidents,
    registry: CollectorRegistry,
) -> tuple[Handler, Entrance, Listener, Purging]:
    """What clients talk to."""
    server, routes = config.server, RouteTable(config)
    metrics = Metrics(registry)
    access = Access(metrics, incidents, name=server.name, log=config.logging.access)
    adapting = Adapting(
        cache,
        origins,
        access,
        policies=routes.policies,
        name=server.name,
        trusted=server.trusted_proxies,
        server_timing=server.server_timing,
        cache_status_key=server.cache_status_key,
    )
    purging = Purging(routes, cache, access, registry, allowed=server.purge_from)
    max_head = server.limits.head_size or 4 * server.max_header_size
    lane = Lane(
        cache.warm,
        access,
        trusted=server.trusted_proxies,
        send_idle=server.timeouts.send_idle,
        send_rate=server.limits.send_rate,
        longest=min(max_head, server.max_header_size),
        fields=server.limits.fields,
    )
    handler = Handler(
        routes,
        origins,
        adapting,
        purging,
        access,
        lane,
        name=server.name,
        trusted=server.trusted_proxies,
        send_idle=server.timeouts.send_idle,
        send_rate=server.limits.send_rate,
    )
    metrics.in_progress.set_function(lambda: len(handler.running))

    def refused(request: web.BaseRequest, status: int, reason: str, why: str) -> None:
        exchange, visit = Exchange(request, send_idle=0), Visit(reason=reason, unreadable=why)
        exchange.status = status
        access.record(exchange, visit)

    entrance = Entrance(
        spare,
        metrics,
        incidents,
        name=server.name,
        connections=server.limits.connections,
        per_client=server.limits.connections_per_client,
        trusted=server.trusted_proxies,
        others=2 * sum(each.max_connections for each in config.origins.values()) + cache.spool.most_kept_open,
    )
    listener = Listener(
        handler,
        name=server.name,
        on_refusal=refused,
        on_timeout=entrance.note_timeout,
        lane=lane,
        keepalive_timeout=server.timeouts.keep_alive,
        head=server.timeouts.head,
        max_head=max_head,
        max_line_size=server.max_header_size,
        max_field_size=server.max_header_size,
        max_headers=server.limits.fields,
        auto_decompress=False,
    )
    return handler, entrance, listener, purging


def _admin_take(admin: web.BaseRunner) -> Take:
    def take(sock: socket.socket, peer: str) -> asyncio.Protocol:
        assert admin.server is not None, "it is set up before it listens"
        return admin.server()

    return take


async def _admin_token(config: Config, spool: Spool) -> Token:
    if config.admin.token is not None:
        return Token.configured(config.admin.token)
    token = await asyncio.to_thread(Token.fresh, spool.paths.root)
    spool.keep(TOKEN_FILE, token.text)
    return token


def _origin(name: str, section: OriginSection, incidents: Incidents) -> Origin:
    return Origin(
        name,
        str(section.url),
        connect=section.timeouts.connect,
        first_byte=section.timeouts.first_byte,
        idle=section.timeouts.idle,
        resume=section.timeouts.resume,
        queue=section.timeouts.queue,
        max_connections=section.max_connections,
        max_fills=section.fills,
        fills_per_client=section.client_fills,
        max_waiting=section.max_waiting,
        on_recovery=partial(incidents.over, name, OriginDown.reason, ConnectTimeout.reason),
    )


async def _listen(
    runner: web.BaseRunner, addresses: Sequence[Address], accept: Callable[[socket.socket], Acceptor]
) -> list[str]:
    """Open the listeners; their URLs."""
    await runner.setup()
    urls = []
    for address in addresses:
        site = Site(runner, await _bind(address), accept)
        await site.start()
        urls.append(_url(address, runner))
    return urls


async def _bind(address: Address) -> asyncio.Server:
    """A server that does not serve: it knows how to bind to all that a name stands for."""
    loop = asyncio.get_running_loop()
    match address:
        case TcpAddress(host, port):
            return await loop.create_server(
                asyncio.Protocol, host, port, reuse_address=True, start_serving=False
            )
        case UnixAddress(path):
            return await loop.create_unix_server(asyncio.Protocol, path, start_serving=False)
        case _:
            assert_never(address)


def _url(address: Address, runner: web.BaseRunner) -> str:
    if isinstance(address, UnixAddress):
        return str(address)
    bound = runner.addresses[-1]
    return str(URL.build(scheme="http", host=address.host, port=bound[1], path="/"))
