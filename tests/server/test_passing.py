"""What is not stored passes through: cut to the range where that can be told, bounded, and let go of."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import proxy.fill.fill
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Chunk, Head, OriginRequest, Script, ScriptedOrigin
from tests.spool.objects import KIB, MIB, descriptors, eventually, files, pattern
from tests.wire import Response

FILM = pattern(1_000_000)
NO_STORE = {"Cache-Control": "no-store"}


async def fetch(adapter: Adapter, path: str, **fields: str) -> Response:
    async with adapter.wire() as wire:
        return await wire.get(path, fields.items())


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ("bytes=0-1", FILM[:2]),
        ("bytes=0-", FILM),
        ("bytes=500000-500099", FILM[500_000:500_100]),
        ("bytes=-7", FILM[-7:]),
        ("bytes=999999-2000000", FILM[-1:]),
    ],
)
async def test_a_range_is_cut_out_of_the_stream(
    origin: ScriptedOrigin, adapter: Adapter, ask: str, expected: bytes
) -> None:
    origin.serve("/film", FILM, headers=NO_STORE)
    response = await fetch(adapter, "/film", Range=ask)
    assert response.status == 206
    assert response.body == expected
    assert response.fields["Accept-Ranges"] == "bytes"


async def test_several_ranges_that_ascend_are_cut_out_too(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM, headers=NO_STORE)
    response = await fetch(adapter, "/film", Range="bytes=1-2,500000-500001,-2")
    assert [data for _, data in response.parts()] == [FILM[1:3], FILM[500_000:500_002], FILM[-2:]]
    response = await fetch(adapter, "/film", Range="bytes=500000-500001,1-2")
    assert response.status == 200
    assert response.body == FILM


async def test_416_and_head(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM, headers=NO_STORE)
    response = await fetch(adapter, "/film", Range="bytes=1000000-")
    assert response.status == 416
    assert response.fields["Content-Range"] == "bytes */1000000"
    async with adapter.wire() as wire:
        head = await wire.head("/film", Range="bytes=0-1")
        assert head.status == 200
        assert head.fields["Content-Length"] == "1000000"


async def test_it_ends_at_the_last_wanted_byte(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM, headers=NO_STORE)
    origin.gate("/film", at=1000)  # never opened
    assert (await fetch(adapter, "/film", Range="bytes=0-999")).body == FILM[:1000]
    await origin.disconnected("/film")


async def test_an_unknown_length_has_no_ranges(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM, headers=NO_STORE, chunked=True)
    response = await fetch(adapter, "/film", Range="bytes=0-1")
    assert response.status == 200
    assert "Accept-Ranges" not in response.fields
    assert response.body == FILM


async def test_what_is_too_large_passes(origin: ScriptedOrigin, start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(spool={"max_object_size": "100KiB"})
    origin.serve("/film", FILM)
    for _ in range(2):
        response = await fetch(adapter, "/film", Range="bytes=100000-299999")
        assert response.body == FILM[100_000:300_000]
    assert origin.count("/film") == 2
    assert not files(adapter.service._cache.spool.paths.root)


async def test_a_full_spool_passes(origin: ScriptedOrigin, start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(spool={"max_size": "1MB", "max_object_size": "1MB"})
    origin.serve("/film", FILM)
    origin.serve("/other", FILM)
    gate = origin.gate("/film", at=500_000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        await gate.reached()
        response = await fetch(adapter, "/other")  # all room is promised to the first
        assert response.body == FILM
        gate.open()
        assert await wire.body(len(FILM)) == FILM


def endless(request: OriginRequest) -> Script:
    yield Head(200, {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"})
    number = 0
    while True:
        yield Chunk(pattern(64 * KIB, number))
        number += 1


async def test_an_endless_body_is_bounded_and_let_go_of(
    origin: ScriptedOrigin, start_adapter: StartAdapter
) -> None:
    adapter = await start_adapter(spool={"max_object_size": "2MiB"})
    root = adapter.service._cache.spool.paths.root
    origin.on("/radio", endless)
    async with adapter.wire() as wire:
        await wire.request("GET", "/radio")
        await wire.response_head()
        received = b""
        while len(received) < 12 * MIB:
            received += await wire.chunk()
        assert received[: 64 * KIB] == pattern(64 * KIB, 0)
        for number in range(len(received) // (64 * KIB)):
            assert received[number * 64 * KIB :][: 64 * KIB] == pattern(64 * KIB, number)
        assert not files(root), "it has no name any more"
        assert descriptors(root) == 1
        assert adapter.service._cache.spool.room.used <= 3 * MIB
        later = asyncio.create_task(fetch_some(adapter, "/radio"))
        assert (await later)[:1000] == pattern(64 * KIB, 0)[:1000]
        assert origin.count("/radio") == 2, "whoever comes later begins anew"
    await origin.disconnected("/radio", 2)
    await eventually(lambda: descriptors(root) == 0)
    await eventually(lambda: adapter.service._cache.spool.room.used == 0)


async def fetch_some(adapter: Adapter, path: str) -> bytes:
    async with adapter.wire() as wire:
        await wire.request("GET", path)
        await wire.response_head()
        return await wire.chunk()


async def test_an_endless_body_nobody_listens_to_is_given_up(
    origin: ScriptedOrigin, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy.fill.fill, "ABANDON_AFTER", 0.0)
    gate = origin.gate("/radio", at=64 * KIB)
    origin.on("/radio", endless)
    async with adapter.wire() as wire:
        await wire.request("GET", "/radio")
        await wire.response_head()
        await wire.chunk()
        await gate.reached()
    await origin.disconnected("/radio")
    await eventually(lambda: not files(adapter.service._cache.spool.paths.root))


async def test_a_passing_body_waits_for_its_client(origin: ScriptedOrigin, adapter: Adapter) -> None:
    film = pattern(64 * MIB)
    origin.serve("/film", film, headers=NO_STORE)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        head = await wire.response_head()
        assert head.status == 200
        [request] = origin.requests
        last = -1
        while request.sent != last:  # until it stands still
            last = request.sent
            await asyncio.sleep(0.1)
        assert request.sent < 32 * MIB, "buffers of ours and of the kernel, and no more"
    await origin.disconnected("/film")


MEASURE = """
    import asyncio, sys
    from pathlib import Path
    from proxy.config import parse
    from proxy.config.document import read_text
    from proxy.server.app import start

    async def main():
        config = sys.argv[1]
        service = await start(parse(read_text(config, "test.yaml", {}), {}))
        print(service.addresses[0], flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        status = Path("/proc/self/status").read_text()
        print(status.split("VmHWM:")[1].split()[0], flush=True)
        await service.stop()

    asyncio.run(main())
"""


@pytest.mark.parametrize("headers", [{}, NO_STORE], ids=["stored", "passing"])
async def test_memory_does_not_grow_with_the_object(
    origin: ScriptedOrigin, tmp_path: Path, headers: dict[str, str]
) -> None:
    """A process of its own serves 512 MiB to four clients, and stays below 100 MB."""
    size, block = 512 * MIB, pattern(MIB)

    def film(request: OriginRequest) -> Script:
        from tests.scripted_origin import Body

        yield Head(200, {"Content-Type": "video/mp4", "Content-Length": str(size), **headers})
        for _ in range(size // MIB):
            yield Body(block)

    origin.on("/film", film)
    config = (
        f"server: {{listen: '127.0.0.1:0'}}\nadmin: {{listen: null}}\nlogging: {{access: false}}\n"
        f"spool: {{path: '{tmp_path}/spool', min_free: 0B}}\norigins: {{legacy: {{url: '{origin.url}'}}}}\n"
    )
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(MEASURE),
        config,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert service.stdout is not None
    assert service.stdin is not None
    url = (await service.stdout.readline()).decode().strip()

    async def client(start: int) -> None:
        from tests.wire import Wire

        async with Wire(url) as wire:
            await wire.request("GET", "/film", Range=f"bytes={start}-")
            await wire.response_head()
            left = size - start
            while left:
                data = await wire.reader.read(MIB)
                at = (size - left) % MIB
                assert data[:100] == (block + block)[at : at + min(100, len(data))]
                left -= len(data)

    await asyncio.gather(*(client(start) for start in (0, 100 * MIB, size // 2, size - MIB)))
    service.stdin.write(b"\n")
    peak = int(await service.stdout.readline()) * KIB
    assert await service.wait() == 0
    assert peak < 100_000_000, f"{peak / MIB:.0f} MiB"
