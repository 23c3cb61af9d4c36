"""Several clients and one body that broke off: what one of them causes, and what the others see of it."""

import asyncio

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Cut, Head, Pause, Reset, ScriptedOrigin
from tests.spool.objects import pattern
from tests.together import busy, until

FILM = pattern(300_000)
OTHER = pattern(300_000, 1)
TYPE = {"Content-Type": "video/mp4"}
SIZED = TYPE | {"Content-Length": str(len(FILM))}
CLOSING = TYPE | {"Connection": "close"}


async def impatient(start_adapter: StartAdapter, origin: ScriptedOrigin, **overrides: object) -> Adapter:
    """Does not ask again by itself; keeps what has come."""
    legacy = {"url": origin.url, "timeouts": {"resume": "0s"}}
    return await start_adapter(origins={"legacy": legacy}, **overrides)


def later(adapter: Adapter) -> None:
    """Some seconds later: the origin is not spared any more."""
    adapter.service._cache._fetching.failing._recent._until.clear()


async def half_stored(adapter: Adapter, origin: ScriptedOrigin, head: dict[str, str] = SIZED) -> None:
    """Half of FILM is stored, and that is known to hold."""
    going = asyncio.Event()
    origin.once("/film", [Head(200, head), Body(FILM[:150_000]), Pause(going), Reset()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        assert await wire.body(150_000) == FILM[:150_000]
        going.set()
        assert await wire.closed()
    await until(lambda: adapter.service._cache.idle and len(adapter.service._cache.spool.partials) == 1)
    later(adapter)


# For whom it is


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param({"Cookie": "session=1"}, {}, id="for one credential"),
        pytest.param(
            {"X-Tongue": "de"}, {"Vary": "X-Tongue", "Cache-Control": "max-age=60"}, id="one variant"
        ),
        pytest.param({"Cookie": "a=1"}, {"Cache-Control": "no-cache", "ETag": '"1"'}, id="to be asked for"),
    ],
)
async def test_another_clients_answer_is_for_nobody_else(
    start_adapter: StartAdapter, origin: ScriptedOrigin, sent: dict[str, str], told: dict[str, str]
) -> None:
    adapter = await impatient(start_adapter, origin)
    await half_stored(adapter, origin, SIZED | {"Cache-Control": "max-age=60"})
    going = asyncio.Event()
    origin.once("/film", [Pause(going), Head(200, SIZED | told), Body(OTHER)])
    origin.on("/film", [Head(200, SIZED | {"Cache-Control": "max-age=60"}), Body(FILM)])
    async with adapter.wire() as mine, adapter.wire() as yours:
        await mine.request("GET", "/film", sent.items(), Range="bytes=200000-200009")
        await origin.requested("/film", 2)
        await yours.request("GET", "/film", Range="bytes=200000-200009")
        await busy(adapter, 2)
        going.set()
        assert (await mine.response()).body == OTHER[200_000:200_010]
        assert (await yours.response()).body == FILM[200_000:200_010]


# What the answers of an origin that breaks off say


async def test_a_head_alone_makes_nothing_fresh(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await impatient(start_adapter, origin)
    await half_stored(adapter, origin, SIZED | {"Cache-Control": "max-age=60", "Age": "50"})
    origin.once("/film", [Head(200, SIZED | {"Cache-Control": "max-age=60"}), Cut()])
    async with adapter.wire() as wire:
        assert (await wire.get("/film", Range="bytes=200000-")).status == 502
        await until(lambda: adapter.service._cache.idle)
        inside = await wire.get("/film", Range="bytes=0-9")
        assert (inside.status, inside.body) == (206, FILM[:10])
        assert int(inside.fields["Age"]) >= 50


@pytest.mark.parametrize("status", [206, 304, 416])
async def test_what_nobody_asked_for_says_nothing(
    adapter: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    going = asyncio.Event()
    origin.once("/film", [Head(200, SIZED), Body(FILM[:150_000]), Pause(going), Cut()])
    origin.once("/film", [Head(status, SIZED if status == 304 else {"Content-Length": "0"})])
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        assert await wire.body(150_000) == FILM[:150_000]
        going.set()
        assert await wire.body(150_000) == FILM[150_000:]


async def test_an_end_before_what_had_come_is_believed_when_it_comes_again(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    going = asyncio.Event()
    origin.once("/film", [Head(200, CLOSING), Body(FILM[:150_000]), Pause(going), Reset()])
    origin.serve("/film", FILM[:100_000], close_delimited=True, accept_head=False)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        await wire.chunk()
        going.set()
        await wire.reader.read()
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == FILM[:100_000]
    assert origin.count("/film", "GET") == 3


# What it costs


async def test_an_origin_that_sends_all_again_in_vain_is_spared_longer_and_longer(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await impatient(start_adapter, origin)
    await half_stored(adapter, origin)
    seconds = 0.0
    adapter.service._cache._fetching.failing._recent._clock = lambda: seconds
    origin.on("/film", [Head(200, SIZED), Body(FILM[:150_000]), Cut()])
    async with adapter.wire() as wire:
        for _ in range(200):  # an hour, in which one byte is asked for every 18 seconds
            seconds += 18
            assert (await wire.get("/film", Range="bytes=0-0")).body == FILM[:1]
            await until(lambda: adapter.service._cache.idle)
    assert 5 < origin.count("/film") < 30


async def test_the_head_does_not_wait_for_all_that_is_stored_to_come_again(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await impatient(start_adapter, origin, defaults={"ranges": {"unknown_length_wait": "100ms"}})
    await half_stored(adapter, origin)
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=100_000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", Range="bytes=140000-159999")
        assert (await wire.response_head()).status == 206
        assert await wire.body(10_000) == FILM[140_000:150_000]
        await gate.reached()
        gate.open()
        assert await wire.body(10_000) == FILM[150_000:160_000]
