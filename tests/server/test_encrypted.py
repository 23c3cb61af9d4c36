"""TLS on the wire: what clients do with records, with the end of a connection, and with their slowness."""

import _ssl
import asyncio
import ctypes
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from proxy.config.certificate import server_context
from proxy.server.encrypted import RECORD, EncryptedTransport
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.server.lanes import lane_of, listener_of, served
from tests.server.pki import Pki, over_tls
from tests.server.test_warm import FILM, HEAD, LARGE, TAGS, by_lane, get, warm_up
from tests.together import until
from tests.wire import Wire


@pytest.fixture
def start_adapter(start_adapter: StartAdapter, pki: Pki) -> StartAdapter:
    return over_tls(start_adapter, pki)


@pytest.fixture
async def film(adapter: Adapter, origin: ScriptedOrigin) -> Adapter:
    origin.serve("/film.mp4", FILM, headers=TAGS)
    await warm_up(adapter, origin, "/film.mp4")
    return adapter


class Records:
    """A client that makes TLS itself, record by record, and sees what the socket brings."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(self._out.read())
                self._in.write(await self.reader.read(1 << 16))
            else:
                self.writer.write(self._out.read())
                return

    def record(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._out.read()

    def new_keys(self) -> bytes:
        """And the other side shall have new ones, too.  Python has no word for it."""
        tls: Any = self._tls
        where = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # behind its socket
        connection = ctypes.c_void_p.from_address(id(tls._sslobj) + where)
        openssl = ctypes.CDLL(_ssl.__file__)
        assert openssl.SSL_key_update(connection, 1) == 1
        assert openssl.SSL_do_handshake(connection) == 1
        return self._out.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._out.read()

    async def read(self) -> bytes:
        """Nothing: the other side has said goodbye."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                data = await self.reader.read(1 << 16)
                assert data, "the connection was cut"
                self._in.write(data)

    async def answer(self, count: int) -> bytes:
        """So many bytes behind a head."""
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < count:
            piece = await self.read()
            assert piece, "there is no more"
            data += piece
        return data.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def records(adapter: Adapter) -> AsyncIterator[Records]:
    assert adapter.tls is not None
    client, wire = Records(adapter.tls), adapter.wire()
    client.reader, client.writer = await asyncio.open_connection(wire.host, wire.port)
    try:
        await client.shake_hands()
        await until(lambda: bool(listener_of(adapter).connections))
        yield client
    finally:
        client.writer.transport.abort()


def transport_of(adapter: Adapter) -> EncryptedTransport:
    [connection] = listener_of(adapter).connections
    assert isinstance(connection.transport, EncryptedTransport)
    return connection.transport


class Told(asyncio.Protocol):
    """Who is told of everything on a connection."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@asynccontextmanager
async def pair(pki: Pki) -> AsyncIterator[tuple[EncryptedTransport, Told, Records, socket.socket]]:
    """A connection without an adapter around it, and the socket below its TLS."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    context = server_context(str(pki.certificate), str(pki.key))
    client, below = Records(pki.client), ours.dup()
    sock = context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
    client.reader, client.writer = await asyncio.open_connection(sock=theirs)
    shaking = asyncio.create_task(client.shake_hands())
    while True:
        with suppress(ssl.SSLWantReadError):
            sock.do_handshake()
            break
        await asyncio.sleep(0)
    await shaking
    transport = EncryptedTransport(sock, told := Told(), parting=60)
    try:
        yield transport, told, client, below
    finally:
        transport.abort()
        client.writer.transport.abort()
        below.close()
        await until(lambda: len(told.lost) == 1)


# --- What comes -----------------------------------------------------------------------------------


async def test_a_request_in_many_records_and_packets(film: Adapter) -> None:
    async with records(film) as client:
        for byte in HEAD:
            for piece in client.record(bytes([byte])):
                client.writer.write(bytes([piece]))
                await client.writer.drain()
        assert await client.answer(5) == FILM[5:10]


async def test_requests_in_one_packet(film: Adapter) -> None:
    """The lane has the first: the second comes when it asks the socket again."""
    async with records(film) as client, by_lane(film, 2):
        client.writer.write(client.record(HEAD) + client.record(HEAD.replace(b"5-9", b"7-7")))
        assert await client.answer(5) == FILM[5:10]
        assert await client.answer(1) == FILM[7:8]


