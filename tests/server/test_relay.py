"""What is not adapted passes through untouched, in both directions, as it comes."""

import asyncio
import logging

import pytest

from tests.conftest import Adapter, StartAdapter
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
    Script,
    ScriptedOrigin,
    Stall,
)
from tests.wire import Wire

PASSTHROUGH = {"routes": [{"name": "all", "mode": "passthrough"}]}


@pytest.fixture
async def relay(start_adapter: StartAdapter) -> Adapter:
    return await start_adapter(**PASSTHROUGH)


def ok(body: bytes = b"ok") -> Script:
    return [Head(200, {"Content-Length": str(len(body))}), Body(body)]


# --- The request ----------------------------------------------------------------------------------


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "M-SEARCH", "PURGE"]
ODD_METHODS = ["BREW", "VERSION-CONTROL", "get", "head", "Post", "!#$%&'*+-.^_`|~09aZ", "G"]


@pytest.mark.parametrize("method", METHODS + ODD_METHODS)
async def test_any_method(relay: Adapter, origin: ScriptedOrigin, method: str) -> None:
    origin.on("/thing", ok())
    async with relay.wire() as wire:
        for _ in range(2):
            await wire.request(method, "/thing")
            response = await wire.response()
            assert (response.status, response.body) == (200, b"ok")
    assert [request.method for request in origin.requests] == [method, method]
    assert origin.requests[0].header("Content-Length") is None


async def test_an_unusual_method_with_a_body(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/pot", ok())
    async with relay.wire() as wire:
        await wire.request("GET", "/pot")
        await wire.response()
        await wire.request("BREW", "/pot", body=b"coffee")
        assert (await wire.response()).body == b"ok"
        await wire.send(
            b"brew /pot HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntea\r\n0\r\n\r\n"
        )
        assert (await wire.response()).body == b"ok"
    assert [bytes(request.body) for request in origin.requests] == [b"", b"coffee", b"tea"]


async def test_connect_is_not_for_us(relay: Adapter, origin: ScriptedOrigin) -> None:
    async with relay.wire() as wire:
        await wire.request("CONNECT", "elsewhere:443")
        response = await wire.response()
        assert response.status == 405
        assert response.cache_status == "range-adapter;detail=method-not-allowed"
    assert not origin.requests


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a?",
        "/a??b",
        "/a/",
        "//a",
        "/a//b",
        "/%41%2f%2F%zz",
        "/a%20b+c",
        "/a;b=c,d",
        "/a?b=c&d=%C3%A9&&",
        "/?a/../b",
        "/é\xff",
        '/a\\b|c{}^`"<>',
        "/a:b@c",
        "/a?http://b/c",
    ],
)
@pytest.mark.parametrize("method", ["GET", "BREW"])
async def test_targets_stay_as_they_are(
    relay: Adapter, origin: ScriptedOrigin, target: str, method: str
) -> None:
    async with relay.wire() as wire:
        await wire.request(method, target)
        assert (await wire.response()).status == 404
    assert origin.requests[0].target == target.encode("latin-1")


