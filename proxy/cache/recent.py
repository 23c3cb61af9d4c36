"""Keys of which something was learned a moment ago."""

import time
from collections import OrderedDict
from collections.abc import Callable

CAPACITY = 16_384


class Recent:
    """A set that forgets: each member after `seconds`, and the oldest when there are too many."""

    def __init__(
        self, seconds: float, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def add(self, key: bytes, seconds: float | None = None) -> None:
        """`seconds` in place of the usual ones."""
        self._until[key] = self._clock() + (self._seconds if seconds is None else seconds)
        self._until.move_to_end(key)
        if len(self._until) > self._capacity:
            self._until.popitem(last=False)

    def discard(self, key: bytes) -> None:
        self._until.pop(key, None)

    def __contains__(self, key: bytes) -> bool:
        return self._until.get(key, 0.0) > self._clock()
