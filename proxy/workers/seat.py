"""What a worker inherits from the process that started it."""

import mmap
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

PAGE: Final = 4 << 20
"""Bytes that one worker's notes may have; what is not used of them costs nothing."""

_SEQUENCE: Final = Struct("=Q")
_LENGTH: Final = Struct("=I")


class Board:
    """Notes of all workers, in memory that they share: what one has written down outlives it."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, workers * PAGE)

    def write(self, number: int, note: bytes) -> bool:
        """Put up worker `number`'s note in the place of its last one; False where it is too long.

        Whoever is killed in the middle of it leaves the last one.
        """
        if len(note) > PAGE // 2 - 64:
            return False
        page = number * PAGE
        sequence = self._sequence(page) + 1
        start = _start(page, sequence)
        self._memory[start : start + _LENGTH.size + len(note)] = _LENGTH.pack(len(note)) + note
        _SEQUENCE.pack_into(self._memory, page, sequence)
        return True

    def read(self, number: int) -> bytes:
        """The last note; b"" if there was none."""
        page = number * PAGE
        while True:
            sequence = self._sequence(page)
            start = _start(page, sequence)
            (length,) = _LENGTH.unpack_from(self._memory, start)
            note = self._memory[start + _LENGTH.size : start + _LENGTH.size + length]
            if self._sequence(page) == sequence:
                return note

    def _sequence(self, page: int) -> int:
        return int(_SEQUENCE.unpack_from(self._memory, page)[0])


def _start(page: int, sequence: int) -> int:
    """Where the note is: two halves of the page take turns."""
    return page + 64 + sequence % 2 * (PAGE // 2 - 32)


class Crowd:
    """How many connections each worker has open, in memory that all share; as worker `number` sees it."""

    def __init__(self, counts: memoryview, number: int) -> None:
        self._counts = counts
        self._number = number

    @property
    def workers(self) -> int:
        return len(self._counts)

    def note(self, count: int) -> None:
        """This worker has so many."""
        self._counts[self._number] = count

    def elsewhere(self) -> int:
        """Those of the others."""
        return sum(self._counts) - int(self._counts[self._number])


@dataclass(frozen=True, slots=True)
class Seat:
    """That of worker `number` of so many; the `first` has no others beside it yet.

    `public` and `admin` are sockets that listen, `public` for each address.  `knock` and `knocks` are the two ends of
    the way to whoever keeps the spool.  Over `line` the worker says that it is ready; when that ends, so has the
    supervisor.
    """

    number: int
    workers: int
    first: bool
    public: Sequence[Sequence[socket.socket]]
    admin: Sequence[socket.socket]
    knock: socket.socket
    knocks: socket.socket
    board: Board
    counts: memoryview
    epochs: memoryview
    line: socket.socket

    @property
    def crowd(self) -> Crowd:
        return Crowd(self.counts, self.number)
