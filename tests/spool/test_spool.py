"""The spool keeps what it is given, gives room when it must, and keeps its books through all of it."""

import asyncio
import errno
import os
import resource
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.errors import OriginTruncated, Overloaded, SpoolError, SpoolFull
from proxy.spool import admission
from proxy.spool.entry import Entry
from proxy.spool.partials import most_kept_open
from proxy.spool.room import BLOCK
from proxy.spool.shelf import Removed, Shelf
from proxy.spool.spool import Spool
from tests.spool.objects import (
    KIB,
    MIB,
    Books,
    begin,
    content,
    descriptors,
    entry,
    eventually,
    files,
    key_of,
    opened,
    pattern,
    store,
)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path) as open_spool:
        yield open_spool


async def test_what_is_stored_is_found_and_read(spool: Spool) -> None:
    stored = await store(spool, entry(), pattern(100_000))
    assert spool.lookup(stored.key) == (stored,)
    assert await content(spool, stored) == pattern(100_000)
    assert spool.usage() == (100_000, 1)
    assert spool.room.used == 100_000


async def test_an_unfinished_object_is_not_found(spool: Spool) -> None:
    filling = await begin(spool, entry(), b"abc")
    assert spool.lookup(key_of("/film")) == ()
    assert files(spool.paths.root) == {f"{filling.entry.generation}.head", f"{filling.entry.generation}.body"}
    await filling.discard()
    assert files(spool.paths.root) == set()
    await eventually(lambda: spool.room.used == 0)


async def test_the_head_is_there_before_the_first_byte(spool: Spool) -> None:
    filling = await spool.create(entry(), None)
    assert (spool.paths.filling / f"{filling.entry.generation}.head").read_bytes().endswith(b"}")
    assert (spool.paths.filling / f"{filling.entry.generation}.body").stat().st_size == 0
    await filling.discard()


async def test_the_same_variant_is_replaced_and_others_stay(spool: Spool) -> None:
    german = await store(spool, entry(vary=(("accept-language", "de"),), time=1), b"eins")
    first = await store(spool, entry(vary=(("accept-language", "en"),), time=2), b"one")
    second = await store(spool, entry(vary=(("accept-language", "en"),), time=3), b"two!")
    assert spool.lookup(german.key) == (second, german)
    assert spool.room.used == 8
    assert not any(first.generation in name for name in files(spool.paths.root))


async def test_two_fills_of_one_variant_leave_one(spool: Spool) -> None:
    one, two = await begin(spool, entry(time=1), b"one"), await begin(spool, entry(time=2), b"two!")
    old = await store(spool, entry(time=0), b"old")
    await asyncio.gather(two.commit(two.entry.completed(4)), one.commit(one.entry.completed(3)))
    [left] = spool.lookup(old.key)
    assert spool.room.used == spool.usage()[0] == left.length
    assert len(files(spool.paths.root)) == 2


