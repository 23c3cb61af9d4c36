"""What of a body is in the page cache: for those on the loop, who must not wait for the disk."""

import errno
import os
from typing import Final

from proxy.spool import calls

STRIDE: Final = 64 << 10
"""Bytes between two looks: what is dropped, or read ahead, goes and comes in larger pieces."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_ABSENT: Final = {errno.EAGAIN, errno.EOPNOTSUPP}
_BYTE = bytearray(1)


def read_resident(fd: int, room: bytearray | memoryview, start: int) -> bool:
    """Fill `room` with the bytes from `start` on, if that can be done at once.  Raises OSError."""
    try:
        return bool(_NOWAIT) and calls.preadv(fd, [room], start, _NOWAIT) == len(room)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise


def is_resident(fd: int, start: int, stop: int) -> bool:
    """Are the bytes [start, stop) there, as far as a few of them tell?  Raises OSError."""
    return all(read_resident(fd, _BYTE, at) for at in (*range(start, stop, STRIDE), stop - 1))