async def test_a_body_of_many_records(film: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/upload", b"thanks")
    async with film.wire() as wire:
        for length in (RECORD - 1, RECORD, 5 * RECORD, 2_000_000):
            await wire.request("POST", "/upload", body=FILM * 7 if length == 2_000_000 else FILM[:length])
            assert (await wire.response()).body == b"thanks"
            body = origin.requests[-1].body
            assert body == (FILM * 7 if length == 2_000_000 else FILM[:length])


async def test_no_tls_any_more_ends_the_connection(film: Adapter) -> None:
    async with records(film) as client:
        client.writer.write(client.record(HEAD) + b"GET / HTTP/1.1\r\n\r\n" * 10)
        await until(lambda: not listener_of(film).connections)


async def test_new_keys_while_the_client_takes_nothing(pki: Pki) -> None:
    """Ours must be said before OpenSSL reads on: until there is room for that, what comes waits."""
    async with pair(pki) as (transport, told, client, below):
        transport.write(b"-")
        assert await client.read() == b"-", "and nothing of the handshake is left"
        client.writer.write(client.record(b"first"))
        await until(lambda: told.received == b"first")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        junk = 0
        with suppress(BlockingIOError):
            while True:
                junk += below.send(b"-" * 100)
        client.writer.write(client.new_keys() + client.record(b", second"))
        await until(lambda: told.received == b"first, second")
        transport.write(b"hello")
        client.writer.write(client.record(b", third"))
        await until(lambda: transport._reading_blocked)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.reader.readexactly(junk)
        assert await client.read() == b"hello"
        await until(lambda: told.received == b"first, second, third")
        assert not told.lost


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions(film: Adapter, version: ssl.TLSVersion) -> None:
    assert film.tls is not None
    film.tls.maximum_version = film.tls.minimum_version = version
    async with by_lane(film, 2), film.wire() as wire:
        assert (await get(wire, "/film.mp4")).body == FILM
        assert (await get(wire, "/film.mp4", Range="bytes=1-")).body == FILM[1:]


async def test_what_http_and_https_bring_is_kept_apart(
    start_adapter: StartAdapter, pki: Pki, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"listen": ["https://127.0.0.1:0", "127.0.0.1:0"]})
    origin.serve("/film.mp4", FILM, headers=TAGS)
    await warm_up(adapter, origin, "/film.mp4")
    origin.serve("/film.mp4", FILM[::-1], headers=TAGS)
    async with Wire(adapter.service.addresses[1]) as plain, adapter.wire() as secret:
        assert (await get(plain, "/film.mp4", Range="bytes=0-2")).body == FILM[::-1][:3]
        async with by_lane(adapter, 1):
            assert (await get(secret, "/film.mp4", Range="bytes=0-2")).body == FILM[:3]
        await until(lambda: served(adapter) > 0)


# --- Slow clients ---------------------------------------------------------------------------------


@asynccontextmanager
async def stuck(adapter: Adapter, origin: ScriptedOrigin, **fields: str) -> AsyncIterator[ssl.SSLSocket]:
    """A client that reads nothing of a large answer, which blocks."""
    origin.serve("/large.mp4", LARGE, headers=TAGS)
    await warm_up(adapter, origin, "/large.mp4")
    await until(lambda: not listener_of(adapter).connections)
    wire, sock = adapter.wire(), socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    sock.settimeout(20)
    await asyncio.to_thread(sock.connect, (wire.host, wire.port))
    assert adapter.tls is not None
    secret = await asyncio.to_thread(adapter.tls.wrap_socket, sock, server_hostname=wire.host)
    with secret:
        await until(lambda: bool(listener_of(adapter).connections))
        lines = [f"{name}: {value}" for name, value in {"Host": "films.example", **fields}.items()]
        request = "\r\n".join(["GET /large.mp4 HTTP/1.1", *lines, "", ""]).encode()
        await asyncio.to_thread(secret.sendall, request)
        yield secret


async def everything(sock: ssl.SSLSocket, count: int) -> bytes:
    def read() -> bytes:
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < count and (piece := sock.recv(1 << 16)):
            data += piece
        return data.partition(b"\r\n\r\n")[2]

    return await asyncio.to_thread(read)