async def test_too_many_variants_of_one_object_push_out_the_oldest(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.spool.index.MAX_VARIANTS", 3)
    for number in range(5):
        await store(spool, entry(vary=(("user-agent", str(number)),), time=number), b"x")
    kept = spool.lookup(key_of("/film"))
    assert [each.stored.vary[0][1] for each in kept] == ["4", "3", "2"]
    assert spool.room.used == 3


async def test_readers_keep_what_is_replaced_and_it_counts_until_they_leave(spool: Spool) -> None:
    old = await store(spool, entry(time=1), b"old bytes")
    body = await spool.open_body(old)
    await store(spool, entry(time=2), b"new")
    assert spool.room.used == 9 + 3
    assert spool.room.lingering == 9
    assert await body.read(0, 9) == b"old bytes"
    body.release()
    await eventually(lambda: spool.room.used == 3)
    await eventually(lambda: descriptors(spool.paths.root) == 1)


async def test_followers_of_a_fill_read_on_when_it_is_published_and_replaced(spool: Spool) -> None:
    filling = await begin(spool, entry(time=1), b"followed")
    follower = filling.body.hold()
    await filling.commit(filling.entry.completed(8))
    assert spool.being_read == 1, "what is followed is being read: eviction must see that"
    await store(spool, entry(time=2), b"new")
    assert await follower.read(0, 8) == b"followed"
    assert spool.room.lingering == 8
    follower.release()
    await eventually(lambda: spool.room.lingering == 0)


async def test_a_freshened_head_is_kept_and_its_bytes_stay(spool: Spool, tmp_path: Path) -> None:
    stored = await store(spool, entry(time=1), b"abc")
    fresh = entry(time=9, generation=stored.generation).completed(3)
    await spool.update(fresh)
    assert spool.lookup(stored.key) == (replace(fresh, checksum=stored.checksum),)
    await spool.drop([fresh])
    await spool.update(fresh)  # too late: nothing must come of it
    assert files(tmp_path) == set()
    assert spool.lookup(stored.key) == ()


# Room


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=3 * KIB) as spool:
        a, b, c = [await store(spool, entry(f"/{name}"), pattern(KIB)) for name in "abc"]
        await content(spool, a)
        d = await store(spool, entry("/d"), pattern(KIB))
        assert [bool(spool.lookup(each.key)) for each in (a, b, c, d)] == [True, False, True, True]
        assert spool.evictions == 1
        assert spool.room.used == 3 * KIB


async def test_what_is_being_read_is_not_evicted(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=3 * KIB) as spool:
        a, b, _ = [await store(spool, entry(f"/{name}"), pattern(KIB)) for name in "abc"]
        body = await spool.open_body(a)
        await content(spool, b)
        await store(spool, entry("/d"), pattern(2 * KIB))
        assert spool.lookup(a.key) == (a,)
        assert not spool.lookup(b.key)
        with pytest.raises(SpoolFull):
            await spool.create(entry("/e"), 3 * KIB)
        assert spool.lookup(a.key) == (a,)
        body.release()


async def test_what_would_fit_only_in_the_place_of_what_is_read_evicts_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=4 * KIB) as spool:
        a, *_ = [await store(spool, entry(f"/{name}"), pattern(KIB)) for name in "abc"]
        body = await spool.open_body(a)
        with pytest.raises(SpoolFull):
            await spool.create(entry("/d"), 3 * KIB + 1)
        assert spool.usage() == (3 * KIB, 3)
        body.release()


async def test_a_body_that_can_never_fit_evicts_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=3 * KIB) as spool:
        await store(spool, entry("/a"), pattern(KIB))
        with pytest.raises(SpoolFull):
            await spool.create(entry("/b"), 4 * KIB)
        assert spool.usage() == (KIB, 1)
        assert spool.room.reserved == 0


async def test_unknown_lengths_take_no_more_than_there_is(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=3 * KIB) as spool:
        a = await store(spool, entry("/a"), pattern(KIB))
        filling = await begin(spool, entry("/b"), pattern(2 * KIB), length_known=False)
        assert spool.lookup(a.key), "spare room is not worth an eviction"
        with pytest.raises(SpoolFull):
            await filling.reserve(4 * KIB)
        await filling.commit(filling.entry.completed(2 * KIB))
        assert spool.room.used == 3 * KIB


async def test_min_free_evicts_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs(tmp_path)
    free = 7 * BLOCK

    def statvfs(path: object) -> os.statvfs_result:
        values = list(disk)
        values[0] = values[1] = 1
        values[2], values[3], values[4] = 16 * BLOCK, free, free
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", statvfs)
    async with opened(tmp_path, min_free=4 * BLOCK) as spool:
        a = await store(spool, entry("/a"), pattern(BLOCK))
        await store(spool, entry("/b"), pattern(BLOCK))
        assert not spool.lookup(a.key), "with their heads, the disk had room for one of them only"
        with pytest.raises(SpoolFull):
            await spool.create(entry("/c"), 3 * BLOCK)


