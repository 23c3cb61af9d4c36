"""Answers on the wire: framing for old clients, and how long a client may take to take them."""

import asyncio
import json
import pkgutil
import socket
import time
from pathlib import Path
from typing import Self
from unittest.mock import Mock

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Head, ScriptedOrigin, Step
from tests.server.lanes import listener_of
from tests.together import settled, until
from tests.wire import Wire

PASSTHROUGH = {"routes": [{"name": "all", "mode": "passthrough"}]}
CHUNKED: list[Step] = [
    Head(200, {"Transfer-Encoding": "chunked", "Cache-Control": "no-store"}),
    Chunk(b"so"),
    Chunk(b"me"),
    Chunk(b""),
]
COUNTED: list[Step] = [Head(200, {"Content-Length": "4", "Cache-Control": "no-store"}), Body(b"some")]


# --- HTTP/1.0 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["adapt", "passthrough"])
async def test_an_old_client_gets_no_chunks(
    start_adapter: StartAdapter, origin: ScriptedOrigin, mode: str
) -> None:
    adapter = await start_adapter(routes=[{"name": "all", "mode": mode}])
    origin.on("/x", CHUNKED)
    async with adapter.wire() as wire:
        await wire.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        response = await wire.response()
        assert response.body == b"some"
        assert response.fields["Connection"] == "close"
        assert not {"Transfer-Encoding", "Content-Length"} & set(response.fields)


