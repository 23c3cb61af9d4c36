"""What of a file lies in the page cache: who sends that to a socket, waits for no disk."""

import errno
import os
import time
from typing import Final

from proxy.spool import calls

UNIT: Final = 64 << 10
"""Bytes that are told apart."""
WINDOW: Final = 256 << 10
"""The most bytes that are looked at with one call."""
REMEMBERED: Final = 1.0
"""Seconds for which what was found there, or has just been read or written, needs no second look."""

_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)  # Linux; elsewhere nobody can tell
_scratch = memoryview(bytearray(WINDOW + 2 * UNIT))
"""For bytes of which nobody wants more than to know that they are there.  Only the loop's thread writes here."""


class Residence:
    """Of one file.

    A read that is not to wait tells it, and reads all of it: memory is reclaimed, and a disk read ahead, in pieces
    of a few KiB.  That takes 10 us for a window, so that what was found is remembered for a moment.  Where the file
    system takes no such reads, as a tmpfs or an overlay, that memory is all there is.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._there: set[int] = set()
        self._since = 0.0
        self.tells = bool(_NOWAIT)
        """Does the file system, as far as is known by now?"""

    def __repr__(self) -> str:
        return f"<Residence fd={self._fd} remembered={len(self._there)}>"

    def reach(self, start: int, stop: int) -> int:
        """The end of those of the bytes [start, stop) that are there, and all before them.  Raises OSError."""
        assert start < stop
        there = self._there if time.monotonic() - self._since <= REMEMBERED else self._remembered()
        if there.issuperset(range(start // UNIT, -(-stop // UNIT))):
            return stop
        at = start
        while at < stop and self._holds(at, until := min(at + WINDOW, stop)):
            at = until
        return at

    def _holds(self, start: int, stop: int) -> bool:
        units = _units(start, stop)
        if self._there.issuperset(units):
            return True
        begin, end = units.start * UNIT, units.stop * UNIT
        if not self.tells:
            return False
        try:
            count = calls.preadv(self._fd, [_scratch[: end - begin]], begin, _NOWAIT)
        except OSError as error:
            self._learn(error)
            return False
        if begin + count < stop:
            return False
        self._there.update(units)
        return True

    def read(self, room: bytearray | memoryview, start: int) -> bool:
        """Fill `room` with the bytes from `start` on, if that needs no disk.  Raises OSError."""
        if self.tells:
            count = 0
            try:
                count = calls.preadv(self._fd, [room], start, _NOWAIT)
            except OSError as error:
                self._learn(error)
            if count == len(room):
                return True
        if self.tells:
            self._there.difference_update(_units(start, start + len(room)))  # whatever is remembered
            return False
        known = self._remembered().issuperset(_units(start, start + len(room)))
        return known and calls.preadv(self._fd, [room], start, 0) == len(room)

    def _learn(self, error: OSError) -> None:
        """What a read that was not to wait says by its failure."""
        if error.errno not in {errno.EAGAIN, errno.EOPNOTSUPP}:
            raise error
        self.tells = error.errno == errno.EAGAIN

    def note(self, start: int, stop: int) -> None:
        """Somebody has just read or written the bytes [start, stop), and what lies about them."""
        self._remembered().update(_units(start, stop))

    def bring(self, start: int, stop: int) -> bool:
        """Wait for the disk; whether there are so many bytes.  Belongs on a thread.  Raises OSError."""
        units = _units(start, stop)
        at, end = units.start * UNIT, units.stop * UNIT
        while at < end and (piece := calls.pread(self._fd, end - at, at)):
            at += len(piece)
        return at >= stop

    def _remembered(self) -> set[int]:
        now = time.monotonic()
        if now - self._since > REMEMBERED:
            self._there.clear()
            self._since = now
        return self._there


def _units(start: int, stop: int) -> range:
    return range(start // UNIT, -(-stop // UNIT))
