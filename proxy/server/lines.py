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
    rendered: tuple[str, str] | None = field(default=None, init=False, repr=False)
    """Of a line of JSON: what stands before the status, and what stands last, up to the time."""

    def render(self) -> tuple[str, str]:
        first = [(name, getattr(self, name)) for name in ("client", "method", "target", "protocol", "host")]
        last = [("route", self.route), ("referer", self.referer), ("user_agent", self.user_agent)]
        end = '"event": "request", "level": "info", "logger": "access", "timestamp": "'
        self.rendered = f'{{{_members(first)}"status": ', _members(last) + end
        return self.rendered


class Remarks(NamedTuple):
    """What is told of few requests.  None is left out."""

    range_ignored: str | None = None
    detail: str | None = None
    reason: str | None = None
    why: str | None = None
    aborted: bool | None = None

    def json(self) -> str:
        """Members of a JSON object, with a comma behind each."""
        *texts, aborted = self
        said = _members(list(zip(self._fields, texts, strict=False)))
        return said if aborted is None else said + '"aborted": true, '


NO_REMARKS: Final = Remarks()


class Line(NamedTuple):
    """What is told of one request.  `when` is in seconds since the epoch."""

    when: float
    about: About
    status: int
    bytes: int
    range: str | None
    seconds: float
    cache: str
    remarks: Remarks

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
            "seconds": int(self.seconds * 1e6 + 0.5) / 1e6,
            "cache": self.cache,
            **self.remarks._asdict(),
            "route": about.route,
            "referer": about.referer,
            "user_agent": about.user_agent,
            "event": "request",
            "level": "info",
            "logger": "access",
            "timestamp": f"{_second(int(self.when))}.{int(self.when % 1 * 1e6):06d}Z",
        }
        return {name: value for name, value in told.items() if value is not None}

    def json(self) -> str:
        """The same, as structlog's renderer would write it, at a fraction of the cost."""
        when, about, status, size, asked, seconds, cache, remarks = self
        first, last = about.rendered or about.render()
        said = "" if asked is None else f'"range": {quoted(asked)}, '
        end = last if remarks is NO_REMARKS else remarks.json() + last
        micros = str(int(when % 1 * 1e6) + 1_000_000)[1:]  # a format specifier would take twice as long
        return (
            f'{first}{status}, "bytes": {size}, {said}"seconds": {_number(int(seconds * 1e6 + 0.5))}, '
            f'"cache": "{cache}", {end}{_second(int(when))}.{micros}Z"}}'
        )

    def combined(self) -> str:
        """The combined log format of Apache and nginx."""
        about = self.about
        when = _apache_second(int(self.when))
        said = (about.method, about.target, about.protocol)
        first_line = " ".join(part for part in said if part is not None)
        return (
            f"{about.client} - - [{when}] {apache_quoted(first_line or '-')} {self.status} {self.bytes or '-'} "
            f"{apache_quoted(about.referer or '-')} {apache_quoted(about.user_agent or '-')}"
        )


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


@lru_cache(maxsize=2)
def _apache_second(second: int) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))


@lru_cache(maxsize=512)  # most of them are a few hundred
def _number(micros: int) -> str:
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
