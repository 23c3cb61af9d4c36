"""Objects that are arriving, on real sockets: every byte when it is there, and one origin request for all."""

import asyncio
import random
from collections.abc import Callable

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Cut, Head, Pause, Reset, ScriptedOrigin, Stall, Step
from tests.spool.objects import MIB, eventually, pattern
from tests.together import nothing_is_done
from tests.wire import Response, Truncated

FILM = pattern(1_000_000)


async def fetch(adapter: Adapter, path: str, **fields: str) -> Response:
    async with adapter.wire() as wire:
        return await wire.get(path, fields.items())


async def test_cold_a_range_in_the_middle_comes_when_it_is_there(
    origin: ScriptedOrigin, adapter: Adapter
) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=500_001)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", Range="bytes=500000-")
        head = await wire.response_head()
        assert head.status == 206
        assert head.fields["Content-Range"] == "bytes 500000-999999/1000000"
        assert await wire.body(1) == FILM[500_000:500_001]  # the origin has sent no more than this
        gate.open()
        assert await wire.body(499_999) == FILM[500_001:]


async def test_cold_the_first_kilobyte_at_once(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=1000)
    response = await fetch(adapter, "/film", Range="bytes=0-999")
    assert response.status == 206
    assert response.body == FILM[:1000]
    gate.open()


async def test_ten_cold_clients_at_ten_offsets_are_one_origin_request(
    origin: ScriptedOrigin, adapter: Adapter
) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=None)

    async def client(offset: int) -> None:
        response = await fetch(adapter, "/film", Range=f"bytes={offset}-{offset + 9999}")
        assert response.status == 206
        assert response.body == FILM[offset : offset + 10_000]

    clients = [asyncio.create_task(client(number * 100_000)) for number in range(10)]
    await gate.reached()
    gate.open()
    await asyncio.gather(*clients)
    assert origin.count("/film") == 1


async def test_two_hundred_clients_at_once_are_one_origin_request(
    origin: ScriptedOrigin, adapter: Adapter
) -> None:
    origin.serve("/film", FILM)
    responses = await asyncio.gather(*(fetch(adapter, "/film") for _ in range(200)))
    assert all(response.status == 200 and response.body == FILM for response in responses)
    assert origin.count("/film") == 1


async def test_a_second_client_at_the_beginning_is_served_at_once(
    origin: ScriptedOrigin, adapter: Adapter
) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=500_000)
    async with adapter.wire() as first:
        await first.request("GET", "/film", Range="bytes=600000-")
        await first.response_head()
        await gate.reached()
        second = await fetch(adapter, "/film", Range="bytes=0-99999")
        assert second.body == FILM[:100_000]
        gate.open()
        assert await first.body(400_000) == FILM[600_000:]
    assert origin.count("/film") == 1


