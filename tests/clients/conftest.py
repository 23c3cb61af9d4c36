"""A legacy origin, the adapter before it, and a folder for the client's files."""

import logging
import random
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from proxy.server.lines import Line
from tests.access_log import access_log
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin

BLOB = random.Random(206).randbytes(4 << 20)
"""A download that no client takes for anything else."""
FILM = files("proxy.demo").joinpath("video.mp4")
"""60 seconds of video and sound, with its index at the end."""


class Site:
    """One object, or more, of an origin that knows only 200; and what the adapter made of it."""

    def __init__(self, origin: ScriptedOrigin, adapter: Adapter, events: list[EventDict]) -> None:
        self.origin = origin
        self.root = adapter.url.rstrip("/")
        self._lines = adapter.service._handler._access.lines
        self._events = events

    def serve(self, path: str, body: bytes, *, sized: bool = True, content_type: str | None = None) -> str:
        """The adapter's URL of an object without validators; not `sized`: without a Content-Length either."""
        content_type = content_type or "application/octet-stream"
        self.origin.serve(path, body, content_type=content_type, chunked=not sized)
        return self.root + path

    @property
    def answered(self) -> list[EventDict]:
        """The access log's lines so far."""
        self._lines.hand_over()
        return [event for event in self._events if event["event"] == "request"]

    @property
    def ranges(self) -> list[str]:
        """The Range fields of the requests that were answered 206."""
        return [event["range"] for event in self.answered if event["status"] == 206]

    @property
    def problems(self) -> list[EventDict]:
        return [event for event in self._events if event["log_level"] not in {"debug", "info"}]


def _event(line: Line) -> EventDict:
    return {**line.event(), "log_level": "info"}


@pytest.fixture
async def site(
    origin: ScriptedOrigin, start_adapter: StartAdapter, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Site]:
    """Whatever a client does, it is no reason for the adapter to complain."""
    with capture_logs() as events, access_log(lambda line: events.append(_event(line))):
        site = Site(origin, await start_adapter(logging={"access": True}), events)
        yield site
    assert site.problems == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    folder.mkdir()
    return folder


@pytest.fixture(params=[True, False], ids=["sized", "unsized"])
def sized(request: pytest.FixtureRequest) -> bool:
    """With a Content-Length from the origin, and without."""
    return bool(request.param)
