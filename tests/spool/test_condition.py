"""What is wrong with the disk is known, told once, worked around meanwhile, and put right without anybody's help."""

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy.errors import OriginTruncated, SpoolError, SpoolSuspended
from proxy.semantics.purging import Everything
from proxy.spool import condition, folder, upkeep
from proxy.spool.condition import Trouble
from proxy.spool.entry import Entry
from proxy.spool.folder import claim
from proxy.spool.index import Index
from proxy.spool.shelf import Shelf
from proxy.spool.spool import Spool
from tests.spool.faults import faulty
from tests.spool.objects import (
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


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "PAUSES", (0.001,))
    monkeypatch.setattr(upkeep, "LOOK_INTERVAL", 0.001)


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path / "spool") as open_spool:
        yield open_spool


async def well(spool: Spool) -> None:
    await eventually(lambda: spool.condition.trouble is None)
    await spool.swept()
    await spool.purged()


async def test_it_is_told_once_and_tried_by_nobody_else(tmp_path: Path) -> None:
    with faulty(tmp_path) as faults, capture_logs() as lines:
        async with opened(tmp_path) as spool:
            stored = await store(spool, entry("/old"), b"abc")
            faults.refuse(0, errno.EROFS, calls=10**9, only=("create", "pwrite", "fdatasync"))
            with pytest.raises(SpoolError):
                await spool.create(entry(), 3)
            assert spool.condition.trouble is Trouble.READ_ONLY
            assert "read-only" in (spool.condition.sentence or "")
            for _ in range(50):
                with pytest.raises(SpoolSuspended):
                    await spool.create(entry(), 3)
                with pytest.raises(SpoolSuspended):
                    await spool.update(stored)
            assert await content(spool, stored) == b"abc", "what is stored is served"
            faults.heal()
            await well(spool)
            assert spool.condition.sentence is None
            await store(spool, entry(), b"new")
    told = [line for line in lines if line["log_level"] in {"error", "warning"} or "well" in line["event"]]
    assert [line["event"] for line in told] == ["the spool is degraded", "the spool is well again"]


async def test_a_file_that_is_too_large_for_somebody_is_no_trouble(tmp_path: Path) -> None:
    with faulty(tmp_path) as faults:
        async with opened(tmp_path) as spool:
            filling = await spool.create(entry(), 3)
            faults.refuse(0, errno.EFBIG, only=("pwrite",))
            with pytest.raises(SpoolError):
                await filling.write(b"abc", 0)
            assert spool.condition.trouble is None
            await filling.discard()


async def test_a_quota_that_nobody_told_of_costs_what_was_used_longest_ago(tmp_path: Path) -> None:
    with faulty(tmp_path) as faults:
        async with opened(tmp_path) as spool:
            old, new = (
                await store(spool, entry("/old"), bytes(70_000)),
                await store(spool, entry("/new"), b"n"),
            )

            def fail(name: str, path: str) -> None:
                if name == "pwrite" and len(files(tmp_path)) > 3 and "index" not in path:
                    raise OSError(errno.EDQUOT, "Disk quota exceeded")

            faults.fail = fail
            with pytest.raises(SpoolError):
                await spool.create(entry(), 3)
            await well(spool)
            assert spool.lookup(old.key) == ()
            assert spool.lookup(new.key) == (new,)


# The folder


@pytest.mark.parametrize("what", ["folder", "contents", "objects"])
async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path, what: str) -> None:
    root = tmp_path / "spool"
    async with opened(root) as spool:
        spool.keep("token", "secret\n")
        secret = spool.secret
        stored = [await store(spool, entry(f"/{n}"), pattern(1000, n)) for n in range(5)]
        reading = await spool.open_body(stored[0])
        arriving = await begin(spool, entry("/arriving"), b"abc")
        match what:
            case "folder":
                shutil.rmtree(root)
            case "contents":
                for path in root.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            case _:
                shutil.rmtree(root / "objects")
        await eventually(lambda: (root / "objects").is_dir())
        await well(spool)
        assert await reading.read(0, 1000) == pattern(1000, 0), "who reads, reads on"
        reading.release()
        for each in stored:
            for found in spool.lookup(each.key):
                with pytest.raises(SpoolError):
                    await content(spool, found)
        if what == "objects":
            await arriving.commit(arriving.entry.completed(3))
            await spool.drop([arriving.entry.completed(3)])
        else:
            with pytest.raises(SpoolError):
                await arriving.commit(arriving.entry.completed(3))
        await arriving.discard()
        await well(spool)
        again = await store(spool, entry("/again"), b"again")
        assert await content(spool, again) == b"again"
        assert spool.usage() == (5, 1)
        await eventually(lambda: spool.room.used == 5)
        assert bytes.fromhex((root / "secret").read_text()) == secret
        assert what == "objects" or (root / "token").read_text() == "secret\n"
        with pytest.raises(SpoolError, match="in use by another"):
            await Spool.open(root, max_size=1, max_object_size=1, min_free=0)
        await eventually(lambda: descriptors(root) <= 1)
    async with opened(root) as spool:
        assert await content(spool, spool.lookup(again.key)[0]) == b"again"


async def test_what_is_unfinished_and_has_lost_its_name_is_given_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry("/old"), b"old")
        filling = await begin(spool, entry(length=6), b"abc")
        await filling.suspend(filling.entry, 3, OriginTruncated("it broke off"), confirmed=True)
        shutil.rmtree(spool.paths.filling)
        await eventually(lambda: spool.condition.trouble is not None)
        await well(spool)
        assert spool.partials.lookup(key_of("/film")) == ()
        await eventually(lambda: spool.room.used == 3)
        assert await content(spool, stored) == b"old"


