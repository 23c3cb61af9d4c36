"""What a disk does to what it keeps."""

import os
from pathlib import Path


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Change one bit of a file, in place."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 1 << bit]), at)
    finally:
        os.close(fd)
