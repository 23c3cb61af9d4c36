"""A fill runs at the origin's speed, tells its followers the truth, and leaves nothing behind."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import proxy.fill.fill as fill_module
import proxy.fill.window as window_module
from proxy.errors import AdapterError, OriginTruncated, Overloaded, SpoolError
from proxy.fill.fill import Fill, FillState
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.folder import FillingFiles
from proxy.spool.partials import Partial
from proxy.spool.shelf import Shelf
from proxy.spool.spool import Spool
from tests.spool.objects import KIB, MIB, Books, content, descriptors, entry, eventually, opened, pattern
from tests.together import nothing_is_done


class Origin:
    """A body that comes when the test says so."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | AdapterError] = asyncio.Queue()
        self.reads = 0
        self.closed = False

    def send(self, piece: bytes | AdapterError) -> None:
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        self._pieces.put_nowait(b"")

    async def read(self) -> bytes:
        self.reads += 1
        piece = await self._pieces.get()
        if isinstance(piece, AdapterError):
            raise piece
        return piece

    def close(self) -> None:
        self.closed = True


class Running:
    """A fill in a spool, with its task."""

    def __init__(self, spool: Spool, origin: Origin, fill: Fill) -> None:
        self.spool, self.origin, self.fill = spool, origin, fill
        self.task = asyncio.create_task(fill.run())

    @property
    def stored(self) -> tuple[Entry, ...]:
        return self.spool.lookup(self.fill.entry.key)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path) as open_spool:
        yield open_spool
        assert open_spool.room.reserved == 0
        await eventually(lambda: open_spool.room.lingering == 0)


async def begin(spool: Spool, length: int | None = None, *, limit: int = 5 * MIB) -> Running:
    origin = Origin()
    writer = await spool.create(entry(length=length), length)
    return Running(spool, origin, Fill(origin, writer, limit=limit))


async def read_all(fill: Fill, *, piece: int = 64 * KIB) -> bytes:
    """As a client that reads to the end."""
    fill.follow()
    body, data = fill.body.hold(), bytearray()
    try:
        while (available := await fill.wait(len(data))) > len(data):
            data += await fill.read(len(data), min(available, len(data) + piece))
        return bytes(data)
    finally:
        fill.leave()
        body.release()


async def test_a_reader_gets_each_byte_when_it_is_there(spool: Spool) -> None:
    running = await begin(spool, 10)
    fill = running.fill
    fill.follow()
    running.origin.send(b"01234")
    assert await fill.wait(3) == 5
    assert await fill.read(3, 5) == b"34"
    assert fill.state is FillState.STREAMING
    running.origin.send(b"56789")
    assert await fill.wait(5) == 10
    fill.leave()
    running.origin.end()
    await running.task
    assert await content(spool, running.stored[0]) == b"0123456789"
    assert running.origin.closed


async def test_what_is_short_is_not_stored_and_says_so(spool: Spool) -> None:
    running = await begin(spool, 10)
    running.origin.send(b"0123")
    waiting = asyncio.create_task(running.fill.wait(4))
    assert await running.fill.wait(0) == 4
    running.origin.end()
    with pytest.raises(OriginTruncated):
        await waiting
    await running.task
    assert running.stored == ()
    assert await running.fill.wait(0) == 4, "what has come is still there for those who hold it"
    assert not running.fill.joinable


async def test_what_breaks_off_is_not_stored(spool: Spool) -> None:
    running = await begin(spool)
    running.origin.send(b"0123")
    await running.fill.wait(0)
    running.origin.send(OriginTruncated("reset"))
    await running.task
    with pytest.raises(OriginTruncated):
        await running.fill.wait(4)
    assert running.stored == ()


