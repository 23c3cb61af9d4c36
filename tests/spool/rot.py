"""What a disk does to what it keeps."""

import os
from pathlib import Path


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Change one bit of a file, in place; its time stays what it was."""
    fd = os.open(path, os.O_RDWR)
    try:
        before = os.fstat(fd)
        os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 1 << bit]), at)
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(fd)
