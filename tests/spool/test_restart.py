"""What a spool finds of itself after a stop, an orderly one or not."""

import asyncio
import os
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import apsw
import pytest

from proxy.errors import OriginTruncated, SpoolError
from proxy.semantics.purging import Everything, Under
from proxy.spool import folder
from proxy.spool.folder import FillingFiles
from proxy.spool.spool import Spool
from tests.spool.faults import faulty
from tests.spool.objects import begin, content, entry, files, key_of, opened, pattern, store


async def test_entries_survive(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(5000))
    async with opened(tmp_path) as spool:
        assert spool.lookup(stored.key) == (stored,)
        assert spool.room.used == 5000
        assert await content(spool, stored) == pattern(5000)


async def test_a_second_process_is_told_so(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(SpoolError, match="in use by another range-adapter"):
            await Spool.open(tmp_path, max_size=1, max_object_size=1, min_free=0)
    async with opened(tmp_path):
        pass  # after it has ended, the folder is free


async def test_a_folder_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot write to the spool folder"):
        await Spool.open(tmp_path / "file", max_size=1, max_object_size=1, min_free=0)


async def test_unfinished_objects_are_found_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        begun = await begin(spool, entry(), b"abc")  # and the process dies
    async with opened(tmp_path) as spool:
        assert spool.lookup(key_of("/film")) == ()
        [partial] = spool.partials.lookup(key_of("/film"))
        assert (partial.entry, partial.written) == (begun.entry, 3)
        assert spool.room.used == 3
        assert await partial.filling.body.read(0, 3) == b"abc"


@pytest.mark.parametrize(
    "damage", ["no head", "no body", "empty", "longer than promised", "purged since", "torn head"]
)
async def test_what_cannot_be_gone_on_with_is_deleted(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as spool:
        new = entry(length=2 if damage == "longer than promised" else None)
        await begin(spool, new, b"" if damage == "empty" else b"abc")
        files_of = tmp_path / "filling" / new.generation
        match damage:
            case "no head":
                files_of.with_suffix(".head").unlink()
            case "no body":
                files_of.with_suffix(".body").unlink()
            case "torn head":
                files_of.with_suffix(".head").write_bytes(files_of.with_suffix(".head").read_bytes()[:100])
            case "purged since":
                await spool.ban(Under(None, "/elsewhere"), soft=False, now=0)
        (tmp_path / "filling" / "x.head.new").touch()
    async with opened(tmp_path) as spool:
        assert len(spool.partials) == 0
        assert list((tmp_path / "filling").iterdir()) == []
        assert spool.room.used == 0


async def test_what_was_invalidated_is_not_gone_on_with(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        new = entry()
        await begin(spool, new, b"abc")
        await spool.drop_target(new.target)  # and the process dies
    async with opened(tmp_path) as spool:
        assert len(spool.partials) == 0


async def test_what_the_power_took_is_unconfirmed_however_often_the_service_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as spool:
        await begin(spool, entry(), b"abc")  # and the process dies
    async with opened(tmp_path) as spool:
        [partial] = spool.partials
        assert partial.confirmed, "the machine has run on"
    for boot in ("another", "another", "", ""):
        monkeypatch.setattr(folder, "boot_id", lambda boot=boot: boot)
        async with opened(tmp_path) as spool:
            [partial] = spool.partials
            assert not partial.confirmed


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.parametrize("changed", [True, False])
async def test_what_was_put_aside_is_as_confirmed_as_it_was_unless_others_wrote_to_it(
    tmp_path: Path, confirmed: bool, changed: bool
) -> None:
    async with opened(tmp_path) as spool:
        begun = await begin(spool, entry(), b"abc")
        await begun.suspend(begun.entry, 3, OriginTruncated("it broke off"), confirmed=confirmed)
    if changed:
        os.utime(tmp_path / "filling" / f"{begun.entry.generation}.body", ns=(5, 5))
    async with opened(tmp_path) as spool:
        [partial] = spool.partials
        assert partial.confirmed is (confirmed and not changed)


async def test_what_is_invalidated_while_it_is_put_aside_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, real = asyncio.get_running_loop(), FillingFiles.describe
    async with opened(tmp_path) as spool:
        begun = await begin(spool, entry(), b"abc")

        def describe(*args: Any, **kwargs: Any) -> None:
            asyncio.run_coroutine_threadsafe(spool.drop_target(begun.entry.target), loop).result()
            real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(FillingFiles, "describe", describe)
            patch.setattr(spool._upkeep, "discard", AsyncMock())  # the process dies before that
            await begun.suspend(begun.entry, 3, OriginTruncated("it broke off"), confirmed=True)
        assert len(spool.partials) == 0
    async with opened(tmp_path) as spool:
        assert len(spool.partials) == 0


@pytest.mark.parametrize("what", ["stored", "arriving", "put aside"])
@pytest.mark.parametrize("purge", [True, False])
async def test_what_the_disk_did_not_let_go_does_not_come_back(
    tmp_path: Path, what: str, purge: bool
) -> None:
    with faulty(tmp_path) as faults:
        async with opened(tmp_path) as spool:
            if what == "stored":
                await store(spool, entry(), b"abc")
            else:
                begun = await begin(spool, entry(), b"abc")
                if what == "put aside":
                    await begun.suspend(begun.entry, 3, OriginTruncated("it broke off"), confirmed=True)

            def fail(name: str, path: str) -> None:
                if name == "unlink" and Path(path).parent != tmp_path:
                    raise PermissionError(1, "Operation not permitted")

            faults.fail = fail
            if purge:
                await spool.ban(Everything(), soft=False, now=5)
                await spool.purged()
            else:
                await spool.drop_target(key_of("/film"))
            assert spool.lookup(key_of("/film")) == ()
            assert spool.partials.lookup(key_of("/film")) == ()
        (tmp_path / "orderly").unlink(missing_ok=True)  # it was killed
        faults.heal()
        async with opened(tmp_path) as spool:
            await spool.swept()
            await spool.purged()
            assert spool.lookup(key_of("/film")) == ()
            assert len(spool.partials) == 0
            assert files(tmp_path) == set()


@pytest.mark.parametrize("damage", ["lost", "not a database", "of another format"])
async def test_without_an_index_the_objects_are_found_again(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as spool:
        stored = [await store(spool, entry(f"/{n}"), pattern(1000, n)) for n in range(20)]
    _spoil(spool.paths.index, damage)
    async with opened(tmp_path) as spool:
        await spool.swept()
        for number, each in enumerate(stored):
            assert spool.lookup(each.key) == (each,)
            assert await content(spool, each) == pattern(1000, number)
        assert spool.room.used == 20_000
        assert spool.usage() == (20_000, 20)


async def test_files_that_were_being_replaced_leave_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), pattern(1000))
    spool.paths.orderly.unlink()
    halves = [spool.paths.head(stored.generation).with_suffix(".head.new"), tmp_path / "bans.new"]
    for half in halves:
        half.write_text('{"format"')
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert not any(half.exists() for half in halves)
        assert await content(spool, stored) == pattern(1000)


def _spoil(index: Path, damage: str) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{index}{suffix}").unlink(missing_ok=True)
    match damage:
        case "lost":
            index.unlink()
        case "not a database":
            index.write_bytes(b"no database at all" * 1000)
        case _:
            connection = apsw.Connection(str(index))
            connection.pragma("user_version", 999)
            connection.close()


async def test_after_a_crash_disk_and_index_agree_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry("/known"), pattern(1000))
        orphan = await store(spool, entry("/orphan"), pattern(500))
        older = await store(spool, entry("/twice", time=1), b"older")
    async with opened(tmp_path / "aside") as aside:  # rows that never came to be
        pass
    aside.paths.index.rename(spool.paths.index)
    spool.paths.orderly.unlink()
    async with opened(tmp_path) as spool:
        await store(spool, entry("/twice", time=2), b"younger")
        await spool.swept()
        assert [each.generation for each in spool.lookup(orphan.key)] == [orphan.generation]
        assert await content(spool, stored) == pattern(1000)
        assert older.generation not in {each.generation for each in spool.lookup(older.key)}
        assert not any(older.generation in name for name in files(tmp_path))
        assert spool.room.used == spool.usage()[0] == 1000 + 500 + 7


@pytest.mark.parametrize(
    "damage", ["no body", "no head", "short body", "half a head", "a name that is not its own"]
)
async def test_what_does_not_fit_together_is_swept_away(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"0123456789")
    spool.paths.index.unlink()
    head, body = spool.paths.head(stored.generation), spool.paths.body(stored.generation)
    match damage:
        case "no body":
            body.unlink()
        case "no head":
            head.unlink()
        case "short body":
            body.write_bytes(b"012")
        case "half a head":
            head.write_bytes(head.read_bytes()[:50])
        case _:
            other = stored.generation[:-1] + ("0" if stored.generation[-1] != "0" else "1")
            head.rename(spool.paths.head(other))
            body.rename(spool.paths.body(other))
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.lookup(stored.key) == ()
        assert files(tmp_path) == set()
        assert spool.room.used == 0


async def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
    note = spool.paths.body(stored.generation).parent / "README"
    note.write_text("mine")
    spool.paths.orderly.unlink()
    async with opened(tmp_path) as spool:
        await spool.swept()
    assert note.read_text() == "mine"


async def test_a_folder_among_what_is_filling_prevents_no_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        strange = spool.paths.filling / "strange"
    strange.mkdir()
    async with opened(tmp_path):
        assert strange.is_dir()


async def test_an_orderly_stop_needs_no_sweep(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.swept()
    assert spool.paths.orderly.exists()
    async with opened(tmp_path) as spool:
        assert not spool.paths.orderly.exists(), "a crash from here on must not look like one"
        assert spool._upkeep._sweeping is None


async def test_the_secret_is_kept_and_made_anew_where_it_is_spoilt(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        secret = spool.secret
    assert spool.paths.secret.stat().st_mode & 0o777 == 0o600
    async with opened(tmp_path) as spool:
        assert spool.secret == secret
    spool.paths.secret.write_text("spoilt")
    async with opened(tmp_path) as spool:
        assert len(spool.secret) == len(secret)
        assert spool.secret != secret
