"""An origin that is down or has too much to do: who is served, who is told so, and what the operator sees."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.admin.test_admin import samples, status
from tests.conftest import Adapter, StartAdapter
from tests.origin_script import OriginRequest, Script
from tests.scripted_origin import Body, Gate, Head, Pause, ScriptedOrigin
from tests.spool.objects import eventually
from tests.test_connector import Site
from tests.together import settled
from tests.wire import Response, Wire

FILM = bytes(range(256)) * 40
ALICE, BOB = [("X-Forwarded-For", "192.0.2.1")], [("X-Forwarded-For", "192.0.2.2")]


async def fetch(adapter: Adapter, path: str, who: Iterable[tuple[str, str]] = (), **fields: str) -> Response:
    async with adapter.wire() as wire:
        return await wire.get(path, who, **fields)


@pytest.fixture
def start(start_adapter: StartAdapter, origin: ScriptedOrigin) -> StartAdapter:
    """With these limits for the origin; clients are who they say they are."""

    async def starting(**limits: Any) -> Adapter:
        return await start_adapter(
            server={"trusted_proxies": "127.0.0.1"}, origins={"legacy": {"url": origin.url, **limits}}
        )

    return starting


@asynccontextmanager
async def asking(
    adapter: Adapter, count: int, path: str, who: Iterable[tuple[str, str]]
) -> AsyncIterator[list[Wire]]:
    """So many requests for as many objects, none of which has been answered."""
    async with AsyncExitStack() as stack:
        wires = []
        for number in range(count):
            wires.append(await stack.enter_async_context(adapter.wire()))
            await wires[-1].request("GET", f"{path}/{number}", who)
        yield wires


def hold(origin: ScriptedOrigin, count: int) -> Gate:
    """Objects whose answers wait, before their heads."""
    gate = Gate()

    def answer(request: OriginRequest) -> Script:
        yield Pause(gate)
        yield Head(200, {"Content-Type": "video/mp4", "Content-Length": "2"})
        yield Body(b"ok")

    for number in range(count):
        origin.on(f"/flood/{number}", answer)
    return gate


async def test_hundreds_of_cold_requests_of_one_client_keep_nobody_else_waiting(
    start: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start(max_waiting=100)
    gate = hold(origin, 300)
    origin.serve("/film", FILM)
    legacy = adapter.service._handler._origins["legacy"]
    async with asking(adapter, 300, "/flood", ALICE) as wires:
        await gate.reached(16)
        await eventually(lambda: legacy.slots.waiting == 100)
        for _ in range(3):
            assert (await fetch(adapter, "/film", BOB)).body == FILM
        assert gate.arrivals == 16, "Alice's budget"
        found = await samples(adapter)
        assert found["range_adapter_fill_slots"] == [({"origin": "legacy"}, 24)]
        assert found["range_adapter_fill_slots_in_use"] == [({"origin": "legacy"}, 16)]
        assert found["range_adapter_fill_slots_waiting"] == [({"origin": "legacy"}, 100)]
        refused = {"origin": "legacy", "reason": "queue-full"}
        assert found["range_adapter_origin_refusals_total"] == [(refused, 184)]
        gate.open()
        answers = await asyncio.gather(*(wire.response() for wire in wires))
    assert sorted({answer.status for answer in answers}) == [200, 503]
    told = [answer for answer in answers if answer.status == 503]
    assert len(told) == 184
    assert all("Retry-After" in each.fields and "queue-full" in each.cache_status for each in told)
    await eventually(lambda: (legacy.slots.in_use, legacy.slots.waiting) == (0, 0))


async def test_when_every_place_is_taken_the_next_goes_to_who_has_waited_in_vain(
    start: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start(max_fills=1, max_waiting=100)
    gate = hold(origin, 20)
    origin.serve("/film", FILM)
    legacy = adapter.service._handler._origins["legacy"]
    async with asking(adapter, 20, "/flood", ALICE) as wires:
        await gate.reached()
        await eventually(lambda: legacy.slots.waiting == 19)
        async with adapter.wire() as bob:
            await bob.request("GET", "/film", BOB)
            await eventually(lambda: legacy.slots.waiting == 20)
            gate.open()
            assert (await bob.response()).body == FILM
        await asyncio.gather(*(wire.response() for wire in wires))
    paths = [request.path for request in origin.requests]
    assert paths.index("/film") <= 2, "the second of Alice's may have been let in before Bob came"


async def test_too_much_for_one_client(start: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start(fills_per_client=2, timeouts={"queue": "100ms"})
    gate = hold(origin, 3)
    async with asking(adapter, 2, "/flood", ALICE) as wires:
        await gate.reached(2)
        response = await fetch(adapter, "/flood/2", ALICE)
        assert (response.status, response.fields["Retry-After"]) == (503, "5")
        assert "detail=fill-budget" in response.cache_status
        gate.open()
        await asyncio.gather(*(wire.response() for wire in wires))


async def test_what_is_refreshed_for_nobody_is_on_nobodys_account(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(origins={"legacy": {"url": origin.url, "fills_per_client": 1}})
    cached = {"Cache-Control": "max-age=0, stale-while-revalidate=60", "ETag": '"a"'}
    origin.serve("/film", FILM, headers=cached)
    origin.serve("/other", FILM)
    await fetch(adapter, "/film")
    await settled(adapter, origin)
    gate = origin.gate("/film", at=None)
    assert (await fetch(adapter, "/film")).body == FILM
    await gate.reached()
    assert (await fetch(adapter, "/other")).body == FILM, "it has its place still"
    gate.open()


async def down(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """Stop the origin, and let it be noticed."""
    await origin.stop()
    legacy = adapter.service._handler._origins["legacy"]
    while legacy.health.is_up:
        assert (await fetch(adapter, "/cold")).status == 502
    legacy.health._next_probe = float("inf")


async def test_one_line_for_an_origin_that_is_down_and_one_for_its_return(
    start: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start()
    origin.serve("/cold", FILM)
    legacy = adapter.service._handler._origins["legacy"]
    with capture_logs() as lines:
        await down(adapter, origin)
        for _ in range(20):
            response = await fetch(adapter, "/cold")
            assert response.status == 502
            assert "detail=origin-unreachable" in response.cache_status
        assert legacy.health.failures == 3, "the others were not even tried"
        found = await samples(adapter)
        assert found["range_adapter_origin_up"] == [({"origin": "legacy"}, 0)]
        assert found["range_adapter_origin_connect_failures_total"] == [({"origin": "legacy"}, 3)]
        [report] = (await status(adapter))["origins"]
        assert (report["name"], report["up"]) == ("legacy", False)
        assert "cannot reach origin legacy" in report["last_error"]
        await origin.start()
        legacy.health._next_probe = 0.0
        assert (await fetch(adapter, "/cold")).body == FILM
    told = [line for line in lines if line["event"] in {"the origin failed", "an incident is over"}]
    assert [line["event"] for line in told] == ["the origin failed", "an incident is over"]
    assert (told[0]["about"], told[1]["requests"]) == ("legacy", 23)
    found = await samples(adapter)
    assert found["range_adapter_origin_up"] == [({"origin": "legacy"}, 1)]
    assert found["range_adapter_origin_probes_total"] == [({"origin": "legacy"}, 1)]
    [report] = (await status(adapter))["origins"]
    assert (report["up"], report["last_error"]) == (True, None)


async def test_what_is_stale_is_served_at_once(start: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start()
    origin.serve("/film", FILM, headers={"Cache-Control": "max-age=60", "Age": "60"})
    await fetch(adapter, "/film")
    await settled(adapter, origin)
    await down(adapter, origin)
    failures = adapter.service._handler._origins["legacy"].health.failures
    response = await fetch(adapter, "/film", Range="bytes=1-2")
    assert (response.status, response.body) == (206, FILM[1:3])
    assert "stale-if-error" in response.cache_status
    assert adapter.service._handler._origins["legacy"].health.failures == failures


async def test_an_origin_that_takes_no_connection_is_not_tried_twice_for_one_request(
    start: StartAdapter, origin: ScriptedOrigin
) -> None:
    """A HEAD that fails is followed by a GET, but not here."""
    adapter = await start()
    headers = {"Cache-Control": "max-age=60", "Age": "60", "ETag": '"a"'}
    origin.serve("/film", FILM, headers=headers)
    await fetch(adapter, "/film")
    await settled(adapter, origin)
    await origin.stop()
    async with adapter.wire() as wire:
        assert (await wire.head("/film")).status == 200
    assert adapter.service._handler._origins["legacy"].health.failures == 1


async def test_an_origin_that_takes_no_connection_is_spared_for_everybody(
    start: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start(timeouts={"connect": "100ms"})
    origin.serve("/film", FILM, headers={"Cache-Control": "max-age=60", "Age": "60"})
    await fetch(adapter, "/film")
    await settled(adapter, origin)
    await origin.stop()
    site = Site(origin.port)
    async with site.parts:
        site.black_hole("127.0.0.1")
        for who in (ALICE, BOB):
            response = await fetch(adapter, "/film", who)
            assert (response.status, response.body) == (200, FILM)
    assert adapter.service._handler._origins["legacy"].health.failures == 1, "it is not Alice's fault"


async def test_uploads_that_wait_for_a_connection_are_told(
    start: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start(max_connections=1, timeouts={"queue": "100ms"})
    gate = hold(origin, 1)
    async with asking(adapter, 1, "/flood", ALICE) as [wire]:
        await gate.reached()
        async with adapter.wire() as late:
            await late.request("POST", "/login")
            response = await late.response()
        assert response.status == 503
        assert "detail=no-connection" in response.cache_status
        gate.open()
        assert (await wire.response()).body == b"ok"
