"""Messages whose end two parties could see at different places are refused, and so is what hides in fields."""

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, ScriptedOrigin
from tests.wire import Wire

PASSTHROUGH = {"routes": [{"name": "all", "mode": "passthrough"}], "logging": {"access": True}}

HEAD = b"POST /upload HTTP/1.1\r\nHost: a\r\n"
BODY = b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED: dict[str, bytes] = {
    "length and chunked": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" + BODY,
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" + BODY,
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a hexadecimal length": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "an empty length": HEAD + b"Content-Length:\r\n\r\n",
    "a length past all numbers": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n" + BODY,
    "chunked, not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n" + BODY,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n" + BODY,
    "chunked on two lines": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + BODY,
    "a quoted coding": HEAD + b'Transfer-Encoding: "chunked"\r\n' + BODY,
    "a coding behind a control character": HEAD + b"Transfer-Encoding: \x0bchunked\r\n" + BODY,
    "an empty coding": HEAD + b"Transfer-Encoding:\r\n" + BODY,
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n" + BODY,
    "a space in a name": HEAD + b"Transfer Encoding: chunked\r\n" + BODY,
    "a name without a colon": HEAD + b"Nonsense\r\n\r\n",
    "an empty name": HEAD + b": x\r\n\r\n",
    "a folded line": HEAD + b"X: a\r\n b\r\n\r\n",
    "a folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n" + BODY,
    "a fold before any field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare CR in a value": HEAD + b"X: a\rTransfer-Encoding: chunked\r\n" + BODY,
    "a bare LF in a value": HEAD + b"X: a\nTransfer-Encoding: chunked\r\n" + BODY,
    "a NUL in a value": HEAD + b"X: a\0b\r\n\r\n",
    "lines that end in LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "lines that end in CR": b"GET / HTTP/1.1\rHost: a\r\r\n\r\n",
    "a chunked HTTP/1.0 request": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n" + BODY
    ),
    "a CR in the target": b"GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL in the target": b"GET /a\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version of its own": b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
    "a version to come": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same host twice": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "a host list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a target with a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a star for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "an authority with a user": b"GET http://u@a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "no authority": b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("method", [None, b"BREW"], ids=["", "with an unusual method"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refuses_ambiguous_requests(
    start_adapter: StartAdapter, origin: ScriptedOrigin, name: str, method: bytes | None
) -> None:
    adapter = await start_adapter(**PASSTHROUGH)
    data = REFUSED[name]
    if method is not None:
        data = method + data[max(data.find(b" "), 0) :]
    async with adapter.wire() as wire:
        await wire.send(data)
        response = await wire.response()
        assert response.status in ({400, 501} if b"oding" in data else {400})
        assert response.cache_status.startswith("range-adapter;detail=")
        assert response.body.startswith(str(response.status).encode())
        assert "Server" not in response.fields
        assert await wire.closed()
    assert not origin.requests


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    ],
)
@pytest.mark.parametrize("method", ["POST", "BREW"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
async def test_refuses_malformed_chunks(
    start_adapter: StartAdapter, origin: ScriptedOrigin, body: bytes, method: str, *, at_once: bool
) -> None:
    adapter = await start_adapter(**PASSTHROUGH)
    origin.on("/upload", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    head = f"{method} /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    async with adapter.wire() as wire:
        if at_once:
            await wire.send(head + body)
        else:
            await wire.send(head)
            await origin.requested("/upload")
            await wire.send(body)
        response = await wire.response()
        assert response.status == 400
        assert response.cache_status.startswith("range-adapter;")
        assert await wire.closed()
    assert all(not request.done or request.left for request in origin.requests)


async def test_takes_chunk_extensions_and_trailers_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**PASSTHROUGH)
    origin.on("/upload", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    async with adapter.wire() as wire:
        await wire.send(
            HEAD
            + b"Trailer: X-Sum\r\nTransfer-Encoding: Chunked\r\n\r\n"
            + b'5;a=b;c="d"\r\nhello\r\n0;last\r\nX-Sum: 1\r\n\r\n'
        )
        assert (await wire.response()).body == b"ok"
        [request] = origin.requests
        assert bytes(request.body) == b"hello"
        assert request.header("X-Sum") is None
        assert request.header("Trailer") is None
        assert request.values("Transfer-Encoding") == ["chunked"]
        assert (await wire.get("/none")).status == 404


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: /" + b"a" * 9000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 9000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"BREW /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"BREW / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
async def test_refuses_what_is_too_long(
    adapter: Adapter, origin: ScriptedOrigin, data: bytes, status: int
) -> None:
    async with adapter.wire() as wire:
        await wire.send(data)
        response = await wire.response()
        assert response.status == status
        assert response.cache_status.startswith("range-adapter;detail=")
        assert await wire.closed()
    assert not origin.requests


async def test_an_absolute_target_wins_over_host(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "host": "preserve"}},
        **PASSTHROUGH,
    )
    async with adapter.wire() as wire:
        await wire.get("http://Two.example:81/a?b", Host="one.example")
    [request] = origin.requests
    assert request.target == b"/a?b"
    assert request.values("Host") == ["two.example:81"]
    assert request.header("X-Forwarded-Host") == "two.example:81"


async def test_pipelined_requests_are_answered_in_order(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**PASSTHROUGH)
    for name in ("a", "b", "c"):
        origin.on(f"/{name}", [Head(200, {"Content-Length": "1"}), Body(name.encode())])
    async with adapter.wire() as wire:
        await wire.send(
            b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
            b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"
            b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert [(await wire.response()).body for _ in range(3)] == [b"a", b"b", b"c"]
    assert [request.path for request in origin.requests] == ["/a", "/b", "/c"]


async def test_an_origin_cannot_split_an_answer(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    """Fields that the client echoes into the origin's answer come back as one field, or not at all."""
    adapter = await start_adapter(**PASSTHROUGH)
    from tests.scripted_origin import Raw

    for value in (b"a\rX-Evil: 1", b"a\0b", b"a\r\n\tX-Evil: 1"):
        origin.on("/", [Raw(b"HTTP/1.1 200 OK\r\nX: " + value + b"\r\nContent-Length: 0\r\n\r\n")])
        async with Wire(adapter.url) as wire:
            response = await wire.get("/")
            assert response.status in {200, 502}
            assert "X-Evil" not in response.fields
            assert "\r" not in response.fields.get("X", "")
