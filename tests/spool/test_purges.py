"""What was purged is not found by the next lookup, nor ever after, whatever happens to the process or the index."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.errors import Overloaded, SpoolError
from proxy.semantics.purging import Everything, Purge, Tagged, Targets, Under
from proxy.spool import ban_file, bans, calls, purges
from proxy.spool.catalogue import Catalogue
from proxy.spool.condition import Trouble
from proxy.spool.entry import Entry, load_head
from proxy.spool.folder import FillingFiles
from proxy.spool.index import Index
from proxy.spool.seal import is_sealed, sealed
from proxy.spool.shelf import Page, Shelf
from proxy.spool.spool import Spool
from tests.spool.faults import faulty
from tests.spool.objects import begin, content, entry, eventually, files, key_of, opened, store

WHATS: list[Purge] = [
    Everything(),
    Under("host", "/film"),
    Tagged("drama"),
    Targets(frozenset({key_of("/film")})),
]


SWEEPS = ("carry_out", "carry_out_on")


def film(spool: Spool, time: int = 1) -> Entry:
    """What all of WHATS are about, asked for now."""
    return entry("/film", time=time, tags=("drama", "old"), epoch=spool.epoch)


def news(spool: Spool) -> Entry:
    """What only Everything is about."""
    return entry("/news", tags=("daily",), epoch=spool.epoch)


async def ban(spool: Spool, what: Purge, *, soft: bool = False, now: int = 100) -> None:
    await spool.ban(what, soft=soft, now=now)


def stale_since(spool: Spool, stored: Entry) -> int | None:
    [found] = spool.lookup(stored.key)
    return found.stored.stale_since


def in_force(spool: Spool) -> list[Purge]:
    return [each.what for each in spool._catalogue.bans.bans]


async def written(spool: Spool) -> bans.Bans:
    """What the next start would find."""
    return (await asyncio.to_thread(ban_file.BanFile, spool.paths)).found


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch, *methods: str) -> Iterator[asyncio.Event]:
    """These methods of the catalogue begin when the event is set, or this is over."""
    go_on = asyncio.Event()

    def slow(real: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def waiting(*args: object) -> object:
            await go_on.wait()
            return await real(*args)

        return waiting

    with monkeypatch.context() as patch:
        for method in methods:
            patch.setattr(Catalogue, method, slow(getattr(Catalogue, method)))
        try:
            yield go_on
        finally:
            go_on.set()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path) as open_spool:
        yield open_spool


# --- True at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", WHATS)
async def test_a_hard_purge_is_true_at_once_and_swept_later(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, what: Purge
) -> None:
    old, other = await store(spool, film(spool), b"film"), await store(spool, news(spool), b"news")
    assert spool.lookup(old.key) == (old,)
    with held_up(monkeypatch, *SWEEPS):
        await ban(spool, what)
        assert spool.lookup(old.key) == ()
        assert bool(spool.lookup(other.key)) == (what != Everything())
        assert spool.usage()[1] == 2, "it is swept behind that"
        new = await store(spool, film(spool, time=2), b"again")
        assert spool.lookup(new.key) == (new,)
    await spool.purged()
    assert spool._catalogue.bans.bans == ()
    assert spool.lookup(new.key) == (new,)
    assert not any(old.generation in name for name in files(spool.paths.root))
    assert spool.room.used == spool.usage()[0] == 5 + len(spool.lookup(other.key)) * 4


@pytest.mark.parametrize("what", WHATS)
async def test_a_soft_purge_makes_stale_and_is_written_into_the_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Purge
) -> None:
    async with opened(tmp_path) as spool:
        old, other = await store(spool, film(spool), b"film"), await store(spool, news(spool), b"news")
        with held_up(monkeypatch, *SWEEPS):
            await ban(spool, what, soft=True, now=100)
            assert stale_since(spool, old) == 100
            assert stale_since(spool, other) == (100 if what == Everything() else None)
        await spool.purged()
        assert spool._catalogue.bans.bans == ()
        assert stale_since(spool, old) == 100
        assert await content(spool, old) == b"film"
        assert load_head(spool.paths.head(old.generation).read_bytes()).stored.stale_since == 100
    spool.paths.index.unlink()
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert stale_since(spool, old) == 100


async def test_the_earliest_of_several_soft_purges_counts(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await store(spool, film(spool), b"film")
    with held_up(monkeypatch, *SWEEPS):
        await ban(spool, Tagged("drama"), soft=True, now=200)
        await ban(spool, Targets(frozenset({old.target})), soft=True, now=100)
        await ban(spool, Everything(), soft=True, now=300)
        assert spool.epoch == 3
    await spool.purged()
    assert stale_since(spool, old) in {100, 200, 300}
    await ban(spool, Everything(), soft=True, now=50)
    assert stale_since(spool, old) == 50


async def test_what_is_purged_softly_can_be_removed_but_not_the_reverse(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await store(spool, film(spool), b"film")
    with held_up(monkeypatch, *SWEEPS):
        await ban(spool, Tagged("drama"), soft=True)
        await ban(spool, Tagged("drama"), soft=False)
        assert len(spool._catalogue.bans.bans) == 1
        await ban(spool, Tagged("drama"), soft=True)
        assert spool.lookup(old.key) == ()


async def test_readers_of_what_is_purged_finish(spool: Spool) -> None:
    old = await store(spool, film(spool), b"film")
    body = await spool.open_body(old)
    await ban(spool, Everything())
    await spool.purged()
    assert spool.room.lingering == 4
    assert await body.read(0, 4) == b"film"
    body.release()
    await eventually(lambda: spool.room.used == 0)


async def test_a_lookup_of_a_known_key_judges_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await store(spool, news(spool), b"news")
    with held_up(monkeypatch, *SWEEPS):
        await ban(spool, Tagged("drama"))
        spool.lookup(other.key)
        monkeypatch.setattr(bans.Bans, "judged", None)
        assert spool.lookup(other.key) == (other,)
        monkeypatch.undo()


# --- What is arriving -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("soft", [False, True])
async def test_what_was_arriving_is_not_published_after_the_sweep(
    tmp_path: Path, what: Purge, soft: bool
) -> None:
    async with opened(tmp_path) as spool:
        filling, spared = await begin(spool, film(spool), b"film"), await begin(spool, news(spool), b"news")
        late = film(spool)
        await ban(spool, what, soft=soft)
        await spool.purged()
        assert spool._catalogue.bans.bans == (), "a fill that takes hours holds no purge up"
        also = await begin(spool, late, b"late")  # its head has come only now
        for each in (filling, spared, also):
            await each.commit(each.entry.completed(4))
        assert spool.lookup(late.key) == ()
        assert bool(spool.lookup(spared.entry.key)) == (what != Everything())
        assert spool.room.used == spool.usage()[0]
        assert len(files(tmp_path)) == 2 * spool.usage()[1]
    spool.paths.index.unlink()
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.lookup(late.key) == ()


async def test_what_is_being_published_is_swept_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on its way past the point where it could be given up, and the process ends right after that."""
    async with opened(tmp_path) as spool:
        filling = await begin(spool, film(spool), b"film")
        sealing, go_on = asyncio.Event(), threading.Event()
        loop, real = asyncio.get_running_loop(), type(filling.files).seal

        def slow(files: FillingFiles, whole: Entry) -> Entry:
            loop.call_soon_threadsafe(sealing.set)
            go_on.wait()
            return real(files, whole)

        monkeypatch.setattr(type(filling.files), "seal", slow)
        walk = Catalogue.carry_out

        async def walking(catalogue: Catalogue, after: str, limit: int) -> Page:
            assert commit.done(), "it may come to lie where the walk has been"
            return await walk(catalogue, after, limit)

        monkeypatch.setattr(Catalogue, "carry_out", walking)
        commit = asyncio.create_task(filling.commit(filling.entry.completed(4)))
        await sealing.wait()
        await ban(spool, Tagged("drama"))
        assert spool.lookup(filling.entry.key) == ()
        for _ in range(10):  # the sweep has begun
            await asyncio.sleep(0)
        assert in_force(spool) == [Tagged("drama")]
        go_on.set()
        await commit
        assert spool.lookup(filling.entry.key) == ()
        await spool.purged()
        assert in_force(spool) == []
        assert files(tmp_path) == set()
        assert spool.room.used == 0


