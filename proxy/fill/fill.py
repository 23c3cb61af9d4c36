"""A fill: one origin body on its way into the spool, and everyone who follows it.

One counter (`written`), one state that only grows, one wait (`wait(offset)`).  A fill knows no client: it runs at
the origin's speed, and whoever leaves or dawdles changes nothing.  The exception is a body that cannot be stored, or
not any more (it outgrows what may be stored, or the disk fails): from then on there is a window that slides at the
speed of the fastest follower, nothing is published, and the last follower to leave ends it.
"""

import asyncio
import enum

import structlog

from proxy.errors import (
    AdapterError,
    ObjectChanged,
    OriginError,
    OriginTruncated,
    Overloaded,
    SpoolError,
    SpoolFull,
)
from proxy.fill.ends import Incoming, Writer
from proxy.fill.progress import Progress
from proxy.fill.window import Window
from proxy.semantics.fields import MAX_LENGTH

_log = structlog.stdlib.get_logger("fill")

ABANDON_AFTER = 10.0
"""Seconds for which a body of unknown length, which may never end, is fetched on behalf of nobody."""

GIVE_WAY_AFTER = 1.0
"""Seconds for which a body is fetched on behalf of nobody, whoever else wants to fetch something."""


class FillState(enum.IntEnum):
    """Only ever grows."""

    STREAMING = 1
    COMPLETE = 2
    FAILED = 3


