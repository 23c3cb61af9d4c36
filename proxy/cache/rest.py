"""The body of a new generation: the prefix that it shares with the old one, and what comes after that."""

from proxy.fill.ends import Incoming
from proxy.spool.body import Body

PIECE = 256 << 10
"""Bytes of a stored prefix that are read at a time."""


class Rest:
    """`shared` bytes of `body`, then `data`, then what `incoming` brings.  Takes over it, and a hold of `body`."""

    def __init__(self, body: Body, shared: int, data: bytes, incoming: Incoming) -> None:
        self._body = body
        self._shared = shared
        self._offset = 0
        self._data = data
        self._incoming = incoming
        self._closed = False

    async def read(self) -> bytes:
        if self._offset < self._shared:
            stop = min(self._offset + PIECE, self._shared)
            piece = bytes(await self._body.read(self._offset, stop))
            self._offset = stop
            return piece
        if self._data:
            data, self._data = self._data, b""
            return data
        return await self._incoming.read()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._body.release()
            self._incoming.close()
