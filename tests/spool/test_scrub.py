"""Rot is found without anybody asking for it, at no more than the rate, and from where the last process left off."""

import asyncio
import json
import math
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.spool import scrub as scrub_module
from proxy.spool.background import NICENESS
from proxy.spool.entry import Entry
from proxy.spool.rereading import Rereading
from proxy.spool.scrub import Progress, Scrub
from proxy.spool.spool import Spool
from tests.spool.objects import (
    KIB,
    MIB,
    content,
    descriptors,
    entry,
    eventually,
    files,
    opened,
    pattern,
    store,
)
from tests.spool.rot import flip

FAST = 1 << 40
WEEK = 7 * 86_400.0


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path) as spool:
        yield spool


@asynccontextmanager
async def scrubbing(
    spool: Spool, *, rate: int = FAST, interval: float = WEEK, clock: Callable[[], float] = lambda: 1e9
) -> AsyncIterator[Scrub]:
    scrub = Scrub(spool, rate=rate, interval=interval, clock=clock)
    try:
        yield scrub
    finally:
        await scrub.close()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it has slept, without its taking that long."""
    slept: list[float] = []
    real = asyncio.sleep

    async def nap(seconds: float) -> None:
        slept.append(seconds)
        await (asyncio.Event().wait() if seconds > 1000 else real(0))

    monkeypatch.setattr(scrub_module, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": nap}))
    return slept


class Stepping:
    """Stops before each step until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.seen: list[str] = []
        self.niceness: set[int] = set()
        real = Rereading.step

        def step(rereading: Rereading, most: int) -> bool:
            self.seen.append(rereading._entry.label)
            self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            self.reading.release()
            self.go.acquire()
            return real(rereading, most)

        monkeypatch.setattr(Rereading, "step", step)

    async def reads(self) -> None:
        await eventually(lambda: self.reading.acquire(blocking=False))


async def stored_films(spool: Spool, count: int, size: int = 1000) -> list[Entry]:
    """In the order in which they are looked at."""
    films = [await store(spool, entry(f"/{number}"), pattern(size, number)) for number in range(count)]
    return sorted(films, key=lambda film: film.generation)


@pytest.mark.parametrize("at", [0, 150_000, 299_999])
async def test_one_bit_is_enough(spool: Spool, tmp_path: Path, at: int) -> None:
    films = [await store(spool, entry(f"/{number}"), pattern(300_000, number)) for number in range(5)]
    flip(spool.paths.body(films[2].generation), at)
    async with scrubbing(spool) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
        assert scrub.progress == Progress(begun=1e9, ended=1e9)
        assert scrub.read == 5 * 300_000
    assert spool.rotten == 1
    assert [spool.lookup(film.key) for film in films] == [
        (films[0],),
        (films[1],),
        (),
        (films[3],),
        (films[4],),
    ]
    assert len(files(tmp_path)) == 8
    for number in (0, 1, 3, 4):
        assert await content(spool, films[number]) == pattern(300_000, number)


@pytest.mark.parametrize("how", ["cut", "grown", "unlinked"])
async def test_what_has_another_size_goes_too(spool: Spool, how: str) -> None:
    film = await store(spool, entry(), pattern(5000))
    path = spool.paths.body(film.generation)
    match how:
        case "cut":
            os.truncate(path, 4999)
        case "grown":
            os.truncate(path, 5001)
        case _:
            path.unlink()
    async with scrubbing(spool) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
    assert (spool.lookup(film.key), spool.rotten, spool.room.used) == ((), 1, 0)


async def test_more_than_a_page_and_what_comes_meanwhile(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub_module, "PAGE", 3)
    films = await stored_films(spool, 10)
    for film in films[::3]:
        flip(spool.paths.body(film.generation), 500)
    async with scrubbing(spool) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
    assert spool.rotten == 4
    assert spool.usage() == (6000, 6)


async def test_it_keeps_to_its_rate(spool: Spool, naps: list[float]) -> None:
    await store(spool, entry(), pattern(4 * MIB + 1))
    async with scrubbing(spool, rate=MIB) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
    slept = sum(nap for nap in naps if nap < WEEK)
    assert slept == pytest.approx(4, rel=0.01)
    assert max(nap for nap in naps if nap < WEEK) <= 1


async def test_small_objects_count_for_more_than_their_bytes(spool: Spool, naps: list[float]) -> None:
    await stored_films(spool, 50, size=1)
    async with scrubbing(spool, rate=10 * 64 * KIB) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
    assert sum(nap for nap in naps if 0 < nap < WEEK) == pytest.approx(5, rel=0.1)