async def test_growth_asks_the_disk_once_a_second(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    real = os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        nonlocal asked
        asked += 1
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(admission, "MEASURE_INTERVAL", 3600.0)
    filling = await spool.create(entry(), None)
    asked = 0
    for size in range(0, MIB, 64 * KIB):
        await filling.reserve(size)
    assert asked == 0
    await filling.discard()


# What the disk may do


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer"])
async def test_a_body_that_is_not_as_its_head_says_is_dropped(spool: Spool, damage: str) -> None:
    stored = await store(spool, entry(), b"0123456789")
    path = spool.paths.body(stored.generation)
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 9 if damage == "shorter" else 11)
    readers = [spool.open_body(stored) for _ in range(3)]
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(result, SpoolError) for result in results), "even while it is open already"
    assert spool.lookup(stored.key) == ()
    assert spool.room.used == 0, "dropped once, however many noticed"
    assert files(spool.paths.root) == set()


async def test_a_body_lost_over_a_restart_is_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"0123456789")
    spool.paths.body(stored.generation).unlink()
    async with opened(tmp_path) as spool:
        assert spool.lookup(stored.key) == (stored,)
        results = await asyncio.gather(*(spool.open_body(stored) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, SpoolError) for result in results)
        assert spool.lookup(stored.key) == ()
        assert spool.room.used == 0


async def test_running_out_of_descriptors_drops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
    async with opened(tmp_path) as spool:
        with monkeypatch.context() as patch:

            def refuse(*_: object) -> int:
                raise OSError(errno.EMFILE, "Too many open files")

            patch.setattr("proxy.spool.calls.open_file", refuse)
            with pytest.raises(Overloaded):
                await spool.open_body(stored)
        assert await content(spool, stored) == b"abc"


async def test_a_disk_that_cannot_be_written_stores_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Books.of(spool)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("proxy.spool.calls.fdatasync", refuse)
        filling = await begin(spool, entry(), b"abc")
        with pytest.raises(SpoolError):
            await filling.commit(filling.entry.completed(3))
        await filling.discard()
    await eventually(lambda: Books.of(spool) == before)
    with monkeypatch.context() as patch:
        patch.setattr("proxy.spool.calls.open_file", refuse)
        with pytest.raises(SpoolError):
            await spool.create(entry(), 3)
    assert Books.of(spool) == before


