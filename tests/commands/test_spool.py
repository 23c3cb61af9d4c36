"""`range-adapter spool`, as a process: what it says of a folder, and what it does to it."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
import yaml

from proxy.spool.entry import Entry
from proxy.spool.spool import Spool
from tests import command
from tests.conftest import Adapter
from tests.scripted_origin import ScriptedOrigin
from tests.spool.objects import begin, entry, files, opened, pattern, store
from tests.spool.rot import flip
from tests.together import settled
from tests.wire import Wire

FILM = pattern(300_000)
LONG = pattern(16 << 20)
HOST = [("Host", "films.example")]


async def run(folder: Path, *arguments: str, spool: str | None = "spool") -> tuple[int, str, str]:
    """Exit status, output and errors of `range-adapter spool`."""
    where = () if spool is None else ("--spool", spool)
    return await command.run("spool", folder, *arguments, *where)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
async def stored(tmp_path: Path) -> list[Entry]:
    """Three objects, of a service that has ended."""
    async with opened(tmp_path / "spool") as spool:
        return [await store(spool, entry(f"/{name}"), pattern(1000, at)) for at, name in enumerate("abc")]


def body(tmp_path: Path, found: Entry, kind: str = "body") -> Path:
    return tmp_path / "spool" / "objects" / found.generation[:2] / f"{found.generation}.{kind}"


async def test_what_is_sound_is_left_as_it_is(tmp_path: Path, stored: list[Entry]) -> None:
    before = tree(tmp_path)
    for arguments in (
        ["verify"],
        ["verify", "--keep"],
        ["ls"],
        ["ls", "--partial"],
        ["stat"],
        ["stat", "--json"],
    ):
        status, output, errors = await run(tmp_path, *arguments)
        assert (status, errors) == (0, "")
        assert output
    assert await run(tmp_path, "verify") == (0, "3 objects, 2.9 KiB read: all sound\n", "")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("keep", [False, True])
async def test_what_is_wrong_is_told_and_goes(tmp_path: Path, stored: list[Entry], keep: bool) -> None:
    flip(body(tmp_path, stored[1]), 999, bit=7)
    before = tree(tmp_path)
    status, output, errors = await run(tmp_path, "verify", *(["--keep"] if keep else []))
    assert (status, errors) == (1, "")
    ends = "nothing was removed (--keep)" if keep else "removed: to be fetched anew"
    assert output.startswith(
        "/b: its bytes are not those that were stored: their checksum is another one\n"
        f"  {body(tmp_path, stored[1])}\n"
        "3 objects, 2.9 KiB read: 1 not as stored"
    )
    assert output.endswith(f"{ends}\n")
    gone = set() if keep else {body(tmp_path, stored[1]), body(tmp_path, stored[1], "head")}
    assert {tmp_path / name for name in before} - {tmp_path / name for name in tree(tmp_path)} == gone
    assert (await run(tmp_path, "verify"))[0] == (1 if keep else 0)
    async with opened(tmp_path / "spool") as spool:
        with pytest.raises(Exception, match=r"lost|not as it was stored"):
            await spool.open_body(stored[1])


FLAWS = {
    "cut": "it has 999 bytes instead of 1000",
    "grown": "it has 1001 bytes instead of 1000",
    "no body": "its body is gone",
    "no head": "it has no head",
    "a head of another object": "its head cannot be read: head of another object",
    "a head with another bit": "its head cannot be read:",
}


@pytest.mark.parametrize("how", FLAWS)
async def test_each_flaw_has_its_words(tmp_path: Path, stored: list[Entry], how: str) -> None:
    path, head = body(tmp_path, stored[0]), body(tmp_path, stored[0], "head")
    match how:
        case "cut":
            os.truncate(path, 999)
        case "grown":
            os.truncate(path, 1001)
        case "no body":
            path.unlink()
        case "no head":
            head.unlink()
        case "a head of another object":
            head.write_bytes(body(tmp_path, stored[1], "head").read_bytes())
        case _:
            flip(head, 200)
    known = how in ("cut", "grown", "no body")
    status, output, _ = await run(tmp_path, "verify")
    assert status == 1
    assert output.startswith(f"{'/a' if known else f'object {stored[0].generation}'}: {FLAWS[how]}")
    assert not path.exists()
    assert not head.exists()
    assert (await run(tmp_path, "verify"))[0] == 0


async def test_what_is_not_the_spools_is_not_touched(tmp_path: Path, stored: list[Entry]) -> None:
    folder = body(tmp_path, stored[0]).parent
    mine = [
        folder / "notes.txt",
        folder / f"{'0' * 32}.body",  # of another folder
        folder / f"{stored[0].generation}.body.bak",
        tmp_path / "spool" / "objects" / "zz.body",
        tmp_path / "spool" / "mine.head",
    ]
    for path in mine:
        path.write_bytes(b"mine")
    (tmp_path / "elsewhere").write_bytes(b"mine")
    link = folder / f"{folder.name}{'0' * 30}.body"
    link.symlink_to(tmp_path / "elsewhere")
    assert (await run(tmp_path, "verify"))[0] == 0
    assert link.is_symlink()
    assert all(path.read_bytes() == b"mine" for path in [*mine, tmp_path / "elsewhere"])


@pytest.mark.parametrize("command", ["ls", "stat", "verify"])
async def test_a_folder_that_is_no_spool_is_an_error(tmp_path: Path, command: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    status, output, errors = await run(tmp_path, command, spool="photos")
    assert (status, output) == (2, "")
    assert errors.startswith(f"error: {tmp_path}/photos is no spool of range-adapter")
    status, output, errors = await run(tmp_path, command, spool="nowhere")
    assert (status, output, errors) == (2, "", f"error: there is no folder {tmp_path}/nowhere\n")
    assert list((tmp_path / "photos").iterdir()) == [tmp_path / "photos" / "a.jpg"]


async def test_the_folder_is_the_one_of_the_config(tmp_path: Path, stored: list[Entry]) -> None:
    sections = {"origins": {"legacy": {"url": "http://legacy"}}, "spool": {"path": str(tmp_path / "spool")}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    assert (await run(tmp_path, "verify", spool=None))[0] == 0
    (tmp_path / "config.yaml").rename(tmp_path / "other.yaml")
    assert (await run(tmp_path, "verify", spool=None))[0] == 2, "the user's cache folder, which is not there"
    assert (await run(tmp_path, "verify", "-c", "other.yaml", spool=None))[0] == 0
    status, output, _ = await run(tmp_path, "stat", "-c", "other.yaml", spool=None)
    assert (status, "3, 2.9 KiB of 10.0 GiB" in output) == (0, True)


async def test_ls_tells_what_is_stored(tmp_path: Path, stored: list[Entry]) -> None:
    _, output, _ = await run(tmp_path, "ls", "--json")
    rows = json.loads(output)
    assert {(row["object"], row["size_bytes"], row["crc32"]) for row in rows} == {
        (each.label, 1000, each.checksum) for each in stored
    }
    assert [row["last_used"] for row in rows] == sorted((row["last_used"] for row in rows), reverse=True)
    assert {row["fresh"] for row in rows} == {False}, "their Date is of 1994"
    _, output, _ = await run(tmp_path, "ls")
    head, *lines = output.splitlines()
    assert head.split() == ["SIZE", "AGE", "USED", "LEFT", "OBJECT"]
    assert sorted(line.split()[-1] for line in lines) == ["/a", "/b", "/c"]
    assert all("stale" in line for line in lines)


async def test_ls_goes_through_more_than_a_page(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        for number in range(300):
            spool._catalogue._shelf._index.add(entry(f"/{number}", 1000 + number % 3), 5_000_000)
        _, output, _ = await run(tmp_path, "ls", "--json")
    assert {row["object"] for row in json.loads(output)} == {f"/{number}" for number in range(300)}


async def test_nothing_is_stored(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool"):
        pass
    assert await run(tmp_path, "ls") == (0, "nothing\n", "")
    assert await run(tmp_path, "ls", "--json") == (0, "[]\n", "")
    assert await run(tmp_path, "verify") == (0, "0 objects, 0 B read: all sound\n", "")
    status, output, _ = await run(tmp_path, "stat", "--json")
    assert (status, json.loads(output)["objects"], json.loads(output)["first_used"]) == (0, 0, None)


async def test_what_is_arriving_and_what_is_unknown(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await store(spool, entry("/whole", partition=b"her"), b"abc")
        filling = await begin(spool, entry("/half", 1000), b"abcde", length_known=False)
        lost = await store(spool, entry("/lost"), b"abc")
        spool._catalogue._shelf._index.remove([lost.generation])
        _, output, _ = await run(tmp_path, "ls", "--partial", "--json")
        [row] = json.loads(output)
        assert (row["object"], row["size_bytes"], row["complete_length"]) == ("/half", 5, 1000)
        _, output, _ = await run(tmp_path, "ls", "--partial")
        assert output.splitlines()[1].split()[:4] == ["5", "B", "1000", "B"]
        _, output, _ = await run(tmp_path, "stat", "--json")
        report = json.loads(output)
        assert {key: report[key] for key in ("objects", "partitions", "unfinished", "unknown")} == {
            "objects": 1,
            "partitions": 1,
            "unfinished": 1,
            "unknown": 1,
        }
        assert report["partition_bytes"] == 3
        assert (await run(tmp_path, "verify"))[0] == 0, "what arrives is not yet to be held against anything"
        await filling.discard()


async def test_a_lost_index_is_an_error_of_one_line(tmp_path: Path, stored: list[Entry]) -> None:
    (tmp_path / "spool" / "index.sqlite").unlink()
    status, _, errors = await run(tmp_path, "ls")
    assert (status, errors.count("\n"), "there is no index" in errors) == (2, 1, True)
    assert (await run(tmp_path, "verify"))[0] == 0


# Beside a running service


def spool_of(adapter: Adapter) -> Spool:
    return adapter.service._cache.spool


async def test_a_running_service_never_serves_it_again(
    adapter: Adapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """Its body is open there, and stays so until somebody asks for it."""
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
        [path] = spool_of(adapter).paths.objects.rglob("*.body")
        flip(path, 150_000)
        assert (await wire.get("/film", HOST)).body != FILM, "nobody knows"
        status, output, _ = await run(tmp_path, "verify")
        assert (status, "http://films.example/film: its bytes" in output) == (1, True)
        answer = await wire.get("/film", HOST, Range="bytes=140000-160000")
        assert answer.body == FILM[140_000:160_001]
        await settled(adapter, origin)
        answer = await wire.get("/film", HOST)
        assert answer.body == FILM
        assert re.fullmatch(r"range-adapter;hit;ttl=3(600|5\d\d)", answer.cache_status)
    assert origin.count("/film") == 2
    assert (await run(tmp_path, "verify"))[0] == 0
    assert spool_of(adapter).room.used == len(FILM)


async def test_who_is_reading_it_in_a_running_service_is_cut_off(
    adapter: Adapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film", LONG)
    async with adapter.wire() as wire, adapter.wire() as slow:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
        await slow.request("GET", "/film", HOST)
        await slow.response_head()
        [path] = spool_of(adapter).paths.objects.rglob("*.body")
        flip(path, len(LONG) - 1)
        assert (await run(tmp_path, "verify"))[0] == 1
        received = await until_its_end(slow)
        assert len(received) < len(LONG)
        assert received == LONG[: len(received)]
        assert (await wire.get("/film", HOST)).body == LONG


async def until_its_end(wire: Wire) -> bytes:
    """What comes before the connection ends, however it does."""
    received = b""
    try:
        while data := await wire.reader.read(1 << 16):
            received += data
    except ConnectionError:
        pass
    return received


async def test_what_comes_and_goes_meanwhile_is_no_flaw(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:

        async def churn() -> None:
            for number in range(10_000):
                await store(spool, entry(f"/{number % 5}", time=number), pattern(100, number))

        churning = asyncio.create_task(churn())
        for _ in range(3):
            status, output, errors = await run(tmp_path, "verify")
            assert (status, errors) == (0, ""), output
        churning.cancel()
        await asyncio.gather(churning, return_exceptions=True)
    assert len(files(tmp_path / "spool")) in (8, 10)


async def test_an_older_head_is_one_that_cannot_be_read(tmp_path: Path, stored: list[Entry]) -> None:
    head = body(tmp_path, stored[0], "head")
    head.write_text(json.dumps(json.loads(head.read_text()) | {"format": 3}))
    _, output, _ = await run(tmp_path, "verify", "--keep")
    assert "its head cannot be read: head of format 3, not 5" in output
