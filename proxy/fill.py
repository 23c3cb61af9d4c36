"""A fill: one origin body on its way into the spool, and everyone who follows it.

One counter (`written`), one state that only grows, one wait (`wait(offset)`).  A fill knows no client: it runs at
the origin's speed, and whoever leaves or dawdles changes nothing.  The exception is a body that outgrows what may
be stored (its length was not announced): from then on the file is a window that slides at the speed of the
fastest follower, nothing is published, and the last follower to leave ends it.
"""

import asyncio
import enum
import heapq
from typing import Protocol

import structlog

from proxy.errors import AdapterError, OriginTruncated, Overloaded, SpoolError, SpoolFull
from proxy.semantics.fields import MAX_LENGTH
from proxy.spool.body import Body
from proxy.spool.entry import Entry

_log = structlog.stdlib.get_logger("fill")

ABANDON_AFTER = 10.0
"""Seconds for which a body of unknown length, which may never end, is fetched on behalf of nobody."""
WINDOW = 1 << 20
"""Smallest window of a body that is too large to store, in bytes: several times what a reader reads at once."""


class FillState(enum.IntEnum):
    """Only ever grows."""

    STREAMING = 1
    COMPLETE = 2
    FAILED = 3


class Incoming(Protocol):
    """The origin's body, as a fill sees it."""

    async def read(self) -> bytes: ...
    def close(self) -> None: ...


class Writer(Protocol):
    """The spool's side, as a fill sees it (`proxy.spool.filling.Filling`)."""

    @property
    def entry(self) -> Entry: ...
    @property
    def body(self) -> Body: ...
    async def reserve(self, size: int) -> None: ...
    async def write(self, data: bytes, offset: int) -> None: ...
    async def commit(self, entry: Entry) -> None: ...
    async def discard(self) -> None: ...
    def retract(self) -> None: ...


