"""The wiring: a `Config` becomes a running service.  Nothing else puts the house's parts together."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from proxy.admin.sums import Own, Workers
from proxy.cache.cache import Cache
from proxy.cache.wanted import Wanted
from proxy.config import Config
from proxy.config.certificate import server_context
from proxy.config.model import Tls
from proxy.incidents import Incidents
from proxy.origin import Origin
from proxy.routes import RouteTable
from proxy.semantics.request import ClientRequest
from proxy.server.accepting import AT_ONCE, SPARE, SPARE_FOR_ADMIN, Acceptor, Spare
from proxy.server.access import Access, Visit
from proxy.server.adapting import Adapting
from proxy.server.connection import Listener
from proxy.server.entrance import Entrance
from proxy.server.exchange import Exchange
from proxy.server.handler import Handler
from proxy.server.keeping import CUT_WITHIN, Admin, Keeping
from proxy.server.limits import Crowd
from proxy.server.listening import listen
from proxy.server.metrics import Metrics
from proxy.server.origins import configured
from proxy.server.purging import Purging
from proxy.server.tls import Certificate, Handshakes
from proxy.server.warm import Lane
from proxy.spool.epochs import Epochs
from proxy.spool.partials import most_kept_open
from proxy.workers.office import Office
from proxy.workers.seat import Seat

_log = structlog.stdlib.get_logger("service")


class Service:
    """A running adapter.  `addresses` and `admin_address` are URLs, with the ports that were really taken; of several
    workers, the keeper alone has the admin listener.
    """

    def __init__(
        self,
        handler: Handler,
        public: web.BaseRunner,
        keeping: Keeping | None,
        office: Office | None,
        parts: AsyncExitStack,
        *,
        drain: float,
    ) -> None:
        """`parts` ends what was started, in the opposite order.

        A service that is alone has the spool in its `keeping`; one worker of several may, if its `office` says so.
        """
        self.addresses: list[str] = []
        self.certificate: Certificate | None = None
        self._handler = handler
        self._public = public
        self._office = office
        self._keeping = keeping
        self._parts = parts
        self._drain = drain
        self._stopping: asyncio.Task[None] | None = None

    @property
    def _cache(self) -> Cache:
        return _cache_of(self._keeping)

    @property
    def admin_address(self) -> str | None:
        keeping = self._keeping if self._office is None else self._office.keeping
        return keeping.admin_address if isinstance(keeping, Keeping) else None

    @property
    def in_progress(self) -> int:
        """Requests that are being answered now."""
        return len(self._handler.running)

    @property
    def draining(self) -> bool:
        """Has the end begun?  Then no new connection is taken."""
        return self._handler.draining

    async def stop(self) -> None:
        """End gracefully: no new connections, running answers may finish within `drain`, then everything ends."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        async with self._parts:  # whichever of them fails to end, the others do
            deadline = asyncio.get_running_loop().time() + self._drain
            self._handler.drain()
            for site in list(self._public.sites):
                await site.stop()
            if self._public.server is not None:
                self._public.server.pre_shutdown()
            if running := self._handler.running:
                _, late = await asyncio.wait(running, timeout=self._drain)
                for task in late:
                    task.cancel()
            if self._office is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._office.wait_for_followers()


