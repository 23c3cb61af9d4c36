"""One log line per incident, not per request: the first failure of a kind is told, the end of it, and no more."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

QUIET = 60.0
"""Seconds without another failure after which an incident is over."""
AGAIN = 5.0
"""Seconds after which an incident that was over, and goes on, is told again; each time it takes twice as many."""
CAPACITY = 256
"""Incidents that are known at the same time; of more, the one that has been quiet for longest is over."""

_log = structlog.stdlib.get_logger("incidents")


class _Incident:
    __slots__ = ("again_after", "begun", "event", "last", "over", "over_at", "requests", "told")

    def __init__(self, event: str, now: float) -> None:
        self.event = event
        self.begun = self.last = now
        self.requests = 0
        self.told = 0  # of these requests
        self.over = False
        self.over_at = 0.0
        self.again_after = AGAIN


class Incidents:
    """Failures, by what failed (`about`: an origin's name, say, never anything that a client could invent) and why
    (`reason`).

    An incident begins with a failure, and is over with a success or when it has been quiet for a while.  One that
    comes back within that while is the same again, and told again only if it is still there after some seconds: what
    fails every other time tells little more than what fails each time, and the last word is true.  `clock` gives
    seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], _Incident] = OrderedDict()  # by their last failure

    def note(
        self, event: str, *, about: str, reason: str, why: str, requests: int = 1, **details: object
    ) -> None:
        """It failed, and so did so many `requests`.  `details` are for the line, if there is one."""
        key, now = (about, reason), self._clock()
        incident = self._known.get(key)
        if incident is None or now - incident.last > QUIET:
            self._forget(key)
            incident = self._known[key] = _Incident(event, now)
            _log.warning(event, about=about, reason=reason, why=why, **details)
        elif incident.over and now - incident.over_at >= incident.again_after:
            incident.over = False
            incident.again_after = 2 * incident.again_after
            _log.warning(event, about=about, reason=reason, why=why, again=True, **details)
        incident.last = now
        incident.requests += requests
        self._known.move_to_end(key)
        if len(self._known) > CAPACITY:
            self._forget(next(iter(self._known)))

    def over(self, about: str, *reasons: str) -> None:
        """It has succeeded where it failed for these reasons."""
        for reason in reasons:
            incident = self._known.get((about, reason))
            if incident is not None and not incident.over:
                incident.over, incident.over_at = True, self._clock()
                self._tell((about, reason), incident, self._clock())

    def end_quiet(self) -> None:
        """Those that have been quiet for a while are over."""
        now = self._clock()
        while self._known:
            key, incident = next(iter(self._known.items()))
            if now - incident.last <= QUIET:
                return
            self._forget(key)

    async def watch(self) -> None:
        """Look for those, now and then.  Runs until it is cancelled."""
        while True:
            await asyncio.sleep(QUIET / 4)
            self.end_quiet()

    def _forget(self, key: tuple[str, str]) -> None:
        incident = self._known.pop(key, None)
        if incident is not None and (not incident.over or incident.requests > incident.told):
            self._tell(key, incident, incident.last)

    def _tell(self, key: tuple[str, str], incident: _Incident, end: float) -> None:
        about, reason = key
        incident.told = incident.requests
        _log.info(
            "an incident is over",
            what=incident.event,
            about=about,
            reason=reason,
            seconds=round(end - incident.begun, 3),
            requests=incident.requests,
        )