class Fill:
    """`limit` is the largest body, in bytes, that may be stored.

    A `provisional` one shows what was stored before as long as the same bytes come; when others do it fails, and has
    a `successor`.
    """

    def __init__(self, incoming: Incoming, writer: Writer, *, limit: int, provisional: bool = False) -> None:
        self.provisional = provisional
        self.successor: Fill | None = None
        self._incoming = incoming
        self._writer = writer
        self._limit = limit
        self.body = writer.body.hold()
        self.entry = writer.entry
        self.state = FillState.STREAMING
        self.written = 0
        self.error: AdapterError | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by offset
        self._waits = 0
        self._deserted = 0  # of those waiting
        self.followers = 0
        self._fastest = 0
        self._moved = asyncio.Event()  # the fastest has
        self._floor = 0
        self._window: int | None = None
        self.retracted = False
        self._task: asyncio.Task[None] | None = None
        self._orphaned: asyncio.TimerHandle | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<Fill {self.entry.label} {self.state.name} {self.written}/{self.complete_length}>"

    @property
    def complete_length(self) -> int | None:
        return self.entry.stored.representation.complete_length

    @property
    def joinable(self) -> bool:
        """May a new request follow?  Not once bytes have slid out of the window, all is lost, or all is over."""
        open_to_all = not (self.retracted or self._over or self.body.broken)
        return open_to_all and self.state is not FillState.FAILED and self._window is None

    # For those who follow

    def follow(self) -> None:
        """One more reader; each leaves once."""
        self.followers += 1
        if self._orphaned is not None:
            self._orphaned.cancel()
            self._orphaned = None

    def leave(self) -> None:
        assert self.followers > 0
        self.followers -= 1
        self._look_for_followers()

    def _look_for_followers(self) -> None:
        """A body without an end in sight is fetched for somebody, or not for long."""
        if self.followers or self.state is not FillState.STREAMING or self.complete_length is not None:
            return
        if self._window is not None:
            self.stop()
        elif self._orphaned is None:
            self._orphaned = asyncio.get_running_loop().call_later(ABANDON_AFTER, self.stop)

    async def wait(self, offset: int) -> int:
        """How many bytes there are, once there are more than `offset` or there will be no more.

        Raises what made the fill fail, where it has not come so far.
        """
        while self.written <= offset and self.state is FillState.STREAMING:
            await self._passing(offset)
        if self.error is not None and self.written <= offset:
            raise self.error
        return self.written

    async def wait_for_end(self) -> int:
        """How many bytes there are, once there will be no more, or none for whoever does not read: a window."""
        while self.state is FillState.STREAMING and self._window is None:
            await self._passing(MAX_LENGTH)
        if self.error is not None:
            raise self.error
        return self.written

    async def _passing(self, offset: int) -> None:
        """Wait until `_advance` or `_end` wakes us.  Costs nothing until then, however many wait."""
        woken = asyncio.get_running_loop().create_future()
        self._waits += 1
        heapq.heappush(self._waiting, (offset, self._waits, woken))
        try:
            await woken
        except asyncio.CancelledError:
            self._deserted += woken.cancelled()
            if self._deserted * 2 > len(self._waiting):  # a stalled fill must not collect those who left
                self._waiting = [each for each in self._waiting if not each[2].done()]
                heapq.heapify(self._waiting)
                self._deserted = 0
            raise

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        """The bytes [start, stop), or fewer of them at the window's edge; `wait` has promised them.

        Raises Overloaded if they have slid out of the window.
        """
        if start > self._fastest:
            self._fastest = start
            self._moved.set()
        if self._window is None:
            data = await self.body.read(start, stop)
        else:
            first = start % self._window
            data = await self.body.read(first, min(first + stop - start, self._window))
        if start < self._floor:
            raise Overloaded("the reader was too slow for a body too large to store", reason="fell-behind")
        return data

    # The one who fills

    async def run(self) -> None:
        """Fetch the whole body.  Never raises but for cancellation: followers learn of failures by `wait`."""
        self._task = asyncio.current_task()
        self._look_for_followers()
        try:
            await self._receive()
        except AdapterError as error:
            self._end(FillState.FAILED, error)
        except BaseException:
            self._end(FillState.FAILED, Overloaded("the fill was stopped", reason="stopped"))
            raise
        finally:
            self._incoming.close()
            try:
                await self._settle()
            finally:
                self._over = True
                self.body.release()

    async def _receive(self) -> None:
        # The last byte of a known length is the end: nobody shall wait, or be cut off, for news of it.
        while self.written != self.complete_length and (data := await self._incoming.read()):
            await self._append(data)
        if self.complete_length not in {None, self.written}:
            raise OriginTruncated(f"{self.written} bytes came of the {self.complete_length} promised")
        if self._window is None:
            self.entry = self.entry.completed(self.written)
        self._end(FillState.COMPLETE)

    async def _settle(self) -> None:
        """Publish what is whole, or leave nothing.  If the disk refuses now, followers have their bytes yet."""
        if self._window is not None:
            return  # discarded when it began to slide
        try:
            if self.state is FillState.COMPLETE and not self.retracted:
                await self._writer.commit(self.entry)
        except SpoolError as error:
            _log.warning("a complete body could not be stored", object=self.entry.label, why=str(error))
        finally:
            await self._writer.discard()  # nothing, after a commit

    def retract(self) -> None:
        """What is arriving is not to be reused: nobody new may follow, and it is not published."""
        self.retracted = True
        self._writer.retract()

    def stop(self) -> None:
        """End it before its time: what is whole already is published all the same."""
        if self._task is not None and self.state is FillState.STREAMING:
            self._task.cancel()

    async def _append(self, data: bytes) -> None:
        if self._window is None:
            try:
                await self._store(data)
                return
            except SpoolFull:
                if self.complete_length is not None:
                    raise
            await self._slide()
        await self._store_in_window(data)

    async def _store(self, data: bytes) -> None:
        end = self.written + len(data)
        if end > self._limit:
            raise SpoolFull(f"body is larger than {self._limit} bytes", reason="too-large")
        await self._writer.reserve(end)
        await self._writer.write(data, self.written)
        self._advance(end)

    async def _slide(self) -> None:
        """Too large to store: unlink it, and go on for those who are here."""
        self._window = max(self.written, WINDOW)
        self._wake_all()
        await self._writer.discard()
        self._look_for_followers()

    async def _store_in_window(self, data: bytes) -> None:
        window = self._window
        assert window is not None
        piece_size = window // 4
        for begin in range(0, len(data), piece_size):
            piece = data[begin : begin + piece_size]
            await self._wait_for_fastest(window // 2)
            end = self.written + len(piece)
            self._floor = max(self._floor, end - window)  # before the bytes there are written over
            first = self.written % window
            split = window - first
            await self._writer.write(piece[:split], first)
            if len(piece) > split:
                await self._writer.write(piece[split:], 0)
            self._advance(end)

    async def _wait_for_fastest(self, lead: int) -> None:
        if not self.followers:
            raise SpoolFull("nobody follows a body too large to store", reason="too-large")
        while self.written - self._fastest > lead:
            self._moved.clear()
            await self._moved.wait()

    def _advance(self, written: int) -> None:
        self.written = written
        while self._waiting and self._waiting[0][0] < written:
            woken = heapq.heappop(self._waiting)[2]
            self._deserted -= woken.cancelled()
            self._wake(woken)

    def _end(self, state: FillState, error: AdapterError | None = None) -> None:
        assert self.state is FillState.STREAMING
        self.state, self.error = state, error
        self._wake_all()
        if self._orphaned is not None:
            self._orphaned.cancel()

    def _wake_all(self) -> None:
        for _, _, woken in self._waiting:
            self._wake(woken)
        self._waiting.clear()
        self._deserted = 0

    @staticmethod
    def _wake(woken: asyncio.Future[None]) -> None:
        if not woken.done():  # cancelled by a reader who left
            woken.set_result(None)
