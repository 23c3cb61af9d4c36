"""An origin that breaks off a body is asked again: those who wait get every byte, or are told that it has changed."""

import asyncio

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.origin_script import PIECE
from tests.scripted_origin import (
    Body,
    Chunk,
    Cut,
    Head,
    OriginRequest,
    Pause,
    Raw,
    Reset,
    Script,
    ScriptedOrigin,
    Stall,
    Step,
)
from tests.spool.objects import eventually, pattern
from tests.together import settled, until
from tests.wire import Truncated

FILM = pattern(300_000)
OTHER = pattern(300_000, 1)
TYPE = {"Content-Type": "video/mp4"}
SIZED = TYPE | {"Content-Length": str(len(FILM))}
CHUNKED = TYPE | {"Transfer-Encoding": "chunked"}
CLOSING = TYPE | {"Connection": "close"}


def timed(origin: ScriptedOrigin, **timeouts: str) -> dict[str, object]:
    return {"origins": {"legacy": {"url": origin.url, "timeouts": timeouts}}}


def broken(framing: str, at: int, end: Step) -> list[Step]:
    """A response that ends after `at` bytes, before its end."""
    match framing:
        case "sized":
            return [Head(200, SIZED), Body(FILM[:at]), end]
        case "chunked":
            return [Head(200, CHUNKED), *([Chunk(FILM[:at])] if at else []), end]
        case "in a chunk":
            return [Head(200, CHUNKED), Raw(b"%x\r\n" % len(FILM)), Body(FILM[:at]), end]
        case _:
            return [Head(200, CLOSING), Body(FILM[:at]), end]


# Every byte


@pytest.mark.parametrize("at", [0, 1, 4096, 150_000, len(FILM) - 1])
@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", ["sized", "chunked", "in a chunk", "close-delimited"])
async def test_whoever_waits_gets_every_byte(
    adapter: Adapter, origin: ScriptedOrigin, framing: str, end: Step, at: int
) -> None:
    if (framing, end) == ("close-delimited", Cut()):
        pytest.skip("that is its end, as far as anybody knows")
    origin.once("/film", broken(framing, at, end))
    again = [Chunk(FILM), Chunk(b"")] if "chunk" in framing else [Body(FILM)]
    head = {"sized": SIZED, "close-delimited": CLOSING}.get(framing, CHUNKED)
    origin.on("/film", [Head(200, head), *again, *([Cut()] if head is CLOSING else [])])
    async with adapter.wire() as wire, adapter.wire() as other:
        await other.request("GET", "/film", Range="bytes=299000-")
        whole = await wire.get("/film")
        assert (whole.status, whole.body) == (200, FILM)
        assert (await other.response()).body == FILM[299_000:]
        await settled(adapter, origin)
        assert origin.count("/film", "GET") == 2
        hit = await wire.get("/film", Range="bytes=100-199")
        assert (hit.status, hit.body) == (206, FILM[100:200])
        assert "hit" in hit.cache_status
        assert hit.fields["ETag"] == whole.fields["ETag"]


