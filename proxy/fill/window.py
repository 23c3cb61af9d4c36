"""The last bytes of a body that is not stored, or not any more: a ring that slides at its fastest reader's speed.

What outgrows what may be stored goes on in its own file, which has room for as much as had come by then.  What the
disk takes no more goes on in memory; the bytes before that stay readable where they lie.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from proxy.errors import Overloaded
from proxy.spool.body import Body

SMALLEST = 1 << 20
"""Bytes of a ring in a file, at least: several times what a reader reads at once."""
IN_MEMORY = 4 << 20
"""Bytes of one in memory."""

Write = Callable[[bytes, int], Coroutine[Any, Any, None]]
"""Puts bytes at an offset of a file.  Raises SpoolError."""


class _Ring(Protocol):
    async def write(self, data: bytes, offset: int, /) -> None: ...
    async def read(self, start: int, stop: int, /) -> bytes | bytearray: ...


class _Memory:
    def __init__(self, size: int) -> None:
        self._bytes = bytearray(size)

    async def write(self, data: bytes, offset: int) -> None:
        self._bytes[offset : offset + len(data)] = data

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return self._bytes[start:stop]


class _File:
    def __init__(self, body: Body, write: Write) -> None:
        self._body = body
        self._write = write

    async def write(self, data: bytes, offset: int) -> None:
        await self._write(data, offset)

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return await self._body.read(start, stop)


class Window:
    """`end` is how far the body has come; what is below `base` lies in the file for good."""

    def __init__(self, ring: _Ring, size: int, body: Body, *, base: int, end: int) -> None:
        self.end = end
        self._ring = ring
        self._size = size
        self._body = body
        self.base = base
        self._floor = base
        self._fastest = 0
        self._moved = asyncio.Event()  # the fastest has
        self._readers = 0

    @classmethod
    def in_file(cls, body: Body, write: Write, end: int) -> "Window":
        """Over the body's own file, which holds all bytes up to `end`."""
        return cls(_File(body, write), max(end, SMALLEST), body, base=0, end=end)

    @classmethod
    def in_memory(cls, body: Body, end: int) -> "Window":
        """Behind a file that holds all bytes up to `end`, and takes no more."""
        return cls(_Memory(IN_MEMORY), IN_MEMORY, body, base=end, end=end)

    def note_reader(self, position: int) -> None:
        """Somebody has come so far."""
        if position > self._fastest:
            self._fastest = position
            self._moved.set()

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        """Bytes from `start` on, at most up to `stop`.  Raises Overloaded if they have slid out, SpoolError."""
        self.note_reader(start)
        if start < self.base:
            return await self._body.read(start, min(stop, self.base))
        first = (start - self.base) % self._size
        data = await self._ring.read(first, min(first + stop - start, self._size))
        if start < self._floor:
            raise Overloaded("the reader was too slow for a body that is not stored", reason="fell-behind")
        return data

    async def write(self, data: bytes, advance: Callable[[int], None]) -> None:
        """Take in what comes next, piece by piece, each when the fastest reader has come near.  Raises SpoolError."""
        piece_size = self._size // 4
        for begin in range(0, len(data), piece_size):
            piece = data[begin : begin + piece_size]
            await self._wait_for_fastest(self._size // 2)
            end = self.end + len(piece)
            self._floor = max(self._floor, end - self._size)  # before the bytes there are written over
            first = (self.end - self.base) % self._size
            split = self._size - first
            await self._ring.write(piece[:split], first)
            if len(piece) > split:
                await self._ring.write(piece[split:], 0)
            self.end = end
            advance(end)

    async def _wait_for_fastest(self, lead: int) -> None:
        while self.end - self._fastest > lead:
            self._moved.clear()
            await self._moved.wait()
