"""The access log's lines: noted on the loop, a batch at a time handed to the thread that writes, and rendered there.

A line of its own for structlog, a record for logging and a wake-up of the other thread for each request would cost
more than the answer to a warm one.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, NamedTuple

BATCH: Final = 100
"""Lines handed over at a time, at most; ..."""
HELD: Final = 0.1
"""... and how many seconds one is held back for others to come."""


class Line(NamedTuple):
    """What is told of one request; None is left out.  `when` is in seconds since the epoch."""

    when: float
    client: str | None
    method: str | None
    target: str | None
    protocol: str | None
    host: str | None
    status: int
    bytes: int
    range: str | None
    range_ignored: str | None
    seconds: float
    cache: str
    detail: str | None
    route: str
    reason: str | None
    why: str | None
    aborted: bool | None
    referer: str | None
    user_agent: str | None

    @property
    def timestamp(self) -> str:
        return datetime.fromtimestamp(self.when, UTC).isoformat().replace("+00:00", "Z")

    def event(self) -> dict[str, object]:
        """The line as structlog would have it."""
        told = {name: value for name, value in self._asdict().items() if value is not None and name != "when"}
        return {
            **told,
            "event": "request",
            "level": "info",
            "logger": "access",
            "timestamp": self.timestamp,
        }

    def json(self) -> str:
        """The same, as structlog's renderer would write it, at a fraction of the cost."""
        who = "" if self.client is None else f'"client": {quoted(self.client)}, '
        if self.method is not None and self.target is not None and self.protocol is not None:
            who += (
                f'"method": {quoted(self.method)}, "target": {quoted(self.target)}, '
                f'"protocol": {quoted(self.protocol)}, '
            )
        if self.host is not None:
            who += f'"host": {quoted(self.host)}, '
        asked = "" if self.range is None else f'"range": {quoted(self.range)}, '
        if self.range_ignored is not None:
            asked += f'"range_ignored": {quoted(self.range_ignored)}, '
        detail = "" if self.detail is None else f'"detail": {quoted(self.detail)}, '
        end = "" if self.reason is None else f'"reason": {quoted(self.reason)}, '
        if self.why is not None:
            end += f'"why": {quoted(self.why)}, '
        if self.aborted is not None:
            end += '"aborted": true, '
        if self.referer is not None:
            end += f'"referer": {quoted(self.referer)}, '
        if self.user_agent is not None:
            end += f'"user_agent": {quoted(self.user_agent)}, '
        return (
            f'{{{who}"status": {self.status}, "bytes": {self.bytes}, {asked}"seconds": {self.seconds!r}, '
            f'"cache": {quoted(self.cache)}, {detail}"route": {quoted(self.route)}, {end}"event": "request", '
            f'"level": "info", "logger": "access", "timestamp": "{self.timestamp}"}}'
        )

    def combined(self) -> str:
        """The combined log format of Apache and nginx."""
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(self.when))
        first_line = " ".join(part for part in (self.method, self.target, self.protocol) if part is not None)
        return (
            f"{self.client} - - [{when}] {apache_quoted(first_line or '-')} {self.status} {self.bytes or '-'} "
            f"{apache_quoted(self.referer or '-')} {apache_quoted(self.user_agent or '-')}"
        )


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