async def test_after_too_many_purges_what_was_asked_for_before_them_counts_as_purged(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool._purges._recent = type(spool._purges._recent)(maxlen=3)
    monkeypatch.setattr(purges, "MAX_BANS", 3)
    late, later = news(spool), []
    for number in range(4):
        await ban(spool, Tagged(str(number)))
        later.append(news(spool))
    await store(spool, late, b"late")
    assert spool.lookup(late.key) == ()
    for each in later:
        await store(spool, each, b"later")
        assert spool.lookup(each.key)


# --- Validations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("swept", [False, True])
async def test_a_validation_from_before_does_not_undo_a_purge(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    soft, hard = await store(spool, film(spool), b"film"), await store(spool, news(spool), b"news")
    with held_up(monkeypatch, *SWEEPS) as go_on:
        await ban(spool, Tagged("drama"), soft=True, now=100)
        await ban(spool, Tagged("daily"))
        if swept:
            go_on.set()
            await spool.purged()
        # The 304s come to questions from before; the second question to one from after, by who had it in hand.
        await spool.update(soft)
        await spool.update(
            entry("/news", 4, generation=hard.generation, epoch=spool.epoch)
        ) if swept else None
        assert stale_since(spool, soft) == 100
        assert spool.lookup(hard.key) == ()
    await spool.purged()
    assert stale_since(spool, soft) == 100
    assert spool.lookup(hard.key) == ()


async def test_what_is_to_be_removed_cannot_be_validated(tmp_path: Path) -> None:
    shelf_bans = bans.Bans().with_ban(Everything(), soft=False, since=0)
    async with opened(tmp_path) as spool:
        stored = await store(spool, film(spool), b"film")
        await spool._catalogue._on_shelf(
            spool._catalogue._shelf.update, entry(time=9, generation=stored.generation, epoch=1), shelf_bans
        )
        assert spool._catalogue._shelf.lookup(stored.key) == (stored,)


async def test_a_validation_from_after_makes_fresh(spool: Spool) -> None:
    old = await store(spool, film(spool), b"film")
    await ban(spool, Tagged("drama"), soft=True)
    fresh = entry("/film", 4, time=2, generation=old.generation, tags=old.tags, epoch=spool.epoch)
    await spool.update(fresh)
    fresh = replace(fresh, checksum=old.checksum)
    assert spool.lookup(old.key) == (fresh,)
    await spool.purged()
    assert spool.lookup(old.key) == (fresh,)


# --- For good -------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["kept", "lost"])
@pytest.mark.parametrize("what", WHATS)
async def test_a_purge_outlives_process_and_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Purge, index: str
) -> None:
    def refuse(*_: object) -> None:
        raise SpoolError("no sweep today")

    async with opened(tmp_path) as spool:
        old = await store(spool, film(spool), b"film")
        with monkeypatch.context() as patch:
            patch.setattr(Shelf, "carry_out", refuse)
            patch.setattr(Shelf, "carry_out_on", refuse)
            await ban(spool, what)
            await spool.purged()
        epoch = spool.epoch
        assert len(spool._catalogue.bans.bans) == 1, "a sweep that has failed leaves it in force"
    if index == "lost":
        spool.paths.index.unlink()
    async with opened(tmp_path) as spool:
        assert spool.epoch == epoch
        assert spool.lookup(old.key) == ()
        await spool.swept()
        assert spool.lookup(old.key) == ()
        await spool.purged()
        assert spool.lookup(old.key) == ()
        assert files(tmp_path) == set()
        assert spool._catalogue.bans.bans == ()
        assert spool.epoch == epoch, "which is never used again"
    async with opened(tmp_path) as spool:
        assert spool.epoch == epoch


async def test_purges_stay_in_force_until_all_that_lies_there_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise SpoolError("cannot be read today")

    async with opened(tmp_path) as spool:
        old = await store(spool, film(spool), b"film")
    spool.paths.index.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "survey", refuse)
        async with opened(tmp_path) as spool:
            await ban(spool, Targets(frozenset({old.target})))
            await spool.purged()
            assert len(spool._catalogue.bans.bans) == 1
            assert len(files(tmp_path)) == 2, "nobody knows of it"
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.lookup(old.key) == ()
        await spool.purged()
        assert files(tmp_path) == set()
        assert spool._catalogue.bans.bans == ()


