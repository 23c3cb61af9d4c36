"""The scripted origin does what scripts say, seen from a raw socket."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.scripted_origin import (
    Body,
    Chunk,
    Cut,
    Gate,
    Head,
    OriginRequest,
    Pause,
    Raw,
    Read,
    ReadBody,
    Reset,
    ScriptedOrigin,
    Stall,
    Step,
)

FILM = bytes(range(256)) * 1000


class Client:
    """A raw connection to the origin."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, target: str, fields: str = "", method: str = "GET") -> None:
        await self.send(f"{method} {target} HTTP/1.1\r\nHost: origin\r\n{fields}\r\n".encode())

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")

    async def exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        return await self.reader.read()


@asynccontextmanager
async def connect(origin: ScriptedOrigin) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_answers_200_whatever_the_range_says() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        origin.serve("/film.mp4", FILM, headers={"X-Legacy": "yes"})
        await client.get("/film.mp4?", "Range: bytes=5-9\r\nx-odd:  spaced \r\n")
        head = await client.head()
        assert head.startswith(
            "HTTP/1.1 200 OK\r\nX-Legacy: yes\r\nContent-Type: video/mp4\r\nContent-Length: 256000"
        )
        assert await client.exactly(len(FILM)) == FILM
        await origin.idle()
        (request,) = origin.requests
        assert request.target == b"/film.mp4?"
        assert request.path == "/film.mp4"
        assert request.headers[1:] == ((b"Range", b"bytes=5-9"), (b"x-odd", b"spaced"))
        assert (request.sent, request.done, request.left) == (len(FILM), True, False)
        assert origin.count("/film.mp4") == origin.count("/film.mp4?") == 1
        assert origin.count("/film.mp4", "HEAD") == 0


async def test_keeps_the_connection() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        origin.serve("/a", b"abc")
        origin.serve("/b", b"defg", chunked=True)
        await client.get("/a", method="HEAD")
        assert "Content-Length: 3" in await client.head()
        await client.get("/b")
        assert "Transfer-Encoding: chunked" in await client.head()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"4\r\ndefg\r\n0\r\n\r\n"
        await client.get("/nowhere")
        assert " 404 " in await client.head()
        await client.get("/a")
        await client.head()
        assert await client.exactly(3) == b"abc"
        assert origin.connections == 1
        assert [request.connection for request in origin.requests] == [1, 1, 1, 1]


async def test_ends_a_body_by_closing_and_lies_about_its_length() -> None:
    async with ScriptedOrigin() as origin:
        origin.serve("/open", FILM, close_delimited=True)
        origin.serve("/short", FILM, content_length=len(FILM) + 1)
        for path in ("/open", "/short"):
            async with connect(origin) as client:
                await client.get(path)
                await client.head()
                assert await client.rest() == FILM


async def test_conditional_and_refused_head() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        origin.serve("/a", b"abc", headers={"ETag": '"v1"'}, conditional=True, accept_head=False)
        await client.get("/a", method="HEAD")
        assert " 405 " in await client.head()
        await client.get("/a", 'If-None-Match: "v1"\r\n')
        assert await client.head() == 'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n'
        await client.get("/a", 'If-None-Match: "v0"\r\n')
        assert " 200 " in await client.head()


async def test_gates_stop_the_body_at_the_byte() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        origin.serve("/film.mp4", FILM)
        before = origin.gate("/film.mp4", at=None)
        middle = origin.gate("/film.mp4", at=1000)
        end = origin.gate("/film.mp4", at=len(FILM))
        await client.get("/film.mp4")
        await before.reached()
        assert (origin.active, origin.requests[0].sent) == (1, 0)
        before.open()
        await client.head()
        await middle.reached()
        assert await client.exactly(1000) == FILM[:1000]
        assert origin.requests[0].sent == 1000
        middle.open()
        await end.reached()
        assert await client.exactly(len(FILM) - 1000) == FILM[1000:]
        assert not origin.requests[0].done
        end.open()
        await origin.idle()


async def test_counts_concurrent_requests() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as one, connect(origin) as two:
        origin.serve("/a", b"abc")
        gate = origin.gate("/a", at=0)
        await one.get("/a")
        await two.get("/a")
        await gate.reached(2)
        assert (origin.active, origin.peak) == (2, 2)
        gate.open()
        await origin.idle()
        assert (origin.active, origin.peak) == (0, 2)