async def test_targets_stay_as_they_are_behind_a_base_path(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    relay = await start_adapter(origins={"legacy": {"url": f"{origin.url}/base%2Fpath/"}}, **PASSTHROUGH)
    async with relay.wire() as wire:
        await wire.get("/a//b/?")
    assert origin.requests[0].target == b"/base%2Fpath/a//b/?"


async def test_the_server_as_a_whole(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("*", [Head(204, {"Allow": "GET, BREW"})])
    async with relay.wire() as wire:
        await wire.request("OPTIONS", "*")
        response = await wire.response()
        assert (response.status, response.fields["Allow"]) == (204, "GET, BREW")
        assert "Content-Length" not in response.fields
    assert origin.requests[0].target == b"*"


async def test_fields_go_on_to_the_byte(relay: Adapter, origin: ScriptedOrigin) -> None:
    async with relay.wire() as wire:
        await wire.send(
            b"GET /x HTTP/1.1\r\nhost: a\r\nX-Latin: caf\xe9 \xff\x80\r\nX-Utf: caf\xc3\xa9\r\n"
            b"X-Empty:\r\nX-Twice: 1\r\nx-twice:   2, 3  \r\nX_Under: 4\r\nX-Tab: a\tb\r\n"
            b"Cookie: a=1\r\nCookie: b=2\r\nUser-Agent: me\r\nAccept-Encoding: br\r\nRange: bytes=0-1\r\n"
            b'If-None-Match: "x"\r\n\r\n'
        )
        await wire.response()
    [request] = origin.requests
    fields = dict(request.headers)
    assert fields[b"X-Latin"] == b"caf\xe9 \xff\x80"
    assert fields[b"X-Utf"] == b"caf\xc3\xa9"
    assert fields[b"X-Empty"] == b""
    assert request.values("X-Twice") == ["1", "2, 3"]
    assert fields[b"X_Under"] == b"4"
    assert fields[b"X-Tab"] == b"a\tb"
    assert request.values("Cookie") == ["a=1", "b=2"]
    assert (fields[b"User-Agent"], fields[b"Accept-Encoding"]) == (b"me", b"br")
    assert (fields[b"Range"], fields[b"If-None-Match"]) == (b"bytes=0-1", b'"x"')


async def test_nothing_is_invented(relay: Adapter, origin: ScriptedOrigin) -> None:
    async with relay.wire() as wire:
        await wire.request("POST", "/x")
        await wire.response()
    names = {name.decode().lower() for name, _ in origin.requests[0].headers}
    assert names == {"host", "via", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}


async def test_what_belongs_to_a_hop_ends_here(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on(
        "/x",
        [
            Head(
                200,
                [
                    ("Content-Length", "0"),
                    ("Connection", "keep-alive, X-Hop"),
                    ("Keep-Alive", "timeout=5"),
                    ("X-Hop", "1"),
                    ("Proxy-Authenticate", "Basic"),
                    ("Proxy-Connection", "keep-alive"),
                    ("Upgrade", "h2c"),
                    ("Trailer", "X"),
                    ("X-End", "1"),
                ],
            )
        ],
    )
    async with relay.wire() as wire:
        response = await wire.get(
            "/x",
            [
                ("Connection", "close, X-Foo"),
                ("Connection", "HTTP2-Settings, Upgrade, TE"),
                ("X-Foo", "1"),
                ("x-foo", "2"),
                ("HTTP2-Settings", "AAMA"),
                ("Upgrade", "h2c"),
                ("TE", "trailers"),
                ("Trailer", "X"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Connection", "keep-alive"),
                ("Proxy-Authorization", "Basic eA=="),
                ("Proxy", "evil"),
                ("X-Bar", "1"),
            ],
        )
        assert await wire.closed()
    [request] = origin.requests
    for name in ("Connection", "X-Foo", "HTTP2-Settings", "Upgrade", "TE", "Trailer", "Keep-Alive", "Proxy"):
        assert request.header(name) is None
    assert request.header("Proxy-Connection") is request.header("Proxy-Authorization") is None
    assert request.header("X-Bar") == "1"
    assert response.fields["Connection"] == "close"
    assert response.fields["X-End"] == "1"
    for name in ("X-Hop", "Keep-Alive", "Upgrade", "Trailer", "Proxy-Authenticate", "Proxy-Connection"):
        assert name not in response.fields


@pytest.mark.parametrize("policy", ["origin", "preserve", "app.internal"])
async def test_host_policy(start_adapter: StartAdapter, origin: ScriptedOrigin, policy: str) -> None:
    relay = await start_adapter(origins={"legacy": {"url": origin.url, "host": policy}}, **PASSTHROUGH)
    async with relay.wire() as wire:
        await wire.get("/x", Host="WWW.example:81")
    expected = {"origin": f"127.0.0.1:{origin.port}", "preserve": "www.example:81"}.get(policy, policy)
    assert origin.requests[0].values("Host") == [expected]
    assert origin.requests[0].header("X-Forwarded-Host") == "www.example:81"


FORGED = [
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "bank.example"),
    ("Forwarded", "for=10.0.0.1;proto=https"),
    ("X-Real-IP", "10.0.0.1"),
    ("X_Forwarded_For", "10.0.0.1"),
    ("Via", "1.1 front"),
]


async def test_strangers_are_not_believed(relay: Adapter, origin: ScriptedOrigin) -> None:
    async with relay.wire() as wire:
        await wire.get("/x", FORGED, Host="a")
    [request] = origin.requests
    assert request.values("X-Forwarded-For") == ["127.0.0.1"]
    assert request.values("X-Forwarded-Proto") == ["http"]
    assert request.values("X-Forwarded-Host") == ["a"]
    assert request.values("Forwarded") == ["for=127.0.0.1;host=a;proto=http"]
    assert request.header("X-Real-IP") is request.header("X_Forwarded_For") is None
    assert request.values("Via") == ["1.1 front, 1.1 range-adapter"]


async def test_trusted_peers_are_believed(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    relay = await start_adapter(server={"trusted_proxies": "127.0.0.0/8"}, **PASSTHROUGH)
    async with relay.wire() as wire:
        await wire.get("/x", FORGED, Host="a")
    [request] = origin.requests
    assert request.values("X-Forwarded-For") == ["10.0.0.1, 127.0.0.1"]
    assert request.values("X-Forwarded-Proto") == ["https"]
    assert request.values("X-Forwarded-Host") == ["bank.example"]
    assert request.header("Forwarded") == (
        "for=10.0.0.1;proto=https, for=127.0.0.1;host=bank.example;proto=https"
    )
    assert request.header("X-Real-IP") == "10.0.0.1"


async def test_a_scheme_in_the_target_is_only_a_claim(relay: Adapter, origin: ScriptedOrigin) -> None:
    async with relay.wire() as wire:
        await wire.get("https://a/x", Host="a")
    assert origin.requests[0].header("X-Forwarded-Proto") == "http"


# --- The response ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [200, 201, 203, 206, 299, 300, 302, 307, 401, 404, 418, 429, 500, 503, 599]
)
async def test_any_status_and_its_fields_to_the_byte(
    relay: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    origin.on(
        "/x",
        [
            Raw(
                f"HTTP/1.1 {status} Odd \xe9 Reason\r\n".encode("latin-1")
                + b"Content-Length: 4\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; HttpOnly\r\n"
                b"X-Latin: caf\xe9\r\nLocation: http://elsewhere/%41?\r\nDate: yesterday\r\nServer: old\r\n"
                b"Content-Range: bytes 0-3/9\r\nCache-Status: other; hit\r\nX-Empty:\r\n\r\nbody"
            ),
            Cut(),
        ],
    )
    async with relay.wire() as wire:
        await wire.request("GET", "/x")
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert await wire.body(4) == b"body"
        assert (await wire.get("/none")).status == 404
    lines = head.split(b"\r\n")
    assert lines[0] == f"HTTP/1.1 {status} Odd \xe9 Reason".encode("latin-1")
    assert [line for line in lines if line.startswith(b"Set-Cookie")] == [
        b"Set-Cookie: a=1; Path=/",
        b"Set-Cookie: b=2; HttpOnly",
    ]
    for line in (
        b"X-Latin: caf\xe9",
        b"Location: http://elsewhere/%41?",
        b"Date: yesterday",
        b"Server: old",
        b"Content-Range: bytes 0-3/9",
        b"X-Empty: ",
        b"Via: 1.1 range-adapter",
        f"Cache-Status: other; hit, range-adapter;fwd=bypass;fwd-status={status}".encode(),
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("method", "head", "framing"),
    [
        ("HEAD", "200 OK\r\nContent-Length: 9", ("9", None)),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", (None, None)),
        ("HEAD", "200 OK", (None, None)),
        ("HEAD", "404 No\r\nContent-Length: 0", ("0", None)),
        ("GET", "204 No\r\nContent-Length: 9", (None, None)),
        ("GET", "204 No\r\nTransfer-Encoding: chunked", (None, None)),
        ("GET", "204 No", (None, None)),
        ("GET", "304 No\r\nContent-Length: 9", ("9", None)),
        ("GET", "304 No", (None, None)),
        ("GET", "205 Reset\r\nContent-Length: 0", ("0", None)),
        ("GET", "200 OK\r\nContent-Length: 0", ("0", None)),
        ("POST", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0", (None, "chunked")),
    ],
)
async def test_answers_without_a_body_keep_the_connection(
    relay: Adapter, origin: ScriptedOrigin, method: str, head: str, framing: tuple[str | None, str | None]
) -> None:
    origin.on("/x", [Raw(f"HTTP/1.1 {head}\r\n\r\n".encode())])
    async with relay.wire() as wire:
        for _ in range(2):
            await wire.request(method, "/x")
            response = await wire.response(to_head=method == "HEAD")
            fields = response.fields
            assert (fields.get("Content-Length"), fields.get("Transfer-Encoding")) == framing
            assert response.body == b""
            assert "range-adapter" in response.cache_status
        assert (await wire.get("/none")).status == 404


async def test_a_head_comes_before_its_body(relay: Adapter, origin: ScriptedOrigin) -> None:
    gates = Gate(), Gate()
    origin.on(
        "/x", [Head(200, {"Content-Length": "2"}), Pause(gates[0]), Body(b"a"), Pause(gates[1]), Body(b"b")]
    )
    async with relay.wire() as wire:
        await wire.request("GET", "/x")
        assert (await wire.response_head()).status == 200
        gates[0].open()
        assert await wire.body(1) == b"a"
        gates[1].open()
        assert await wire.body(1) == b"b"


async def test_events_come_as_they_come(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    timeouts = {"first_byte": "500ms", "idle": "500ms"}
    adapter = await start_adapter(origins={"legacy": {"url": origin.url, "timeouts": timeouts}})
    gate = Gate()
    head = Head(200, {"Content-Type": "Text/Event-Stream", "Transfer-Encoding": "chunked"})
    origin.on("/events", [head, Chunk(b"data: 1\n\n"), Pause(gate), Chunk(b"data: 2\n\n"), Stall()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/events")
        await wire.response_head()
        assert await wire.chunk() == b"data: 1\n\n"
        await asyncio.sleep(1.2)  # longer than any other origin may be silent
        gate.open()
        assert await wire.chunk() == b"data: 2\n\n"
    await origin.disconnected("/events")


async def test_cookies_are_not_mixed(relay: Adapter, origin: ScriptedOrigin) -> None:
    everyone = Gate()

    def greet(request: OriginRequest) -> Script:
        user = (request.header("Cookie") or "").encode()
        return [
            Pause(everyone),
            Head(200, {"Content-Length": str(len(user)), "Set-Cookie": f"seen-{user.decode()}"}),
            Body(user),
        ]

    origin.on("/me", greet)

    async def visit(user: str) -> None:
        async with relay.wire() as wire:
            for _ in range(3):
                response = await wire.get("/me", Cookie=user)
                assert response.body == user.encode()
                assert response.fields.getall("Set-Cookie") == [f"seen-{user}"]
            assert (await wire.get("/me")).body == b""

    visits = asyncio.gather(*(visit(f"user={number}") for number in range(10)))
    await everyone.reached(10)
    everyone.open()
    await visits


# --- Bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
async def test_uploads_are_streamed(relay: Adapter, origin: ScriptedOrigin, *, chunked: bool) -> None:
    origin.on("/up", [ReadBody(), *ok()], body_first=False)
    async with relay.wire() as wire:
        framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 6"
        await wire.send(f"PUT /up HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        await origin.requested("/up")
        for number, piece in enumerate((b"abc", b"def"), 1):
            await wire.send(b"3\r\n" + piece + b"\r\n" if chunked else piece)
            size = 3 * number
            await origin.until(lambda: len(origin.requests[0].body) == size)  # noqa: B023  # at once
        if chunked:
            await wire.send(b"0\r\n\r\n")
        assert (await wire.response()).body == b"ok"
    [request] = origin.requests
    assert request.values("Content-Length") == ([] if chunked else ["6"])
    assert request.values("Transfer-Encoding") == (["chunked"] if chunked else [])


async def test_upload_and_answer_at_the_same_time(relay: Adapter, origin: ScriptedOrigin) -> None:
    def echo(request: OriginRequest) -> Script:
        yield Head(200, {"Transfer-Encoding": "chunked"})
        for _ in range(5):
            yield Read(6)  # one chunk with its framing
            yield Chunk(bytes(request.body[-3:-2]))
        yield Chunk(b"")

    origin.on("/echo", echo, body_first=False)
    async with relay.wire() as wire:
        await wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await wire.response_head()
        for letter in b"abcde":
            await wire.send(b"1\r\n%c\r\n" % letter)
            assert await wire.chunk() == bytes([letter])
        await wire.send(b"0\r\n\r\n")
        assert await wire.chunk() == b""


async def test_an_early_answer_reaches_a_client_that_still_sends(
    relay: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/up", [Head(413, {"Content-Length": "3"}), Body(b"big")], body_first=False)
    async with relay.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 100_000)
        response = await wire.response()
        assert (response.status, response.body) == (413, b"big")
        await wire.send(b"x" * 8_900_000)  # the rest is let in, and forgotten
        assert (await wire.get("/none")).status == 404


async def test_an_upload_broken_off_ends_the_origins_request(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/up", ok())
    async with relay.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome")
        await origin.until(lambda: bool(origin.requests) and bytes(origin.requests[0].body) == b"some")
    await origin.disconnected("/up")


async def test_a_client_that_waits_for_100_gets_it_from_the_origin(
    relay: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/up", ok())
    async with relay.wire() as wire:
        await wire.send(b"PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert origin.requests[0].header("Expect") == "100-continue"
        await wire.send(b"abc")
        assert (await wire.response()).body == b"ok"
        assert (await wire.get("/none")).status == 404
    assert bytes(origin.requests[0].body) == b"abc"


async def test_a_client_that_waits_for_100_gets_it_from_us_where_the_origin_is_silent(
    relay: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/up", [ReadBody(), *ok()], body_first=False)
    async with relay.wire() as wire:
        await wire.send(b"PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n")
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(b"abc")
        assert (await wire.response()).body == b"ok"


@pytest.mark.parametrize("status", [417, 401, 200])
async def test_a_client_that_waits_for_100_hears_the_answer_instead(
    relay: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    origin.on("/up", [Head(status, {"Content-Length": "2"}), Body(b"no")], body_first=False)
    async with relay.wire() as wire:
        await wire.send(b"PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        response = await wire.response()
        assert (response.status, response.body, response.interim) == (status, b"no", [])
        assert response.fields["Connection"] == "close"


# --- Clients that leave, or read slowly -----------------------------------------------------------


@pytest.mark.parametrize("mode", ["adapt", "passthrough"])
async def test_a_client_that_leaves_ends_the_origins_answer(
    start_adapter: StartAdapter, origin: ScriptedOrigin, mode: str
) -> None:
    adapter = await start_adapter(routes=[{"name": "all", "mode": mode}])
    head = Head(200, {"Transfer-Encoding": "chunked", "Cache-Control": "no-store"})
    origin.on("/page", [head, Chunk(b"some"), Stall()])
    async with adapter.wire() as wire:
        await wire.request("GET", "/page")
        await wire.response_head()
        assert await wire.chunk() == b"some"
    await origin.disconnected("/page")


async def test_a_client_that_leaves_before_the_head_ends_the_origins_request(
    relay: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/page", [Stall()])
    async with relay.wire() as wire:
        await wire.request("POST", "/page", body=b"x")
        await origin.requested("/page")
    await origin.disconnected("/page")


@pytest.mark.parametrize("mode", ["adapt", "passthrough"])
async def test_a_slow_client_slows_the_origin(
    start_adapter: StartAdapter, origin: ScriptedOrigin, mode: str
) -> None:
    adapter = await start_adapter(routes=[{"name": "all", "mode": mode}])
    size = 64 << 20
    head = Head(200, {"Content-Length": str(size), "Cache-Control": "no-store"})
    origin.on("/film", [head, Body(memoryview(bytes(size)))])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film")
        await wire.response_head()
        [request] = origin.requests
        sent = -1
        while request.sent != sent:  # until nothing moves any more
            sent = request.sent
            await asyncio.sleep(0.3)
        assert request.sent < 24 << 20  # both kernels' buffers, and little of ours
        await wire.body(size)


async def test_a_fast_upload_waits_for_a_slow_origin(relay: Adapter, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.on("/up", [Pause(gate), ReadBody(), *ok()], body_first=False)
    size = 64 << 20
    async with relay.wire() as wire:
        await wire.send(f"PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        sending = asyncio.create_task(wire.send(bytes(size)))
        await gate.reached()
        done, _ = await asyncio.wait({sending}, timeout=1)
        assert not done
        gate.open()
        await sending
        assert (await wire.response()).body == b"ok"
    assert len(origin.requests[0].body) == size


async def test_a_log_line_takes_any_bytes(
    start_adapter: StartAdapter, origin: ScriptedOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = await start_adapter(logging={"access": True}, **PASSTHROUGH)
    with caplog.at_level(logging.INFO):
        async with Wire(adapter.url) as wire:
            await wire.get("/\xff", User_Agent="\xe9")
            await wire.get("/none")
    assert len(origin.requests) == 2


@pytest.mark.parametrize(
    "sent", [b"Content-Length: 9\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"]
)
async def test_a_stalled_upload_is_cut_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin, sent: bytes
) -> None:
    relay = await start_adapter(server={"timeouts": {"send_idle": "300ms"}}, **PASSTHROUGH)
    origin.on("/up", ok())
    async with relay.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\n" + sent)
        response = await wire.response()
        assert (response.status, response.body) == (408, b"408 Request Timeout: upload-timeout\n")
        assert response.fields["Connection"] == "close"
        await origin.disconnected("/up")


async def test_a_stalled_upload_ends_an_answer_that_has_begun(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    relay = await start_adapter(server={"timeouts": {"send_idle": "300ms"}}, **PASSTHROUGH)
    script: Script = [Head(200, {"Transfer-Encoding": "chunked"}), Chunk(b"so far"), ReadBody(), Chunk(b"")]
    origin.on("/up", script, body_first=False)
    async with relay.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
        await wire.response_head()
        assert await wire.chunk() == b"so far"
        assert await wire.closed()
    await origin.disconnected("/up")


async def test_a_slow_but_steady_upload_is_not_cut_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    server = {"timeouts": {"send_idle": "500ms"}, "limits": {"send_rate": "5B"}}
    relay = await start_adapter(server=server, **PASSTHROUGH)
    origin.on("/up", ok())
    async with relay.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        for _ in range(9):
            await wire.send(b"x")
            await asyncio.sleep(0.1)
        assert (await wire.response()).body == b"ok"


async def test_an_upload_that_drips_is_cut_off(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    server = {"timeouts": {"send_idle": "200ms"}, "limits": {"send_rate": "1kB"}}
    relay = await start_adapter(server=server, **PASSTHROUGH)
    origin.on("/up", ok())

    async def drip(wire: Wire) -> None:
        while True:
            await wire.send(b"x")
            await asyncio.sleep(0.02)

    async with relay.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
        dripping = asyncio.create_task(drip(wire))
        async with asyncio.timeout(5):
            assert (await wire.response()).body == b"408 Request Timeout: upload-timeout\n"
        dripping.cancel()
        await origin.disconnected("/up")


# --- Max-Forwards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["adapt", "passthrough"])
@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 200), ("TRACE", 405)])
async def test_the_last_hop_answers_itself(
    start_adapter: StartAdapter, origin: ScriptedOrigin, method: str, status: int, mode: str
) -> None:
    adapter = await start_adapter(routes=[{"name": "all", "mode": mode}])
    origin.on("/x", ok())
    async with adapter.wire() as wire:
        for target in ("/x", "*") if method == "OPTIONS" else ("/x",):
            await wire.request(method, target, Max_Forwards="0")
            response = await wire.response()
            assert response.status == status
            if method == "OPTIONS":
                assert response.fields["Content-Length"] == "0"
                assert response.cache_status == "range-adapter;detail=max-forwards"
        assert not origin.requests
        await wire.request(method, "/x", Max_Forwards="3")
        assert (await wire.response()).body == b"ok"
    assert origin.requests[0].values("Max-Forwards") == ["2"]


async def test_max_forwards_means_nothing_to_other_methods(relay: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/x", ok())
    async with relay.wire() as wire:
        assert (await wire.get("/x", Max_Forwards="0")).body == b"ok"
    assert origin.requests[0].values("Max-Forwards") == ["0"]


async def test_why_an_adapted_route_relays(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/x", ok())
    async with adapter.wire() as wire:
        await wire.request("GET", "/x", body=b"hi")
        assert (await wire.response()).cache_status == "range-adapter;fwd=bypass;fwd-status=200"
        await wire.request("POST", "/x", body=b"hi")
        assert (await wire.response()).cache_status == "range-adapter;fwd=method;fwd-status=200"
