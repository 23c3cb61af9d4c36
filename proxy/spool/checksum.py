"""The CRC-32 of a body, reckoned as it is written: what a disk makes of it later can be told from what was stored."""

from dataclasses import dataclass
from typing import Final
from zlib import crc32

from proxy.spool import calls

PIECE: Final = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """`value` is that of the first `length` bytes.  Without arguments, it is that of no bytes."""

    length: int = 0
    value: int = 0

    def followed_by(self, data: bytes | bytearray) -> "Checksum":
        """The same with `data` after it.  Costs 0.25 ms for each MiB, and gives the interpreter free meanwhile."""
        return Checksum(self.length + len(data), crc32(data, self.value))


def read_checksum(fd: int, stop: int, known: Checksum | None = None) -> Checksum:
    """That of a file's first `stop` bytes, from where it is `known` on; of fewer, where the file is shorter.

    Blocks, and belongs on a thread.  Raises OSError.
    """
    checksum = Checksum() if known is None else known
    while checksum.length < stop:
        piece = calls.pread(fd, min(PIECE, stop - checksum.length), checksum.length)
        if not piece:
            break
        checksum = checksum.followed_by(piece)
    return checksum
