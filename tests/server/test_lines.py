"""The access log's lines: what structlog would have written, to the byte, and each once."""

import json
import logging
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from proxy.server.lines import BATCH, NO_REMARKS, About, Line, Lines, Remarks

TEXT = st.text(st.characters(exclude_categories=[])) | st.sampled_from(['"', "\\", "\x1b[31m", "\udcff"])
MAYBE = st.none() | TEXT
FIRST_LINE = st.tuples(TEXT, TEXT, TEXT) | st.just((None, None, None))


@given(
    first_line=FIRST_LINE,
    texts=st.tuples(*[MAYBE] * 8),
    when=st.floats(0, 4e9),
    status=st.integers(100, 599),
    size=st.integers(0, 1 << 60),
    seconds=st.floats(0, 1e6),
    aborted=st.sampled_from([None, True]),
)
def test_json_is_what_structlog_makes_of_it(
    first_line: tuple[Any, Any, Any],
    texts: tuple[Any, ...],
    when: float,
    status: int,
    size: int,
    seconds: float,
    aborted: bool | None,
) -> None:
    client, host, asked, ignored, detail, reason, referer, agent = texts
    why = None if first_line[0] is not None else "no HTTP"
    about = About(client, *first_line, host, "all", referer, agent)
    remarks = Remarks(ignored, detail, reason, why, aborted)
    renderer = structlog.processors.JSONRenderer()
    for count in (size, 0):  # two lines about the same
        for more in (remarks, NO_REMARKS):
            line = Line(when, about, status, count, asked, seconds, "hit", more)
            assert line.json() == renderer(None, "info", line.event())
            assert json.loads(line.json())["bytes"] == count


def line(number: int) -> Line:
    about = About("::1", "GET", "/", "HTTP/1.1", "a", "all", None, None)
    return Line(0.0, about, 200, number, None, 0.1, "hit", NO_REMARKS)


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Line]] = []

    def handle(self, record: logging.LogRecord) -> bool:
        assert isinstance(record.msg, list)
        self.batches.append(record.msg)
        return True


@pytest.fixture
def heard() -> Any:
    handler, logger = Heard(), logging.getLogger("access")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield handler
    logger.removeHandler(handler)
    logger.setLevel("NOTSET")


async def test_they_go_in_batches_and_in_order(heard: Heard) -> None:
    lines = Lines()
    for number in range(2 * BATCH + 5):
        lines.note(line(number))
    assert [len(batch) for batch in heard.batches] == [BATCH, BATCH]
    lines.hand_over()
    lines.hand_over()
    assert [each.bytes for batch in heard.batches for each in batch] == list(range(2 * BATCH + 5))
    assert len(heard.batches) == 3
