"""Reading a stored body again, to hold it against its checksum: slowly, and without crowding out what is in use."""

import errno
import os
from pathlib import Path
from typing import Final

from proxy.spool import calls
from proxy.spool.checksum import Checksum
from proxy.spool.entry import Entry

PIECE: Final = 256 << 10
"""Bytes read at a time."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_ROTTEN: Final = {
    errno.EIO,
    errno.EBADMSG,
    errno.ENODATA,
    getattr(errno, "EUCLEAN", errno.EIO),
}
"""What a disk says of bytes that it has lost."""


class Rereading:
    """Of one body.  All of it blocks, and raises OSError where that says nothing about the body.

    `flaw` tells what is wrong with it, once that is known.
    """

    def __init__(self, path: Path, entry: Entry) -> None:
        self.flaw: str | None = None
        self._entry = entry
        self._checksum = Checksum()
        self._fd = calls.open_file(path, os.O_RDONLY | os.O_NOFOLLOW)
        size = calls.fstat(self._fd).st_size
        if size != entry.length:
            self.flaw = f"it has {size} bytes instead of {entry.length}"
        elif hasattr(os, "posix_fadvise"):
            # No reading ahead: what that brings in would look like what others have read.
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def __repr__(self) -> str:
        return (
            f"<Rereading {self._entry.label} {self._checksum.length}/{self._entry.length} {self.flaw or ''}>"
        )

    @property
    def read(self) -> int:
        """Bytes so far."""
        return self._checksum.length

    def step(self, most: int) -> bool:
        """Read on, at most so many bytes; whether there is more to do after that."""
        stop = min(self.read + most, self._entry.length)
        while self.flaw is None and self.read < stop:
            try:
                piece = _read(self._fd, self.read, min(PIECE, stop - self.read))
            except OSError as error:
                if error.errno not in _ROTTEN:
                    raise
                self.flaw = f"it cannot be read at {self.read}: {error.strerror}"
                break
            self._checksum = self._checksum.followed_by(piece)
            if not piece:
                self.flaw = f"it ends after {self.read} bytes of {self._entry.length}"
        if self.flaw is None and self.read == self._entry.length:
            if self._checksum.value != self._entry.checksum:
                self.flaw = "its bytes are not those that were stored: their checksum is another one"
            return False
        return self.flaw is None

    def close(self) -> None:
        calls.close(self._fd)


def _read(fd: int, start: int, size: int) -> bytes | bytearray:
    """At most `size` bytes.  What has to be fetched from the disk leaves the page cache again, where that can be."""
    if not _NOWAIT or not hasattr(os, "posix_fadvise"):
        return calls.pread(fd, size, start)
    buffer = bytearray(size)
    try:
        cached = calls.preadv(fd, [buffer], start, _NOWAIT)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a tmpfs
            return calls.pread(fd, size, start)
        if error.errno != errno.EAGAIN:
            raise
        cached = 0
    if cached == size:
        return buffer
    rest = calls.pread(fd, size - cached, start + cached)
    os.posix_fadvise(fd, start + cached, len(rest), os.POSIX_FADV_DONTNEED)
    return bytes(memoryview(buffer)[:cached]) + rest