async def start(config: Config, seat: Seat | None = None) -> Service:
    """Start everything; at this `seat`, as one worker of several.

    Raises SpoolError or OSError, in words for the person who started us.
    """
    async with AsyncExitStack() as parts:
        incidents = Incidents()
        watching = asyncio.create_task(incidents.watch(), name="incidents")
        parts.callback(watching.cancel)
        origins = configured(config, incidents, parts)
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        office, keeping, relayed, epochs = None, None, origins, Epochs()
        if seat is None:
            keeping = await Keeping.begin(config, incidents, epochs)
            parts.push_async_callback(keeping.close)
        else:
            relayed = configured(config, incidents, parts, workers=seat.workers)
            own = Own(seat.board, seat.number, registry)
            parts.callback(asyncio.create_task(own.keep_writing(), name="figures").cancel)
            epochs = Epochs(seat.epochs)
            office = Office(
                seat.knock,
                seat.knocks,
                own.write,
                epochs=epochs,
                partition_ttl=config.spool.partition_ttl,
            )
            parts.push_async_callback(office.close)
        spare = Spare(SPARE)
        parts.callback(spare.close)
        handler, entrance, listener, purging, wanting = _public_side(
            config,
            office or _cache_of(keeping),
            origins,
            relayed,
            spare,
            incidents,
            registry,
            metrics,
            None if seat is None else seat.crowd,
        )
        parts.callback(handler.close)
        parts.callback(entrance.close)
        parts.callback(asyncio.create_task(entrance.watch(), name="entrance").cancel)
        workers = None
        if seat is not None and office is not None:
            workers = Workers(seat.board, seat.workers, seat.number, office.noted)
        admin = Admin(
            config,
            registry,
            handler,
            entrance,
            purging,
            origins.values(),
            spare,
            incidents,
            workers,
            () if seat is None else [seat.admin],
        )
        if seat is not None and office is not None:
            begin = partial(Keeping.begin, config, incidents, epochs)
            await office.open(partial(admin.begin_and_open, begin), wanting, alone=seat.first)
        public: web.BaseRunner = web.ServerRunner(listener, shutdown_timeout=CUT_WITHIN)
        parts.push_async_callback(public.cleanup)
        door = partial(
            Acceptor,
            take=partial(entrance.take, listener.connection),
            spare=spare,
            incidents=incidents,
            about="clients",
            keep=SPARE_FOR_ADMIN,
            at_once=AT_ONCE if seat is None else 1,  # for the others to have some
            leaves_it=entrance.leaves_it,
        )
        certificate, tls_door = None, door
        if config.server.tls is not None:
            certificate = await _certificate(config.server.tls, incidents)
            parts.callback(asyncio.create_task(certificate.watch(), name="certificate").cancel)
            handshakes = Handshakes(
                certificate,
                metrics,
                incidents,
                seconds=config.server.timeouts.head,
                parting=config.server.timeouts.send_idle,
                on_timeout=entrance.note_timeout,
            )
            parts.callback(handshakes.close)
            take = partial(entrance.take, listener.connection, tls=True)
            tls_door = partial(door, take=take, connect=handshakes.connect)
        inherited = () if seat is None else seat.public
        addresses = await listen(public, config.server.listen, door, tls_door, inherited)
        if keeping is not None:
            await admin.open(keeping)
        service = Service(
            handler, public, keeping, office, parts.pop_all(), drain=config.server.timeouts.drain
        )
    service.addresses, service.certificate = addresses, certificate
    return service


def _cache_of(keeping: Keeping | None) -> Cache:
    assert keeping is not None
    return keeping.cache


def _public_side(
    config: Config,
    cache: Cache | Office,
    origins: Mapping[str, Origin],
    relayed: Mapping[str, Origin],
    spare: Spare,
    incidents: Incidents,
    registry: CollectorRegistry,
    metrics: Metrics,
    crowd: Crowd | None,
) -> tuple[Handler, Entrance, Listener, Purging, Callable[[ClientRequest], Wanted]]:
    """What clients talk to, and what becomes of a request that it takes.  Other requests go to the `relayed`."""
    server, routes = config.server, RouteTable(config)
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
        relayed,
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
        others=2 * sum(each.max_connections for each in config.origins.values()) + most_kept_open(),
        crowd=crowd,
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

    def wanting(request: ClientRequest) -> Wanted:
        return adapting.wanted(request, routes.match(request))

    return handler, entrance, listener, purging, wanting


async def _certificate(tls: Tls, incidents: Incidents) -> Certificate:
    files = (tls.certificate, tls.key)
    certificate = Certificate(partial(server_context, *files), files, incidents)
    await certificate.load()
    return certificate
