"""Epochs: whether what somebody remembers of the index still holds, at the price of looking at two numbers.

They lie in a buffer that several processes may share.  Nothing in it is ever counted up: each change writes a number
that nobody else writes, so that of two that change a slot at once neither is lost on those who remember it.
"""

import os
from itertools import count
from typing import Final

SLOTS: Final = 8192
"""Of eight bytes each: the first is for everything, digests share the others."""
SIZE: Final = 8 * SLOTS
"""Bytes of the whole table."""

Epoch = tuple[int, int]
"""Good for comparing with another one of the same slot, and nothing else."""
NEVER: Final = (-1, -1)
"""Equal to none."""


class Epochs:
    """A table in `buffer`: `SIZE` writable bytes, aligned to eight; None: in memory of its own."""

    def __init__(self, buffer: memoryview | None = None) -> None:
        view = memoryview(bytearray(SIZE)) if buffer is None else buffer
        self._slots = view.cast("B").cast("Q")
        assert len(self._slots) == SLOTS
        self._numbers = count(int.from_bytes(os.urandom(8)) >> 1)

    def slot(self, digest: bytes) -> int:
        """Where the digest of a key has its number, a few others beside it."""
        return 1 + int.from_bytes(digest[:8]) % (SLOTS - 1)

    def read(self, slot: int) -> Epoch:
        """To be read before one looks at what is to be remembered."""
        return self._slots[slot], self._slots[0]

    def bump(self, digest: bytes) -> None:
        """What is found under this digest is not what it was."""
        self._slots[self.slot(digest)] = next(self._numbers)

    def bump_all(self) -> None:
        """The same of all digests."""
        self._slots[0] = next(self._numbers)