async def test_it_gives_way_to_the_rest(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has priorities of threads")
    stepping = Stepping(monkeypatch)
    await stored_films(spool, 1)
    stepping.go.release()
    async with scrubbing(spool) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
    assert stepping.niceness == {min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)}


@pytest.mark.parametrize("how", ["dropped", "replaced", "rotten"])
async def test_what_goes_while_it_is_read_is_no_matter(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stepping = Stepping(monkeypatch)
    [film] = await stored_films(spool, 1, size=3 * MIB)
    async with scrubbing(spool) as scrub:
        await stepping.reads()
        if how == "rotten":
            flip(spool.paths.body(film.generation), 5)
        if how == "replaced":
            film = await store(spool, entry("/0", time=2_000_000), b"new")
        else:
            await spool.drop([film])
            assert spool.room.used == 0, "at once: the scrub is no reader"
        stepping.go.release(10)
        await eventually(lambda: scrub.progress.ended is not None)
    assert spool.rotten == 0
    assert spool.usage()[1] == (1 if how == "replaced" else 0)
    assert descriptors(tmp_path) <= 1


async def test_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepping = Stepping(monkeypatch)
    async with opened(tmp_path) as spool:
        labels = [film.label for film in await stored_films(spool, 5)]
        async with scrubbing(spool, clock=lambda: 1000.0):
            stepping.go.release(2)
            for _ in range(3):
                await stepping.reads()
            stepping.go.release()
    seen = len(stepping.seen)
    assert seen >= 3
    stepping.go.release(10)
    async with opened(tmp_path) as spool, scrubbing(spool, clock=lambda: 2000.0) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
        assert scrub.progress == Progress(begun=1000.0, ended=2000.0)
    assert stepping.seen[:seen] == labels[:seen]
    assert stepping.seen[seen:] in (labels[seen:], labels[seen - 1 :]), (
        "the one it was reading, again at most"
    )


@pytest.mark.parametrize(
    ("now", "waits"),
    [(1000 + WEEK / 2, WEEK / 2), (1000.0, WEEK), (1000 + 2 * WEEK, 1), (0.0, WEEK)],
    ids=["in time", "at once", "late", "a clock set back"],
)
async def test_the_next_pass_has_its_time(spool: Spool, naps: list[float], now: float, waits: float) -> None:
    spool.paths.scrub.write_text(json.dumps({"begun": 1000.0, "ended": 1100.0, "after": None}))
    async with scrubbing(spool, clock=lambda: now) as scrub:
        await eventually(lambda: bool(naps))
        assert naps[0] == waits
        assert scrub.progress.ended in (1100.0, now)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"begun": "x"}',
        b'{"odd": 1}',
        b'{"after": 5}',
        b'{"begun": NaN}',
    ],
)
async def test_a_file_that_is_not_ours_is_none(spool: Spool, text: bytes) -> None:
    spool.paths.scrub.write_bytes(text)
    await store(spool, entry(), b"abc")
    async with scrubbing(spool) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
        assert scrub.read == 3


async def test_it_can_be_switched_off(spool: Spool) -> None:
    flip(spool.paths.body((await store(spool, entry(), b"abc")).generation), 0)
    async with scrubbing(spool, rate=0) as scrub:
        assert not scrub.runs
        for _ in range(20):
            await asyncio.sleep(0)
    assert (scrub.read, spool.rotten) == (0, 0)
    assert not spool.paths.scrub.exists()


async def test_it_ends_in_the_middle_of_an_object(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepping = Stepping(monkeypatch)
    await stored_films(spool, 1, size=3 * MIB)
    kept = descriptors(tmp_path)
    scrub = Scrub(spool, rate=FAST, interval=WEEK)
    await stepping.reads()
    closing = asyncio.create_task(scrub.close())
    await asyncio.sleep(0)
    stepping.go.release()
    await closing
    assert descriptors(tmp_path) == kept
    assert stepping.seen == ["/0"]
    assert math.isfinite(scrub.progress.begun or math.nan)


async def test_what_cannot_be_looked_at_is_left_alone(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files say nothing about a body."""

    def refuse(*_: object) -> bool:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Rereading, "step", refuse)
    films = await stored_films(spool, 2, size=KIB)
    async with scrubbing(spool) as scrub:
        await eventually(lambda: scrub.progress.ended is not None)
    assert [spool.lookup(film.key) for film in films] == [(film,) for film in films]
    assert spool.rotten == 0
