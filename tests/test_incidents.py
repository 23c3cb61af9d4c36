"""What the log tells of failures that many requests meet."""

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from proxy.incidents import CAPACITY, QUIET, Incidents


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def incidents(clock: Clock) -> Incidents:
    return Incidents(clock=clock)


def fail(incidents: Incidents, about: str = "media", reason: str = "origin-unreachable") -> None:
    incidents.note("the origin failed", about=about, reason=reason, why="refused", route="films")


def begun(about: str = "media", reason: str = "origin-unreachable") -> EventDict:
    event = {"event": "the origin failed", "log_level": "warning", "about": about, "reason": reason}
    return {**event, "why": "refused", "route": "films"}


def over(seconds: float, requests: int) -> EventDict:
    event = {"event": "an incident is over", "log_level": "info", "what": "the origin failed"}
    key = {"about": "media", "reason": "origin-unreachable"}
    return {**event, **key, "seconds": seconds, "requests": requests}


def test_a_thousand_failures_are_one_line_and_their_end_another(incidents: Incidents, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(1000):
            fail(incidents)
            clock.now += 0.5
        incidents.over("media", "origin-unreachable", "origin-timeout")
        incidents.over("media", "origin-unreachable", "origin-timeout")
    assert lines == [begun(), over(500.0, 1000)]


def test_quiet_ends_it_too(incidents: Incidents, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            fail(incidents)
            clock.now += QUIET
            incidents.end_quiet()
        assert lines == [begun()]
        clock.now += 0.001
        incidents.end_quiet()
        incidents.end_quiet()
    assert lines == [begun(), over(2 * QUIET, 3)], "the quiet is no part of it"


def test_what_fails_every_other_time_fills_no_log(incidents: Incidents, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(1000):
            fail(incidents)
            clock.now += 1
            incidents.over("media", "origin-unreachable")
            incidents.end_quiet()
    assert lines[:2] == [begun(), over(1, 1)]
    assert len(lines) < 20, "less and less often"


def test_the_last_word_is_true(incidents: Incidents, clock: Clock) -> None:
    with capture_logs() as lines:
        fail(incidents)
        clock.now += 1
        incidents.over("media", "origin-unreachable")
        for _ in range(30):
            clock.now += 1
            fail(incidents)
        assert lines == [begun(), over(1, 1), {**begun(), "again": True}]
        clock.now += QUIET + 1
        incidents.end_quiet()
    assert lines[-1] == over(31, 31)


def test_after_quiet_it_is_a_new_one(incidents: Incidents, clock: Clock) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            fail(incidents)
            incidents.over("media", "origin-unreachable")
            clock.now += QUIET + 1
        fail(incidents)
    assert lines == [begun(), over(0, 1), begun(), over(0, 1), begun()]


def test_one_that_nobody_ended_is_told_before_the_next(incidents: Incidents, clock: Clock) -> None:
    with capture_logs() as lines:
        fail(incidents)
        clock.now += QUIET + 1
        fail(incidents)
    assert lines == [begun(), over(0, 1), begun()]


def test_each_reason_and_each_origin_has_its_own(incidents: Incidents) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            fail(incidents)
            fail(incidents, reason="origin-timeout")
            fail(incidents, about="archive")
        incidents.over("media", "origin-unreachable")
    assert lines == [begun(), begun(reason="origin-timeout"), begun(about="archive"), over(0, 2)]


def test_failures_that_hit_no_request(incidents: Incidents) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            incidents.note("a fill failed", about="media", reason="origin-truncated", why="cut", requests=0)
        incidents.over("media", "origin-truncated")
    assert [line["event"] for line in lines] == ["a fill failed", "an incident is over"]
    assert lines[-1]["requests"] == 0


def test_memory_is_bounded(incidents: Incidents, clock: Clock) -> None:
    fail(incidents, about="0")
    for number in range(1, CAPACITY):
        fail(incidents, about=str(number))
        clock.now += 0.01
    fail(incidents, about="0")
    with capture_logs() as lines:
        fail(incidents, about="one too many")
        fail(incidents, about="0")
    assert [(line["event"], line["about"]) for line in lines] == [
        ("the origin failed", "one too many"),
        ("an incident is over", "1"),
    ], "the one that was quiet for longest is over"
