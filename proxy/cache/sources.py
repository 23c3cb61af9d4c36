"""Where the bytes of an answer come from.  Delivery sees only `Source`; there are four.

Complete  a whole object of the spool
Growing   an object that a fill is fetching
Broken    the beginning of an object, of which there is no more
Passing   an origin's response that is not stored: read once, forwards only
"""

from dataclasses import replace
from typing import Protocol

from proxy.errors import AdapterError, OriginTruncated
from proxy.fill.fill import Fill, FillState
from proxy.origin import OriginResponse
from proxy.semantics.representation import Representation
from proxy.spool.body import Body
from proxy.spool.entry import Entry


class Source(Protocol):
    """A representation and its bytes, by absolute offset."""

    @property
    def representation(self) -> Representation: ...

    @property
    def entry(self) -> Entry | None:
        """What it is stored as, if it is."""

    @property
    def seekable(self) -> bool:
        """May offsets be read in any order?"""

    @property
    def provisional(self) -> bool:
        """May it still turn out that this representation has been replaced by another one?"""

    @property
    def file(self) -> Body | None:
        """A file that holds the bytes there are at their own offsets for good, if there is one: fit for sendfile."""

    async def ensure(self, stop: int) -> None:
        """Raises AdapterError where it is known, or soon will be, that the bytes below `stop` are not to be had."""

    async def wait(self, offset: int) -> int:
        """How many bytes there are, once there are more than `offset` or there will be no more.

        An `offset` below 0 asks how many there are now.  Raises AdapterError when they will never come.
        """

    async def wait_for_end(self) -> int:
        """How many bytes there are, once there will be no more; or at once, where they come only to who reads.

        Raises as `wait` does.
        """

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        """Bytes from `start` on, at most up to `stop`, which `wait` has promised; at least one."""

    def close(self) -> None: ...


class Complete:
    """A complete object.  Takes over one hold of `body`."""

    seekable = True
    provisional = False

    def __init__(self, entry: Entry, body: Body) -> None:
        self.entry = entry
        self.representation = replace(entry.stored.representation, digest=entry.digest)
        self.file: Body | None = body
        self._body = body
        self._length = entry.length

    async def ensure(self, stop: int) -> None:
        """They are here."""

    async def wait(self, offset: int) -> int:
        return self._length

    async def wait_for_end(self) -> int:
        return self._length

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return await self._body.read(start, stop)

    def close(self) -> None:
        self._body.release()


class Growing:
    """An object on its way.  Its length, where the origin did not give it, becomes known when the fill ends."""

    seekable = True

    def __init__(self, fill: Fill) -> None:
        self.fill = fill
        fill.follow()
        self._body = fill.body.hold()

    @property
    def entry(self) -> Entry | None:
        return self.fill.entry

    @property
    def representation(self) -> Representation:
        return self.fill.entry.stored.representation

    @property
    def provisional(self) -> bool:
        return self.fill.provisional and self.fill.state is FillState.STREAMING

    @property
    def file(self) -> Body | None:
        # A body of unknown length may turn into a window over its own file at any moment.
        is_for_good = self.fill.complete_length is not None and self.fill.is_stored
        return self._body if is_for_good else None

    @property
    def successor(self) -> Fill | None:
        """What has replaced it, if that is there to be followed."""
        successor = self.fill.successor
        return successor if successor is not None and successor.joinable else None

    async def ensure(self, stop: int) -> None:
        await self.fill.ensure(stop)

    async def wait(self, offset: int) -> int:
        return await self.fill.wait(offset)

    async def wait_for_end(self) -> int:
        return await self.fill.wait_for_end()

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return await self.fill.read(start, stop)

    def close(self) -> None:
        self.fill.leave()
        self._body.release()


class Broken:
    """The beginning of an object whose origin does not give the rest: reading beyond it raises `error` at once."""

    seekable = True
    provisional = False

    def __init__(self, entry: Entry, body: Body, written: int, error: AdapterError) -> None:
        """Takes over one hold of `body`, which has the first `written` bytes."""
        self.entry: Entry | None = entry
        self.representation = entry.stored.representation
        self.written = written
        self.error = error
        self._body = body
        self.file: Body | None = body

    async def ensure(self, stop: int) -> None:
        if stop > self.written:
            raise self.error

    async def wait(self, offset: int) -> int:
        await self.ensure(offset + 1)
        return self.written

    async def wait_for_end(self) -> int:
        return self.written

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return await self._body.read(start, stop)

    def close(self) -> None:
        self._body.release()


class Passing:
    """A response on its way through: one piece in memory at a time, as fast as the client takes it."""

    entry: Entry | None = None
    seekable = False
    provisional = False
    file: Body | None = None

    def __init__(self, response: OriginResponse, representation: Representation) -> None:
        self.representation = representation
        self._response = response
        self._piece = b""
        self._offset = 0  # of the piece

    async def ensure(self, stop: int) -> None:
        """They are on their way."""

    async def wait(self, offset: int) -> int:
        """As `Source.wait`; the bytes before `offset` are gone for good."""
        while self._offset + len(self._piece) <= offset:
            piece = await self._response.read()
            if not piece:
                self._check_length()
                break
            self._offset += len(self._piece)
            self._piece = piece
        return self._offset + len(self._piece)

    async def wait_for_end(self) -> int:
        return self._offset + len(self._piece)

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        assert self._offset <= start < stop, "a passing body cannot be read backwards"
        return self._piece[start - self._offset : stop - self._offset]

    def _check_length(self) -> None:
        received = self._offset + len(self._piece)
        promised = self.representation.complete_length
        if promised is not None and received != promised:
            raise OriginTruncated(f"{received} bytes came of the {promised} promised")

    def close(self) -> None:
        self._response.close()
