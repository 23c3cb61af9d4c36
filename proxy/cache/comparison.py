"""Fetching again what is stored already, to find out whether it still holds (there was no validator to ask by).

The bytes that come are compared with those that lie there.  While they are the same, everyone follows what is stored:
its generation, its tags, its open files.  Where they differ, or end elsewhere, that generation is over: its followers
fail, and the rest of the response makes a new one.
"""

from collections.abc import Awaitable, Callable

from proxy.cache.rest import Rest
from proxy.errors import AdapterError, NotCompared, ObjectChanged, OriginError, OriginTruncated
from proxy.fill.ends import Incoming
from proxy.origin import OriginResponse
from proxy.spool.body import Body
from proxy.spool.entry import Entry
from proxy.spool.spool import Spool


class Comparison:
    """Both ends of a fill that stores nothing: the origin's body comes in, and is held against `body`.

    `entry` is what is stored, freshened by the head of `response`.  `on_change` is awaited with what the new
    generation is made of, before anybody learns that there is one.  `doubts` tells whether an end that comes too
    early is to be taken for a broken connection, where it could be one.  Takes over `response`, and a hold of `body`.
    """

    def __init__(
        self,
        spool: Spool,
        entry: Entry,
        body: Body,
        response: OriginResponse,
        on_change: Callable[[Incoming], Awaitable[None]],
        doubts: Callable[[], bool],
    ) -> None:
        self.entry = entry
        self.body = body
        self._spool = spool
        self._response = response
        self._on_change = on_change
        self._doubts = doubts
        self._ahead: bytes | None = None
        self._received = 0
        self._changed = False
        self._retracted = False

    # What comes in

    async def read(self) -> bytes:
        """The next bytes.  Of a body whose length nobody told, one piece is held back until it is known not to go on.

        Raises ObjectChanged, NotCompared.
        """
        if self._response.content_length is not None:
            return await self._receive_all()
        piece = await self._receive() if self._ahead is None else self._ahead
        self._ahead = await self._receive() if piece else b""
        self._received += len(piece)
        is_shorter = not piece and self._received < self.entry.length
        if is_shorter and "Transfer-Encoding" not in self._response.fields and self._doubts():
            raise _truncated(f"the connection ended after {self._received} bytes of {self.entry.length}")
        if is_shorter or (self._ahead and self._received >= self.entry.length):
            await self._change(self._received - len(piece), piece)
        return piece

    async def _receive_all(self) -> bytes:
        """As `_receive`, of a body that has announced as many bytes as are stored."""
        piece = await self._receive()
        self._received += len(piece)
        if not piece and self._received < self.entry.length:
            raise _truncated(f"{self._received} bytes came of the {self.entry.length} promised")
        return piece

    async def _receive(self) -> bytes:
        try:
            return await self._response.read()
        except OriginError as error:
            raise NotCompared(str(error), reason=error.reason) from error

    def close(self) -> None:
        if not self._changed:
            self._response.close()

    # What it is held against

    async def reserve(self, size: int) -> None:
        """It has its room."""

    async def write(self, data: bytes, offset: int) -> None:
        """Compare.  Raises ObjectChanged, SpoolError."""
        end = offset + len(data)
        if end > self.entry.length or await self.body.read(offset, end) != data:
            await self._change(offset, data)

    async def _change(self, offset: int, data: bytes) -> None:
        self._changed = True
        rest = Rest(self.body.hold(), offset, data + (self._ahead or b""), self._response)
        try:
            await self._on_change(rest)
        except BaseException:
            rest.close()
            raise
        raise ObjectChanged(f"{self.entry.label} has changed at its origin while it was being read")

    async def commit(self, entry: Entry) -> None:
        """All the same: what is stored is fresh again.  Raises SpoolError."""
        if not self._retracted:
            await self._spool.update(entry)

    def retract(self) -> None:
        self._retracted = True

    async def suspend(self, entry: Entry, written: int, error: AdapterError, *, confirmed: bool) -> None:
        """What is stored stays as it is."""
        await self.discard()

    async def discard(self) -> None:
        self.body.release()


def _truncated(message: str) -> NotCompared:
    return NotCompared(message, reason=OriginTruncated.reason)