@pytest.mark.parametrize("script", [[Stall()], [Head(200), Pause(Gate())], [Head(200), Body(bytes(10**8))]])
async def test_sees_the_peer_leave(script: list[Step]) -> None:
    async with ScriptedOrigin(script) as origin:
        async with connect(origin) as client:
            await client.get("/a")
            await origin.requested("/a")
        await origin.disconnected("/a")
        assert origin.requests[0].left


async def test_cut_and_reset() -> None:
    async with ScriptedOrigin() as origin:
        origin.once("/a", [Head(200, {"Content-Length": "9"}), Body(b"abc"), Cut()])
        origin.once("/a", [Reset()])
        async with connect(origin) as client:
            await client.get("/a")
            await client.head()
            assert await client.rest() == b"abc"
        async with connect(origin) as client:
            await client.get("/a")
            with pytest.raises(ConnectionResetError):
                await client.head()
        assert not any(request.left for request in origin.requests)


async def test_reads_bodies_and_expectations() -> None:
    async with ScriptedOrigin([Head(204)]) as origin, connect(origin) as client:
        await client.get("/a", "Content-Length: 3\r\n", method="POST")
        await client.send(b"abc")
        await client.head()
        await client.get("/a", "Transfer-Encoding: chunked\r\n", method="POST")
        await client.send(b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n")
        await client.head()
        await client.get("/a", "Content-Length: 1\r\nExpect: 100-continue\r\n", method="PUT")
        assert " 100 " in await client.head()
        await client.send(b"!")
        await client.head()
        assert [bytes(request.body) for request in origin.requests] == [b"abc", b"abcde", b"!"]
        assert origin.connections == 1


async def test_a_script_may_answer_before_the_body() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        go = asyncio.Event()
        early = Raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        script: list[Step] = [early, Pause(go), ReadBody(), Head(201, {"Content-Length": "0"})]
        origin.on("/up", script, body_first=False)
        await client.get("/up", "Content-Length: 3\r\nExpect: 100-continue\r\n", method="PUT")
        assert " 103 " in await client.head()
        await client.send(b"abc")
        go.set()
        assert " 201 " in await client.head()
        assert origin.requests[0].body == b"abc"


async def test_upgrades_and_echoes() -> None:
    def echo(request: OriginRequest) -> Iterator[Step]:
        yield Raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        while True:
            yield Read(1)
            yield Raw(bytes(request.body[-1:]).upper())

    async with ScriptedOrigin(echo) as origin, connect(origin) as client:
        await client.get("/ws", "Upgrade: echo\r\nConnection: Upgrade\r\n")
        assert " 101 " in await client.head()
        await client.send(b"hello")
        assert await client.exactly(5) == b"HELLO"


async def test_chunks_and_pauses() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        gate = Gate()
        head = Head(200, [("Transfer-Encoding", "chunked"), ("X", "1"), ("X", "2")])
        origin.on("/a", [head, Chunk(b"ab"), Pause(gate), Chunk(b"c"), Chunk(b"")])
        await client.get("/a")
        assert "X: 1\r\nX: 2\r\n" in await client.head()
        assert await client.exactly(7) == b"2\r\nab\r\n"
        await gate.reached()
        gate.open()
        assert await client.exactly(11) == b"1\r\nc\r\n0\r\n\r\n"


async def test_refuses_while_stopped_and_comes_back_on_its_port() -> None:
    async with ScriptedOrigin() as origin:
        origin.serve("/a", b"abc")
        await origin.stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", origin.port)
        await origin.start()
        async with connect(origin) as client:
            await client.get("/a")
            assert " 200 " in await client.head()


async def test_a_faulty_handler_fails_the_test() -> None:
    def faulty(request: OriginRequest) -> list[Step]:
        raise ZeroDivisionError

    origin = await ScriptedOrigin(faulty).__aenter__()
    async with connect(origin) as client:
        await client.get("/a")
        assert await client.rest() == b""
    with pytest.raises(ZeroDivisionError):
        await origin.__aexit__(None, None, None)


async def test_paces_a_body() -> None:
    async with ScriptedOrigin() as origin, connect(origin) as client:
        origin.serve("/a", FILM[:1000], rate=100_000)
        await client.get("/a")
        await client.head()
        assert await client.exactly(1000) == FILM[:1000]
