"""What a connection takes: far less than what is read of it or written to it at a time."""

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import ScriptedOrigin
from tests.together import settled, until

BEFORE = 10
COUNT = 100
FILM = bytes(range(256)) * 32_768
BROWSER = (
    *(("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "video"), ("Sec-Fetch-Site", "same-origin")),
    *(("Sec-CH-UA", '"Chromium";v="150", "Not A(Brand";v="24"'), ("Sec-CH-UA-Platform", '"Linux"')),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0"),
    *(("Accept", "*/*"), ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"), ("Accept-Encoding", "identity;q=1")),
    *(("Referer", "http://media.example.com/player/?film=1"), ("Cookie", "_ga=GA1.1.1234567890.1234567890")),
)


class Crowd:
    """Clients that cost this process next to nothing: sockets with small buffers, read when they are told."""

    def __init__(self, adapter: Adapter) -> None:
        wire = adapter.wire()
        self._door = wire.host, wire.port
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []

    async def come(self, count: int, target: str, *fields: tuple[str, str]) -> None:
        """So many more, each with a request like a browser's."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (("Host", "a"), *BROWSER, *fields))
        for _ in range(count):
            sock = socket.socket()
            self._sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await self._loop.sock_connect(sock, self._door)
            await self._loop.sock_sendall(sock, f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())

    async def take(self, count: int, end: bytes) -> None:
        """Let the last `count` read up to what ends so."""
        for sock in self._sockets[-count:]:
            data = b""
            while not data.endswith(end):
                data += await self._loop.sock_recv(sock, 4096)

    async def taste(self, count: int) -> None:
        """Let the last `count` read the beginning of what comes."""
        for sock in self._sockets[-count:]:
            assert await self._loop.sock_recv(sock, 100)

    def go(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
async def crowd(adapter: Adapter) -> AsyncIterator[Crowd]:
    crowd = Crowd(adapter)
    yield crowd
    tracemalloc.stop()
    crowd.go()


def allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def store(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4", Host="a")
    await settled(adapter, origin)
    await until(lambda: not any(task.get_name().startswith("digest") for task in asyncio.all_tasks()))
    tracemalloc.start()


async def test_who_is_idle(adapter: Adapter, crowd: Crowd, origin: ScriptedOrigin) -> None:
    await store(adapter, origin)
    before = 0
    for count in (BEFORE, COUNT):  # what the first ones take is not what each takes
        before = allocated()
        await crowd.come(count, "/film.mp4", ("Range", "bytes=250-255"))
        await crowd.take(count, FILM[250:256])
        await until(lambda: not adapter.service.in_progress)
    assert (allocated() - before) / COUNT < 12_000


async def test_who_reads_slowly_what_is_stored(
    adapter: Adapter, crowd: Crowd, origin: ScriptedOrigin
) -> None:
    await store(adapter, origin)
    before = 0
    for count in (BEFORE, COUNT):
        before = allocated()
        await crowd.come(count, "/film.mp4")
        await crowd.taste(count)
    assert adapter.service.in_progress == BEFORE + COUNT
    assert (allocated() - before) / COUNT < 20_000


async def test_who_follows_what_grows_slowly(adapter: Adapter, crowd: Crowd, origin: ScriptedOrigin) -> None:
    """Whatever they have been sent before: nobody keeps that while there is no more."""
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 60_000)
    tracemalloc.start()
    await crowd.come(BEFORE, "/film.mp4")
    await gate.reached()
    await crowd.take(BEFORE, FILM[:60_000][-50:])
    before = allocated()
    await crowd.come(COUNT, "/film.mp4")
    await crowd.take(COUNT, FILM[:60_000][-50:])
    [fill] = adapter.service._cache.fills()
    await until(lambda: fill._progress.awaited == [60_000] * (BEFORE + COUNT))
    assert (allocated() - before) / COUNT < 20_000