async def test_an_old_client_may_stay(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/x", COUNTED)
    async with adapter.wire() as wire:
        for _ in range(2):
            await wire.send(b"GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            response = await wire.response()
            assert (response.body, response.fields["Connection"]) == (b"some", "keep-alive")
        await wire.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert (await wire.response()).fields["Connection"] == "close"
        assert await wire.closed()


async def test_an_old_client_need_not_say_whom_it_wants(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(origins={"legacy": {"url": origin.url, "host": "preserve"}}, **PASSTHROUGH)
    async with adapter.wire() as wire:
        await wire.send(b"GET /x HTTP/1.0\r\n\r\n")
        await wire.response()
        [request] = origin.requests
        assert request.version == "HTTP/1.1"
        assert request.values("Host") == [f"{wire.host}:{wire.port}"]
        assert request.header("Via") == "1.0 range-adapter"


async def test_errors_of_ours_are_framed_too(adapter: Adapter, origin: ScriptedOrigin) -> None:
    await origin.stop()
    async with adapter.wire() as wire:
        await wire.request("HEAD", "/x")
        response = await wire.response(to_head=True)
        assert response.status == 502
        assert int(response.fields["Content-Length"]) > 0
        await wire.send(b"GET /x HTTP/1.0\r\n\r\n")
        response = await wire.response()
        assert response.body == b"502 Bad Gateway: origin-unreachable\n"
        assert await wire.closed()


# --- A Unix socket --------------------------------------------------------------------------------


class UnixWire(Wire):
    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_unix_connection(self.path)
        return self

    def __init__(self, path: str) -> None:
        super().__init__("http://localhost")
        self.path = path


async def test_a_unix_socket(start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path) -> None:
    path = str(tmp_path / "door")
    await start_adapter(server={"listen": f"unix:{path}", "timeouts": {"send_idle": "300ms"}})
    film = bytes(range(256)) * 40_000
    origin.serve("/film.mp4", film, content_type="video/mp4")
    async with UnixWire(path) as wire:
        for _ in range(2):
            response = await wire.get("/film.mp4", Range="bytes=1-9999999")
            assert (response.status, response.body) == (206, film[1:10_000_000])
        await wire.request("BREW", "/film.mp4")
        await wire.response()
    [fill, brew] = origin.requests
    for request in (fill, brew):
        assert request.header("X-Forwarded-For") is None
        assert (request.header("Forwarded") or "").startswith("for=unknown;host=")


@pytest.mark.parametrize("trusted", [[], ["0.0.0.0/0", "::/0"], ["unix"]])
async def test_a_proxy_behind_a_unix_socket(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path, trusted: list[str]
) -> None:
    path = str(tmp_path / "door")
    await start_adapter(server={"listen": f"unix:{path}", "trusted_proxies": trusted})
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    async with UnixWire(path) as wire:
        await wire.request("BREW", "/x", claims.items())
        await wire.response()
    [request] = origin.requests
    believed = trusted == ["unix"]
    assert request.header("X-Forwarded-Proto") == ("https" if believed else "http")
    assert request.header("X-Forwarded-For") == ("192.0.2.1" if believed else None)


# --- Slow clients ---------------------------------------------------------------------------------

SIZE = 48 << 20


async def big(
    start_adapter: StartAdapter, origin: ScriptedOrigin, way: str, send_idle: str, *, send_rate: str = "100B"
) -> Adapter:
    """An adapter that answers /film from the spool by sendfile, from the spool in pieces, or by relaying."""
    adapter = await start_adapter(
        server={"timeouts": {"send_idle": send_idle}, "limits": {"send_rate": send_rate}},
        routes=[{"name": "all", "mode": "passthrough" if way == "relay" else "adapt"}],
    )
    origin.on(
        "/film",
        [
            Head(200, {"Content-Length": str(SIZE), "Content-Type": "video/mp4"}),
            Body(memoryview(bytes(SIZE))),
        ],
    )
    if way == "spool":
        async with adapter.wire() as wire:
            await wire.get("/film", Range="bytes=0-0")  # of which no client can take too little
        await settled(adapter, origin)
    return adapter


class Sipping(Wire):
    """A client whose kernel takes little."""

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (self.host, self.port))
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=32 << 10)
        return self


async def until_reset(wire: Wire) -> int:
    """How many bytes come before the connection is reset, which it must be."""
    received = 0
    try:
        while data := await wire.reader.read(1 << 16):
            received += len(data)
    except ConnectionError:
        return received
    pytest.fail("the connection ended in good order")


@pytest.mark.parametrize("way", ["spool", "relay"])
async def test_a_client_that_takes_nothing_is_cut_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin, way: str
) -> None:
    adapter = await big(start_adapter, origin, way, "300ms")
    async with Sipping(adapter.url) as wire:
        begun = time.monotonic()
        await wire.request("GET", "/film")
        await wire.response_head()
        if way == "relay":
            await origin.disconnected("/film")
        else:
            while adapter.service.in_progress:  # noqa: ASYNC110  # no event tells from outside
                await asyncio.sleep(0.05)
        assert time.monotonic() - begun < 10
        assert await until_reset(wire) < SIZE
    assert await timed_out(adapter) == {"send_idle": 1}


@pytest.mark.parametrize("way", ["spool", "relay"])
async def test_a_client_that_takes_little_by_little_is_served(
    start_adapter: StartAdapter, origin: ScriptedOrigin, way: str
) -> None:
    """The kernel wakes us when a third of its buffer is free again: for longer than `send_idle`, nothing is sent."""
    adapter = await big(start_adapter, origin, way, "250ms")
    async with Sipping(adapter.url) as wire:
        await wire.request("GET", "/film", Range="bytes=0-8388607")
        await wire.response_head()
        begun, received = time.monotonic(), 0
        while received < 6 << 20:
            data = await wire.reader.read(1 << 16)
            assert data, f"cut off after {received} bytes"
            received += len(data)
            await asyncio.sleep(begun + received / (1 << 20) - time.monotonic())  # 1 MiB a second


