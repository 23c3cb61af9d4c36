"""Once rot is known, nobody gets another byte of it: neither who has the body open, nor who comes."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import BodyLost, SpoolError
from proxy.spool.shelf import Shelf
from proxy.spool.spool import Spool
from tests.spool.objects import Books, begin, content, descriptors, entry, eventually, files, opened, store


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path) as spool:
        yield spool


async def test_its_readers_fail_and_nobody_finds_it(spool: Spool, tmp_path: Path) -> None:
    before = Books.of(spool)
    stored = await store(spool, entry(), b"abc")
    body = await spool.open_body(stored)
    assert await body.read(0, 1) == b"a"
    await spool.condemn(stored, "a test")
    with pytest.raises(BodyLost):
        await body.read(1, 2)
    with pytest.raises(BodyLost):
        body.check()
    assert spool.lookup(stored.key) == ()
    with pytest.raises(SpoolError):
        await spool.open_body(stored)
    assert files(tmp_path) == set()
    body.release()
    await eventually(lambda: descriptors(tmp_path) == spool.room.used == 0)
    assert Books.of(spool) == before
    assert spool.rotten == 1


async def test_it_is_hidden_before_the_disk_follows(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    removing, go = threading.Event(), threading.Event()
    real = Shelf.remove

    def slow(shelf: Shelf, generations: list[str]) -> object:
        removing.set()
        go.wait()
        return real(shelf, generations)

    monkeypatch.setattr(Shelf, "remove", slow)
    stored = await store(spool, entry(), b"abc")
    task = asyncio.create_task(spool.condemn(stored, "a test"))
    await eventually(removing.is_set)
    assert spool.lookup(stored.key) == ()
    with pytest.raises(SpoolError):
        await spool.open_body(stored)
    go.set()
    await task
    await spool.condemn(stored, "a test")


async def test_who_is_just_opening_it_fails(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    opening, go = threading.Event(), threading.Event()
    real = Shelf.open

    def slow(shelf: Shelf, found: object) -> int:
        fd = real(shelf, found)  # type: ignore[arg-type]
        opening.set()
        go.wait()
        return fd

    monkeypatch.setattr(Shelf, "open", slow)
    stored = await store(spool, entry(), b"abc")
    body = spool._bodies.pop(stored.generation)
    assert body is not None
    body.release()
    task = asyncio.create_task(spool.open_body(stored))
    await eventually(opening.is_set)
    condemning = asyncio.create_task(spool.condemn(stored, "a test"))
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(SpoolError):
        await task
    await condemning
    await eventually(lambda: spool.being_read == 0)


async def test_who_followed_its_fill_fails_too(spool: Spool) -> None:
    filling = await begin(spool, entry(), b"abc")
    follower = filling.body.hold()
    await filling.commit(filling.entry.completed(3))
    [stored] = spool.lookup(entry().key)
    await spool.condemn(stored, "a test")
    with pytest.raises(BodyLost):
        await follower.read(0, 3)
    follower.release()


async def test_its_successor_is_another_body(spool: Spool) -> None:
    await spool.condemn(await store(spool, entry(), b"abc"), "a test")
    assert await content(spool, await store(spool, entry(), b"abc")) == b"abc"
