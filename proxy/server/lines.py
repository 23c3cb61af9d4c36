"""The access log's lines: noted on the loop, a batch at a time handed to the thread that writes, and rendered there.

A line of its own for structlog, a record for logging and a wake-up of the other thread for each request would cost
more than the answer to a warm one.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, NamedTuple

BATCH: Final = 100
"""Lines handed over at a time, at most; ..."""
HELD: Final = 0.1
"""... and how many seconds one is held back for others to come."""


@dataclass(slots=True, eq=False)
class About:
    """Who asked for what: all that lines tell of it.  Whoever has it of several requests alike gives each the same
    one, of which the thread that writes does its part once.  None is left out.
    """

    client: str | None
    method: str | None
    target: str | None
    protocol: str | None
    host: str | None
    route: str
    referer: str | None
    user_agent: str | None
    rendered: tuple[str, str, str] | None = field(default=None, init=False, repr=False)
    """Of a line of JSON: what stands first, the route, and what stands behind the reasons."""

    def render(self) -> tuple[str, str, str]:
        first = [(name, getattr(self, name)) for name in ("client", "method", "target", "protocol", "host")]
        last = [("referer", self.referer), ("user_agent", self.user_agent)]
        self.rendered = _members(first), _members([("route", self.route)]), _members(last)
        return self.rendered


class Line(NamedTuple):
    """What is told of one request.  `when` is in seconds since the epoch.  None is left out."""

    when: float
    about: About
    status: int
    bytes: int
    range: str | None
    range_ignored: str | None
    seconds: float
    cache: str
    detail: str | None
    reason: str | None
    why: str | None
    aborted: bool | None

    def event(self) -> dict[str, object]:
        """The line as structlog would have it."""
        about = self.about
        told = {
            "client": about.client,
            "method": about.method,
            "target": about.target,
            "protocol": about.protocol,
            "host": about.host,
            "status": self.status,
            "bytes": self.bytes,
            "range": self.range,
            "range_ignored": self.range_ignored,
            "seconds": _rounded(self.seconds),
            "cache": self.cache,
            "detail": self.detail,
            "route": about.route,
            "reason": self.reason,
            "why": self.why,
            "aborted": self.aborted,
            "referer": about.referer,
            "user_agent": about.user_agent,
            "event": "request",
            "level": "info",
            "logger": "access",
            "timestamp": _timestamp(self.when),
        }
        return {name: value for name, value in told.items() if value is not None}

    def json(self) -> str:
        """The same, as structlog's renderer would write it, at a fraction of the cost."""
        when, about, status, size, asked, ignored, seconds, cache, detail, reason, why, aborted = self
        first, route, last = about.rendered or about.render()
        what = "" if asked is None else f'"range": {quoted(asked)}, '
        if ignored is not None:
            what += f'"range_ignored": {quoted(ignored)}, '
        end = route if detail is None else f'"detail": {quoted(detail)}, {route}'
        if reason is not None:
            end += f'"reason": {quoted(reason)}, '
        if why is not None:
            end += f'"why": {quoted(why)}, '
        if aborted is not None:
            end += '"aborted": true, '
        return (
            f'{{{first}"status": {status}, "bytes": {size}, {what}"seconds": {_number(seconds)}, "cache": "{cache}", '
            f'{end}{last}"event": "request", "level": "info", "logger": "access", "timestamp": "{_timestamp(when)}"}}'
        )

    def combined(self) -> str:
        """The combined log format of Apache and nginx."""
        about = self.about
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(self.when))
        said = (about.method, about.target, about.protocol)
        first_line = " ".join(part for part in said if part is not None)
        return (
            f"{about.client} - - [{when}] {apache_quoted(first_line or '-')} {self.status} {self.bytes or '-'} "
            f"{apache_quoted(about.referer or '-')} {apache_quoted(about.user_agent or '-')}"
        )


def _timestamp(when: float) -> str:
    second = int(when)
    micros = int((when - second) * 1e6)
    return f"{_second(second)}.{str(1_000_000 + micros)[1:]}Z"  # a format specifier would take twice as long


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def _rounded(seconds: float) -> float:
    return int(seconds * 1e6 + 0.5) / 1e6


def _number(seconds: float) -> str:
    return _of_micros(int(seconds * 1e6 + 0.5))


@lru_cache(maxsize=512)  # most of them are a few hundred
def _of_micros(micros: int) -> str:
    return repr(micros / 1e6)


def _members(members: list[tuple[str, str | None]]) -> str:
    """Of a JSON object, each with the comma behind it."""
    return "".join(f'"{name}": {quoted(value)}, ' for name, value in members if value is not None)


def apache_quoted(text: str) -> str:
    """As Apache writes it: no client can end the quotes, or the line."""
    escaped = text.encode("unicode_escape", "surrogateescape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


class Lines:
    """Those that are noted and not handed over yet."""

    def __init__(self) -> None:
        self._log = logging.getLogger("access")
        self._noted: list[Line] = []
        self._due: asyncio.TimerHandle | None = None

    @property
    def wanted(self) -> bool:
        return self._log.isEnabledFor(logging.INFO)

    def note(self, line: Line) -> None:
        """It will be written soon.  In the order of these calls."""
        noted = self._noted
        noted.append(line)
        if len(noted) >= BATCH:
            self.hand_over()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(HELD, self.hand_over)

    def hand_over(self) -> None:
        """All that were noted."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        noted, self._noted = self._noted, []
        if noted and self.wanted:
            self._log.handle(logging.LogRecord("access", logging.INFO, __file__, 0, noted, None, None))
