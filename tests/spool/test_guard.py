"""A body that somebody else has written to is read before anyone gets a byte of it."""

import asyncio
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from proxy.errors import SpoolError
from proxy.spool import body, checksum, guard
from tests.spool.objects import content, descriptors, entry, eventually, files, opened, pattern, store
from tests.spool.rot import flip


def age(path: Path) -> None:
    os.utime(path, ns=(5, 5))


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_flipped_bit_reaches_nobody(tmp_path: Path, is_open: bool) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(100_000))
        if not is_open:
            spool._bodies.close_idle()
        [found] = spool.lookup(stored.key)
        flip(spool.paths.body(stored.generation), 99_999)
        age(spool.paths.body(stored.generation))
        with capture_logs() as lines:
            results = await asyncio.gather(*(content(spool, found) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(each, SpoolError) for each in results)
        assert [line["event"] for line in lines] == ["dropped an object that has rotted"]
        assert spool.lookup(stored.key) == ()
        assert spool.rotten == 1
        assert files(tmp_path) == set()
        await eventually(lambda: descriptors(tmp_path) == 0)
        assert await content(spool, await store(spool, entry(), b"anew")) == b"anew"


async def test_after_a_restart_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(1000))
    flip(spool.paths.body(stored.generation), 5)
    age(spool.paths.body(stored.generation))
    spool.paths.index.unlink()  # so that it is adopted
    async with opened(tmp_path) as spool:
        await spool.swept()
        [found] = spool.lookup(stored.key)
        with pytest.raises(SpoolError, match="not as it was stored"):
            await content(spool, found)


async def test_what_was_copied_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Mock(wraps=checksum.read_checksum)
    monkeypatch.setattr(body, "read_checksum", reading)
    monkeypatch.setattr(guard, "STEP", 400)
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(1000))
        assert reading.call_count == 0
    async with opened(tmp_path) as spool:
        [found] = spool.lookup(stored.key)
        assert await content(spool, found) == pattern(1000)
        assert reading.call_count == 0, "it has its time yet"
        age(spool.paths.body(stored.generation))
        for _ in range(3):
            assert set(await asyncio.gather(*(content(spool, found) for _ in range(5)))) == {pattern(1000)}
            spool._bodies.close_idle()
        assert reading.call_count == 3, "in three steps, once"
        await spool.update(found)
        [found] = spool.lookup(stored.key)
        assert await content(spool, found) == pattern(1000)
        assert reading.call_count == 3


async def test_closing_waits_for_no_reading(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(1000))
        age(spool.paths.body(stored.generation))
        [found] = spool.lookup(stored.key)
        leaving = asyncio.create_task(spool.open_body(found))
        while not spool._reading.guard._checking:  # noqa: ASYNC110  # no further than that
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
    assert descriptors(tmp_path) == 0


async def test_who_leaves_while_it_is_read_leaves_no_hold(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(1000))
        age(spool.paths.body(stored.generation))
        [found] = spool.lookup(stored.key)
        leaving = asyncio.create_task(spool.open_body(found))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        assert await content(spool, found) == pattern(1000)
        await eventually(lambda: spool.being_read == 0)
