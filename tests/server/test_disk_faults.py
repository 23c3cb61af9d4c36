"""Disks that are full, read-only or gone, and limits of the process: clients are served all the while."""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import SpoolError
from proxy.spool import calls, condition, upkeep
from proxy.spool.body import Body
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.server.process import serving
from tests.spool.objects import pattern, remove_folder
from tests.together import settled, until
from tests.wire import Response, Truncated, Wire

FILM = pattern(300_000)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "PAUSES", (0.01,))
    monkeypatch.setattr(upkeep, "LOOK_INTERVAL", 0.01)


def run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"{command[0]} is not allowed here: {result.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk))
    yield disk
    run("umount", "-l", str(disk))


def fill_up(path: Path) -> None:
    subprocess.run(["dd", "if=/dev/zero", f"of={path}"], capture_output=True, check=False)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A disk with a real file system, which can be made to stop taking writes."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    disk.mkdir()
    image.write_bytes(bytes(16 << 20))
    run("mkfs.ext4", "-q", str(image))
    run("mount", "-o", "loop", str(image), str(disk))
    yield disk
    run("umount", "-l", str(disk))


async def admin(adapter: Adapter, path: str) -> Response:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        return await wire.get(path)


async def told(adapter: Adapter) -> str:
    """What `/readyz` says; the other places have to agree, unless it changes meanwhile."""
    for _ in range(100):
        ready, metrics = await admin(adapter, "/readyz"), (await admin(adapter, "/metrics")).body.decode()
        status = await admin(adapter, "/status.json")
        assert ready.status == 200
        degraded = re.findall(r'spool_degraded\{reason="([a-z-]+)"\} 1', metrics)
        is_well = ready.body == b"ok\n"
        if len(degraded) == (not is_well) and (b'"degraded_because": null' in status.body) == is_well:
            return ready.body.decode()
    raise AssertionError("they do not agree")


async def is_served(adapter: Adapter, path: str, number: int = 3) -> list[str]:
    """Whole and in part, so many times; what Cache-Status says."""
    said = []
    async with adapter.wire() as wire:
        for _ in range(number):
            whole = await wire.get(path)
            assert (whole.status, whole.body) == (200, FILM)
            part = await wire.get(path, Range="bytes=1000-1999")
            assert (part.status, part.body) == (206, FILM[1000:2000])
            said += [whole.cache_status, part.cache_status]
    return said


async def well(adapter: Adapter) -> None:
    while await told(adapter) != "ok\n":  # noqa: ASYNC110  # nothing rings when it is well
        await asyncio.sleep(0.01)


def is_on(adapter: Adapter, disk: Path) -> bool:
    """Has it the spool on this disk, and not in the folder below, which may be taken for well between two?"""
    try:
        return os.fstat(adapter.service._cache.spool._upkeep._claim.lock).st_dev == os.stat(disk).st_dev
    except OSError:
        return False  # it has just let go of it


async def test_a_full_disk(origin: ScriptedOrigin, start_adapter: StartAdapter, small_disk: Path) -> None:
    for name in ("/film", "/other"):
        origin.serve(name, FILM)
    adapter = await start_adapter(
        spool={"path": str(small_disk / "spool")}, server={"purge_from": ["127.0.0.1"]}
    )
    junk = small_disk / "junk"
    fill_up(junk)
    assert all("fwd" in said for said in await is_served(adapter, "/film"))
    assert "disk of the spool is full" in await told(adapter)
    assert all("spool-degraded" in said for said in await is_served(adapter, "/other"))
    async with adapter.wire() as wire:
        for number in range(100):  # as long as the block is not full that the file of purges ends in
            await wire.request("PURGE", f"/film?{number}", (), b"")
            purged = await wire.response()
            if purged.status != 200:
                break
        assert number > 0, "there was room for one"
        assert (purged.status, purged.fields["Retry-After"]) == (503, "5"), purged.body
    junk.unlink()
    await well(adapter)
    await is_served(adapter, "/film")
    await settled(adapter, origin)
    assert "hit" in (await is_served(adapter, "/film"))[0]


async def test_a_start_on_a_full_disk(
    origin: ScriptedOrigin, start_adapter: StartAdapter, small_disk: Path
) -> None:
    host = [("Host", "films.example")]
    for name in ("/film", "/other"):
        origin.serve(name, FILM)
    config = {"path": str(small_disk / "spool")}
    first = await start_adapter(spool=config)
    async with first.wire() as wire:
        await wire.get("/film", host)
    await settled(first, origin)
    await first.service.stop()
    fill_up(small_disk / "junk")
    second = await start_adapter(spool=config)
    await is_served(second, "/other")
    (small_disk / "junk").unlink()
    await well(second)
    async with second.wire() as wire:
        assert (await wire.get("/film", host)).body == FILM


async def test_a_disk_that_takes_no_writes_any_more(
    origin: ScriptedOrigin, start_adapter: StartAdapter, image: Path, tmp_path: Path
) -> None:
    for name in ("/film", "/other"):
        origin.serve(name, FILM)
    adapter = await start_adapter(spool={"path": str(image / "spool")})
    await is_served(adapter, "/film")
    await settled(adapter, origin)
    run("mount", "-o", "remount,abort", str(image))
    await is_served(adapter, "/other")
    assert "read-only" in await told(adapter)
    assert "hit" in (await is_served(adapter, "/film"))[0], "what is stored is served"
    run("umount", "-l", str(image))  # somebody comes and puts another in its place
    run("cp", str(tmp_path / "image"), str(tmp_path / "mended"))
    subprocess.run(["fsck.ext4", "-y", str(tmp_path / "mended")], capture_output=True, check=False)  # noqa: ASYNC221
    run("mount", "-o", "loop", str(tmp_path / "mended"), str(image))
    await until(lambda: is_on(adapter, image))
    await well(adapter)
    await is_served(adapter, "/other")
    await until(lambda: adapter.service._cache.idle)
    assert "hit" in (await is_served(adapter, "/other"))[0]


