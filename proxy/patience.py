"""How long a peer may take nothing, or next to nothing, of what we send it.

A peer that reads slowly but steadily is served to the end, however large the pieces are that we send; so this
looks at what its side has acknowledged, not at how long one write takes.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from types import TracebackType

_BYTES_ACKED = struct.Struct("@120xQ")  # struct tcp_info of linux/tcp.h


class TakesNothing(TimeoutError):
    """The peer has taken no byte for too long."""


class TakesTooLittle(TimeoutError):
    """The peer takes bytes, and too slowly."""


class _Pace:
    """What a peer takes between two looks: less than a byte, or than `rate` bytes a second, is too little."""

    __slots__ = ("_least", "_taken", "_transport", "counts")

    def __init__(self, transport: asyncio.BaseTransport | None, seconds: float, rate: float) -> None:
        self._transport = transport
        self._least = max(1, rate * seconds)
        self.counts = _acknowledged(transport) is not None
        """Does it know of bytes that are taken while nobody looks?"""
        self._taken = self._read()

    def look(self) -> TimeoutError | None:
        """What to raise, if it was too little."""
        before, self._taken = self._taken, self._read()
        if self._taken - before >= self._least:
            return None
        return TakesTooLittle() if self._taken > before else TakesNothing()

    def _read(self) -> int:
        """What grows whenever the peer takes bytes: those it has acknowledged, or while nobody writes, the others
        counted backwards.
        """
        if self.counts:
            return _acknowledged(self._transport) or 0
        if not isinstance(self._transport, asyncio.WriteTransport):
            return 0
        return -self._transport.get_write_buffer_size()


class Patience:
    """`async with` this, wait for the peer to take what is sent, as often as there is need.

    Raises TakesNothing inside once the peer has taken nothing for `seconds` of waiting (at most twice that), and
    TakesTooLittle once it has taken less than `rate` bytes a second, on average over so many.
    """

    def __init__(self, transport: asyncio.BaseTransport | None, seconds: float, *, rate: float = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._pace = _Pace(transport, seconds, rate)
        self._waited = 0.0  # since the last look
        self._verdict: TimeoutError | None = None

    async def __aenter__(self) -> None:
        self._begun = self._loop.time()
        if not self._pace.counts:  # something has been written since
            self._pace.look()
            self._waited = 0.0
        self._timer = self._loop.call_later(self._seconds - self._waited, self._look)
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._waited += self._loop.time() - self._begun
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            assert self._verdict is not None, "nothing else sets this limit"
            raise self._verdict from None

    def _look(self) -> None:
        now = self._loop.time()
        self._verdict = self._pace.look()
        if self._verdict is not None:
            self._limit.reschedule(now)
            return
        self._begun, self._waited = now, 0.0
        self._timer = self._loop.call_later(self._seconds, self._look)


class Watch:
    """The same for what nobody waits for: calls `on_late` once, with what it would raise."""

    __slots__ = ("_loop", "_on_late", "_pace", "_seconds", "_timer")

    def __init__(
        self,
        transport: asyncio.BaseTransport | None,
        seconds: float,
        on_late: Callable[[TimeoutError], None],
        *,
        rate: float = 0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._on_late = on_late
        self._pace = _Pace(transport, seconds, rate)
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        verdict = self._pace.look()
        if verdict is not None:
            self._on_late(verdict)
        else:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def stop(self) -> None:
        self._timer.cancel()


def give_up_after(transport: asyncio.BaseTransport | None, seconds: float) -> None:
    """Leave the same watch to the kernel, for bytes that nobody waits for any more."""
    sock = _tcp_socket(transport)
    if sock is not None and sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection whose peer takes nothing: what it has not taken goes, in the kernel too."""
    if not isinstance(transport, asyncio.WriteTransport):
        return
    if (sock := _tcp_socket(transport)) is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _acknowledged(transport: asyncio.BaseTransport | None) -> int | None:
    """Bytes that the peer has acknowledged, where the kernel tells that."""
    sock = _tcp_socket(transport)
    if sock is None or sys.platform != "linux":
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
    return int(_BYTES_ACKED.unpack(info)[0]) if len(info) == _BYTES_ACKED.size else None


def _tcp_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    sock: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    return sock
