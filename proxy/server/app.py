"""The wiring: a `Config` becomes a running service.  Nothing else puts the house's parts together."""

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
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
from proxy.errors import AdapterError
from proxy.origin import Origin
from proxy.routes import RouteTable
from proxy.server import logs
from proxy.server.access import Access, Visit
from proxy.server.adapting import Adapting
from proxy.server.connection import Listener
from proxy.server.exchange import Exchange
from proxy.server.handler import Handler
from proxy.server.metrics import Metrics
from proxy.server.purging import Purging
from proxy.spool.spool import Spool

BACKLOG = 1024
"""Connections the kernel holds until we accept them."""

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
        origins: dict[str, Origin] = {}
        for name, section in config.origins.items():
            origins[name] = _origin(name, section)
            parts.push_async_callback(origins[name].close)
        spool = await Spool.open(
            Path(config.spool.path),
            max_size=config.spool.max_size,
            max_object_size=config.spool.max_object_size,
            min_free=config.spool.min_free,
            partition_size=config.spool.partition_size,
        )
        parts.push_async_callback(spool.close)
        cache = Cache(
            spool,
            partition_ttl=config.spool.partition_ttl,
            partitions_per_client=config.spool.partitions_per_client,
        )
        parts.push_async_callback(cache.close)
        registry = CollectorRegistry()
        handler, listener, purging = _public_side(config, cache, origins, registry)
        state = State(cache, registry, started=time.monotonic(), in_progress=lambda: len(handler.running))
        public: web.BaseRunner = web.ServerRunner(listener, shutdown_timeout=CUT_WITHIN)
        parts.push_async_callback(public.cleanup)
        addresses = await _listen(public, config.server.listen)
        admin_address = None
        if config.admin.listen is not None:
            app = admin_app(state, purging, await _admin_token(config, spool))
            admin = web.AppRunner(app, access_log=None, shutdown_timeout=CUT_WITHIN)
            parts.push_async_callback(admin.cleanup)
            [admin_address] = await _listen(admin, [config.admin.listen])
        service = Service(handler, cache, public, state, parts.pop_all(), drain=config.server.timeouts.drain)
    service.addresses, service.admin_address = addresses, admin_address
    return service


def _public_side(
    config: Config, cache: Cache, origins: dict[str, Origin], registry: CollectorRegistry
) -> tuple[Handler, Listener, Purging]:
    """What clients talk to."""
    server, routes = config.server, RouteTable(config)
    metrics = Metrics(registry)
    access = Access(metrics, name=server.name, log=config.logging.access)
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
    handler = Handler(
        routes,
        origins,
        adapting,
        purging,
        access,
        name=server.name,
        trusted=server.trusted_proxies,
        send_idle=server.timeouts.send_idle,
    )
    metrics.in_progress.set_function(lambda: len(handler.running))

    def refused(request: web.BaseRequest, status: int, reason: str, why: str) -> None:
        exchange, visit = Exchange(request, send_idle=0), Visit(reason=reason, unreadable=why)
        exchange.status = status
        access.record(exchange, visit)

    listener = Listener(
        handler,
        name=server.name,
        on_refusal=refused,
        keepalive_timeout=server.timeouts.keep_alive,
        max_line_size=server.max_header_size,
        max_field_size=server.max_header_size,
        auto_decompress=False,
    )
    return handler, listener, purging


async def _admin_token(config: Config, spool: Spool) -> Token:
    if config.admin.token is not None:
        return Token.configured(config.admin.token)
    token = await asyncio.to_thread(Token.fresh, spool.paths.root)
    spool.keep(TOKEN_FILE, token.text)
    return token


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the process' exit status."""
    listener = logs.configure(level=config.logging.level, style=config.logging.format)
    _raise_descriptor_limit()
    try:
        return asyncio.run(_serve(config))
    finally:
        listener.stop()


def _raise_descriptor_limit() -> None:
    """As far as we may: a client costs one, a body that is read another."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError) as error:  # macOS takes no "unlimited", a sandbox no change at all
        _log.warning("the limit of open files stays as it is", why=str(error))


async def _serve(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        service = await start(config)
    except (AdapterError, OSError) as error:
        _log.error("cannot start", why=str(error))
        return 1
    _log.info("serving", addresses=service.addresses, admin=service.admin_address, spool=config.spool.path)
    _notify("READY=1")
    await stop.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)  # a second signal ends it at once
    _log.info("stopping", drain=config.server.timeouts.drain)
    _notify("STOPPING=1")
    await service.stop()
    return 0


def _origin(name: str, section: OriginSection) -> Origin:
    return Origin(
        name,
        str(section.url),
        connect=section.timeouts.connect,
        first_byte=section.timeouts.first_byte,
        idle=section.timeouts.idle,
        max_connections=section.max_connections,
    )


async def _listen(runner: web.BaseRunner, addresses: Sequence[Address]) -> list[str]:
    """Open the listeners; their URLs."""
    await runner.setup()
    urls = []
    for address in addresses:
        site: web.BaseSite
        match address:
            case TcpAddress(host, port):
                site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_address=True)
            case UnixAddress(path):
                site = web.UnixSite(runner, path, backlog=BACKLOG)
            case _:
                assert_never(address)
        await site.start()
        urls.append(_url(address, runner))
    return urls


def _url(address: Address, runner: web.BaseRunner) -> str:
    if isinstance(address, UnixAddress):
        return str(address)
    bound = runner.addresses[-1]
    return str(URL.build(scheme="http", host=address.host, port=bound[1], path="/"))


def _notify(state: str) -> None:
    """Tell the service manager (sd_notify(3)); nothing where there is none."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
        sock.send(state.encode())
