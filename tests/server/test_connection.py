"""What a connection may cost before there is a request: time, bytes, and what comes behind a broken one."""

import asyncio
import gc

import pytest

from proxy.server import connection
from proxy.server.connection import Connection
from proxy.server.parsing import RequestParser
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, ScriptedOrigin
from tests.server.test_entrance import metric, report
from tests.together import busy, until
from tests.wire import Wire

FILM = bytes(range(256)) * 400
PASSTHROUGH = {"routes": [{"name": "all", "mode": "passthrough"}]}
IMPATIENT = {"server": {"timeouts": {"head": "200ms", "keep_alive": "30s"}}}
START = b"GET /film.mp4 HTTP/1.1\r\nHost: x\r\n"


async def drip(wire: Wire, data: bytes = b"X: y\r\n") -> None:
    """A byte now and then, until nobody takes any more."""
    try:
        while True:
            for byte in data:
                await wire.send(bytes([byte]))
                await asyncio.sleep(0.02)
    except ConnectionError:
        pass


async def refused_as_slow(wire: Wire) -> None:
    response = await wire.response()
    assert (response.status, response.body) == (408, b"408 Request Timeout: head-timeout\n")
    assert response.fields["Connection"] == "close"
    assert await wire.closed()


# --- Heads that do not come -----------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"G", START, b"BREW /x HTTP/1.1\r\nHost:"], ids=["byte", "line", "slow"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_head_that_drips_is_cut_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin, begun: bytes, *, first: bool
) -> None:
    adapter = await start_adapter(**IMPATIENT)
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        if not first:
            assert (await wire.get("/film.mp4")).body == FILM
        await wire.send(begun)
        dripping = asyncio.create_task(drip(wire))
        async with asyncio.timeout(5):
            await refused_as_slow(wire)
        dripping.cancel()
    assert await metric(adapter, 'range_adapter_timed_out_connections_total{limit="head"}') == 1
    assert await metric(adapter, 'range_adapter_failures_total{reason="head-timeout",route=""}') == 1


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n"], ids=["nothing", "blank lines"])
async def test_a_new_connection_without_a_request_is_closed(start_adapter: StartAdapter, data: bytes) -> None:
    adapter = await start_adapter(**IMPATIENT)
    async with adapter.wire() as wire:
        if data:
            await wire.send(data)
        async with asyncio.timeout(5):
            assert await wire.closed()
    assert (await report(adapter))["timed_out"]["head"] == 1