@pytest.mark.parametrize("way", ["warm", "long"])
async def test_one_record_waits_for_a_slow_client(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    waited: list[int] = []
    real = EncryptedTransport._keep

    def keep(transport: EncryptedTransport, data: bytes | memoryview) -> None:
        real(transport, data)
        waited.append(transport.get_write_buffer_size())

    # What is arriving still would be written in pieces as it arrives.
    fields = {"Cache-Control": "max-stale"} if way == "long" else {}
    async with stuck(adapter, origin, **fields) as sock:
        await until(lambda: transport_of(adapter)._on_room is not None)
        assert bool(lane_of(adapter).sendings) == (way == "warm")
        monkeypatch.setattr(EncryptedTransport, "_keep", keep)
        waited.append(transport_of(adapter).get_write_buffer_size())
        transport_of(adapter).get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        assert await everything(sock, len(LARGE)) == LARGE
    assert 0 < max(waited) <= RECORD


async def ask_until_one_waits(client: Records, transport: EncryptedTransport) -> int:
    """Ask for small answers, and take none, until one waits in the transport; how many that were."""
    asked = 0
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    while not transport.get_write_buffer_size():
        client.writer.write(client.record(HEAD.replace(b"5-9", b"0-9999")))
        await client.writer.drain()
        await asyncio.sleep(0)
        asked += 1
    return asked


async def test_the_end_of_an_answer_has_its_limit_of_time(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """Nobody waits for a small answer; who does not take it is cut off all the same."""
    adapter = await start_adapter(server={"timeouts": {"send_idle": "200ms"}})
    origin.serve("/film.mp4", FILM, headers=TAGS)
    await warm_up(adapter, origin, "/film.mp4")
    await until(lambda: not listener_of(adapter).connections)
    async with records(adapter) as client:
        await ask_until_one_waits(client, transport_of(adapter))
        await until(lambda: not listener_of(adapter).connections)


async def test_an_answer_is_not_over_before_its_last_record_is_taken(film: Adapter) -> None:
    """Or else the service could end, and that record with it."""
    async with records(film) as client:
        asked = await ask_until_one_waits(client, transport_of(film))
        assert lane_of(film).sendings
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(asked):
            assert await client.answer(10_000) == FILM[:10_000]


# --- The end --------------------------------------------------------------------------------------


async def test_goodbye_is_said(film: Adapter) -> None:
    async with records(film) as client:
        client.writer.write(client.record(HEAD[:-2] + b"Connection: close\r\n\r\n"))
        assert await client.answer(5) == FILM[5:10]
        assert await client.read() == b""


async def test_what_still_comes_does_not_reset_an_answer(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with stuck(adapter, origin, Connection="close") as sock:
        await until(lambda: transport_of(adapter)._on_room is not None)
        await asyncio.to_thread(sock.sendall, HEAD * 100)
        assert await everything(sock, len(LARGE)) == LARGE
        assert await asyncio.to_thread(sock.recv, 1) == b""
    await until(lambda: not listener_of(adapter).connections)


async def test_who_says_goodbye_in_mid_answer_is_let_go(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """As on a plain connection: it has closed.  What the lane sends, it reads to the end before that is noticed."""
    origin.serve("/slow", LARGE, headers={"Cache-Control": "no-store"})
    gate = origin.gate("/slow", 100_000)
    async with records(adapter) as client:
        client.writer.write(client.record(b"GET /slow HTTP/1.1\r\nHost: films.example\r\n\r\n"))
        await gate.reached()
        client.writer.write(client.goodbye())
        await until(lambda: not listener_of(adapter).connections)
    await until(lambda: adapter.service.in_progress == 0)
    gate.open()


async def test_goodbye_behind_a_request_that_the_lane_answers(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/large.mp4", LARGE, headers=TAGS)
    await warm_up(adapter, origin, "/large.mp4")
    async with records(adapter) as client, by_lane(adapter, 1):
        head = b"GET /large.mp4 HTTP/1.1\r\nHost: films.example\r\n\r\n"
        client.writer.write(client.record(head) + client.goodbye())
        assert await client.answer(len(LARGE)) == LARGE
        assert await client.read() == b""
    await until(lambda: not listener_of(adapter).connections)
