"""The clock that answers are fresh by, and whether somebody has set it back."""

import time
from collections.abc import Callable
from typing import Final

TOLERANCE: Final = 2.0
"""Seconds that a clock may be set back without anybody's taking notice: an answer is fresh so much longer then."""


class Clock:
    """Seconds since the epoch, by `wall`; `steady` gives seconds, too, and is never set.

    What is set forward ends lifetimes too early, and that is that.  What is set back would make them longer.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()
        self.set_back = False
        """Has it been, since that was last accepted?"""

    def __call__(self) -> int:
        now = self._wall()
        ahead = now - self._steady()
        if ahead < self._ahead - TOLERANCE:
            self.set_back = True
        else:
            self._ahead = max(ahead, self._ahead)
        return int(now)

    def accept(self) -> None:
        """From now on, this is the time."""
        self._ahead = self._wall() - self._steady()
        self.set_back = False
