"""How long a peer may take no byte of what we send it.

A peer that reads slowly but steadily is served to the end, however large the pieces are that we send; so this
looks at what its side has acknowledged, not at how long one write takes.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_BYTES_ACKED = struct.Struct("@120xQ")  # struct tcp_info of linux/tcp.h


@asynccontextmanager
async def patience(transport: asyncio.BaseTransport | None, seconds: float) -> AsyncIterator[None]:
    """Raises TimeoutError inside once the peer has taken nothing for `seconds` (at most twice that)."""
    async with asyncio.timeout(None) as limit:
        watch = _Watch(transport, seconds, limit)
        try:
            yield
        finally:
            watch.timer.cancel()


class _Watch:
    def __init__(
        self, transport: asyncio.BaseTransport | None, seconds: float, limit: asyncio.Timeout
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._seconds = seconds
        self._limit = limit
        self._taken = _taken(transport)
        self.timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        before, self._taken = self._taken, _taken(self._transport)
        if self._taken == before:
            self._limit.reschedule(self._loop.time())
        else:
            self.timer = self._loop.call_later(self._seconds, self._look)


def give_up_after(transport: asyncio.BaseTransport | None, seconds: float) -> None:
    """Leave the same watch to the kernel, for bytes that nobody waits for any more."""
    sock = _tcp_socket(transport)
    if sock is not None and sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _taken(transport: asyncio.BaseTransport | None) -> tuple[int, int]:
    """What changes whenever the peer takes bytes: those it acknowledged, and those the kernel has not even taken."""
    if transport is None or transport.is_closing():
        return 0, 0
    assert isinstance(transport, asyncio.WriteTransport)
    acknowledged = 0
    sock = _tcp_socket(transport)
    if sock is not None and sys.platform == "linux":
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        if len(info) == _BYTES_ACKED.size:
            [acknowledged] = _BYTES_ACKED.unpack(info)
    return acknowledged, transport.get_write_buffer_size()


def _tcp_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    sock: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    return sock