async def test_little_waits_here_for_a_slow_client(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """Of a file either, behind the end of another answer."""
    adapter = await big(start_adapter, origin, "spool", "60s")
    await until(lambda: not listener_of(adapter).connections)
    async with Sipping(adapter.url) as wire:
        await until(lambda: bool(listener_of(adapter).connections))
        [connection] = listener_of(adapter).connections
        transport = connection.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while not transport.get_write_buffer_size():
            await wire.request("GET", "/film", Range="bytes=0-9999", Cache_Control="max-age=9999")
            await asyncio.sleep(0.01)
        await wire.request("GET", "/film", Cache_Control="max-age=9999")
        await until(lambda: adapter.service.in_progress == 1 and transport.get_write_buffer_size() > 16 << 10)
        assert transport.get_write_buffer_size() < 100_000


async def test_what_nobody_waits_for_any_more_is_left_to_the_kernel(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """An answer that has been written to its end, but not taken, must not hold its connection for ever."""
    adapter = await start_adapter(server={"timeouts": {"send_idle": "300ms"}}, **PASSTHROUGH)
    async with Sipping(adapter.url) as wire:
        origin.on("/x", [Head(200, {"Content-Length": str(60 << 10)}), Body(bytes(60 << 10))])
        for _ in range(200):  # pipelined: more answers than both kernels hold
            await wire.request("GET", "/x")
        await origin.requested("/x")
        assert adapter.service._public.server is not None
        await until(lambda: not adapter.service._public.server.connections)  # type: ignore[union-attr]
        assert await until_reset(wire) < 200 * (60 << 10)


async def timed_out(adapter: Adapter) -> dict[str, int]:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        status = json.loads((await wire.get("/status.json")).body)
    return {limit: count for limit, count in status["connections"]["timed_out"].items() if count}


async def sip(wire: Wire) -> int:
    """Take a little now and then, some MB a second, until the connection is reset; how much that was."""
    received = 0
    try:
        while data := await wire.reader.read(1 << 16):
            received += len(data)
            await asyncio.sleep(0.02)
    except ConnectionError:
        return received
    pytest.fail("the connection ended in good order")


@pytest.mark.parametrize("way", ["spool", "relay"])
async def test_a_client_that_takes_too_little_is_cut_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin, way: str
) -> None:
    adapter = await big(start_adapter, origin, way, "300ms", send_rate="1GB")
    async with Sipping(adapter.url) as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        assert 0 < await sip(wire) < SIZE
    assert await timed_out(adapter) == {"send_rate": 1}


async def test_and_so_is_one_that_takes_too_little_of_what_is_written_already(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(
        server={"timeouts": {"send_idle": "300ms"}, "limits": {"send_rate": "1GB"}}, **PASSTHROUGH
    )
    origin.on("/x", [Head(200, {"Content-Length": str(15 << 10)}), Body(bytes(15 << 10))])
    async with Sipping(adapter.url) as wire:
        for number in range(4000):
            await wire.request("GET", "/x")
            await origin.requested("/x", number + 1)
            await until(lambda: not adapter.service.in_progress)
            [connection] = adapter.service._public.server.connections  # type: ignore[union-attr]
            assert connection.transport is not None
            if connection.transport.get_write_buffer_size():
                break
        assert await sip(wire) > 0
    assert await timed_out(adapter) == {"send_rate": 1}


# --- Errors of our own ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["handler.read_request", "relay.Relay.ask", "exchange.Exchange.write"])
async def test_a_bug_of_ours_is_a_500_that_tells_nothing(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Even while a head waits for its body."""
    adapter = await start_adapter(**PASSTHROUGH)
    origin.on("/x", COUNTED)
    bugs = [RuntimeError("a secret")]
    replaced = f"proxy.server.{where}"
    module, _, name = replaced.rpartition(".")
    original = getattr(pkgutil.resolve_name(module), name)

    def broken(*arguments: object, **options: object) -> object:
        if bugs:
            raise bugs.pop()
        return original(*arguments, **options)

    monkeypatch.setattr(replaced, broken)
    log = Mock()
    monkeypatch.setattr("proxy.server.handler._log", log)
    async with adapter.wire() as wire:
        response = await wire.get("/x")
        assert (response.status, response.body) == (500, b"500 Internal Server Error: internal-error\n")
        assert "detail=internal-error" in response.cache_status
        assert (await wire.get("/x")).body == b"some"
    log.exception.assert_called_once()
