"""Files onto a socket that is full: the head, then the body, and nothing of the loop's own is in the way."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from proxy.errors import SpoolError
from proxy.server.sending import Sending, way_of
from proxy.spool.body import Body
from proxy.spool.threads import Threads
from tests.server.pki import Pki
from tests.server.test_encrypted import pair
from tests.spool.objects import MIB, pattern

FILM = pattern(3 * MIB)
HEAD = b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 3000 + b"\r\n\r\n"


@pytest.fixture
def body(tmp_path: Path) -> Iterator[Body]:
    threads = Threads()
    descriptor = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, FILM, 0)
    yield (body := Body(descriptor, threads))
    body.release()
    threads.shutdown()


class Full:
    """A connection whose kernel takes nothing more: `before` is what it has taken."""

    def __init__(self, transport: asyncio.Transport, client: socket.socket, before: int) -> None:
        self.transport, self.client, self.before = transport, client, before
        self.over = asyncio.get_running_loop().create_future()

    def send(self, head: bytes, body: Body, start: int, stop: int) -> Sending:
        return Sending(
            self.transport,
            way_of(self.transport),
            head,
            body,
            start,
            stop,
            self._told,
            send_idle=60,
            send_rate=0,
        )

    def _told(self, sent: int, error: BaseException | None) -> None:
        self.over.set_result((sent, error))

    async def answer(self, size: int) -> bytes:
        """What comes behind all that was there before: so many bytes."""
        loop, found = asyncio.get_running_loop(), b""
        while len(found) < self.before + size:
            piece = await loop.sock_recv(self.client, 1 << 16)
            assert piece
            found += piece
        before, self.before = self.before, 0
        return found[before:]


@asynccontextmanager
async def full() -> AsyncIterator[Full]:
    loop, before = asyncio.get_running_loop(), 0
    ours, client = socket.socketpair()
    ours.setblocking(False)
    client.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with suppress(BlockingIOError):
        while True:
            before += ours.send(b"-" * 100)
    try:
        yield Full(transport, client, before)
    finally:
        transport.abort()
        client.close()


@pytest.mark.parametrize(("start", "stop"), [(0, 3 * MIB), (5, 6), (0, 0)], ids=["large", "byte", "empty"])
async def test_the_head_is_first(body: Body, start: int, stop: int) -> None:
    async with full() as connection:
        sending = connection.send(HEAD, body, start, stop)
        assert await connection.answer(len(HEAD) + stop - start) == HEAD + FILM[start:stop]
        assert await connection.over == (stop - start, None)
        assert sending.done.done()


async def test_it_is_read_again_afterwards(body: Body) -> None:
    """The loop watches the descriptor for the transport as if nothing had been."""
    async with full() as connection:
        connection.send(b"", body, 0, 10)
        assert not connection.transport.is_reading()
        await connection.answer(10)
        await connection.over
        connection.transport.resume_reading()
        connection.transport.write(b"more" * MIB)
        assert await connection.answer(4 * MIB) == b"more" * MIB


async def test_who_ends_it_is_told_how_far_it_was(body: Body) -> None:
    async with full() as connection:
        connection.send(b"", body, 0, 3 * MIB).done.cancel()
        sent, error = await connection.over
        assert sent == 0
        assert isinstance(error, asyncio.CancelledError)


async def test_a_client_that_leaves(body: Body) -> None:
    async with full() as connection:
        connection.send(HEAD, body, 0, 3 * MIB)
        connection.client.close()
        _, error = await connection.over
        assert isinstance(error, ConnectionError)


async def test_a_file_that_is_shorter_than_promised(body: Body) -> None:
    async with full() as connection:
        connection.send(b"", body, 3 * MIB - 10, 4 * MIB)
        await connection.answer(0)
        sent, error = await connection.over
        assert sent == 0, "it is looked for first"
        assert isinstance(error, SpoolError)


async def test_it_is_not_over_while_a_record_waits(body: Body, pki: Pki) -> None:
    async with pair(pki) as (transport, _, client, below):
        below.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        waiting = asyncio.get_running_loop().create_future()

        def over(sent: int, error: BaseException | None) -> None:
            waiting.set_result((sent, error, transport.get_write_buffer_size()))

        Sending(transport, transport, HEAD, body, 0, MIB, over, send_idle=60, send_rate=0)
        assert await client.answer(MIB) == FILM[:MIB]
        assert await waiting == (MIB, None, 0)
