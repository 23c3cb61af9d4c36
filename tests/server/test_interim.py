"""Interim responses go to clients that can take them (RFC 9110 section 15.2)."""

import asyncio

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Gate, Head, Pause, Raw, ScriptedOrigin, Step
from tests.together import until

HINTS = Raw(
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>; rel=preload\r\n"
    b"Connection: X-Hop\r\nX-Hop: 1\r\n\r\n"
)
FINAL: list[Step] = [Head(200, {"Content-Length": "2"}), Body(b"ok")]


@pytest.fixture
async def relay(start_adapter: StartAdapter) -> Adapter:
    return await start_adapter(routes=[{"name": "all", "mode": "passthrough"}])


async def test_several_in_front_of_the_answer(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/x", [Raw(b"HTTP/1.1 102 Processing\r\n\r\n"), HINTS, HINTS, *FINAL])
    async with relay.wire() as wire:
        for _ in range(2):
            response = await wire.get("/x")
            assert (response.status, response.body) == (200, b"ok")
            assert [interim.status for interim in response.interim] == [102, 103, 103]
            hints = response.interim[1].fields
            assert hints.getall("Link") == ["</a.css>; rel=preload", "</b.js>; rel=preload"]
            assert "X-Hop" not in hints
            assert "Connection" not in hints


async def test_they_come_at_once(relay: Adapter, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.on("/x", [HINTS, Pause(gate), *FINAL])
    async with relay.wire() as wire:
        await wire.request("GET", "/x")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 103 Early Hints\r\n")
        gate.open()
        assert (await wire.response()).body == b"ok"


async def test_they_do_not_overtake_an_earlier_answer(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/slow", FINAL)
    origin.on("/x", [HINTS, *FINAL])
    gate = origin.gate("/slow", at=1)
    async with relay.wire() as wire:
        await wire.request("GET", "/slow")
        await wire.request("GET", "/x")
        await gate.reached()
        gate.open()
        assert (await wire.response()).interim == []
        assert [interim.status for interim in (await wire.response()).interim] == [103]


async def test_not_for_http_1_0(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/x", [HINTS, *FINAL])
    async with relay.wire() as wire:
        await wire.request("GET", "/x", version="HTTP/1.0")
        response = await wire.response()
        assert (response.status, response.body, response.interim) == (200, b"ok", [])


async def test_a_100_that_nobody_waited_for_is_no_answer(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/x", [Raw(b"HTTP/1.1 100 Continue\r\n\r\n"), *FINAL])
    async with relay.wire() as wire:
        await wire.request("POST", "/x", body=b"abc")
        response = await wire.response()
        assert (response.status, response.body) == (200, b"ok")


async def test_they_do_not_count_as_the_answer(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    relay = await start_adapter(
        origins={"legacy": {"url": origin.url, "timeouts": {"first_byte": "300ms"}}},
        routes=[{"name": "all", "mode": "passthrough"}],
    )
    origin.on("/x", [HINTS, Pause(asyncio.Event())])
    async with relay.wire() as wire:
        response = await wire.get("/x")
        assert (response.status, [interim.status for interim in response.interim]) == (504, [103])


# --- On the way to an answer that is stored -------------------------------------------------------

FILM: list[Step] = [Head(200, {"Content-Length": "2", "Content-Type": "video/mp4"}), Body(b"ok")]


async def test_they_reach_the_one_who_asked_and_nobody_later(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/film", [Raw(b"HTTP/1.1 102 Processing\r\n\r\n"), HINTS, *FILM])
    async with adapter.wire() as wire:
        response = await wire.get("/film", Range="bytes=1-1")
        assert (response.status, response.body) == (206, b"k")
        assert [interim.status for interim in response.interim] == [102, 103]
        assert "X-Hop" not in response.interim[1].fields
        again = await wire.get("/film")
        assert (again.body, again.interim) == (b"ok", [])
        assert "Link" not in again.fields
    assert origin.count("/film") == 1


async def test_those_who_wait_for_the_same_get_none(adapter: Adapter, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.on("/film", [Pause(gate), HINTS, *FILM])
    async with adapter.wire() as first, adapter.wire() as second:
        await first.request("GET", "/film")
        await gate.reached()
        await second.request("GET", "/film")
        await until(lambda: adapter.service.in_progress == 2)
        gate.open()
        assert [interim.status for interim in (await first.response()).interim] == [103]
        assert (await second.response()).interim == []


async def test_one_who_has_left_gets_none(adapter: Adapter, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.on("/film", [Pause(gate), HINTS, *FILM])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await gate.reached()
    await until(lambda: adapter.service.in_progress == 0)
    gate.open()
    async with adapter.wire() as wire:
        response = await wire.get("/film")
        assert (response.body, response.interim) == (b"ok", [])


async def test_a_client_that_does_not_read_piles_up_none(relay: Adapter, origin: ScriptedOrigin) -> None:
    count = 10_000
    gate = Gate()
    origin.on(
        "/x", [*[Raw(HINTS.data[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n")] * count, Pause(gate), *FINAL]
    )
    async with relay.wire() as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.request("GET", "/x")
        await gate.reached()
        [connection] = relay.service._public.server.connections  # type: ignore[union-attr]
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 100_000
        gate.open()
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        response = await wire.response()
        assert response.body == b"ok"
        assert len(response.interim) < count
