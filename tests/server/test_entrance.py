"""Past the limits on connections: a quick 503 that arrives, and those that are there are served on."""

import asyncio
import json
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.server import entrance, refusing
from proxy.server.memory import give_back
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.server.process import serving
from tests.server.test_exchange import UnixWire
from tests.together import until
from tests.wire import Response, Wire

FILM = bytes(range(256)) * 400


async def report(adapter: Adapter) -> dict[str, Any]:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        return json.loads((await wire.get("/status.json")).body)["connections"]  # type: ignore[no-any-return]


async def metric(adapter: Adapter, sample: str) -> float:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        lines = (await wire.get("/metrics")).body.decode().splitlines()
    [value] = [line.split(" ")[-1] for line in lines if line.startswith(f"{sample} ")]
    return float(value)


@asynccontextmanager
async def held(url: str, count: int) -> AsyncIterator[list[Wire]]:
    """So many connections, each of which has had an answer."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire(url)) for _ in range(count)]
        for wire in wires:
            assert (await wire.get("/film.mp4", Range="bytes=0-9")).status == 206
        yield wires


async def settled(adapter: Adapter, count: int) -> None:
    while (await report(adapter))["open"] != count:
        pass


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("connections", "too-many-connections"),
        ("connections_per_client", "too-many-connections-of-client"),
    ],
)
async def test_one_too_many_is_told_so_and_the_others_are_served(
    start_adapter: StartAdapter, origin: ScriptedOrigin, limit: str, reason: str
) -> None:
    adapter = await start_adapter(server={"limits": {limit: 3}})
    origin.serve("/film.mp4", FILM)
    with capture_logs() as lines:
        async with held(adapter.url, 3) as wires:
            for _ in range(5):
                async with adapter.wire() as wire:
                    await wire.request("GET", "/film.mp4")
                    response = await wire.response()
                    assert (response.status, response.fields["Retry-After"]) == (503, "5")
                    assert response.body == f"503 Service Unavailable: {reason}\n".encode()
                    assert response.cache_status == f"range-adapter;detail={reason}"
                    assert response.fields["Connection"] == "close"
                    assert await wire.closed()
            for wire in wires:
                assert (await wire.get("/film.mp4")).body == FILM
            told = await report(adapter)
            assert (told["open"], told["refused"][limit]) == (3, 5)
        await settled(adapter, 0)
        async with adapter.wire() as wire:
            assert (await wire.get("/film.mp4")).body == FILM
            assert await metric(adapter, "range_adapter_connections") == 1
    assert await metric(adapter, f'range_adapter_refused_connections_total{{limit="{limit}"}}') == 5
    refused = [line for line in lines if line["event"] == "connections are refused"]
    assert [line["reason"] for line in refused] == [limit], "one line, not five"


async def test_a_client_that_says_nothing_is_told_too(start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(server={"limits": {"connections": 1}})
    async with adapter.wire(), adapter.wire() as wire:
        assert (await wire.response()).status == 503
        assert await wire.closed()


async def test_the_answer_arrives_at_a_client_that_is_still_sending(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """Whoever closes with unread bytes resets the connection: the client would see that, and no answer."""
    adapter = await start_adapter(server={"limits": {"connections": 1}})
    origin.serve("/film.mp4", FILM)
    async with held(adapter.url, 1), adapter.wire() as wire:
        await wire.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
        for _ in range(80):
            await wire.send(bytes(100_000))
        assert (await wire.response()).status == 503
        assert await wire.reader.read() == b"", "an end in good order, not a reset"


async def keep_sending(wire: Wire) -> None:
    """Until nobody takes it."""
    while True:
        await wire.send(b"x")
        await asyncio.sleep(0.001)


async def test_one_that_does_not_close_is_closed(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "LINGER", 0.05)
    adapter = await start_adapter(server={"limits": {"connections": 1}})
    async with adapter.wire(), adapter.wire() as wire:
        assert (await wire.response()).status == 503
        with pytest.raises(ConnectionError):
            await keep_sending(wire)


async def test_there_is_a_bound_to_those_too(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.entrance.REFUSED_AT_ONCE", 2)
    monkeypatch.setattr(refusing, "SPEAK_AFTER", 60)
    adapter = await start_adapter(server={"limits": {"connections": 1}})
    async with adapter.wire(), adapter.wire() as second, adapter.wire() as third:
        async with adapter.wire() as fourth:  # is told, too, and not waited for
            assert (await fourth.response()).status == 503
            assert await fourth.closed()
        for wire in (second, third):
            await wire.request("GET", "/x")
            assert (await wire.response()).status == 503
        assert (await report(adapter))["refused"]["connections"] == 3


async def test_a_unix_socket_is_not_one_client(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    path = str(tmp_path / "door")
    adapter = await start_adapter(
        server={"listen": f"unix:{path}", "limits": {"connections": 3, "connections_per_client": 1}}
    )
    origin.serve("/film.mp4", FILM)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            wire = await stack.enter_async_context(UnixWire(path))
            assert (await wire.get("/film.mp4")).body == FILM
        async with UnixWire(path) as wire:
            await wire.request("GET", "/film.mp4")
            assert (await wire.response()).status == 503
    await settled(adapter, 0)


async def test_an_end_with_refused_connections_is_an_end(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusing, "SPEAK_AFTER", 60)
    adapter = await start_adapter(server={"limits": {"connections": 1}})
    async with adapter.wire(), adapter.wire() as wire:
        while not (await report(adapter))["refused"]["connections"]:
            pass
        await adapter.service.stop()
        assert await wire.closed()


async def test_a_crowd_that_has_gone_leaves_no_memory_behind(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def giving_back() -> None:
        given.append(1)
        give_back()

    monkeypatch.setattr(entrance, "CROWD_GONE", 0.01)
    monkeypatch.setattr(entrance, "give_back", giving_back)
    adapter = await start_adapter()
    origin.serve("/film.mp4", FILM)
    async with held(adapter.url, entrance.CROWD):
        await asyncio.sleep(0.1)
        assert not given
    await until(lambda: bool(given))
    await asyncio.sleep(0.1)
    assert given == [1], "once"


async def test_fewer_than_configured_are_logged(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    with capture_logs() as lines:
        adapter = await start_adapter()
    [line] = [line for line in lines if line["event"].startswith("fewer connections")]
    assert (line["configured"], line["open_files"]) == (4096, 1024)
    assert 250 < line["connections"] == (await report(adapter))["max"] < 512


# --- Where no descriptor is left ------------------------------------------------------------------


def flood(url: str, count: int) -> list[socket.socket]:
    """So many connections that send half a request."""
    wire = Wire(url)
    socks = []
    for _ in range(count):
        sock = socket.create_connection((wire.host, wire.port))
        sock.send(b"GET /film.mp4 HTTP/1.1\r\nHost:")
        socks.append(sock)
    return socks


async def answer(url: str, status: int) -> Response:
    """The first answer with this status; some connections are closed without any, meanwhile."""
    while True:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            async with Wire(url) as wire:
                response = await wire.get("/film.mp4")
                if response.status == status:
                    return response


async def test_a_limit_of_open_files_that_sinks_is_survived(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    async with serving(origin, tmp_path, admin="127.0.0.1:0") as service:
        await service.ready()
        async with held(service.url, 3) as wires, Wire(service.admin_url) as admin:
            await admin.get("/livez")
            in_use = len(os.listdir(f"/proc/{service.process.pid}/fd"))
            _, most = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (in_use + 10, most))
            socks = await asyncio.to_thread(flood, service.url, 300)
            for _ in range(20):
                for wire in wires:
                    assert (await wire.get("/film.mp4")).body == FILM
                async with Wire(service.admin_url) as another:
                    assert (await another.get("/livez")).status == 200
            refused = await answer(service.url, 503)
            assert "too-few-descriptors" in refused.cache_status
            for sock in socks:
                sock.close()
            assert (await answer(service.url, 200)).body == FILM
            status = json.loads((await admin.get("/status.json")).body)["connections"]
            assert status["refused"]["descriptors"] > 100
        assert "Traceback" not in service.errors
        assert service.errors.count("connections are refused") == 1
        ours = [line for line in service.errors.splitlines() if '"logger": "asyncio"' not in line]
        assert len(ours) < 100 + 70  # one for each request, few besides


async def test_a_low_limit_of_open_files_and_a_flood(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    async with serving(origin, tmp_path, admin="127.0.0.1:0", ulimit="-n 200") as service:
        await service.ready()
        assert "fewer connections than server.limits.connections" in service.errors
        async with held(service.url, 3) as wires:
            socks = await asyncio.to_thread(flood, service.url, 400)
            for _ in range(20):
                for wire in wires:
                    assert (await wire.get("/film.mp4")).body == FILM
                async with Wire(service.admin_url) as admin:
                    status = json.loads((await admin.get("/status.json")).body)["connections"]
            assert status["open"] == status["max"] == 50
            assert status["refused"]["descriptors"] == 0, "the limit sees to that"
            for sock in socks:
                sock.close()
        assert "Traceback" not in service.errors