def line(text: str) -> bytes:
    return f"{sealed(text)}\n".encode()


@pytest.mark.parametrize(
    "damage",
    [
        None,
        b"",
        b"\0" * 60,
        b"{\n",
        b"[]\n",
        line('{"format": 9, "epoch": 1}'),
        line('{"format": 2, "epoch": 1, "bans": 1}').replace(b"1", b"0"),
        line('{"format": 2, "epoch": 1, "bans": 1}')
        + line('{"epoch": 1, "soft": 0, "since": 0, "what": ["odd"]}'),
        line('{"format": 2, "epoch": 1, "bans": 1}')
        + b"\0\0\n"
        + line('{"format": 2, "epoch": 1, "bans": 1}'),
    ],
)
async def test_where_the_purges_are_lost_everything_is_purged(tmp_path: Path, damage: bytes | None) -> None:
    async with opened(tmp_path) as spool:
        await ban(spool, Tagged("drama"))
        old = await store(spool, film(spool), b"film")
        epoch = spool.epoch
    if damage is None:
        spool.paths.bans.unlink()
    else:
        spool.paths.bans.write_bytes(damage)
    async with opened(tmp_path) as spool:
        assert spool.epoch > epoch
        assert spool.lookup(old.key) == ()
        new = await store(spool, film(spool), b"again")
        await spool.purged()
        assert spool.lookup(new.key) == (new,)
    async with opened(tmp_path) as spool:
        assert spool.lookup(new.key) == (new,)
        assert len(files(tmp_path)) == 2


