"""Cancelled at any await, nothing stays behind: no file, no reservation, no descriptor, no pinned body."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache.sources import Complete, Growing
from proxy.fill.fill import Fill
from proxy.spool import calls
from proxy.spool.spool import Spool
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.spool.objects import KIB, Books, content, descriptors, entry, eventually, opened, pattern, store
from tests.stepping import CancelledAt, cancel_everywhere


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path, max_size=64 * KIB) as open_spool:
        yield open_spool


class Pieces:
    """An origin's body, already here or a moment away."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.closed = False

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self.closed = True


async def settled(spool: Spool, before: Books, open_files: int) -> None:
    await eventually(lambda: Books.of(spool) == before)
    await eventually(lambda: descriptors(spool.paths.root) == open_files)


@pytest.mark.parametrize("length", [3 * KIB, None])
async def test_a_fill(spool: Spool, length: int | None) -> None:
    before = Books.of(spool)

    async def fetch() -> None:
        new = entry("/film", length)
        fill = Fill(
            Pieces(bytes(KIB), bytes(KIB), bytes(KIB)), await spool.create(new, length), limit=10 * KIB
        )
        await fill.run()

    async def check() -> None:
        for stored in spool.lookup(entry("/film").key):
            assert await content(spool, stored) == bytes(3 * KIB), "what was committed is whole"
            await spool.drop([stored])
        await settled(spool, before, 0)

    assert await cancel_everywhere(fetch, check) > 5


async def test_a_fill_that_slides(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.fill.window.SMALLEST", 4 * KIB)
    before = Books.of(spool)

    async def fetch() -> None:
        writer = await spool.create(entry(), None)
        fill = Fill(Pieces(*[bytes(KIB)] * 12), writer, limit=3 * KIB)
        fill.follow()

        async def follow() -> None:
            at = 0
            while (available := await fill.wait(at)) > at:
                at += len(await fill.read(at, available))

        following = asyncio.create_task(follow())
        try:
            await fill.run()
        finally:
            await asyncio.wait({following})
            fill.leave()
            following.exception()

    async def check() -> None:
        await settled(spool, before, 0)

    assert await cancel_everywhere(fetch, check) > 10


async def test_a_fill_that_evicts_and_replaces(spool: Spool) -> None:
    async def fetch() -> None:
        old = await store(spool, entry("/film", time=1), bytes(30 * KIB))
        await store(spool, entry("/other"), bytes(30 * KIB))
        body = await spool.open_body(old)
        try:
            await store(spool, entry("/film", time=2), bytes(20 * KIB))
        finally:
            body.release()

    async def check() -> None:
        await spool.drop([each for name in ("/film", "/other") for each in spool.lookup(entry(name).key)])
        await settled(spool, before, 0)

    before = Books.of(spool)
    assert await cancel_everywhere(fetch, check) > 5


async def test_opening_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.spool.bodies.IDLE", 1)
    monkeypatch.setattr("proxy.spool.residence._NOWAIT", 0)  # every read takes a thread
    monkeypatch.setattr("proxy.spool.residence.REMEMBERED", -1.0)
    async with opened(tmp_path) as spool:
        one = await store(spool, entry("/one"), pattern(5000))
        two = await store(spool, entry("/two"), pattern(7000))
        before = Books.of(spool)

        async def read() -> None:
            for stored in (one, two):
                source = Complete(stored, await spool.open_body(stored))
                try:
                    assert await source.wait(0) == stored.length
                    assert await source.read(100, 200) == pattern(7000)[100:200]
                finally:
                    source.close()

        async def check() -> None:
            await settled(spool, before, 1)

        assert await cancel_everywhere(read, check) >= 4


async def test_dropping_and_freshening(spool: Spool) -> None:
    before = Books.of(spool)

    async def work() -> None:
        stored = await store(spool, entry(time=1), b"abc")
        await spool.update(entry(time=5, generation=stored.generation).completed(3))
        await spool.drop([stored])

    async def check() -> None:
        await spool.drop(spool.lookup(entry().key))
        await settled(spool, before, 0)

    assert await cancel_everywhere(work, check) > 3


async def test_a_fill_is_not_over_while_a_thread_writes(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor must not be closed under the thread's hands, nor what it writes lie over what comes later."""
    writing, cancelled = asyncio.Event(), threading.Event()
    loop, wrote = asyncio.get_running_loop(), []
    real = calls.write_all

    def slow(fd: int, data: bytes, offset: int) -> None:
        loop.call_soon_threadsafe(writing.set)
        cancelled.wait()
        real(fd, data, offset)
        wrote.append(offset)

    fill = Fill(Pieces(b"abc"), await spool.create(entry(), 3), limit=10)
    monkeypatch.setattr(calls, "write_all", slow)
    task = asyncio.create_task(fill.run())
    await writing.wait()
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    assert descriptors(spool.paths.root) == 1, "the thread has it still"
    cancelled.set()
    await asyncio.wait({task})
    await eventually(lambda: descriptors(spool.paths.root) == 0)
    assert wrote == [0], "and it did not fail"
    await eventually(lambda: spool.room.used == 0)


async def test_followers_of_a_fill(spool: Spool) -> None:
    release = asyncio.Event()

    class Gated(Pieces):
        async def read(self) -> bytes:
            await release.wait()
            return await super().read()

    fill = Fill(Gated(bytes(KIB), bytes(KIB)), await spool.create(entry(), 2 * KIB), limit=10 * KIB)
    filling = asyncio.create_task(fill.run())
    holders = fill.body._holders

    async def follow() -> None:
        source = Growing(fill)
        try:
            await source.wait(0)
        finally:
            source.close()

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert fill.followers == 0
    assert fill.body._holders == holders
    release.set()
    await filling
    assert spool.lookup(entry().key)


# Through the whole house


async def test_clients_that_leave_at_any_moment(
    origin: ScriptedOrigin, start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is cancelled at each of its awaits, cold and warm; then all is as before."""
    film = pattern(300_000)
    adapter = await start_adapter()
    spool = adapter.service._cache.spool
    step, reached, done = 0, False, asyncio.Event()
    real = type(adapter.service._handler)._answer

    async def interrupted(handler: object, exchange: object, visit: object) -> None:
        nonlocal reached
        attempt = CancelledAt(real(handler, exchange, visit), step)  # type: ignore[arg-type]
        try:
            await attempt
        finally:
            reached = attempt.reached
            done.set()

    monkeypatch.setattr(type(adapter.service._handler), "_answer", interrupted)
    for warm in (False, True):
        step = 0
        while True:
            step += 1
            path = "/warm" if warm else f"/cold{step}"
            origin.serve(path, film)
            done.clear()
            async with adapter.wire() as wire:
                await wire.request("GET", path, Range="bytes=1000-299000")
                reading = asyncio.create_task(wire.reader.read())
                await done.wait()
            await asyncio.wait({reading})
            await _idle(adapter)
            assert spool.room.lingering == 0
            assert spool.room.reserved == 0
            assert spool.being_read == 0
            assert not list((spool.paths.root / "filling").iterdir())
            if not reached:
                break
        assert step > 1, "it was interrupted at least once"


async def _idle(adapter: Adapter) -> None:
    cache = adapter.service._cache
    await eventually(lambda: cache.idle and not adapter.service._handler.running)