async def test_an_index_that_fails_costs_the_object_and_no_more(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await store(spool, entry("/kept"), b"abc")
    before = Books.of(spool)

    def refuse(*_: object) -> None:
        raise SpoolError("the index is broken")

    with monkeypatch.context() as patch:
        patch.setattr("proxy.spool.index.Index.add", refuse)
        filling = await begin(spool, entry(), b"abc")
        with pytest.raises(SpoolError):
            await filling.commit(filling.entry.completed(3))
        await filling.discard()
    await eventually(lambda: Books.of(spool) == before)
    with monkeypatch.context() as patch:
        patch.setattr("proxy.spool.index.Index.remove", refuse)
        await spool.drop([kept])
    assert spool.lookup(kept.key) == (), "what was decided holds, written or not"


# Open bodies


async def test_idle_bodies_are_few_and_busy_ones_are_not_counted(spool: Spool) -> None:
    spool._bodies.most_idle = 2
    stored = [await store(spool, entry(f"/{number}"), b"abc") for number in range(6)]
    reading = [await spool.open_body(each) for each in stored[:4]]
    for each in stored:
        await content(spool, each)
    assert descriptors(spool.paths.root) == 6
    for body in reading:
        body.release()
    assert descriptors(spool.paths.root) == 2
    assert spool.being_read == 0


async def test_many_readers_at_once_open_a_body_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
    async with opened(tmp_path) as spool:
        reading = await asyncio.gather(*(spool.open_body(stored) for _ in range(200)))
        assert descriptors(tmp_path) == 1
        assert len(set(map(id, reading))) == 1
        for body in reading:
            body.release()


async def test_what_is_dropped_while_it_is_opened_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
    opening, dropped = asyncio.Event(), threading.Event()
    loop, real = asyncio.get_running_loop(), Shelf.open

    def slow(shelf: Shelf, stored: Entry) -> int:
        fd = real(shelf, stored)
        loop.call_soon_threadsafe(opening.set)
        dropped.wait()
        return fd

    monkeypatch.setattr(Shelf, "open", slow)
    async with opened(tmp_path) as spool:
        reader = asyncio.create_task(spool.open_body(stored))
        await opening.wait()
        await spool.drop([stored])
        dropped.set()
        with pytest.raises(SpoolError):
            await reader
        await eventually(lambda: descriptors(tmp_path) == 0)
        assert spool.being_read == 0


async def test_what_is_on_its_way_out_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removing, found = asyncio.Event(), threading.Event()
    loop, real = asyncio.get_running_loop(), Shelf.remove

    def slow(shelf: Shelf, generations: list[str]) -> Removed:
        loop.call_soon_threadsafe(removing.set)
        found.wait()
        return real(shelf, generations)

    monkeypatch.setattr(Shelf, "remove", slow)
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
        dropping = asyncio.create_task(spool.drop([stored]))
        await removing.wait()
        assert spool.lookup(stored.key) == ()
        with pytest.raises(SpoolError):
            await spool.open_body(stored)
        found.set()
        await dropping
        assert spool.lookup(stored.key) == ()
        assert spool.room.used == 0


async def test_a_partition_is_dropped_as_a_whole(spool: Spool) -> None:
    mine = [await store(spool, entry(f"/{n}", partition=b"me"), b"abc") for n in range(3)]
    yours = await store(spool, entry("/yours", partition=b"you"), b"abc")
    await spool.drop_partition(b"me")
    assert not any(spool.lookup(each.key) for each in mine)
    assert spool.lookup(yours.key) == (yours,)
    assert spool.room.used == 3


async def test_a_target_is_dropped_for_all_credentials(spool: Spool) -> None:
    film = [await store(spool, entry("/film", partition=owner), b"abc") for owner in (None, b"me", b"you")]
    other = await store(spool, entry("/other", partition=b"me"), b"abc")
    await spool.drop_target(film[0].target)
    assert not any(spool.lookup(each.key) for each in film)
    assert spool.lookup(other.key) == (other,)
    assert spool.room.used == 3


async def test_what_is_retracted_while_it_is_sealed_replaces_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, younger = await begin(spool, entry(), b"old"), await begin(spool, entry(), b"new")
    sealing, go_on = threading.Event(), threading.Event()
    seal = older.files.seal

    def slow(each: Entry) -> Entry:
        sealing.set()
        go_on.wait()
        return seal(each)

    monkeypatch.setattr(older.files, "seal", slow)
    committing = asyncio.create_task(older.commit(older.entry.completed(3)))
    await asyncio.to_thread(sealing.wait)
    await younger.commit(younger.entry.completed(3))
    older.retract()
    go_on.set()
    await committing
    [stored] = spool.lookup(key_of("/film"))
    assert await content(spool, stored) == b"new"
    assert files(spool.paths.root) == {f"{stored.generation}.head", f"{stored.generation}.body"}


@pytest.mark.parametrize(
    ("limit", "idle", "unfinished"), [(65536, 1024, 64), (256, 32, 16), (resource.RLIM_INFINITY, 1024, 64)]
)
async def test_what_it_keeps_open_for_nobody_is_bounded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, idle: int, unfinished: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    async with opened(tmp_path, max_size=100 * MIB) as spool:
        assert most_kept_open() == idle + unfinished
        for number in range(unfinished + 5):
            filling = await begin(spool, entry(f"/u{number}", 2), b"u")
            await filling.suspend(filling.entry, 1, OriginTruncated("it broke off"), confirmed=True)
        for number in range(idle + 5):
            await store(spool, entry(f"/{number}"), b"s")
        await eventually(lambda: descriptors(tmp_path) == most_kept_open())
        assert len(spool.partials) == unfinished