async def test_an_idle_connection_has_its_own_limit(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    timeouts = {"head": "100ms", "keep_alive": "1s"}
    adapter = await start_adapter(server={"timeouts": timeouts}, **PASSTHROUGH)
    origin.on("/x", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    async with adapter.wire() as wire:
        await wire.request("POST", "/x", body=b"a body without an empty line at its end")
        assert (await wire.response()).status == 200
        await wire.send(b"\r\n")  # some send one behind a body
        await asyncio.sleep(0.5)
        assert (await wire.get("/x")).status == 200
        assert await wire.closed()
    assert (await report(adapter))["timed_out"] == {
        "head": 0,
        "keep_alive": 1,
        "send_idle": 0,
        "send_rate": 0,
    }


async def test_a_slow_body_is_no_slow_head(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(**IMPATIENT, **PASSTHROUGH)
    origin.on("/x", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    async with adapter.wire() as wire:
        for _ in range(2):
            await wire.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n")
            for _ in range(20):
                await wire.send(b"x")
                await asyncio.sleep(0.02)
            assert (await wire.response()).body == b"ok"


async def test_requests_that_wait_for_their_turn_wait_for_us(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**IMPATIENT)
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", None)
    async with adapter.wire() as wire:
        for _ in range(60):
            await wire.request("GET", "/film.mp4")
        await busy(adapter, 1)
        await asyncio.sleep(0.5)
        gate.open()
        for _ in range(60):
            assert (await wire.response()).body == FILM


async def test_a_slow_head_waits_for_the_answers_before_it(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**IMPATIENT)
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", None)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4")
        await gate.reached()
        await wire.send(START)
        while not (await report(adapter))["timed_out"]["head"]:
            pass
        gate.open()
        assert (await wire.response()).body == FILM
        await refused_as_slow(wire)


async def test_a_head_in_pieces_is_a_head(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server={"timeouts": {"head": "1s"}})
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        for _ in range(2):
            for piece in (START[:5], START[5:], b"Range: bytes=0-9\r\n", b"\r\n"):
                await wire.send(piece)
                await asyncio.sleep(0.01)
            assert (await wire.response()).body == FILM[:10]
            await asyncio.sleep(1.1)  # no head is due meanwhile


# --- Heads that are too large ---------------------------------------------------------------------


def fields(count: int, size: int) -> bytes:
    return b"".join(b"X-%d: %b\r\n" % (number, b"x" * size) for number in range(count))


@pytest.mark.parametrize("method", [b"GET", b"BREW"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
async def test_too_many_fields(
    start_adapter: StartAdapter, origin: ScriptedOrigin, method: bytes, *, at_once: bool
) -> None:
    adapter = await start_adapter(server={"limits": {"fields": 20}}, **PASSTHROUGH)
    origin.on("/x", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    for count, status in ((19, 200), (20, 431)):  # and Host
        async with adapter.wire() as wire:
            head = method + b" /x HTTP/1.1\r\nHost: x\r\n" + fields(count, 1) + b"\r\n"
            for piece in [head] if at_once else [head[:50], head[50:]]:
                await wire.send(piece)
                await asyncio.sleep(0)
            response = await wire.response()
            assert (response.status, "too-many-fields" in response.cache_status) == (status, status == 431)


@pytest.mark.parametrize("method", [b"GET", b"BREW"])
@pytest.mark.parametrize("ends", [True, False], ids=["whole", "without an end"])
async def test_a_head_that_is_too_large(
    start_adapter: StartAdapter, origin: ScriptedOrigin, method: bytes, *, ends: bool
) -> None:
    adapter = await start_adapter(server={"limits": {"head_size": "10kB"}}, **PASSTHROUGH)
    origin.on("/x", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    for size, status in ((900, 200), (1000, 431)):
        async with adapter.wire() as wire:
            head = method + b" /x HTTP/1.1\r\nHost: x\r\n" + fields(10, size)
            if status == 200 or ends:
                head += b"\r\n"
            await wire.send(head)
            response = await wire.response()
            assert (response.status, "head-too-large" in response.cache_status) == (status, status == 431)


async def test_many_small_requests_at_once_are_not_one_large_head(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"limits": {"head_size": "8KiB"}})
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        await wire.send((START + b"Range: bytes=0-9\r\n\r\n") * 1000)
        for _ in range(1000):
            assert (await wire.response()).body == FILM[:10]


# --- Behind a broken request ----------------------------------------------------------------------


async def test_a_refusal_arrives_at_a_client_that_is_still_sending(adapter: Adapter) -> None:
    async with adapter.wire() as wire:
        await wire.send(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
        for _ in range(80):
            await wire.send(bytes(100_000))
        assert (await wire.response()).status == 400
        assert await wire.reader.read() == b"", "an end in good order, not a reset"


@pytest.mark.parametrize("method", [b"POST", b"BREW"])
async def test_what_breaks_in_a_body_is_no_fault_of_ours(
    start_adapter: StartAdapter, origin: ScriptedOrigin, method: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = await start_adapter(**PASSTHROUGH)
    origin.on("/x", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    async with adapter.wire() as wire:
        await wire.send(method + b" /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
        await origin.requested("/x")
        await wire.send(b"hello\r\n0\r\n" + b"X: y\r\n" * 200)
        assert (await wire.response()).status in {400, 431}
        assert await wire.closed()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nbroken\r\n\r\n", START, START + fields(10, 7000)])
async def test_what_it_held_goes_with_it(start_adapter: StartAdapter, sent: bytes) -> None:
    """At once: in circles, ten thousands of heads would wait for the collector."""
    adapter = await start_adapter(**IMPATIENT)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            async with adapter.wire() as wire:
                await wire.send(sent)
                assert (await wire.response()).status in {400, 408, 431}
        kinds = (Connection, RequestParser)
        await until(lambda: not any(isinstance(thing, kinds) for thing in gc.get_objects()))
    finally:
        gc.enable()


async def test_that_delays_no_end(start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER", 60)
    adapter = await start_adapter(server={"timeouts": {"drain": "60s"}})
    async with adapter.wire() as wire:
        await wire.send(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
        assert (await wire.response()).status == 400
        async with asyncio.timeout(20):
            await adapter.service.stop()
