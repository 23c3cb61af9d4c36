"""The client side alone: one origin, and what `Origin` makes of it."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from multidict import CIMultiDict

from proxy.errors import OriginMalformed, OriginTimeout, OriginTruncated, OriginUnreachable
from proxy.origin import Origin, OriginRequest
from proxy.semantics.fields import Fields
from tests.scripted_origin import Body, Chunk, Cut, Head, Pause, Raw, Reset, ScriptedOrigin, Stall, Step
from tests.spool.objects import eventually, pattern

FIELDS = CIMultiDict({"Host": "a"})


def before(url: str, **limits: Any) -> Origin:
    """An `Origin`, with these limits."""
    times = {"connect": 5, "first_byte": 5, "idle": 5, "resume": 0, "queue": 5}
    sizes = {"max_connections": 2, "max_fills": 2, "fills_per_client": 2, "max_waiting": 256}
    return Origin("legacy", url, **{**times, **sizes, **limits})


@pytest.fixture
async def client(origin: ScriptedOrigin) -> AsyncIterator[Origin]:
    client = before(origin.url)
    yield client
    await client.close()


def get(target: str = "/x") -> OriginRequest:
    return OriginRequest("GET", target, FIELDS)


async def whole(client: Origin, request: OriginRequest) -> bytes:
    response = await client.fetch(request)
    try:
        body = b""
        while data := await response.read():
            body += data
        return body
    finally:
        response.close()


async def test_a_body_read_to_its_end_gives_its_connection_back(
    client: Origin, origin: ScriptedOrigin
) -> None:
    origin.on("/x", [Head(200, {"Content-Length": "4"}), Body(b"some")])
    origin.on("/y", [Head(200, {"Transfer-Encoding": "chunked"}), Chunk(b"some"), Chunk(b"")])
    for target in ("/x", "/y", "/x"):
        assert await whole(client, get(target)) == b"some"
    assert origin.connections == 1


async def test_a_body_not_read_to_its_end_ends_its_connection(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on("/x", [Head(200, {"Content-Length": "9"}), Body(b"some"), Stall()])
    response = await client.fetch(get())
    assert await response.read() == b"some"
    response.close()
    await origin.disconnected("/x")


async def test_requests_wait_for_a_free_connection(client: Origin, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    origin.on("/x", [Pause(go), Head(200, {"Content-Length": "0"})])
    fetches = [asyncio.create_task(whole(client, get())) for _ in range(5)]
    await origin.requested("/x", 2)
    go.set()
    assert await asyncio.gather(*fetches) == [b""] * 5
    assert origin.peak == 2


async def test_content_length(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on("/counted", [Head(200, {"Content-Length": "004"}), Body(b"some")])
    origin.on("/chunked", [Head(200, {"Transfer-Encoding": "chunked"}), Chunk(b"")])
    origin.on("/closed", [Head(200), Body(b"some"), Cut()])
    lengths = {}
    for name in ("counted", "chunked", "closed"):
        response = await client.fetch(get(f"/{name}"))
        lengths[name] = response.content_length
        response.close()
    assert lengths == {"counted": 4, "chunked": None, "closed": None}


async def test_interim_responses_are_reported(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on(
        "/x",
        [Raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), Head(200, {"Content-Length": "0"})],
    )
    seen: list[tuple[int, str, str]] = []

    def told(status: int, reason: str, fields: Fields) -> None:
        seen.append((status, reason, fields["Link"]))

    response = await client.fetch(OriginRequest("GET", "/x", FIELDS, interim=told))
    assert response.status == 200
    assert seen == [(103, "Early Hints", "</a>")]
    response.close()


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([Cut()], OriginUnreachable),
        ([Reset()], OriginUnreachable),
        ([Raw(b"nonsense\r\n\r\n")], OriginMalformed),
        ([Raw(b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok")], OriginMalformed),
        ([Raw(b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok")], OriginMalformed),
        ([Head(200, {"Content-Length": "9"}), Body(b"some"), Cut()], OriginTruncated),
        ([Head(200, {"Content-Length": "9"}), Body(b"some"), Reset()], OriginTruncated),
        ([Head(200), Body(b"some"), Reset()], OriginTruncated),
        ([Head(200, {"Transfer-Encoding": "chunked"}), Chunk(b"some"), Cut()], OriginTruncated),
        ([Head(200, {"Transfer-Encoding": "chunked"}), Chunk(b"some"), Raw(b"zz\r\n")], OriginMalformed),
    ],
)
async def test_errors_are_ours(
    client: Origin, origin: ScriptedOrigin, steps: list[Step], error: type[Exception]
) -> None:
    origin.on("/x", steps)
    with pytest.raises(error, match=r"legacy|the origin answered"):
        await whole(client, get())


async def test_a_cancelled_fetch_ends_its_connection(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on("/x", [Stall()])
    fetch = asyncio.create_task(client.fetch(get()))
    await origin.requested("/x")
    fetch.cancel()
    await asyncio.gather(fetch, return_exceptions=True)
    await origin.disconnected("/x")


async def test_an_idle_body(origin: ScriptedOrigin) -> None:
    client = before(origin.url, idle=0.2)
    origin.on("/x", [Head(200, {"Content-Length": "9"}), Body(b"some"), Stall()])
    response = await client.fetch(get())
    assert await response.read() == b"some"
    with pytest.raises(OriginTimeout):
        await response.read()
    response.close()
    await client.close()


async def test_a_slow_reader_does_not_count_as_an_idle_origin(origin: ScriptedOrigin) -> None:
    client = before(origin.url, first_byte=0.2, idle=0.2)
    size = 32 << 20
    origin.on("/x", [Head(200, {"Content-Length": str(size)}), Body(memoryview(bytes(size)))])
    response = await client.fetch(get())
    await asyncio.sleep(0.6)
    received = 0
    while data := await response.read():
        received += len(data)
    assert received == size
    response.close()
    await client.close()


async def test_a_body_of_known_length_ends_there_or_too_early(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on("/whole", [Head(200, {"Content-Length": "8"}), Body(b"some"), Body(b"body"), Cut()])
    assert await whole(client, get("/whole")) == b"somebody"
    origin.on("/less", [Head(200, {"Content-Length": "8"}), Body(b"some"), Cut()])
    with pytest.raises(OriginTruncated, match="the connection ended, 4 bytes too early"):
        await whole(client, get("/less"))


async def test_read_size_limits_what_is_held(client: Origin, origin: ScriptedOrigin) -> None:
    size = 32 << 20
    origin.on("/x", [Head(200, {"Content-Length": str(size)}), Body(memoryview(bytes(size)))])
    response = await client.fetch(OriginRequest("GET", "/x", FIELDS, read_size=64 << 10))
    await asyncio.sleep(0.2)
    assert len(await response.read()) <= 96 << 10
    response.close()


async def test_reading_ahead_can_be_limited_later(client: Origin, origin: ScriptedOrigin) -> None:
    size = 32 << 20
    origin.on("/x", [Head(200, {"Content-Length": str(size)}), Body(memoryview(bytes(size)))])
    response = await client.fetch(get())
    response.read_ahead(64 << 10)
    await asyncio.sleep(0.2)
    received = len(await response.read())
    assert received <= (1 << 20) + (96 << 10), "one read may have been before"
    while data := await response.read():
        received += len(data)
        assert len(data) <= 96 << 10
    assert received == size
    response.close()


async def test_reading_ahead_is_limited_when_too_much_has_come(
    client: Origin, origin: ScriptedOrigin
) -> None:
    size = 32 << 20
    origin.on("/x", [Head(200, {"Content-Length": str(size)}), Body(memoryview(bytes(size)))])
    response = await client.fetch(get())
    await origin.until(lambda: origin.requests[0].sent > 1 << 20)
    response.read_ahead(64 << 10)
    received = 0
    while data := await response.read():
        received += len(data)
    assert received == size
    response.close()


async def test_there_is_nothing_to_read_ahead(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on("/x", [Head(204)])
    response = await client.fetch(get())
    response.read_ahead(64 << 10)
    assert await response.read() == b""
    response.close()


# --- TLS ------------------------------------------------------------------------------------------


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_https(monkeypatch: pytest.MonkeyPatch, name: str, *, trusted: bool) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    trust = ssl.create_default_context()
    if trusted:
        authority.configure_trust(trust)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trust)
    server = await asyncio.start_server(hello, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    url = f"https://localhost:{port}/base"
    client = before(url)
    async with server:
        if trusted and name == "localhost":
            assert await whole(client, get()) == b"hello"
        else:
            with pytest.raises(OriginUnreachable, match="certificate"):
                await client.fetch(get())
    await client.close()


async def test_nothing_is_left_open(client: Origin, origin: ScriptedOrigin) -> None:
    origin.on("/x", [Head(200, {"Content-Length": "9"}), Body(b"some"), Stall()])
    response = await client.fetch(get())
    response.close()
    del response
    gc.collect()  # aiohttp warns of responses that nobody closed, and warnings are errors


@pytest.mark.parametrize("is_passing", [False, True])
@pytest.mark.parametrize(
    "framing", [{"Content-Length": "300000"}, {"Transfer-Encoding": "chunked"}], ids=["length", "chunked"]
)
async def test_what_came_before_a_break_is_read(
    client: Origin, origin: ScriptedOrigin, framing: dict[str, str], *, is_passing: bool
) -> None:
    body = pattern(150_000)
    data = Chunk(body) if "Transfer-Encoding" in framing else Body(body)
    origin.on("/x", [Head(200, framing), data, Cut()])
    response = await client.fetch(get())
    content = response._response.content
    await eventually(lambda: content.exception() is not None)
    if is_passing:
        response.read_ahead(64 << 10)
    assert await response.read() == body
    with pytest.raises(OriginTruncated):
        await response.read()
    response.close()