async def test_a_folder_that_comes_back_is_what_it_was_but_for_what_was_purged(tmp_path: Path) -> None:
    """It was not mounted for a while, say."""
    root, aside = tmp_path / "spool", tmp_path / "aside"
    async with opened(root) as spool:
        old = await store(spool, entry("/old"), b"old")
        root.rename(aside)
        await eventually(lambda: (root / "objects").is_dir())
        await well(spool)
        assert spool.lookup(old.key) == ()
        await spool.ban(Everything(), soft=False, now=1)
        await store(spool, entry("/new", epoch=spool.epoch), b"new")
    async with opened(aside) as spool:
        assert await content(spool, spool.lookup(old.key)[0]) == b"old"


# The index


def overwrite(index: Path) -> None:
    """All but the first page."""
    size = index.stat().st_size
    with index.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


@pytest.mark.parametrize("damage", ["removed", "overwritten"])
async def test_an_index_that_is_broken_is_made_anew_while_serving(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as spool:
        stored = [await store(spool, entry(f"/{n}"), pattern(1000, n)) for n in range(50)]
        if damage == "removed":
            for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
                os.unlink(tmp_path / name)
            before = spool.condition._ended
            await eventually(lambda: spool.condition._ended > before)
        else:
            await spool._catalogue.settle()
            await asyncio.to_thread(overwrite, spool.paths.index)
            spool._catalogue._known.clear()
            spool._shelf._index._reader.release_memory()  # type: ignore[union-attr]
            for number in range(500):
                spool.lookup(key_of(f"/unknown{number}"))
                if spool.condition.trouble is not None:
                    break
            else:
                await asyncio.gather(*(spool.drop([each]) for each in stored[:1]))
        await well(spool)
        await store(spool, entry("/more"), b"more")
        for number, each in enumerate(stored[1:], 1):
            assert await content(spool, spool.lookup(each.key)[0]) == pattern(1000, number)
        await well(spool)
        assert spool.room.used == spool.usage()[0]
    async with opened(tmp_path) as spool:
        assert len(spool.lookup(stored[7].key)) == 1


async def test_what_is_invalidated_while_the_index_fails_is_not_found_after_that(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await store(spool, entry(), b"abc")
    assert spool.lookup(stored.key), "it is known by heart"

    def refuse(*_: object) -> None:
        raise SpoolError("the index is broken")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "of_target", refuse)
        patch.setattr(Index, "prove", refuse)
        await spool.drop_target(stored.target)
        assert spool.lookup(stored.key) == ()
    await well(spool)
    assert spool.lookup(stored.key) == ()
    assert files(spool.paths.root) == set()
    again = await store(spool, entry(time=2, epoch=spool.epoch), b"again")
    assert spool.lookup(stored.key) == (again,)


async def test_what_is_invalidated_before_it_is_found_again_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
    spool.paths.index.unlink()
    going, real = asyncio.Event(), Shelf.survey
    loop = asyncio.get_running_loop()

    def held(shelf: Shelf, prefix: str) -> list[str]:
        asyncio.run_coroutine_threadsafe(going.wait(), loop).result()
        return real(shelf, prefix)

    monkeypatch.setattr(Shelf, "survey", held)
    async with opened(tmp_path) as spool:
        dropping = asyncio.create_task(spool.drop_target(stored.target))
        await asyncio.sleep(0)
        going.set()
        await dropping
        await well(spool)
        assert spool.lookup(stored.key) == ()
        assert files(tmp_path) == set()


# Bodies


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
async def test_a_body_that_cannot_be_opened_is_dropped(tmp_path: Path, number: int) -> None:
    with faulty(tmp_path) as faults:
        async with opened(tmp_path) as spool:
            stored = await store(spool, entry(), b"abc")
            spool._bodies.close_idle()
            faults.refuse(0, number, only=("open_file",))
            with pytest.raises(SpoolError):
                await spool.open_body(stored)
            assert spool.lookup(stored.key) == ()
            assert spool.condition.trouble is None, "that is no more than a sector"


async def test_idle_bodies_are_closed_for_those_that_are_wanted(tmp_path: Path) -> None:
    with faulty(tmp_path) as faults:
        async with opened(tmp_path) as spool:
            stored = [await store(spool, entry(f"/{n}"), b"abc") for n in range(4)]
            spool._bodies.close_idle()
            for each in stored[:3]:
                await content(spool, each)
            assert descriptors(tmp_path) == 3
            faults.refuse(0, errno.EMFILE, only=("open_file",))
            assert await content(spool, stored[3]) == b"abc"
            assert descriptors(tmp_path) == 1


async def test_what_is_retracted_before_it_has_its_place_never_gets_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling = await begin(spool, entry(), b"abc")
    loop, real, done = asyncio.get_running_loop(), folder.FillingFiles.seal, asyncio.Event()

    def seal(files: folder.FillingFiles, new: Entry) -> Entry:
        loop.call_soon_threadsafe(filling.retract)
        loop.call_soon_threadsafe(done.set)
        return real(files, new)

    monkeypatch.setattr(folder.FillingFiles, "seal", seal)
    monkeypatch.setattr(folder.FillingFiles, "move", None)
    await filling.commit(filling.entry.completed(3))
    assert done.is_set()
    assert files(spool.paths.root) == set()
    await eventually(lambda: spool.room.used == 0)


def test_what_never_came_to_its_name_is_removed(tmp_path: Path) -> None:
    claim(tmp_path).release(orderly=False)
    (tmp_path / "bans.new").write_text("half")
    claim(tmp_path).release(orderly=False)
    assert not (tmp_path / "bans.new").exists()
