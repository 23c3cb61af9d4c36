"""WebSocket and its kind: after the 101, bytes both ways until either side closes."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import (
    Body,
    Cut,
    Gate,
    Head,
    OriginRequest,
    Pause,
    Raw,
    Read,
    Reset,
    ScriptedOrigin,
    Stall,
    Step,
)
from tests.wire import Wire

UPGRADE = (
    b"GET /chat?x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SWITCH = Raw(
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


def echo(request: OriginRequest) -> Iterator[Step]:
    yield SWITCH
    while True:
        yield Read(1)
        yield Raw(bytes(request.body[-1:]))


async def opened(wire: Wire) -> None:
    await wire.send(UPGRADE)
    assert (await wire.response_head()).status == 101


async def test_the_handshake_passes_as_it_is(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/chat", [SWITCH, Stall()])
    async with adapter.wire() as wire:
        await wire.send(UPGRADE)
        response = await wire.response_head()
        assert response.status == 101
        assert response.fields.getall("Connection") == ["Upgrade"]
        assert response.fields.getall("Upgrade") == ["websocket"]
        assert response.fields["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert response.fields["Sec-WebSocket-Protocol"] == "chat"
        assert response.cache_status == "range-adapter;fwd=bypass;fwd-status=101"
        assert not {"Content-Length", "Transfer-Encoding"} & set(response.fields)
        [request] = origin.requests
        assert request.target == b"/chat?x"
        assert request.values("Connection") == ["Upgrade"]
        assert request.values("Upgrade") == ["websocket"]
        assert request.header("Sec-WebSocket-Key") == "dGhlIHNhbXBsZSBub25jZQ=="
        assert request.header("Sec-WebSocket-Extensions") == "permessage-deflate"


async def test_bytes_go_both_ways(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/chat", echo)
    async with adapter.wire() as wire:
        await opened(wire)
        data = bytes(range(256)) + b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        await wire.send(data)
        assert await wire.body(len(data)) == data


async def test_what_follows_the_upgrade_at_once_is_not_lost(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/chat", [Raw(SWITCH.data + b"early"), Read(9), Raw(b"late"), Stall()])
    async with adapter.wire() as wire:
        await wire.send(UPGRADE + b"hello")
        assert (await wire.response_head()).status == 101
        assert await wire.body(5) == b"early"
        await wire.send(b"more")
        assert await wire.body(4) == b"late"
    assert bytes(origin.requests[0].body) == b"hellomore"


@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["close", "reset"])
async def test_the_origin_ends_it(adapter: Adapter, origin: ScriptedOrigin, end: Step) -> None:
    last = os.urandom(3 << 20) if isinstance(end, Cut) else b""
    gate = Gate()
    origin.on("/chat", [SWITCH, Raw(last), Pause(gate), end])
    async with adapter.wire() as wire:
        await opened(wire)
        await gate.reached() if not last else None
        gate.open()
        if last:
            await asyncio.sleep(0.2)  # the end is on its way while the client has not read anything
            assert await wire.body(len(last)) == last
        assert await wire.closed()


async def test_the_client_ends_it(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/chat", [SWITCH, Read(3), Stall()])
    async with adapter.wire() as wire:
        await opened(wire)
        await wire.send(b"bye")
    await origin.disconnected("/chat")
    assert bytes(origin.requests[0].body) == b"bye"


async def test_a_client_that_says_much_and_leaves_is_heard(adapter: Adapter, origin: ScriptedOrigin) -> None:
    data = os.urandom(200_000)
    gate = Gate()
    origin.on("/chat", [SWITCH, Pause(gate), Read(len(data)), Stall()])
    async with adapter.wire() as wire:
        await opened(wire)
        await wire.send(data)
    await gate.reached()
    gate.open()
    await origin.until(lambda: len(origin.requests[0].body) == len(data))
    await origin.disconnected("/chat")


async def test_neither_side_is_drowned(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """What one side sends waits for the other to take it; the kernels' buffers hold a few MiB."""
    size = 32 << 20
    gate = Gate()
    origin.on("/chat", [SWITCH, Pause(gate), Read(size), Raw(bytes(size)), Stall()])
    async with adapter.wire() as wire:
        await opened(wire)
        sending = asyncio.create_task(wire.send(os.urandom(size)))
        await gate.reached()
        done, _ = await asyncio.wait({sending}, timeout=0.5)
        assert not done
        gate.open()
        await sending
        await origin.until(lambda: len(origin.requests[0].body) == size)
        assert await wire.body(size) == bytes(size)


@pytest.mark.parametrize("status", [200, 400, 426])
async def test_a_refusal_leaves_the_connection_as_it_was(
    adapter: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    origin.on("/chat", [Head(status, {"Content-Length": "2"}), Body(b"no")])
    async with adapter.wire() as wire:
        await wire.send(UPGRADE)
        response = await wire.response()
        assert (response.status, response.body) == (status, b"no")
        assert "Upgrade" not in response.fields
        await wire.send(UPGRADE + b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await wire.response()).status == status
        assert (await wire.response()).status == 404


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        b"BREW /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        b"GET /x HTTP/1.0\r\nHost: a\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_other_upgrades_are_not_passed_on(
    adapter: Adapter, origin: ScriptedOrigin, request_head: bytes
) -> None:
    origin.on("/x", [Head(200, {"Content-Length": "2", "Cache-Control": "no-store"}), Body(b"ok")])
    async with adapter.wire() as wire:
        for _ in range(2):
            await wire.send(request_head)
            assert (await wire.response()).body == b"ok"
    for request in origin.requests:
        assert request.header("Upgrade") is request.header("Connection") is None


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("mode", ["adapt", "passthrough"])
async def test_a_switch_that_nobody_asked_for(
    start_adapter: StartAdapter, origin: ScriptedOrigin, mode: str, method: str
) -> None:
    adapter = await start_adapter(routes=[{"name": "all", "mode": mode}])
    origin.on("/x", [SWITCH, Raw(b"anything"), Stall()])
    async with adapter.wire() as wire:
        await wire.request(method, "/x")
        response = await wire.response()
        assert (response.status, response.body) == (502, b"502 Bad Gateway: origin-malformed\n")
        assert (await wire.get("/none")).status == 404
    await origin.disconnected("/x")


async def test_a_switch_without_its_fields(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/chat", [Raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), Stall()])
    async with adapter.wire() as wire:
        await wire.send(UPGRADE)
        assert (await wire.response()).status == 502


async def test_a_client_that_takes_nothing_is_cut_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"timeouts": {"send_idle": "300ms"}})
    origin.on("/chat", [SWITCH, Raw(bytes(64 << 20)), Stall()])
    async with adapter.wire() as wire:
        await opened(wire)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await origin.disconnected("/chat")


async def test_an_origin_that_takes_nothing_is_let_go_of(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"timeouts": {"send_idle": "300ms"}})
    gate = Gate()
    origin.on("/chat", [SWITCH, Pause(gate), Read(64 << 20)])
    async with adapter.wire() as wire:
        await opened(wire)
        with pytest.raises(ConnectionError):
            await wire.send(bytes(64 << 20))
    gate.open()  # who does not read hears of nothing
    await origin.disconnected("/chat")


async def test_silence_ends_no_tunnel(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server={"timeouts": {"send_idle": "100ms"}})
    origin.on("/chat", echo)
    async with adapter.wire() as wire:
        await opened(wire)
        await asyncio.sleep(0.5)
        await wire.send(b"x")
        assert await wire.body(1) == b"x"
