"""The access log's lines: noted on the loop, a batch at a time handed to the thread that writes, and rendered there.

A line of its own for structlog, a record for logging and a wake-up of the other thread for each request would cost
more than the answer to a warm one.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from functools import lru_cache
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
        whole = int(self.when)
        return f"{_second(whole)}.{int((self.when - whole) * 1e6):06d}Z"

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
        # fmt: off
        (
            _, client, method, target, protocol, host, status, size, asked, ignored,
            seconds, cache, detail, route, reason, why, aborted, referer, agent,
        ) = self
        # fmt: on
        what = "" if asked is None else f'"range": {quoted(asked)}, '
        if ignored is not None:
            what += f'"range_ignored": {quoted(ignored)}, '
        told = (
            f'"cache": "{cache}", ' if detail is None else f'"cache": "{cache}", "detail": {quoted(detail)}, '
        )
        end = "" if reason is None else f'"reason": {quoted(reason)}, '
        if why is not None:
            end += f'"why": {quoted(why)}, '
        if aborted is not None:
            end += '"aborted": true, '
        return (
            f'{{{_who(client, method, target, protocol, host)}"status": {status}, "bytes": {size}, '
            f'{what}"seconds": {_number(seconds)}, {told}"route": {_usual(route)}, {end}{_by(referer, agent)}'
            f'"event": "request", "level": "info", "logger": "access", "timestamp": "{self.timestamp}"}}'
        )

    def combined(self) -> str:
        """The combined log format of Apache and nginx."""
        when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(self.when))
        first_line = " ".join(part for part in (self.method, self.target, self.protocol) if part is not None)
        return (
            f"{self.client} - - [{when}] {apache_quoted(first_line or '-')} {self.status} {self.bytes or '-'} "
            f"{apache_quoted(self.referer or '-')} {apache_quoted(self.user_agent or '-')}"
        )


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


# What the next lines will say, too.

_usual = lru_cache(maxsize=512)(quoted)
_number = lru_cache(maxsize=512)(float.__repr__)


@lru_cache(maxsize=512)
def _who(
    client: str | None, method: str | None, target: str | None, protocol: str | None, host: str | None
) -> str:
    who = "" if client is None else f'"client": {quoted(client)}, '
    if method is not None and target is not None and protocol is not None:
        who += f'"method": {quoted(method)}, "target": {quoted(target)}, "protocol": {quoted(protocol)}, '
    if host is not None:
        who += f'"host": {quoted(host)}, '
    return who


@lru_cache(maxsize=512)
def _by(referer: str | None, agent: str | None) -> str:
    by = "" if referer is None else f'"referer": {quoted(referer)}, '
    return by if agent is None else f'{by}"user_agent": {quoted(agent)}, '


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