async def test_the_end_is_told_before_the_disk_is_sure(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    committing, going_on = asyncio.Event(), asyncio.Event()
    running = await begin(spool)
    writer = running.fill._writer
    real = writer.commit

    async def commit(stored: Entry) -> None:
        committing.set()
        await going_on.wait()
        await real(stored)

    monkeypatch.setattr(writer, "commit", commit)
    reading = asyncio.create_task(read_all(running.fill))
    running.origin.send(b"abc")
    running.origin.end()
    assert await reading == b"abc", "a reader does not wait for fsync"
    await committing.wait()
    assert running.fill.complete_length == 3
    assert (running.fill.joinable, running.stored) == (True, ())
    going_on.set()
    await running.task
    [stored] = running.stored
    assert (running.fill.joinable, stored.length) == (False, 3), "from here on it is found in the spool"


async def test_a_disk_that_refuses_at_the_end_does_not_concern_the_readers(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SpoolError("broken")

    monkeypatch.setattr("proxy.spool.index.Index.add", refuse)
    running = await begin(spool)
    reading = asyncio.create_task(read_all(running.fill))
    running.origin.send(b"abc")
    running.origin.end()
    assert await reading == b"abc"
    await running.task
    assert running.fill.state is FillState.COMPLETE
    assert running.stored == ()


async def test_a_mistake_of_ours_leaves_nobody_waiting(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await begin(spool, 10)

    async def fail(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(running.fill, "_append", fail)
    waiting = asyncio.create_task(running.fill.wait(0))
    running.origin.send(b"abc")
    with pytest.raises(ZeroDivisionError):
        await running.task
    with pytest.raises(Overloaded):
        await waiting
    assert running.stored == ()


async def test_a_retracted_fill_serves_its_readers_and_is_not_stored(spool: Spool) -> None:
    running = await begin(spool)
    reading = asyncio.create_task(read_all(running.fill))
    running.origin.send(b"abc")
    await running.fill.wait(0)
    running.fill.retract()
    assert not running.fill.joinable
    running.origin.end()
    assert await reading == b"abc"
    await running.task
    assert running.stored == ()


async def test_what_is_retracted_while_it_is_committed_is_never_found(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    found: list[Entry] = []
    admitted = asyncio.Event()
    real = Shelf.admit

    def admit(*args: Any) -> list[Candidate] | None:
        gone = real(*args)
        loop.call_soon_threadsafe(running.fill.retract)  # before the loop can have heard of the end
        loop.call_soon_threadsafe(admitted.set)
        return gone

    monkeypatch.setattr(Shelf, "admit", admit)
    before = Books.of(spool)
    running = await begin(spool, 3)
    running.origin.send(b"abc")
    await admitted.wait()
    while not running.task.done():
        found += running.stored
        await asyncio.sleep(0)
    assert not found
    assert running.stored == ()
    await eventually(lambda: Books.of(spool) == before)


# Nobody slows it, nobody stops it


async def test_a_known_length_is_fetched_for_nobody(spool: Spool) -> None:
    running = await begin(spool, 3)
    running.fill.follow()
    running.fill.leave()
    running.origin.send(b"abc")
    running.origin.end()
    await running.task
    assert running.stored


@pytest.mark.parametrize("followed", [False, True])
async def test_an_unknown_length_is_given_up_when_nobody_wants_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    monkeypatch.setattr(fill_module, "ABANDON_AFTER", 0.0)
    running = await begin(spool)
    if followed:
        running.fill.follow()
        running.origin.send(b"abc")
        await running.fill.wait(0)
        running.fill.leave()
    await asyncio.wait({running.task})
    assert running.fill.state is FillState.FAILED
    assert running.origin.closed
    assert running.stored == ()


async def test_who_comes_back_in_time_finds_it_running(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await begin(spool)
    running.fill.follow()
    running.fill.leave()
    running.fill.follow()
    assert running.fill._orphaned is None
    running.origin.end()
    await running.task
    running.fill.leave()


async def test_a_stalled_fill_does_not_collect_those_who_left(spool: Spool) -> None:
    running = await begin(spool, 1000)
    staying = asyncio.create_task(running.fill.wait(500))
    for _ in range(100):
        leaving = [asyncio.create_task(running.fill.wait(offset)) for offset in range(10)]
        await asyncio.sleep(0)
        for each in leaving:
            each.cancel()
        await asyncio.wait(leaving)
    assert len(running.fill._progress.awaited) < 20
    running.origin.send(bytes(1000))
    assert await staying == 1000
    running.origin.end()
    await running.task


async def test_a_thousand_readers_cost_nothing_while_the_origin_stalls(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pattern(MIB)
    running = await begin(spool, len(data))
    readers = [asyncio.create_task(read_all(running.fill)) for _ in range(1000)]
    running.origin.send(data[: MIB // 2])
    await eventually(lambda: running.fill._progress.awaited == [MIB // 2] * 1000)

    await nothing_is_done(monkeypatch)
    running.origin.send(data[MIB // 2 :])
    running.origin.end()
    for reader in readers:
        assert await reader == data
    await running.task


# Too large to store


async def test_what_outgrows_its_limit_slides_and_is_not_stored(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "SMALLEST", 64 * KIB)
    data = pattern(MIB)
    running = await begin(spool, limit=100 * KIB)
    reading = asyncio.create_task(read_all(running.fill, piece=8 * KIB))
    for at in range(0, MIB, 10_000):
        running.origin.send(data[at : at + 10_000])
    running.origin.end()
    assert await reading == data
    await running.task
    assert running.stored == ()
    assert running.fill.state is FillState.COMPLETE
    assert running.fill.complete_length is None


async def test_a_sliding_window_is_bounded_and_not_joined(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "SMALLEST", 64 * KIB)
    running = await begin(spool, limit=100 * KIB)
    fill = running.fill
    fill.follow()
    for _ in range(100):
        running.origin.send(bytes(10 * KIB))
    await eventually(lambda: not fill.joinable and not spool.room.reserved)
    written = fill.written
    reads = running.origin.reads
    await asyncio.sleep(0)
    assert fill.written == written
    assert running.origin.reads == reads, "the fastest reader sets the pace, and it has not read yet"
    assert spool.room.used <= 100 * KIB
    for start in range(0, 500 * KIB, 10 * KIB):
        await fill.wait(start)
        await fill.read(start, start + KIB)
    assert descriptors(spool.paths.root) == 1
    fill.leave()
    await asyncio.wait({running.task})
    assert running.origin.closed, "the last reader has left"
    await eventually(lambda: descriptors(spool.paths.root) == 0)


async def test_who_falls_out_of_the_window_is_cut(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "SMALLEST", 64 * KIB)
    running = await begin(spool, limit=100 * KIB)
    running.fill.follow()
    body = running.fill.body.hold()
    reading = asyncio.create_task(read_all(running.fill, piece=8 * KIB))
    data = pattern(400 * KIB)
    for at in range(0, len(data), 10 * KIB):
        running.origin.send(data[at : at + 10 * KIB])
    running.origin.end()
    assert await reading == data
    with pytest.raises(Overloaded):
        await running.fill.read(0, 100)
    await running.task
    running.fill.leave()
    body.release()


async def test_a_full_spool_makes_it_slide_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "SMALLEST", 64 * KIB)
    async with opened(tmp_path, max_size=100 * KIB) as spool:
        data = pattern(300 * KIB)
        running = await begin(spool)
        reading = asyncio.create_task(read_all(running.fill, piece=8 * KIB))
        for at in range(0, len(data), 10 * KIB):
            running.origin.send(data[at : at + 10 * KIB])
        running.origin.end()
        assert await reading == data
        await running.task


async def test_every_reader_sees_the_slice_of_the_file(spool: Spool) -> None:
    chance = random.Random(7)
    for _ in range(15):
        length = chance.randrange(1, 300_000)
        data = pattern(length, chance.randrange(100))
        running = await begin(spool, length if chance.random() < 0.5 else None)
        fill = running.fill

        async def read_slice(start: int, stop: int, fill: Fill = fill) -> bytes:
            fill.follow()
            body, got = fill.body.hold(), b""
            while start < stop:
                available = min(await fill.wait(start), stop)
                got += await fill.read(start, available)
                start = available
            fill.leave()
            body.release()
            return got

        wanted = []
        for _ in range(20):
            start = chance.randrange(length)
            wanted.append((start, chance.randrange(start, length) + 1))
        readers = [asyncio.create_task(read_slice(*each)) for each in wanted]
        at = 0
        while at < length:
            step = chance.randrange(1, 60_000)
            running.origin.send(data[at : at + step])
            at += step
            await asyncio.sleep(0)
        running.origin.end()
        for (start, stop), reader in zip(wanted, readers, strict=True):
            assert await reader == data[start:stop]
        await running.task
        assert await content(spool, running.stored[0]) == data


async def test_stopping_leaves_nothing(spool: Spool) -> None:
    before = Books.of(spool)
    running = await begin(spool, 1000)
    running.origin.send(b"abc")
    await running.fill.wait(0)
    running.fill.stop()
    await asyncio.wait({running.task})
    await eventually(lambda: Books.of(spool) == before)
    assert descriptors(spool.paths.root) == 0


async def test_the_last_byte_is_the_end(spool: Spool) -> None:
    running = await begin(spool, 3)
    running.origin.send(b"abc")  # and no word of an end
    await running.task
    assert running.stored


# A disk that takes no more


async def test_a_disk_that_fails_costs_nobody_who_follows(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "IN_MEMORY", 64 * KIB)
    data = pattern(MIB)
    running = await begin(spool, len(data))
    reading = asyncio.create_task(read_all(running.fill, piece=8 * KIB))
    running.origin.send(data[: 100 * KIB])
    await running.fill.wait(100 * KIB - 1)

    async def refuse(data: bytes, offset: int) -> None:
        raise SpoolError("cannot write to the spool: No space left on device")

    monkeypatch.setattr(running.fill._writer, "write", refuse)
    far = asyncio.create_task(running.fill.wait(MIB - KIB))
    for at in range(100 * KIB, MIB, 10 * KIB):
        running.origin.send(data[at : at + 10 * KIB])
    assert await far == MIB
    assert await running.fill.read(MIB - KIB, MIB) == data[-KIB:]
    reading.cancel()
    await asyncio.wait({running.task, reading})
    assert running.stored == ()
    assert not running.fill.joinable


async def test_on_a_disk_that_fails_the_window_goes_at_the_readers_speed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "IN_MEMORY", 64 * KIB)
    data = pattern(MIB)
    running = await begin(spool, len(data))
    reading = asyncio.create_task(read_all(running.fill, piece=8 * KIB))

    async def refuse(data: bytes, offset: int) -> None:
        raise SpoolError("cannot write to the spool: Input/output error")

    for at in range(0, MIB, 10 * KIB):
        if at == 300 * KIB:
            await running.fill.wait(at - 1)
            monkeypatch.setattr(running.fill._writer, "write", refuse)
        running.origin.send(data[at : at + 10 * KIB])
    assert await reading == data
    await running.task
    assert running.fill.state is FillState.COMPLETE
    assert running.stored == ()
    assert not list(spool.paths.filling.iterdir())


# What broke off, and is gone on with


async def broken_off(spool: Spool, body: bytes) -> tuple[Running, Partial]:
    """A fill of unknown length that failed after `body`, which was kept."""
    origin = Origin()
    fill = Fill(origin, await spool.create(entry(), None), limit=5 * MIB, keeps=True)
    running = Running(spool, origin, fill)
    origin.send(body)
    origin.send(OriginTruncated("gone"))
    await running.task
    [partial] = spool.partials
    return running, partial


async def test_who_reads_what_broke_off_keeps_it_while_the_rest_outgrows_its_limit(spool: Spool) -> None:
    first, rest = pattern(300 * KIB), pattern(6 * MIB, 1)
    broken, partial = await broken_off(spool, first)
    slow = broken.fill.body.hold()  # as every lease on it does
    assert spool.partials.take(partial)
    origin = Origin()
    fill = Fill(origin, partial.filling, limit=2 * MIB, stored=partial.written)
    running = Running(spool, origin, fill)
    for at in range(0, len(rest), 256 * KIB):
        origin.send(rest[at : at + 256 * KIB])
    origin.end()
    assert await read_all(fill) == first + rest
    await running.task
    is_kept = await slow.read(0, len(first)) == first  # no page-long difference, where it is not
    slow.release()
    assert is_kept


async def test_it_can_be_gone_on_with_as_soon_as_it_is_found(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed fill, which is not over yet, leaves alone what somebody else has taken up."""
    add = spool.partials.add

    def taken_at_once(partial: Partial) -> None:
        add(partial)
        taken.append(partial)
        assert spool.partials.take(partial)

    taken: list[Partial] = []
    monkeypatch.setattr(spool.partials, "add", taken_at_once)
    origin = Origin()
    running = Running(
        spool, origin, Fill(origin, await spool.create(entry(length=10), 10), limit=MIB, keeps=True)
    )
    origin.send(b"01234")
    origin.send(OriginTruncated("gone"))
    await running.task
    [partial] = taken
    origin = Origin()
    going_on = Running(spool, origin, Fill(origin, partial.filling, limit=MIB, stored=partial.written))
    origin.send(b"56789")
    await going_on.task
    assert await content(spool, going_on.stored[0]) == b"0123456789"


async def test_what_is_retracted_while_it_is_put_aside_is_not_kept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await begin(spool, 10)
    running.fill._keeps = True
    describe = FillingFiles.describe
    going, begun = threading.Event(), threading.Event()

    def slowly(files: FillingFiles, described: Entry, **how: Any) -> None:
        begun.set()
        assert going.wait(10)
        describe(files, described, **how)

    monkeypatch.setattr(FillingFiles, "describe", slowly)
    running.origin.send(b"01234")
    running.origin.send(OriginTruncated("gone"))
    await eventually(begun.is_set)
    ending = asyncio.create_task(spool.drop_target(running.fill.entry.target))
    await eventually(lambda: running.fill._writer.retracted)  # type: ignore[attr-defined]
    going.set()
    await ending
    await running.task
    assert len(spool.partials) == 0
    assert not await asyncio.to_thread(lambda: list(spool.paths.filling.iterdir()))
