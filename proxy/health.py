"""Whether an origin can be connected to: learnt from the connections that are made anyway.

Only failed connections count.  An error status, a broken body or a late answer may be due to one request, which a
client can repeat at will, and says nothing about the next.  And any byte that the origin sends shows that it lives:
one that is merely too busy to take another connection is not held for down.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from proxy.errors import OriginError

THRESHOLD = 3
"""Connections that fail without a sign of life between them before an origin is held for down."""
FIRST_PAUSE = 0.25
"""Seconds until one request may try again; each that fails doubles them."""
LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that is being made."""

    begun: float


class Health:
    """One origin's.  `now` is in seconds, of any clock that never goes back; `jitter` gives numbers from 0 to 1."""

    def __init__(
        self,
        *,
        on_recovery: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._on_recovery = on_recovery
        self._jitter = jitter
        self._in_a_row = 0
        self._last_sign = float("-inf")
        self._pause = FIRST_PAUSE
        self._next_probe: float | None = None  # while it is held for down
        self._probe: Attempt | None = None
        self.error: OriginError | None = None
        """Why the last connection failed, until there is a sign of life."""
        self.failures = 0
        """Connections that failed, ever."""
        self.probes = 0
        """Connections that were tried while it was held for down."""

    def __repr__(self) -> str:
        return f"<Health {'up' if self.is_up else 'down'} failures={self._in_a_row}>"

    @property
    def is_up(self) -> bool:
        return self._next_probe is None

    def refuses(self, now: float) -> bool:
        """Would `begin` let nobody through?"""
        return self._next_probe is not None and (self._probe is not None or now < self._next_probe)

    def begin(self, now: float) -> Attempt | None:
        """Somebody needs a connection: may they try?  Then `alive`, `failed` or `gave_up` follows."""
        if self.refuses(now):
            return None
        attempt = Attempt(now)
        if not self.is_up:
            self._probe = attempt
            self.probes += 1
        return attempt

    def alive(self, now: float) -> None:
        """The origin has taken a connection, or sent something."""
        self._last_sign = now
        if self._in_a_row:
            self._in_a_row, self._next_probe, self._probe = 0, None, None
            self._pause, self.error = FIRST_PAUSE, None
            self._on_recovery()

    def failed(self, attempt: Attempt, now: float, error: OriginError) -> None:
        self.failures += 1
        if attempt.begun < self._last_sign:
            return  # which ended the probing, too
        self._in_a_row += 1
        self.error = error
        if attempt is self._probe:
            self._probe = None
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        elif not self.is_up or self._in_a_row < THRESHOLD:
            return
        self._next_probe = now + self._pause * (1 - self._jitter() / 4)

    def gave_up(self, attempt: Attempt) -> None:
        """Whoever wanted the connection has left, or it failed for a reason of ours: that tells nothing."""
        if attempt is self._probe:
            self._probe = None
