"""aiohttp's connector, held to our limits: how long, how many wait, which address, and whether to try at all.

What can fail before a request is sent fails here, as `proxy.errors`; `Health` learns of it.
"""

import asyncio
import errno
import socket
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import ResolveResult

from proxy.errors import ConnectTimeout, OriginDown, OriginError, Overloaded
from proxy.exact import ExactRequest, OriginProtocol, describe
from proxy.health import Health

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace

LOOKUP_PATIENCE = 1.0
"""Seconds that the lookup of a name may take before the addresses it had until now are used."""

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Why a socket of ours cannot be made: that is not the origin's fault."""
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class OriginConnector(aiohttp.TCPConnector):
    """Connections to one origin, at most `limit`.

    `connect` is in seconds, for one connection, whichever of its addresses takes it; `queue` too, for a free one,
    which at most `max_waiting` requests wait for.
    """

    def __init__(
        self, name: str, health: Health, *, limit: int, connect: float, queue: float, max_waiting: int
    ) -> None:
        super().__init__(limit=limit, ttl_dns_cache=30, keepalive_timeout=30)
        self._name = name
        self._health = health
        self._connect_within = connect
        self._queue_timeout = queue
        self._max_waiting = max_waiting
        self._addresses = 1
        self._factory = self._new_protocol  # type: ignore[assignment]  # ours
        self.refused: Counter[str] = Counter()
        """Requests that got no connection because of our limits, by reason."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a free connection."""
        return sum(map(len, self._waiters.values()))

    def refuse_if_down(self) -> None:
        """Raises what the last connection failed with, where a new one would be needed and must not be tried."""
        if not self._conns and self._health.refuses(self._loop.time()):
            raise self._last_error()

    def _last_error(self) -> OriginError:
        error = self._health.error
        assert error is not None
        return type(error)(str(error))

    def _new_protocol(self) -> OriginProtocol:
        return OriginProtocol(self._loop, alive=self._alive, has_others=self._addresses > 1)

    def _alive(self) -> None:
        self._health.alive(self._loop.time())

    async def _wait_for_available_connection(self, key: "ConnectionKey", traces: list["Trace"]) -> None:
        self.refuse_if_down()
        if self.waiting >= self._max_waiting:
            raise self._refusal(reason="queue-full")
        try:
            async with asyncio.timeout(self._queue_timeout):
                await super()._wait_for_available_connection(key, traces)
        except BaseException as error:
            self._release_waiter()  # what became free in this moment is for the next
            if isinstance(error, TimeoutError):
                raise self._refusal(reason="no-connection") from error
            raise

    def _refusal(self, *, reason: str) -> Overloaded:
        self.refused[reason] += 1
        return Overloaded(f"all connections to origin {self._name} are in use", reason=reason)

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list["Trace"], timeout: aiohttp.ClientTimeout
    ) -> OriginProtocol:
        assert isinstance(req, ExactRequest)
        began = self._loop.time()
        attempt = self._health.begin(began)
        if attempt is None:
            raise self._last_error()
        req.connect_by = began + self._connect_within
        try:
            async with asyncio.timeout_at(req.connect_by):
                protocol = await super()._create_connection(req, traces, timeout)
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                self._health.gave_up(attempt)
                raise Overloaded(f"cannot connect to origin {self._name}: {describe(error)}") from error
            failure = self._failure(error)
            self._health.failed(attempt, self._loop.time(), failure)
            raise failure from error
        except BaseException:
            self._health.gave_up(attempt)
            raise
        self._alive()
        assert isinstance(protocol, OriginProtocol)
        return protocol

    def _failure(self, error: Exception) -> OriginError:
        if isinstance(error, TimeoutError) and error.errno is None:
            return ConnectTimeout(f"origin {self._name} took no connection in {self._connect_within:g} s")
        return OriginDown(f"cannot reach origin {self._name}: {describe(error)}")

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[Any], req: Any, timeout: aiohttp.ClientTimeout, **kwargs: Any
    ) -> Any:
        """One try with all these addresses; aiohttp leaves out the first of them for the next.

        They are connected to side by side, but one that never gets through its TLS handshake must leave time for
        the others.
        """
        left = max(0.0, req.connect_by - self._loop.time())
        timeout = aiohttp.ClientTimeout(sock_connect=left / len(addr_infos), ceil_threshold=left)
        return await super()._wrap_create_connection(
            *args, addr_infos=addr_infos, req=req, timeout=timeout, **kwargs
        )

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[ResolveResult]:
        """The origin's addresses.  Those it had go on being used while the name cannot be looked up."""
        known = self._cached_hosts if (host, port) in self._cached_hosts else None
        try:
            async with asyncio.timeout(None if known is None else LOOKUP_PATIENCE):
                found = await super()._resolve_host(host, port, traces)
        except OSError as error:
            if known is None or error.errno in _NO_SUCH_NAME:
                raise
            found = known.next_addrs((host, port))
        self._addresses = len(found)
        return found
