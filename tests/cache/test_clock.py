"""A clock that is set back makes nothing fresh for longer, nor anything look used long ago."""

import time
from pathlib import Path

import pytest

from proxy.cache.clock import TOLERANCE, Clock
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.spool.objects import entry, opened, store
from tests.together import settled, until


class Hands:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def clock(hands: Hands) -> Clock:
    return Clock(lambda: hands.wall, lambda: hands.steady)


def test_it_tells_the_time(clock: Clock, hands: Hands) -> None:
    hands.pass_by(100.9)
    assert clock() == 1_000_100
    assert not clock.set_back


@pytest.mark.parametrize(("by", "noticed"), [(3600, False), (-TOLERANCE / 2, False), (-TOLERANCE * 2, True)])
def test_it_notices_being_set_back(clock: Clock, hands: Hands, by: float, noticed: bool) -> None:
    hands.wall += by
    clock()
    assert clock.set_back == noticed


def test_it_notices_though_it_shows_more_than_when_it_was_last_looked_at(clock: Clock, hands: Hands) -> None:
    clock()
    hands.pass_by(100)
    hands.wall -= 30
    assert clock() == 1_000_070
    assert clock.set_back
    clock.accept()
    hands.pass_by(1)
    clock()
    assert not clock.set_back


def test_a_correction_after_it_was_set_forward_counts_too(clock: Clock, hands: Hands) -> None:
    hands.wall += 3600
    clock()
    hands.wall -= 3600
    clock()
    assert clock.set_back


async def test_what_was_stored_before_is_validated_first(
    adapter: Adapter, origin: ScriptedOrigin, hands: Hands, clock: Clock
) -> None:
    origin.serve("/film.mp4", b"film", headers={"Cache-Control": "max-age=100"})
    cache = adapter.service._cache
    cache._clock = clock
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
        hands.pass_by(70)
        hands.wall -= 60
        await wire.get("/film.mp4")  # somebody has to look at the clock
        await until(lambda: not clock.set_back)
        assert "hit" not in (await wire.get("/film.mp4")).cache_status
        await until(lambda: cache.idle)
        assert "hit" in (await wire.get("/film.mp4")).cache_status
        hands.pass_by(99)
        assert "hit" in (await wire.get("/film.mp4")).cache_status, "what comes then lives as long as ever"
        hands.pass_by(1)
        assert "hit" not in (await wire.get("/film.mp4")).cache_status


async def test_what_comes_from_the_future_is_stale(
    origin: ScriptedOrigin, start_adapter: StartAdapter, hands: Hands
) -> None:
    """The clock was set back while nobody ran."""
    origin.serve("/film.mp4", b"film", headers={"Cache-Control": "max-age=100"})
    host = [("Host", "films.example")]
    first = await start_adapter()
    first.service._cache._clock = Clock(lambda: hands.wall, lambda: hands.steady)
    async with first.wire() as wire:
        await wire.get("/film.mp4", host)
        await settled(first, origin)
    await first.service.stop()
    hands.wall -= 1000
    second = await start_adapter()
    second.service._cache._clock = Clock(lambda: hands.wall, lambda: hands.steady)
    async with second.wire() as wire:
        assert "hit" not in (await wire.get("/film.mp4", host)).cache_status
        await until(lambda: second.service._cache.idle)
        assert "hit" in (await wire.get("/film.mp4", host)).cache_status


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_order_of_use_outlives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    real, hours = time.time_ns, 3600 * 10**9
    spool_of = opened(tmp_path, max_size=3000)
    spool = await spool_of.__aenter__()
    old = [await store(spool, entry(f"/{n}"), bytes(1000)) for n in range(2)]
    monkeypatch.setattr(time, "time_ns", lambda: real() - 5 * hours)
    if restarted:
        await spool_of.__aexit__(None, None, None)
        spool_of = opened(tmp_path, max_size=3000)
        spool = await spool_of.__aenter__()
    new = [await store(spool, entry(f"/new{n}"), bytes(1000)) for n in range(2)]
    assert [bool(spool.lookup(each.key)) for each in (*old, *new)] == [False, True, True, True]
    await spool_of.__aexit__(None, None, None)
