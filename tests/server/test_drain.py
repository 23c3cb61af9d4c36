"""The end: running answers finish within `drain`, new ones are refused, and it never takes longer."""

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Gate, Head, Pause, ScriptedOrigin, Stall
from tests.server.process import serving
from tests.server.test_exchange import UnixWire
from tests.together import busy, until
from tests.wire import Truncated, Wire

FILM = bytes(range(256)) * 4096


def refuses(adapter: Adapter) -> bool:
    host, port = adapter.wire().host, adapter.wire().port
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) != 0


def accepts(door: Path) -> bool:
    """The file is there before anybody listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(door)) == 0


@pytest.mark.parametrize("at", [None, 1000], ids=["before the head", "in the body"])
async def test_running_answers_end_whole_and_say_that_they_are_the_last(
    start_adapter: StartAdapter, origin: ScriptedOrigin, at: int | None
) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "60s"}})
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at)
    async with adapter.wire() as idle, adapter.wire() as first, adapter.wire() as seek:
        assert (await idle.get("/other")).status == 404
        await first.request("GET", "/film.mp4")
        await gate.reached()
        await seek.request("GET", "/film.mp4", Range="bytes=900000-900009")
        await busy(adapter, 2)
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        assert refuses(adapter)
        assert await idle.closed()
        gate.open()
        whole, part = await first.response(), await seek.response()
        assert whole.body == FILM
        assert (part.status, part.body) == (206, FILM[900000:900010])
        if at is None:
            assert whole.fields["Connection"] == part.fields["Connection"] == "close"
        assert await first.closed()
        assert await seek.closed()
        await stopping


async def test_a_slow_client_may_finish(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM * 4)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4")
        head = await wire.response_head()
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        left = int(head.fields["Content-Length"])
        while left:
            left -= len(await wire.body(min(left, 100_000)))
        assert await wire.closed()
        await stopping


async def test_a_pipelined_request_behind_the_last_answer_is_not_answered(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", None)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4")
        await gate.reached()
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        await wire.request("GET", "/film.mp4")
        gate.open()
        assert (await wire.response()).fields["Connection"] == "close"
        assert await wire.closed()
        await stopping
    assert origin.count("/film.mp4") == 1


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("kind", ["known", "chunked", "passing", "relayed", "waits for the head"])
async def test_what_is_not_done_in_time_is_cut_and_looks_cut(
    start_adapter: StartAdapter, origin: ScriptedOrigin, kind: str, version: str
) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "100ms"}})
    fields = {"Cache-Control": "no-store"} if kind == "passing" else {}
    origin.serve("/film.mp4", FILM, chunked=kind == "chunked" or kind == "passing", headers=fields)
    gate = origin.gate("/film.mp4", None if kind == "waits for the head" else 500_000)
    async with adapter.wire() as wire:
        await wire.request("POST" if kind == "relayed" else "GET", "/film.mp4", version=version)
        await gate.reached()
        begun = time.monotonic()
        if kind == "waits for the head":
            await adapter.service.stop()
            assert await wire.closed()
        else:
            await wire.response_head()
            stopping = asyncio.create_task(adapter.service.stop())
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await wire.body(len(FILM))
            await stopping
        assert time.monotonic() - begun < 5
    await origin.idle()  # nothing of ours hangs on to the origin


async def test_a_client_that_takes_nothing_does_not_delay_the_end(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "100ms"}})
    origin.serve("/film.mp4", FILM * 32)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4")
        await wire.response_head()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        begun = time.monotonic()
        await adapter.service.stop()
        assert time.monotonic() - begun < 5


async def test_a_tunnel_does_not_delay_the_end(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "60s"}})
    switching = Head(101, {"Connection": "Upgrade", "Upgrade": "websocket"})
    origin.on("/ws", [switching, Stall()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/ws", Connection="Upgrade", Upgrade="websocket")
        assert (await wire.response_head()).status == 101
        begun = time.monotonic()
        await adapter.service.stop()
        assert time.monotonic() - begun < 5
        assert await wire.closed()
    await origin.disconnected("/ws")


async def test_a_tunnel_that_opens_during_the_end_ends_too(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "60s"}})
    gate = Gate()
    origin.on("/ws", [Pause(gate), Head(101, {"Connection": "Upgrade", "Upgrade": "websocket"}), Stall()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/ws", Connection="Upgrade", Upgrade="websocket")
        await gate.reached()
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        gate.open()
        await asyncio.wait_for(stopping, 5)


async def test_nobody_can_tell_a_cut_http_1_0_answer_from_nothing_by_a_clean_end(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """Where the end of the connection is the end of the body, a cut must be a reset."""
    adapter = await start_adapter(server={"timeouts": {"drain": "0s"}})
    origin.serve("/film.mp4", FILM, chunked=True)
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4", version="HTTP/1.0")
        await wire.response_head()
        await wire.body(1000)
        await gate.reached()
        stopping = asyncio.create_task(adapter.service.stop())
        with pytest.raises(ConnectionResetError):
            await wire.body(1)
        await stopping


async def test_fills_that_nobody_follows_do_not_delay_the_end(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "60s"}})
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4", Range="bytes=0-9")
        assert (await wire.response()).status == 206
        await gate.reached()
    async with asyncio.timeout(20):
        await adapter.service.stop()
    await origin.disconnected("/film.mp4")


async def test_while_draining_the_admin_listener_says_so(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000)
    admin = adapter.service.admin_address
    assert admin is not None
    async with adapter.wire() as wire, Wire(admin) as probe:
        assert (await probe.get("/readyz")).status == 200
        await wire.request("GET", "/film.mp4")
        await gate.reached()
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        response = await probe.get("/readyz")
        assert (response.status, response.body) == (503, b"draining\n")
        assert (await probe.get("/livez")).status == 200
        async with Wire(admin) as another:
            assert b'"ready": false' in (await another.get("/status.json")).body
        gate.open()
        assert (await wire.response()).body == FILM
        await stopping


# --- As a process ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_in_good_order(
    origin: ScriptedOrigin, tmp_path: Path, number: signal.Signals
) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000)
    async with serving(origin, tmp_path) as service:
        await service.ready()
        async with Wire(service.url) as wire:
            await wire.request("GET", "/film.mp4")
            await gate.reached()
            service.process.send_signal(number)
            assert await service.notice() == "STOPPING=1"
            gate.open()
            assert (await wire.response()).body == FILM
            assert await wire.closed()
        status, errors = await service.ended()
        assert (status, "Traceback" in errors) == (0, False), errors


async def test_a_hangup_is_no_end(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    async with serving(origin, tmp_path) as service:
        await service.ready()
        async with Wire(service.url) as wire:
            service.process.send_signal(signal.SIGHUP)
            await until(lambda: "SIGHUP is ignored" in service.errors)
            assert (await wire.get("/film.mp4")).body == FILM


async def test_who_does_not_read_the_log_delays_no_end(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    door = tmp_path / "door"
    command = ("-m", "proxy", "serve", "--origin", origin.url, "--spool", str(tmp_path / "spool"))
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, *("--listen", f"unix:{door}", "--admin", "127.0.0.1:0"), stderr=writing
    )
    os.close(writing)
    try:
        await until(lambda: accepts(door))
        async with UnixWire(str(door)) as wire:
            for _ in range(100):  # more than a pipe holds
                await wire.get("/film.mp4", User_Agent="x" * 2000)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            assert await process.wait() == 0
    finally:
        os.close(reading)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_second_signal_ends_it_at_once(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000)
    async with serving(origin, tmp_path, drain="60s") as service:
        await service.ready()
        async with Wire(service.url) as wire:
            await wire.request("GET", "/film.mp4")
            await gate.reached()
            service.process.send_signal(signal.SIGTERM)
            assert await service.notice() == "STOPPING=1"
            service.process.send_signal(signal.SIGTERM)
            status, _ = await service.ended()
            assert status == -signal.SIGTERM
            with pytest.raises((Truncated, asyncio.IncompleteReadError, ConnectionError)):
                await wire.response()


async def test_a_service_that_cannot_start_says_why_and_ends_with_1(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    async with serving(origin, tmp_path) as first:
        await first.ready()
        other = tmp_path / "other"
        other.mkdir()
        (other / "spool").symlink_to(tmp_path / "spool")
        async with serving(origin, other) as second:
            status, errors = await second.ended()
    assert status in {1, 2}
    assert "in use" in errors
    assert "Traceback" not in errors
