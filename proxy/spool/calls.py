"""The system calls on the spool's files, all of them: so that a test can make each one fail, or forget what was not
synced.

Each bears the name of what it calls, and raises OSError.  SQLite makes its own, and so do the commands that look at
the folder from outside.
"""

import fcntl
import os
from pathlib import Path
from typing import Any

fstat = os.fstat
preadv: Any = getattr(os, "preadv", None)
"""For what is in the page cache: so often that another call around it would be felt."""


def open_file(path: Path, flags: int) -> int:
    """A descriptor.  What is created is for nobody else to read: bodies may be private, URLs secret."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def close(fd: int) -> None:
    os.close(fd)


def pread(fd: int, size: int, offset: int) -> bytes:
    return os.pread(fd, size, offset)


def read_file(path: Path) -> bytes:
    """A small file as a whole."""
    return path.read_bytes()


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> int:
    """How many of the bytes were taken."""
    return os.pwrite(fd, data, offset)


def write_all(fd: int, data: bytes, offset: int) -> None:
    """All of them."""
    view = memoryview(data)
    while view:
        written = pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def ftruncate(fd: int, size: int) -> None:
    os.ftruncate(fd, size)


def fsync(fd: int) -> None:
    os.fsync(fd)


def fdatasync(fd: int) -> None:
    """As `fsync`, without the times of the file, where the system knows the difference."""
    getattr(os, "fdatasync", os.fsync)(fd)


def rename(old: Path, new: Path) -> None:
    os.rename(old, new)


def unlink(path: Path) -> None:
    os.unlink(path)


def mkdir(path: Path) -> None:
    os.mkdir(path, 0o700)


def listdir(folder: Path) -> list[str]:
    return os.listdir(folder)


def stat(path: Path) -> os.stat_result:
    return os.stat(path)


def statvfs(path: Path) -> os.statvfs_result:
    return os.statvfs(path)


def flock(fd: int) -> None:
    """Alone, or not at all.  Not lockf: that is lost with any descriptor of the file."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
