"""An open body file, shared by everyone who reads it and closed with the last of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from proxy.errors import BodyLost, SpoolError
from proxy.spool import calls
from proxy.spool.checksum import Checksum, read_checksum
from proxy.spool.residence import WINDOW, Residence
from proxy.spool.threads import Threads
from proxy.spool.whole import whole

R = TypeVar("R")


def _nothing() -> None:
    """Nobody wants to know."""


class Body:
    """A descriptor with a count of its holders.  The maker is the first; `release` each hold once."""

    def __init__(self, fd: int, threads: Threads) -> None:
        self._fd = fd
        self._threads = threads
        self._residence = Residence(fd)
        self._holders = 1
        self._broken = False
        self._condemned = False
        self._on_idle: Callable[[], None] | None = None
        self._on_use: Callable[[], None] | None = None
        self._unlinked = False
        self._on_gone: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<Body fd={self._fd} holders={self._holders}>"

    @property
    def shared(self) -> bool:
        """Does anyone beside its keeper hold it?"""
        return self._holders > 1

    @property
    def is_open(self) -> bool:
        """Does anyone hold it, its keeper at least?"""
        return self._holders > 0

    @property
    def size(self) -> int:
        """Bytes in the file; 0 where the disk cannot tell."""
        try:
            return calls.fstat(self._fd).st_size
        except OSError:
            return 0

    @property
    def mtime(self) -> int | None:
        """When the file was last written, in nanoseconds; None where the disk cannot tell."""
        try:
            return calls.fstat(self._fd).st_mtime_ns
        except OSError:
            return None

    @property
    def broken(self) -> bool:
        """Has the disk failed to read it?"""
        return self._broken

    def fileno(self) -> int:
        assert self._holders > 0, "a body is read only while it is held"
        return self._fd

    def hold(self) -> "Body":
        assert self._holders > 0, "a closed body cannot be held again"
        self._holders += 1
        if self._holders == 2 and self._on_use is not None:
            self._on_use()
        return self

    def release(self) -> None:
        assert self._holders > 0
        self._holders -= 1
        if self._holders == 1 and self._on_idle is not None:
            self._on_idle()
        elif self._holders == 0 and self._unlinked:
            # The last descriptor of a nameless file: closing it frees its blocks, which takes time.
            closing = asyncio.get_running_loop().run_in_executor(self._threads.filing, calls.close, self._fd)
            closing.add_done_callback(lambda _: self._on_gone())
        elif self._holders == 0:
            calls.close(self._fd)

    def kept(
        self, on_use: Callable[[], None] | None = None, on_idle: Callable[[], None] | None = None
    ) -> None:
        """Its maker keeps it open: `on_use` is called whenever somebody else holds it, too, and `on_idle` when nobody
        does any more.
        """
        self._on_use, self._on_idle = on_use, on_idle

    def unlinked(self, on_gone: Callable[[], None] = _nothing) -> None:
        """The file has lost its name: `on_gone` is called once the last holder has let go and the room is free."""
        self._unlinked = True
        self._on_gone = on_gone

    def intact(self, length: int) -> bool:
        """Has the file its name and `length` bytes still?  A disk that failed to read it counts as no."""
        try:
            status = calls.fstat(self._fd)
        except OSError:
            return False
        return status.st_size == length and status.st_nlink > 0 and not self._broken

    def condemn(self) -> None:
        """Its bytes are known not to be those that were stored: no reader gets another one."""
        self._broken = self._condemned = True

    def check(self) -> None:
        """For who sends the file without reading it.  Raises BodyLost once it is condemned."""
        if self._condemned:
            raise BodyLost("the stored body has rotted")

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        """Exactly the bytes [start, stop), which must have been written.

        What is in the page cache is read here; a thread waits for the disk.  Raises BodyLost.
        """
        assert 0 <= start < stop
        self.check()
        try:
            room = bytearray(stop - start)
            data = room if self._residence.read(room, start) else await self._read_slowly(start, stop)
        except OSError as error:
            self._broken = True
            raise BodyLost(f"cannot read the spool: {error.strerror}") from error
        if len(data) != stop - start:
            self._broken = True
            raise BodyLost(f"body file is shorter than its {stop} bytes")
        self.check()  # it may have waited
        return data

    async def _read_slowly(self, start: int, stop: int) -> bytes:
        if not self._residence.tells:  # all around it too, for the next ones not to come this way
            await self._fetched(start, stop)
        return await self._in_thread(self._threads.reading, _read_all, self._fd, start, stop)

    async def bring(self, start: int, stop: int) -> None:
        """Have the bytes [start, stop) in the page cache, for the loop to send the file without waiting for the disk.
        A thread waits, where they are not there.  Raises BodyLost.
        """
        self.check()
        is_there = True
        try:
            while is_there and start < stop and (start := self._residence.reach(start, stop)) < stop:
                until = min(start + WINDOW, stop)
                is_there = await self._fetched(start, until)
                start = until
        except OSError as error:
            self._broken = True
            raise BodyLost(f"cannot read the spool: {error.strerror}") from error
        if not is_there:
            self._broken = True
            raise BodyLost(f"body file is shorter than its {stop} bytes")
        self.check()  # it may have waited

    def at_hand(self, start: int, stop: int) -> int:
        """How far the bytes [start, stop) could be sent without waiting for the disk: `start`, if none.

        Raises OSError.
        """
        return self._residence.reach(start, stop)

    def read_now(self, room: memoryview, start: int) -> bool:
        """Fill `room` with the bytes from `start` on, if that needs no disk.  Raises OSError."""
        return self._residence.read(room, start)

    async def _fetched(self, start: int, stop: int) -> bool:
        is_there = await self._in_thread(self._threads.reading, self._residence.bring, start, stop)
        if is_there:
            self._residence.note(start, stop)
        return is_there

    async def write(self, data: bytes, offset: int, before: Checksum | None = None) -> Checksum | None:
        """Put all of `data` at `offset`; the checksum up to its end, if that of all `before` it is known.

        A cancelled caller learns of it when that is done.  Raises SpoolError.
        """
        assert offset >= 0
        assert before is None or before.length == offset
        try:
            writing = self._begin(self._threads.writing, _write_summed, self._fd, data, offset, before)
            checksum = await whole(writing)
        except OSError as error:
            raise SpoolError(f"cannot write to the spool: {error.strerror}") from error
        self._residence.note(offset, offset + len(data))
        return checksum

    async def checksum(self, length: int, known: Checksum | None = None) -> Checksum:
        """That of the first `length` bytes, which are read for it from where it is `known` on.  Raises BodyLost."""
        try:
            checksum = await self._in_thread(self._threads.filing, read_checksum, self._fd, length, known)
        except OSError as error:
            raise BodyLost(f"cannot read the spool: {error.strerror}") from error
        if checksum.length != length:
            raise BodyLost(f"body file is shorter than its {length} bytes")
        return checksum

    async def _in_thread(self, pool: Executor, work: Callable[..., R], *args: object) -> R:
        return await asyncio.shield(self._begin(pool, work, *args))

    def _begin(self, pool: Executor, work: Callable[..., R], *args: object) -> asyncio.Future[R]:
        self.hold()  # whoever is cancelled must not close the descriptor under the thread
        working = asyncio.get_running_loop().run_in_executor(pool, partial(work, *args))
        working.add_done_callback(self._let_go)
        return working

    def _let_go(self, working: asyncio.Future[R]) -> None:
        working.exception()  # known to whoever waited, and nobody else cares
        self.release()


def _read_all(fd: int, start: int, stop: int) -> bytes:
    pieces = []
    while start < stop:
        piece = calls.pread(fd, stop - start, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def _write_summed(fd: int, data: bytes, offset: int, before: Checksum | None) -> Checksum | None:
    calls.write_all(fd, data, offset)
    return before and before.followed_by(data)
