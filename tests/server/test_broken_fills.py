"""Several clients and one body that broke off: what one of them causes, and what the others see of it."""

import asyncio

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, Pause, Reset, ScriptedOrigin
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