async def test_a_purge_that_cannot_be_written_down_is_none(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    old = await store(spool, film(spool), b"film")
    with monkeypatch.context() as patch:
        patch.setattr("proxy.spool.calls.fsync", refuse)
        patch.setattr("proxy.spool.calls.fdatasync", refuse)
        with pytest.raises(SpoolError, match="cannot write down a purge"):
            await ban(spool, Everything())
    assert spool.lookup(old.key) == (old,)
    assert spool.epoch == 0
    await ban(spool, Everything())
    assert spool.lookup(old.key) == ()


NAMES_NEEDED = {"create", "rename", "unlink", "mkdir"}


def no_names(name: str, path: str) -> None:
    """A folder that is immutable, or a disk whose inodes are used up."""
    if name in NAMES_NEEDED:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_what_a_disk_without_names_cannot_delete_does_not_come_back_after_a_kill(
    tmp_path: Path, index: str
) -> None:
    root = tmp_path / "spool"
    with faulty(root) as faults:
        async with opened(root) as spool:
            invalid = await store(spool, entry("/posted"), b"old")
            purged = await store(spool, film(spool), b"film")
            await ban(spool, Under("host", "/nothing"))  # there are others before these
            await spool.purged()
            faults.fail = no_names
            await spool.drop_target(invalid.target)
            await ban(spool, Tagged("drama"))
            assert len(files(root)) == 4
            shutil.copytree(root, tmp_path / "killed")
            faults.heal()
    if index == "lost":
        (tmp_path / "killed" / "index.sqlite").unlink()
    async with opened(tmp_path / "killed") as spool:
        for each in (invalid, purged):
            assert spool.lookup(each.key) == ()
        await spool.purged()
        assert files(tmp_path / "killed") == set()


# A purge whose line was being written when the power failed was acknowledged to nobody.
@pytest.mark.parametrize("torn", [b'{"epoch": 2, "so', b"\0\0", b'{"epoch": 2\0\0\0"crc32": 7}\n', b"\0\n\0"])
async def test_a_line_that_is_not_whole_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    async with opened(tmp_path) as spool:
        old = await store(spool, film(spool), b"film")
        kept = await store(spool, news(spool), b"news")
        with held_up(monkeypatch, *SWEEPS):
            await ban(spool, Tagged("drama"))
            bans_then = spool.paths.bans.read_bytes()
            while_closed = tmp_path / "bans.then"
            while_closed.write_bytes(bans_then + torn)
    while_closed.rename(spool.paths.bans)
    with held_up(monkeypatch, *SWEEPS):
        async with opened(tmp_path) as spool:
            assert (spool.lookup(old.key), spool.lookup(kept.key)) == ((), (kept,))
            await ban(spool, Tagged("daily"))
            lines = spool.paths.bans.read_bytes().splitlines()
            assert len(lines) == 3
            assert all(map(is_sealed, lines))


async def test_of_a_purge_that_failed_nothing_is_left(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of it came to the disk."""

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with held_up(monkeypatch, *SWEEPS):
        await ban(spool, Tagged("one"))
        with monkeypatch.context() as patch:
            patch.setattr("proxy.spool.calls.fsync", refuse)
            patch.setattr("proxy.spool.calls.fdatasync", refuse)
            with pytest.raises(SpoolError):
                await ban(spool, Under("host", "/" + "x" * 500))
        assert (await written(spool)).bans == spool._catalogue.bans.bans
        await ban(spool, Tagged("two"))
        assert (await written(spool)).bans == spool._catalogue.bans.bans
        assert in_force(spool) == [Tagged("one"), Tagged("two")]


@pytest.mark.parametrize("loss", ["removed", "cut off"])
async def test_a_file_that_somebody_took_away_has_them_all_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    with held_up(monkeypatch, *SWEEPS):
        await ban(spool, Tagged("one"))
        if loss == "removed":
            spool.paths.bans.unlink()
        else:
            os.truncate(spool.paths.bans, 10)
        await ban(spool, Tagged("two"))
        assert (await written(spool)).bans == spool._catalogue.bans.bans


async def test_what_is_added_again_and_again_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the same target is invalidated on a disk without names; and the file has its bounds."""
    monkeypatch.setattr(ban_file, "LARGEST", 4096)
    with faulty(tmp_path / "spool") as faults, held_up(monkeypatch, *SWEEPS):
        async with opened(tmp_path / "spool") as spool:
            faults.fail = no_names
            refused = 0
            for _ in range(60):
                try:
                    await ban(spool, Tagged("one"))
                except SpoolError:
                    refused += 1
            assert refused > 0
            assert spool.paths.bans.stat().st_size < 4096 + 200
            assert spool.epoch > 10
            found = await written(spool)
            assert (found.epoch, found.bans) == (spool.epoch, spool._catalogue.bans.bans)
            faults.heal()


@pytest.mark.parametrize("at", [-1, -40])
async def test_a_file_that_was_cut_off_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    with held_up(monkeypatch, *SWEEPS):
        async with opened(tmp_path) as spool:
            old = await store(spool, film(spool), b"film")
            await ban(spool, Tagged("other"))
            await ban(spool, Tagged("drama"))
        os.truncate(spool.paths.bans, spool.paths.bans.stat().st_size + at)
        async with opened(tmp_path) as spool:
            assert in_force(spool) == [Everything()]
            assert spool.lookup(old.key) == ()


async def test_a_repair_does_not_write_a_purge_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for the shelf's thread while the repair does, and is acknowledged."""
    root, there, go = tmp_path / "spool", threading.Event(), threading.Event()
    real = Shelf.in_place

    def slow(shelf: Shelf) -> bool:
        there.set()
        go.wait(10)
        return real(shelf)

    with held_up(monkeypatch, *SWEEPS):
        async with opened(root) as spool:
            old = await store(spool, film(spool), b"film")
            with monkeypatch.context() as patch:
                patch.setattr(Shelf, "in_place", slow)
                repairing = asyncio.create_task(spool._upkeep._restore(Trouble.INDEX))
                await asyncio.to_thread(there.wait, 10)
                purging = asyncio.create_task(ban(spool, Tagged("drama")))
                await eventually(spool._purges._writing.locked)
                go.set()
                await asyncio.gather(purging, repairing)
            assert spool.lookup(old.key) == ()
            assert (await written(spool)).bans == spool._catalogue.bans.bans


async def test_it_is_written_down_before_it_is_true(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await store(spool, film(spool), b"film")
    seen = []

    def then() -> None:
        seen.append((spool.lookup(old.key), spool.epoch))

    with held_up(monkeypatch, "add_ban") as go_on:
        purging = asyncio.create_task(spool.ban(Tagged("drama"), soft=False, now=1, then=then))
        await asyncio.sleep(0)
        assert spool.lookup(old.key) == (old,)
        purging.cancel()  # whoever asked for it may leave
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await purging
    assert seen == [((), 1)]


# --- Bounds ---------------------------------------------------------------------------------------


async def test_too_many_purges_are_refused_and_wider_ones_make_room(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bans, "MAX_BANS", 3)
    with held_up(monkeypatch, *SWEEPS):
        for name in ("/a/1", "/a/2", "/b"):
            await ban(spool, Under("host", name))
        await ban(spool, Under("host", "/b"))
        with pytest.raises(Overloaded, match="wait until the sweep") as caught:
            await ban(spool, Tagged("drama"))
        assert caught.value.reason == "too-many-purges"
        await ban(spool, Under(None, "/a/"))
        assert in_force(spool) == [Under("host", "/b"), Under(None, "/a/")]
        await ban(spool, Everything(), soft=True)
        assert len(in_force(spool)) == 3, "a soft one takes no hard one's place"
        await ban(spool, Everything())
        assert in_force(spool) == [Everything()]
        assert spool.epoch == 7
    await spool.purged()


async def test_one_target_waits_for_no_walk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a walk goes on, purges of single targets come and go."""
    monkeypatch.setattr(purges, "STEP", 1)
    stored = [await store(spool, entry(f"/{n}", epoch=spool.epoch), b"abc") for n in range(3)]
    seen: list[list[type]] = []
    real = Catalogue.carry_out

    async def counted(catalogue: Catalogue, after: str, limit: int) -> Page:
        if not seen:
            await ban(spool, Targets(frozenset({stored[0].target})))
        seen.append([type(each.what) for each in catalogue.bans.bans])
        return await real(catalogue, after, limit)

    monkeypatch.setattr(Catalogue, "carry_out", counted)
    await ban(spool, Under(None, "/none"))
    await spool.purged()
    assert seen[0] == [Under, Targets]
    assert seen[1:] == [[Under]] * (len(seen) - 1) != []
    assert spool.lookup(stored[0].key) == ()
    assert spool.usage()[1] == 2


# --- Removal --------------------------------------------------------------------------------------


class PowerCut(Exception):
    """Here the process ends."""


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_what_is_removed_by_halves_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, index: str
) -> None:
    """Two files and a row: the process ends after so many of these steps."""
    async with opened(tmp_path) as spool:
        old, kept = await store(spool, film(spool), b"film"), await store(spool, news(spool), b"news")
        done = 0

        def stopping(real: object) -> object:
            def step(*args: object) -> object:
                nonlocal done
                if done == steps:
                    raise PowerCut
                done += 1
                return real(*args)  # type: ignore[operator]

            return step

        with monkeypatch.context() as patch:
            patch.setattr("proxy.spool.calls.unlink", stopping(calls.unlink))
            patch.setattr(Index, "remove", stopping(Index.remove))
            if steps < 3:
                with pytest.raises(PowerCut):
                    await spool.drop([old])
            else:
                await spool.drop([old])
        assert done == steps
    spool.paths.orderly.unlink()
    if index == "lost":
        spool.paths.index.unlink()
    async with opened(tmp_path) as spool:
        if steps > 0:
            for each in spool.lookup(old.key):  # it has not been noticed yet, but there is nothing to be had
                with pytest.raises(SpoolError):
                    await spool.open_body(each)
        await spool.swept()
        assert bool(spool.lookup(old.key)) == (steps == 0), "before the first step it is there as before"
        assert await content(spool, spool.lookup(kept.key)[0]) == b"news"
        assert spool.room.used == spool.usage()[0] == 4 * spool.usage()[1]
        assert len(files(tmp_path)) == 2 * spool.usage()[1]


async def test_a_row_without_a_body_is_swept(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        old = await store(spool, film(spool), b"film")
    spool.paths.body(old.generation).unlink()
    spool.paths.orderly.unlink()
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.usage() == (0, 0)
        assert spool.room.used == 0
        assert files(tmp_path) == set()
