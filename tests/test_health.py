"""When an origin is held for down, who may try it then, and what ends it."""

import pytest

from proxy.errors import ConnectTimeout, OriginDown
from proxy.health import FIRST_PAUSE, LONGEST_PAUSE, THRESHOLD, Attempt, Health

REFUSED = OriginDown("refused")


@pytest.fixture
def recoveries() -> list[str]:
    return []


@pytest.fixture
def health(recoveries: list[str]) -> Health:
    return Health(on_recovery=lambda: recoveries.append("up"), jitter=lambda: 0.0)


def begin(health: Health, now: float) -> Attempt:
    attempt = health.begin(now)
    assert attempt is not None
    return attempt


def fail(health: Health, now: float, error: OriginDown | ConnectTimeout = REFUSED) -> None:
    health.failed(begin(health, now), now, error)


@pytest.fixture
def down(health: Health) -> Health:
    """It has failed at 0."""
    for _ in range(THRESHOLD):
        fail(health, 0)
    return health


def test_it_is_down_after_several_failures_in_a_row(health: Health) -> None:
    for _ in range(THRESHOLD - 1):
        fail(health, 0)
        assert health.is_up
        assert not health.refuses(0)
    error = ConnectTimeout("nothing")
    fail(health, 0, error)
    assert not health.is_up
    assert health.refuses(0)
    assert health.begin(0) is None
    assert health.error is error
    assert health.failures == THRESHOLD


def test_failures_between_signs_of_life_are_not_in_a_row(health: Health, recoveries: list[str]) -> None:
    for now in range(100):
        fail(health, now)
        health.alive(now + 0.5)
    assert health.is_up
    assert health.error is None
    assert len(recoveries) == 100


def test_a_sign_of_life_excuses_what_began_before_it(health: Health) -> None:
    """Another connection has brought something meanwhile: the origin is busy, not down."""
    attempts = [begin(health, 0) for _ in range(50)]
    health.alive(4)
    for attempt in attempts:
        health.failed(attempt, 5, REFUSED)
    assert health.is_up


def test_many_that_fail_at_once_count_each(health: Health) -> None:
    attempts = [begin(health, 0) for _ in range(50)]
    for attempt in attempts:
        health.failed(attempt, 5, REFUSED)
    assert health.refuses(5 + FIRST_PAUSE - 0.01), "and later ones of them move nothing"
    assert not health.refuses(5 + FIRST_PAUSE)


def test_one_probe_at_a_time(down: Health) -> None:
    assert down.begin(FIRST_PAUSE - 0.01) is None
    probe = begin(down, FIRST_PAUSE)
    assert down.probes == 1
    assert down.refuses(100)
    assert down.begin(100) is None
    down.failed(probe, 100, REFUSED)
    assert down.begin(100) is None
    assert down.begin(100 + 2 * FIRST_PAUSE) is not None


def test_pauses_double_up_to_a_limit(down: Health) -> None:
    now, pause, pauses = 0.0, FIRST_PAUSE, []
    for _ in range(8):
        pauses.append(pause)
        assert down.refuses(now + pause - 0.001)
        now += pause
        fail(down, now)
        pause = min(2 * pause, LONGEST_PAUSE)
    assert pauses == [0.25, 0.5, 1, 2, 2, 2, 2, 2]


def test_jitter_shortens_them() -> None:
    health = Health(jitter=lambda: 1.0)
    for _ in range(THRESHOLD):
        fail(health, 0)
    assert health.refuses(0.75 * FIRST_PAUSE - 0.001)
    assert not health.refuses(0.75 * FIRST_PAUSE)


def test_a_success_ends_it(down: Health, recoveries: list[str]) -> None:
    fail(down, 1)
    begin(down, 10)
    down.alive(10.5)
    assert down.is_up
    assert recoveries == ["up"]
    assert down.begin(10.5) is not None
    for _ in range(THRESHOLD):
        fail(down, 11)
    assert not down.refuses(11 + FIRST_PAUSE), "the pauses begin anew"


def test_any_sign_of_life_ends_it(down: Health) -> None:
    """Say, on a connection that was there before."""
    down.alive(0.1)
    assert down.is_up
    assert not down.refuses(0.1)


def test_a_probe_that_is_given_up_leaves_its_place_to_the_next(down: Health) -> None:
    probe = begin(down, 1)
    down.gave_up(probe)
    assert not down.refuses(1)
    assert down.begin(1) is not None
    assert not down.is_up


def test_an_old_probe_does_not_speak_for_a_new_one(down: Health) -> None:
    old = begin(down, 1)
    down.alive(2)
    for _ in range(THRESHOLD):
        fail(down, 3)
    begin(down, 4)
    down.gave_up(old)
    assert down.refuses(100)
    down.failed(old, 5, REFUSED)
    assert down.refuses(100)


def test_who_leaves_says_nothing(health: Health) -> None:
    for _ in range(100):
        health.gave_up(begin(health, 0))
    assert health.is_up
    assert health.failures == 0