class Fill:
    """`limit` is the largest body, in bytes, that may be stored.  Of what comes in, the first `stored` bytes lie in
    the body's file already, and are not handed over again.

    A `provisional` one shows what was stored before as far as it is known to hold (`confirm`, or the same bytes
    come); when others come it fails, and has a `successor`.  With `keeps`, what has come is kept where the rest
    does not: another fill may go on from there.
    """

    def __init__(
        self,
        incoming: Incoming,
        writer: Writer,
        *,
        limit: int,
        stored: int = 0,
        provisional: bool = False,
        keeps: bool = False,
    ) -> None:
        self.provisional = provisional
        self.successor: Fill | None = None
        self.incoming = incoming
        self._writer = writer
        self._limit = limit
        self._keeps = keeps
        self.body = writer.body.hold()
        self.entry = writer.entry
        self.state = FillState.STREAMING
        self.error: AdapterError | None = None
        self._stored = stored
        self._is_rest = stored > 0
        self._progress = Progress(0 if provisional else stored)
        self.followers = 0
        self._left = asyncio.get_running_loop().time()  # by the last follower
        self._fastest = 0
        self._window: Window | None = None
        self.retracted = False
        self._task: asyncio.Task[None] | None = None
        self._orphaned: asyncio.TimerHandle | None = None
        self._connected = asyncio.Event()  # the origin is not being asked again for what has come
        self._connected.set()
        self._refusal: AdapterError | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<Fill {self.entry.label} {self.state.name} {self.written}/{self.complete_length}>"

    @property
    def complete_length(self) -> int | None:
        return self.entry.stored.representation.complete_length

    @property
    def written(self) -> int:
        """Bytes that followers may have."""
        return self._progress.reached

    @property
    def stored(self) -> int:
        """Bytes that have come, confirmed or not."""
        return self._stored

    @property
    def is_stored(self) -> bool:
        """Does all that has come lie in the body's file, at its own offset?"""
        return self._window is None

    @property
    def on_disk(self) -> int:
        """Bytes that followers may have, and that lie in the body's file for good."""
        return self.written if self._window is None else min(self.written, self._window.base)

    @property
    def joinable(self) -> bool:
        """May a new request follow?  Not once bytes have slid out of the window, all is lost, or all is over."""
        open_to_all = not (self.retracted or self._over or self.body.broken)
        return open_to_all and self.state is not FillState.FAILED and self.is_stored

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
        self._left = asyncio.get_running_loop().time()
        self._look_for_followers()

    @property
    def is_abandoned(self) -> bool:
        """Does it go on for nobody, and has for a while?  Then it may give way to others."""
        deserted = not self.followers and self.state is FillState.STREAMING
        return deserted and asyncio.get_running_loop().time() - self._left > GIVE_WAY_AFTER

    def _look_for_followers(self) -> None:
        """A body without an end in sight is fetched for somebody, or not for long."""
        if self.followers or self.state is not FillState.STREAMING:
            return
        if self._window is not None:
            self.stop()
        elif self.complete_length is None and self._orphaned is None:
            self._orphaned = asyncio.get_running_loop().call_later(ABANDON_AFTER, self._abandon)

    def _abandon(self) -> None:
        self._keeps = False
        self.stop()

    async def wait(self, offset: int) -> int:
        """How many bytes there are, once there are more than `offset` or there will be no more.

        Raises what made the fill fail, where it has not come so far.
        """
        while self.written <= offset and self.state is FillState.STREAMING:
            self._note_reader(offset)
            await self._progress.passing(offset)
        if self.error is not None and self.written <= offset:
            raise self.error
        return self.written

    def keep_beginning(self) -> None:
        """Another process reads the file: what lies there stays, whatever comes."""
        self._is_rest = True

    async def news(self, seen: int) -> None:
        """Wait until more than `seen` bytes are there, or no more will come to the file.  Who waits is no reader."""
        while self.written <= seen and self.state is FillState.STREAMING and self._window is None:
            await self._progress.passing(seen)

    async def wait_for_end(self) -> int:
        """How many bytes there are, once there will be no more, or none for whoever does not read: a window."""
        while self.state is FillState.STREAMING and self._window is None:
            await self._progress.passing(MAX_LENGTH)
        if self.error is not None:
            raise self.error
        return self.written

    async def ensure(self, stop: int) -> None:
        """Wait while nobody knows whether more will come, if that is wanted.  Raises what made the fill fail."""
        if self.written < stop and self._refusal is not None:
            raise self._refusal
        if self.written < stop:
            await self._connected.wait()
        if self.error is not None and self.written < stop:
            raise self.error

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        """The bytes [start, stop), or fewer of them at the window's edge; `wait` has promised them.

        Raises Overloaded if they have slid out of the window.
        """
        self._note_reader(start)
        return await (self._window or self.body).read(start, stop)

    def _note_reader(self, position: int) -> None:
        self._fastest = max(self._fastest, position)
        if self._window is not None:
            self._window.note_reader(position)

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
            self.incoming.close()
            try:
                await self._settle()
            finally:
                self._over = True
                self.body.release()

    async def _receive(self) -> None:
        # The last byte of a known length is the end: nobody shall wait, or be cut off, for news of it.
        while not self._is_whole() and (data := await self.incoming.read()):
            await self._append(data)
        if self.complete_length not in {None, self._stored}:
            raise OriginTruncated(f"{self._stored} bytes came of the {self.complete_length} promised")
        if self._window is None:
            self.entry = self.entry.completed(self._stored)
        self._end(FillState.COMPLETE)

    def _is_whole(self) -> bool:
        """Has all of a known length come, and been confirmed?"""
        return self._stored == self.written == self.complete_length

    async def _settle(self) -> None:
        """Publish what is whole, keep what can be gone on with, or leave nothing.

        If the disk refuses now, followers have their bytes yet.
        """
        if self._window is not None:
            return  # discarded when it began to slide
        if self.error is not None and self._can_be_gone_on_with():
            is_confirmed = self.written == self._stored
            await self._writer.suspend(self.entry, self._stored, self.error, confirmed=is_confirmed)
            return  # by now it may be somebody else's
        try:
            if self.state is FillState.COMPLETE and not self.retracted:
                await self._writer.commit(self.entry)
        except SpoolError as error:
            _log.warning("a body could not be stored", object=self.entry.label, why=str(error))
        finally:
            await self._writer.discard()  # nothing, after a commit

    def _can_be_gone_on_with(self) -> bool:
        """Was it the origin that failed, or we that stopped?"""
        may_come = isinstance(self.error, OriginError | Overloaded)
        is_old = self.retracted or isinstance(self.error, ObjectChanged)
        return self._keeps and may_come and not is_old and self._stored > 0

    def retract(self) -> None:
        """What is arriving is not to be reused: nobody new may follow, and it is not published."""
        self.retracted = True
        self._writer.retract()

    def stop(self) -> None:
        """End it before its time: what is whole already is published all the same."""
        if self._task is not None and self.state is FillState.STREAMING:
            self._task.cancel()

    def confirm(self, offset: int) -> None:
        """What is stored holds up to there."""
        if offset > self.written:
            self._progress.advance(offset)

    def note_break(self, refusal: AdapterError | None = None) -> None:
        """The origin broke off, or has yet to be asked: nobody knows whether more will come.

        Where it cannot even be reached, `refusal` is for those who only come now.
        """
        self._refusal = refusal
        self._connected.clear()

    def note_return(self) -> None:
        """It has sent all again that is stored, and goes on."""
        self._refusal = None
        self._connected.set()

    async def _append(self, data: bytes) -> None:
        if self._window is None:
            try:
                await self._store(data)
                return
            except SpoolError as error:
                window = self._window_instead(error)
            await self._slide(window)
        await self._write_to_window(data)

    async def _store(self, data: bytes) -> None:
        end = self._stored + len(data)
        if end > self._limit:
            raise SpoolFull(f"body is larger than {self._limit} bytes", reason="too-large")
        await self._writer.reserve(end)
        await self._writer.write(data, self._stored)
        self._stored = end
        self._progress.advance(end)

    def _window_instead(self, error: SpoolError) -> Window:
        """For those who are here; where that cannot be, raises `error`."""
        if self.provisional:
            raise error
        if not isinstance(error, SpoolFull):
            _log.warning("the disk fails, an object is passed on", object=self.entry.label, why=str(error))
            return Window.in_memory(self.body, self._stored)
        if self.complete_length is not None:
            raise error
        if self._is_rest:  # others may read the beginning from this file, and know of no window
            return Window.in_memory(self.body, self._stored)
        return Window.in_file(self.body, self._writer.write, self._stored)

    async def _slide(self, window: Window) -> None:
        """It cannot be stored: unlink it, and go on in the window."""
        window.note_reader(max([self._fastest, *self._progress.awaited]))
        self._window = window
        self._progress.wake_all()
        await self._writer.discard()
        self._look_for_followers()

    async def _write_to_window(self, data: bytes) -> None:
        assert self._window is not None
        if not self.followers:
            raise SpoolFull("nobody follows a body that is not stored", reason="too-large")
        await self._window.write(data, self._progress.advance)
        self._stored = self._window.end

    def _end(self, state: FillState, error: AdapterError | None = None) -> None:
        assert self.state is FillState.STREAMING
        self.state, self.error = state, error
        self._connected.set()
        self._progress.wake_all()
        if self._orphaned is not None:
            self._orphaned.cancel()
