"""Who takes what is sent, however slowly it must, is waited for; who does not is not."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.patience import Patience, TakesNothing, TakesTooLittle, Watch

SECONDS = 0.2
PIECE = bytes(1 << 20)


class Peers:
    """A writer, and whoever takes what it writes."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.taken = 0

    async def connect(self) -> None:
        if self._kind == "unix":
            ours, self.theirs = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                ours = socket.create_connection(listening.getsockname())
                self.theirs, _ = listening.accept()
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.theirs.setblocking(False)
        self.reader, self.writer = await asyncio.open_connection(sock=ours)

    async def take(self, rate: int) -> None:
        """So many bytes a second."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while data := await loop.sock_recv(self.theirs, 16 << 10):
            self.taken += len(data)
            await asyncio.sleep(begun + self.taken / rate - loop.time())

    async def close(self) -> None:
        self.theirs.close()
        self.writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture(params=["tcp", "unix"])
async def peers(request: pytest.FixtureRequest) -> AsyncIterator[Peers]:
    made = Peers(request.param)
    await made.connect()
    yield made
    await made.close()


async def send(peers: Peers, patience: Patience, size: int) -> None:
    while size > 0:
        peers.writer.write(PIECE)
        size -= len(PIECE)
        async with patience:
            await peers.writer.drain()


async def test_who_takes_nothing(peers: Peers) -> None:
    with pytest.raises(TakesNothing):
        await send(peers, Patience(peers.writer.transport, SECONDS), 1 << 30)


async def test_who_takes_little_and_steadily_is_waited_for(peers: Peers) -> None:
    taking = asyncio.create_task(peers.take(4 << 20))
    await send(peers, Patience(peers.writer.transport, SECONDS, rate=1 << 20), 8 << 20)
    taking.cancel()


async def test_who_takes_too_little(peers: Peers) -> None:
    taking = asyncio.create_task(peers.take(4 << 20))
    with pytest.raises(TakesTooLittle):
        await send(peers, Patience(peers.writer.transport, SECONDS, rate=1 << 30), 1 << 30)
    assert peers.taken > 0
    taking.cancel()


async def test_what_is_taken_while_nobody_waits_counts_and_that_time_does_not(peers: Peers) -> None:
    patience = Patience(peers.writer.transport, SECONDS, rate=1 << 20)
    taking = asyncio.create_task(peers.take(1 << 30))
    for _ in range(3):
        await send(peers, patience, 2 << 20)
        await asyncio.sleep(SECONDS)
    taking.cancel()


async def test_waiting_for_something_else_fails_as_it_does(peers: Peers) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with Patience(peers.writer.transport, 60):
            raise TimeoutError("another")
    assert str(caught.value) == "another"


async def test_a_watch_tells_once(peers: Peers) -> None:
    told: list[TimeoutError] = []
    peers.writer.write(PIECE * 8)
    watch = Watch(peers.writer.transport, SECONDS / 4, told.append)
    await asyncio.sleep(SECONDS)
    watch.stop()
    assert [type(error) for error in told] == [TakesNothing]