async def test_a_stall_is_a_break(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(**timed(origin, idle="200ms"))
    origin.once("/film", [Head(200, SIZED), Body(FILM[:1000]), Stall()])
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM


async def test_it_may_break_off_many_times(adapter: Adapter, origin: ScriptedOrigin) -> None:
    for at in (10_000, 5000, 60_000, 60_000, 0, 200_000):
        origin.once("/film", broken("sized", at, Reset()))
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM
    assert origin.count("/film") == 7


@pytest.mark.parametrize("meanwhile", ["gone", "503", "another protocol"])
async def test_an_origin_may_be_away_for_a_while(
    adapter: Adapter, origin: ScriptedOrigin, meanwhile: str
) -> None:
    going = asyncio.Event()
    origin.once("/film", [Head(200, SIZED), Body(FILM[:100_000]), Pause(going), Reset()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        assert await wire.body(100_000) == FILM[:100_000]
        match meanwhile:
            case "gone":
                origin.serve("/film", FILM)
                await origin.stop()
                await eventually(lambda: adapter.service._cache.resumptions.breaks >= 2)
                await origin.start()
            case "503":
                origin.once(
                    "/film",
                    [Head(503, {"Content-Length": "4", "Cache-Control": "max-age=60"}), Body(b"busy")],
                )
                origin.serve("/film", FILM)
            case _:
                origin.once("/film", [Raw(b"220 smtp ready\r\n"), Cut()])
                origin.serve("/film", FILM)
        going.set()
        assert await wire.body(200_000) == FILM[100_000:]
    assert adapter.service._cache.resumptions.resumed == 1


async def test_an_unknown_length_becomes_known(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.once("/film", broken("chunked", 1000, Cut()))
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM


# Another object


async def served_half(
    adapter: Adapter, origin: ScriptedOrigin, then: Script, head: dict[str, str] = SIZED
) -> str:
    """One client has half of FILM when its origin breaks off, and gets no more: then there is something else.

    Returns the tag that it was given.
    """
    going = asyncio.Event()
    origin.once("/film", [Head(200, head), Body(FILM[:150_000]), Pause(going), Cut()])
    origin.on("/film", then)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        tag = (await wire.response_head()).fields["ETag"]
        assert await wire.body(150_000) == FILM[:150_000]
        going.set()
        assert await wire.closed()
    await until(lambda: adapter.service._cache.idle)
    return tag


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param(SIZED, OTHER, id="other bytes"),
        pytest.param(SIZED, FILM[:149_999] + b"?" + FILM[150_000:], id="one other byte"),
        pytest.param(TYPE | {"Content-Length": "300001"}, FILM + b"x", id="longer"),
        pytest.param(TYPE | {"Content-Length": "150000"}, FILM[:150_000], id="shorter"),
        pytest.param(SIZED | {"Content-Type": "video/webm"}, FILM, id="type"),
        pytest.param(SIZED | {"Content-Encoding": "x-new"}, FILM, id="coding"),
        pytest.param(SIZED | {"ETag": '"new"'}, FILM, id="tag"),
        pytest.param(SIZED | {"Vary": "X-New"}, FILM, id="vary"),
        pytest.param(CLOSING, FILM + b"grown", id="length unknown by now"),
    ],
)
async def test_a_change_is_never_put_together(
    adapter: Adapter, origin: ScriptedOrigin, head: dict[str, str], body: bytes
) -> None:
    await served_half(adapter, origin, [Head(200, head), Body(body), *([Cut()] if head is CLOSING else [])])
    async with adapter.wire() as wire:
        later = await wire.get("/film")
        assert (later.status, later.body) == (200, body)
        assert (await wire.get("/film", Range="bytes=149990-150009")).body == body[149_990:150_010]
    await settled(adapter, origin)
    assert origin.count("/film", "GET") == 2, "the answer that told of the change is the new object"


async def test_a_change_that_may_not_be_stored(adapter: Adapter, origin: ScriptedOrigin) -> None:
    await served_half(adapter, origin, [Head(200, SIZED | {"Cache-Control": "no-store"}), Body(FILM)])
    async with adapter.wire() as wire:
        assert "no-store" in (await wire.get("/film")).cache_status


async def test_gone_is_a_change(adapter: Adapter, origin: ScriptedOrigin) -> None:
    await served_half(adapter, origin, [Head(404, {"Content-Length": "0"})])
    async with adapter.wire() as wire:
        assert (await wire.get("/film", Range="bytes=0-9")).status == 404


# Gone for good


async def test_what_has_come_is_served_while_the_origin_is_gone(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**timed(origin, resume="300ms"))
    tag = await served_half(adapter, origin, [Cut()])
    await origin.stop()
    async with adapter.wire() as wire:
        inside = await wire.get("/film", Range="bytes=149000-149999", If_Range=tag)
        assert (inside.status, inside.body) == (206, FILM[149_000:150_000])
        assert inside.fields["Content-Range"] == "bytes 149000-149999/300000"
        assert inside.cache_status.endswith("detail=unfinished")
        head = await wire.head("/film")
        assert (head.status, head.fields["Content-Length"]) == (200, "300000")
        for beyond in ("bytes=149000-150000", "bytes=0-", "bytes=-1", "bytes=0-1,200000-200001"):
            assert (await wire.get("/film", Range=beyond)).status in {502, 504}
        assert (await wire.get("/film")).status in {502, 504}
        await origin.start()
        origin.serve("/film", FILM)
        adapter.service._cache._fetching.failing._recent._until.clear()  # some seconds later
        rest = await wire.get("/film", Range="bytes=100000-", If_Range=tag)
        assert (rest.status, rest.body) == (206, FILM[100_000:])
        assert "fwd=partial" in rest.cache_status
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/film")).cache_status


@pytest.mark.parametrize("freshness", ["no-cache", "max-age=0, must-revalidate"])
async def test_what_must_be_asked_for_is_not_served_from_what_has_come(
    start_adapter: StartAdapter, origin: ScriptedOrigin, freshness: str
) -> None:
    adapter = await start_adapter(**timed(origin, resume="0s"))
    head = SIZED | {"Cache-Control": freshness, "ETag": '"1"'}
    await served_half(adapter, origin, [Cut()], head)
    await origin.stop()
    async with adapter.wire() as wire:
        assert (await wire.get("/film", Range="bytes=0-9")).status == 504
        await origin.start()
        origin.on("/film", [Head(200, head), Body(FILM)])
        response = await wire.get("/film", Range="bytes=0-9")
        assert (response.status, response.body) == (206, FILM[:10])
        await settled(adapter, origin)
    assert not len(adapter.service._cache.spool.partials)


async def test_a_stale_beginning_shows_as_far_as_it_is_the_same(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**timed(origin, resume="0s"))
    aged = SIZED | {"Cache-Control": "max-age=10", "Age": "20"}
    tag = await served_half(adapter, origin, [Cut()], aged)
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=PIECE)
    async with adapter.wire() as wire, adapter.wire() as other:
        await wire.request("GET", "/film", Range=f"bytes={PIECE - 10}-")
        await other.request("GET", "/film", Range="bytes=0-9", If_Range=tag)
        inside = await other.response()
        assert (inside.status, inside.body) == (206, FILM[:10]), "the same tag for the same bytes"
        await gate.reached()
        gate.open()
        assert (await wire.response()).body == FILM[PIECE - 10 :]
    assert origin.count("/film") == 2


async def test_an_origin_that_promises_more_than_it_has(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM, content_length=len(FILM) + 10)
    async with adapter.wire() as wire:
        with pytest.raises(Truncated):
            await wire.get("/film")
    await until(lambda: adapter.service._cache.idle)
    assert adapter.service._cache.spool.usage() == (0, 0)
    asked = origin.count("/film")
    assert 1 < asked < 10, "it ends there each time: that is no accident"
    async with adapter.wire() as wire:
        assert (await wire.get("/film", Range="bytes=299990-299999")).body == FILM[-10:]
        assert (await wire.get("/film")).status == 502
    assert origin.count("/film") == asked


# The end of the connection


async def test_an_end_before_the_length_that_head_tells_is_doubted(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    def answer(request: OriginRequest) -> Script:
        if request.method == "HEAD":
            return [Head(200, SIZED)]
        at = 1000 if origin.count("/film", "GET") == 1 else len(FILM)
        return [Head(200, CLOSING), Body(FILM[:at]), Cut()]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM
    await settled(adapter, origin)
    assert origin.count("/film", "GET") == 2


async def test_an_end_that_head_denies_is_never_that_of_the_whole(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    def answer(request: OriginRequest) -> Script:
        if request.method == "HEAD":
            return [Head(200, TYPE | {"Content-Length": "999999"})]
        return [Head(200, CLOSING), Body(FILM), Cut()]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        with pytest.raises(Truncated):
            await wire.get("/film")
    await until(lambda: adapter.service._cache.idle)
    assert adapter.service._cache.spool.usage() == (0, 0)


@pytest.mark.parametrize("told", [{}, {"Content-Length": "999999", "Content-Encoding": "x"}], ids=str)
async def test_a_head_that_says_nothing_of_it_denies_nothing(
    adapter: Adapter, origin: ScriptedOrigin, told: dict[str, str]
) -> None:
    def answer(request: OriginRequest) -> Script:
        if request.method == "HEAD":
            return [Head(200, TYPE | told)]
        return [Head(200, CLOSING), Body(FILM), Cut()]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/film", Range="bytes=-1")).cache_status
    assert origin.count("/film", "GET") == 1


async def test_while_it_cannot_be_reached_newcomers_do_not_wait(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    going = asyncio.Event()
    origin.once("/film", [Head(200, SIZED), Body(FILM[:150_000]), Pause(going), Reset()])
    async with adapter.wire() as wire, adapter.wire() as other:
        await wire.request("GET", "/film")
        await wire.response_head()
        assert await wire.body(150_000) == FILM[:150_000]
        await origin.stop()
        await eventually(lambda: adapter.service._cache.resumptions.breaks >= 2)
        assert (await other.get("/film", Range="bytes=0-9")).body == FILM[:10]
        assert (await other.get("/film", Range="bytes=200000-")).status == 502
        origin.serve("/film", FILM)
        await origin.start()
        assert await wire.body(150_000) == FILM[150_000:], "who was there waits, and gets it all"


# Purges and the end


async def test_a_purge_ends_what_has_come(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(**timed(origin, resume="0s"))
    await served_half(adapter, origin, [Cut()])
    assert len(adapter.service._cache.spool.partials) == 1
    origin.on("/film", [Head(204)])
    async with adapter.wire() as wire:
        await wire.request("DELETE", "/film")
        await wire.response()
        assert not len(adapter.service._cache.spool.partials)
        origin.serve("/film", OTHER)
        assert (await wire.get("/film", Range="bytes=0-9")).body == OTHER[:10]


async def test_the_end_of_the_service_does_not_wait_for_the_origin(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/film", [Head(200, SIZED), Body(FILM[:1000]), Reset()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        await eventually(lambda: adapter.service._cache.resumptions.breaks > 0)
        await asyncio.wait_for(adapter.service.stop(), 20)


# Giving way


async def test_what_nobody_follows_gives_way_to_who_waits(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.fill.fill.GIVE_WAY_AFTER", -1.0)
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "max_connections": 2, "max_fills": 1, "fills_per_client": 1}}
    )
    origin.serve("/film", FILM)
    origin.serve("/other", OTHER)
    gate = origin.gate("/film", at=PIECE)
    async with adapter.wire() as wire:
        first = await wire.get("/film", Range="bytes=0-9")
        await gate.reached()
    async with adapter.wire() as wire:
        assert (await wire.get("/other")).body == OTHER
        await origin.disconnected("/film")
        gate.open()
        again = await wire.get("/film", Range="bytes=0-", If_Range=first.fields["ETag"])
        assert (again.status, again.body) == (206, FILM), "what had come of it was kept"
        assert "fwd=partial" in again.cache_status