async def test_a_folder_that_is_removed(
    origin: ScriptedOrigin, start_adapter: StartAdapter, tmp_path: Path
) -> None:
    for name in ("/film", "/other"):
        origin.serve(name, FILM)
    adapter = await start_adapter()
    await is_served(adapter, "/film")
    await settled(adapter, origin)
    async with adapter.wire() as wire:
        gate = origin.gate("/other", at=1000)
        await wire.request("GET", "/other")
        await gate.reached()
        remove_folder(tmp_path / "spool")
        gate.open()
        assert (await wire.response()).body == FILM, "who was being served, is"
    await is_served(adapter, "/film")
    await until(lambda: (tmp_path / "spool" / "admin-token").exists())
    await well(adapter)
    await is_served(adapter, "/other")
    await origin.idle()
    await until(lambda: adapter.service._cache.idle)
    assert "hit" in (await is_served(adapter, "/other"))[0]
    assert (tmp_path / "spool" / "index.sqlite").exists()


async def test_few_descriptors(origin: ScriptedOrigin, tmp_path: Path) -> None:
    for number in range(100):
        origin.serve(f"/{number}", pattern(1000, number))
    async with serving(origin, tmp_path, ulimit="-n 64") as process:
        await process.ready()
        for _ in range(2):
            for number in range(100):
                async with Wire(process.url) as wire:
                    response = await wire.get(f"/{number}")
                    assert (response.status, response.body) == (200, pattern(1000, number))
        assert "Traceback" not in process.errors


async def test_files_may_not_be_large(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """What is larger than the limit of the process is the business of fills; the rest goes on."""
    origin.serve("/small", pattern(1000))
    origin.serve("/film", FILM)
    async with serving(origin, tmp_path, ulimit="-f 256") as process:
        await process.ready()
        async with Wire(process.url) as wire:
            assert (await wire.get("/small")).body == pattern(1000)
        async with Wire(process.url) as wire:
            try:
                response = await wire.get("/film")
            except Truncated as short:
                response = short.response
            assert response.status != 200 or FILM.startswith(response.body)
        async with Wire(process.url) as wire:
            small = await wire.get("/small")
            assert small.body == pattern(1000)
            assert "hit" in small.cache_status
        assert "Traceback" not in process.errors


@pytest.mark.usefixtures("heads_wait")
@pytest.mark.parametrize("size", [1000, 300_000], ids=["read", "sent as a file"])
@pytest.mark.parametrize("for_good", [False, True], ids=["a sector", "all of it"])
async def test_what_cannot_be_read_costs_requests_to_the_origin(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch, size: int, for_good: bool
) -> None:
    origin.serve("/film", FILM[:size])
    async with adapter.wire() as wire:
        await wire.get("/film")
        await settled(adapter, origin)
        monkeypatch.setattr(condition, "PAUSES", (0.3,))
        real, refused = calls.preadv, 0

        def refuse(*args: object) -> int:
            nonlocal refused
            refused += 1
            if refused == 1 or for_good:
                raise OSError(5, "Input/output error")
            return int(real(*args))

        with monkeypatch.context() as patch:
            patch.setattr(calls, "preadv", refuse)
            response = await wire.get("/film")
        assert (response.status, response.body) == (200, FILM[:size])
        assert "hit" not in response.cache_status
        assert origin.count("/film") == (3 if for_good else 2)
        await well(adapter)
        assert (await wire.get("/film")).body == FILM[:size]
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/film")).cache_status


async def test_a_body_that_breaks_off_half_way_is_not_served_again(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve("/film", FILM)
    real, broken = Body.read, asyncio.Event()

    async def read(body: Body, start: int, stop: int) -> bytes | bytearray:
        if start > 0 and not broken.is_set():
            broken.set()
            body._broken = True
            raise SpoolError("cannot read the spool: Input/output error")
        return await real(body, start, stop)

    async with adapter.wire() as wire:
        await wire.get("/film")
        await settled(adapter, origin)
        monkeypatch.setattr(Body, "read", read)
        with pytest.raises(Truncated):  # two pieces, of which the second one fails
            await wire.get("/film", Range="bytes=0-99,200000-200099")
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM
    assert origin.count("/film") == 2


@pytest.mark.parametrize(("count", "size"), [(60, len(FILM)), (1200, 10)])
async def test_a_disk_that_our_own_objects_fill_makes_room_for_the_next(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path, count: int, size: int
) -> None:
    """Be they large, or so small that each takes many times its size."""
    film = FILM[:size]
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk))
    try:
        spool = {"path": str(disk / "spool")}
        adapter = await start_adapter(spool=spool)
        async with adapter.wire() as wire:
            for number in range(count):
                origin.serve(f"/{number}", film)
                assert (await wire.get(f"/{number}")).body == film
        await until(lambda: adapter.service._cache.idle)
        origin.requests.clear()
        async with adapter.wire() as wire:
            newest = [(await wire.get(f"/{number}")).cache_status for number in range(count - 10, count)]
        assert all("hit" in status for status in newest)
        while (await admin(adapter, "/readyz")).body != b"ok\n":  # noqa: ASYNC110  # nothing rings when it is well
            await asyncio.sleep(0.01)
        await adapter.service.stop()
        again = await start_adapter(spool=spool)
        async with again.wire() as wire:
            assert (await wire.get(f"/{count - 1}")).body == film
        await again.service.stop()
    finally:
        run("umount", "-l", str(disk))