async def test_a_thousand_readers_of_one_growing_object(
    origin: ScriptedOrigin, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All get their bytes; and nothing at all is done while the origin stalls."""
    film = FILM[:200_000]
    origin.serve("/film", film)
    gate = origin.gate("/film", at=100_000)
    arrived = 0
    ready = asyncio.Event()

    async def client() -> None:
        nonlocal arrived
        async with adapter.wire() as wire:
            await wire.request("GET", "/film")
            await wire.response_head()
            data = await wire.body(100_000)
            arrived += 1
            if arrived == 1000:
                ready.set()
            assert data + await wire.body(100_000) == film

    clients = [asyncio.create_task(client()) for _ in range(1000)]
    await ready.wait()
    cache = adapter.service._cache
    [fill] = cache.fills()
    await eventually(lambda: fill._progress.awaited == [100_000] * 1000)
    await nothing_is_done(monkeypatch)
    gate.open()
    await asyncio.gather(*clients)
    assert origin.count("/film") == 1


async def test_a_client_that_leaves_does_not_stop_the_fill(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=100_000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        await wire.body(100_000)
    await eventually(lambda: [fill.followers for fill in adapter.service._cache.fills()] == [0])
    gate.open()
    await origin.idle()
    response = await fetch(adapter, "/film", Range="bytes=-10")
    assert response.body == FILM[-10:]
    assert origin.count("/film") == 1


async def test_a_client_that_leaves_before_the_head_does_not_stop_the_fill(
    origin: ScriptedOrigin, adapter: Adapter
) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=None)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await gate.reached()
    await eventually(lambda: not adapter.service._handler.running)
    gate.open()
    assert (await fetch(adapter, "/film")).body == FILM
    assert origin.count("/film") == 1


async def test_a_client_that_takes_nothing_does_not_slow_the_fill(
    origin: ScriptedOrigin, adapter: Adapter
) -> None:
    film = pattern(8 * MIB)
    origin.serve("/film", film)
    async with adapter.wire() as slow:
        await slow.request("GET", "/film")  # and reads nothing
        response = await fetch(adapter, "/film", Range="bytes=-1000")
        assert response.body == film[-1000:]
        await slow.response_head()
        assert await slow.body(len(film)) == film
    assert origin.count("/film") == 1


# What breaks off

PROMISED = Head(200, {"Content-Type": "video/mp4", "Content-Length": "1000"})
CHUNKED = Head(200, {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"})
UNENDING = Head(200, {"Content-Type": "video/mp4", "Connection": "close"})


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([PROMISED, Body(FILM[:500]), Cut()], id="Content-Length short"),
        pytest.param([PROMISED, Body(FILM[:500]), Reset()], id="Content-Length reset"),
        pytest.param([CHUNKED, Chunk(FILM[:500]), Cut()], id="no last chunk"),
        pytest.param([CHUNKED, Chunk(FILM[:500]), Reset()], id="chunked reset"),
        pytest.param([UNENDING, Body(FILM[:500]), Reset()], id="close-delimited reset"),
    ],
)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
async def test_what_breaks_off_is_nobodys_whole_answer(
    origin: ScriptedOrigin, impatient: Adapter, script: list[Step], version: str
) -> None:
    going = asyncio.Event()

    head_step, body_step, end = script
    origin.once("/film", [head_step, body_step, Pause(going), end])
    origin.serve("/film", FILM)
    async with impatient.wire() as wire:
        await wire.request("GET", "/film", version=version)
        head = await wire.response_head()
        if head.fields.get("Transfer-Encoding") == "chunked":
            assert await wire.chunk() == FILM[:500]
        else:
            assert await wire.body(500) == FILM[:500]
        going.set()
        if "Content-Length" in head.fields or "Transfer-Encoding" in head.fields:
            assert await wire.closed()
        else:
            with pytest.raises(ConnectionResetError):
                await wire.reader.read(1)
    await eventually(lambda: not list(impatient.service._cache.fills()))
    assert (await fetch(impatient, "/film")).body == FILM, "fetched anew"
    assert origin.count("/film") == 2


# Unknown lengths


@pytest.fixture(params=["chunked", "close_delimited"])
def serve_unknown(request: pytest.FixtureRequest, origin: ScriptedOrigin) -> Callable[[str, bytes], None]:
    return lambda path, body: origin.serve(path, body, **{request.param: True})  # type: ignore[arg-type]


def waiting(seconds: str) -> dict[str, object]:
    return {"defaults": {"ranges": {"unknown_length_wait": seconds}}}


@pytest.mark.parametrize("ask", ["bytes=-5", "bytes=10-", "bytes=3-7", "bytes=0-1,-2"])
async def test_a_range_waits_for_the_end(
    adapter: Adapter, origin: ScriptedOrigin, serve_unknown: Callable[[str, bytes], None], ask: str
) -> None:
    serve_unknown("/film", FILM)
    gate = origin.gate("/film", at=500_000)
    asking = asyncio.create_task(fetch(adapter, "/film", Range=ask))
    await gate.reached()
    assert not asking.done()
    gate.open()
    response = await asking
    assert response.status == 206
    if "," not in ask:
        assert response.fields["Content-Range"].endswith("/1000000")
    assert origin.count("/film", "GET") == 1


async def test_head_waits_for_the_end_too(
    adapter: Adapter, origin: ScriptedOrigin, serve_unknown: Callable[[str, bytes], None]
) -> None:
    serve_unknown("/film", FILM)
    async with adapter.wire() as wire:
        response = await wire.head("/film")
        assert response.status == 200
        assert response.fields["Content-Length"] == "1000000"
        assert (await wire.get("/film", Range="bytes=0-1")).body == FILM[:2], "the connection is of use still"


async def test_past_the_wait_a_closed_range_that_is_there_is_given(
    start_adapter: StartAdapter, origin: ScriptedOrigin, serve_unknown: Callable[[str, bytes], None]
) -> None:
    adapter = await start_adapter(**waiting("300ms"))
    serve_unknown("/film", FILM)
    gate = origin.gate("/film", at=500_000)
    response = await fetch(adapter, "/film", Range="bytes=100-199")
    assert response.status == 206
    assert response.fields["Content-Range"] == "bytes 100-199/*"
    assert response.body == FILM[100:200]
    async with adapter.wire() as wire:
        head = await wire.head("/film")
        assert head.status == 200
        assert "Content-Length" not in head.fields
    later = asyncio.create_task(fetch(adapter, "/film", Range="bytes=-5"))
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", Range="bytes=600000-")
        assert (await wire.response_head()).status == 200
    gate.open()
    assert (await later).status in {200, 206}


async def test_past_the_wait_nothing_waits_for_a_first_byte(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**waiting("100ms"))
    origin.on("/film", [CHUNKED, Stall()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", Range="bytes=0-9")
        assert (await wire.response_head()).status == 200
    async with adapter.wire() as wire:
        assert (await wire.head("/film")).status == 200


@pytest.mark.parametrize("ask", ["bytes=0-9", "bytes=0-", "bytes=-5", "HEAD"])
async def test_what_turns_out_too_large_to_store_is_not_waited_for(
    start_adapter: StartAdapter, origin: ScriptedOrigin, ask: str
) -> None:
    film = FILM * 4
    adapter = await start_adapter(spool={"max_object_size": "1MB"}, **waiting("1h"))
    origin.serve("/film", film, chunked=True)
    async with adapter.wire() as wire:
        if ask == "HEAD":
            assert (await wire.head("/film")).status == 200
        elif (response := await wire.get("/film", Range=ask)).status == 206:
            assert response.body == film[:10]
        else:
            assert (response.status, response.body) == (200, film)


@pytest.mark.parametrize("ask", ["items=0-1", "bytes=5-2", "bytes=" + "0-0," * 101])
async def test_for_a_range_that_is_ignored_nobody_waits(
    start_adapter: StartAdapter, origin: ScriptedOrigin, ask: str
) -> None:
    adapter = await start_adapter(**waiting("1h"))
    origin.serve("/film", FILM, chunked=True)
    gate = origin.gate("/film", at=1000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", Range=ask)
        assert (await wire.response_head()).status == 200
        gate.open()


# Connections to the origin


async def test_what_is_fetched_for_nobody_leaves_connections_to_others(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.fill.fill.GIVE_WAY_AFTER", 60.0)
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "max_connections": 4, "fills_per_client": 3}}
    )
    gates = []
    for number in range(4):
        origin.serve(f"/{number}", FILM)
        gates.append(origin.gate(f"/{number}", at=1000))
    origin.on("/login", [Head(204)])
    for number in range(3):
        assert (await fetch(adapter, f"/{number}", Range="bytes=0-0")).body == FILM[:1]
    async with adapter.wire() as waiting:
        await waiting.request("GET", "/3", Range="bytes=0-0")
        async with adapter.wire() as wire:
            await wire.request("POST", "/login")
            assert (await wire.response()).status == 204
        assert origin.count("/3") == 0
        gates[0].open()
        assert (await waiting.response()).body == FILM[:1]
    for gate in gates:
        gate.open()


async def test_who_waits_too_long_for_a_slot_is_told(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.fill.fill.GIVE_WAY_AFTER", 60.0)
    legacy = {"url": origin.url, "max_connections": 1, "timeouts": {"queue": "300ms"}}
    adapter = await start_adapter(origins={"legacy": legacy})
    for path in ("/film", "/other"):
        origin.serve(path, FILM)
    gate = origin.gate("/film", at=1000)
    await fetch(adapter, "/film", Range="bytes=0-0")
    response = await fetch(adapter, "/other")
    assert response.status == 503
    assert "Retry-After" in response.fields
    assert "no-fill-slot" in response.cache_status
    gate.open()
    await origin.idle()
    assert (await fetch(adapter, "/other")).body == FILM


# Any object, any ranges, any moment


@pytest.mark.parametrize("seed", range(12))
async def test_every_answer_is_the_slice_of_the_file(
    seed: int, origin: ScriptedOrigin, adapter: Adapter
) -> None:
    chance = random.Random(seed)
    length = chance.choice([1, 2, 1000, 65_536, 65_537, 300_000])
    film = pattern(length, seed)
    origin.serve("/film", film, chunked=chance.random() < 0.3)
    places = sorted(chance.randrange(length + 1) for _ in range(2))
    gates = [origin.gate("/film", at=place) for place in places]

    def one() -> tuple[str, bytes]:
        first = chance.randrange(length)
        match chance.randrange(3):
            case 0:
                last = chance.randrange(first, length + 5)
                return f"{first}-{last}", film[first : last + 1]
            case 1:
                return f"{first}-", film[first:]
            case _:
                size = chance.randrange(1, length + 5)
                return f"-{size}", film[-size:] if size < length else film

    async def client() -> None:
        wanted = [one() for _ in range(chance.choice([1, 1, 2, 3, 5]))]
        response = await fetch(adapter, "/film", Range="bytes=" + ",".join(text for text, _ in wanted))
        if response.status == 200:
            assert len(wanted) > 1, "only what would amplify is refused"
            assert response.body == film
        elif len(wanted) == 1:
            assert response.status == 206
            assert response.body == wanted[0][1]
        else:
            assert response.status == 206
            assert [data for _, data in response.parts()] == [data for _, data in wanted]

    clients = [asyncio.create_task(client()) for _ in range(20)]
    for gate in gates:
        await gate.reached()
        gate.open()
    await asyncio.gather(*clients)
    assert origin.count("/film") == 1


async def test_several_ranges_of_an_object_still_arriving(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=500_000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", Range="bytes=400000-400009,900000-900009,100-109")
        head = await wire.response_head()
        assert head.status == 206
        first = await wire.reader.readuntil(FILM[400_000:400_010])
        await gate.reached()
        gate.open()
        head.body = first + await wire.body(int(head.fields["Content-Length"]) - len(first))
        assert head.parts() == [
            ("bytes 400000-400009/1000000", FILM[400_000:400_010]),
            ("bytes 900000-900009/1000000", FILM[900_000:900_010]),
            ("bytes 100-109/1000000", FILM[100:110]),
        ]


async def test_a_truncated_fill_tells_by_the_connection(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.on("/film", [PROMISED, Body(FILM[:500]), Cut()])
    try:
        response = await fetch(adapter, "/film")
    except Truncated:
        pass
    else:
        assert response.status == 502, "where it is known before the head is out"
