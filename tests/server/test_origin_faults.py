"""An origin that is down, slow, or talks nonsense: 502 or 504, a reason, and a log line; never a wrong body."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import pytest
import structlog

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
    ReadBody,
    Reset,
    Script,
    ScriptedOrigin,
    Stall,
    Step,
)
from tests.wire import Response, Truncated, Wire

StartRelay = Callable[..., Any]


@pytest.fixture(params=["adapt", "passthrough"])
def start_relay(
    request: pytest.FixtureRequest, start_adapter: StartAdapter, origin: ScriptedOrigin
) -> StartRelay:
    """Both ways through the house: origins fail alike."""

    async def starting(timeouts: Mapping[str, str] | None = None, **overrides: Any) -> Adapter:
        return await start_adapter(
            origins={"legacy": {"url": origin.url, "timeouts": dict(timeouts or {})}},
            routes=[{"name": "all", "mode": request.param}],
            **overrides,
        )

    return starting


async def refused(wire: Wire, status: int, reason: str, caplog: pytest.LogCaptureFixture) -> Response:
    response = await wire.get("/x")
    assert response.status == status
    assert response.body.decode().startswith(f"{status} ")
    assert response.body.decode().endswith(f": {reason}\n")
    assert response.fields["Cache-Control"] == "no-store"
    assert response.cache_status.endswith(f";detail={reason}")
    assert any(reason in record.getMessage() for record in caplog.records), "no log line"
    return response


@pytest.fixture(autouse=True)
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """structlog prints unless the service has set it up; here it goes where the test can see it."""
    caplog.set_level(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs, _flat],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    yield
    structlog.reset_defaults()


def _flat(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    return str(event)


async def test_down(
    start_relay: StartRelay, origin: ScriptedOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await start_relay()
    await origin.stop()
    async with relay.wire() as wire:
        for _ in range(2):
            await refused(wire, 502, "origin-unreachable", caplog)


async def test_no_such_name(start_adapter: StartAdapter, caplog: pytest.LogCaptureFixture) -> None:
    adapter = await start_adapter(origins={"legacy": {"url": "http://origin.invalid"}})
    async with adapter.wire() as wire:
        await refused(wire, 502, "origin-unreachable", caplog)


async def test_does_not_accept(start_adapter: StartAdapter, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        crowd = [socket.socket() for _ in range(3)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        adapter = await start_adapter(origins={"legacy": {"url": url, "timeouts": {"connect": "300ms"}}})
        async with adapter.wire() as wire:
            await refused(wire, 504, "origin-timeout", caplog)
        for each in crowd:
            each.close()


async def test_no_head_in_time(
    start_relay: StartRelay, origin: ScriptedOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await start_relay({"first_byte": "300ms"})
    origin.on("/x", [Stall()])
    async with relay.wire() as wire:
        await refused(wire, 504, "origin-timeout", caplog)
        assert (await wire.get("/none")).status == 404
    await origin.disconnected("/x")


async def test_a_head_that_drips(
    start_relay: StartRelay, origin: ScriptedOrigin, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await start_relay({"first_byte": "400ms"})

    def drip(request: OriginRequest) -> Script:
        yield Raw(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            later = asyncio.Event()
            asyncio.get_running_loop().call_later(0.1, later.set)
            yield Pause(later)
            yield Raw(b"x")

    origin.on("/x", drip)
    async with relay.wire() as wire:
        await refused(wire, 504, "origin-timeout", caplog)


@pytest.mark.parametrize("step", [Cut(), Reset()], ids=["close", "reset"])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_leaves_before_the_head(
    start_relay: StartRelay,
    origin: ScriptedOrigin,
    caplog: pytest.LogCaptureFixture,
    step: Step,
    before: bytes,
) -> None:
    relay = await start_relay()
    origin.on("/x", [Raw(before), step])
    async with relay.wire() as wire:
        response = await refused(wire, 502, "origin-unreachable", caplog)
        assert (await wire.get("/none")).status == 404
    is_adapted = "fwd=uri-miss" in response.cache_status
    assert origin.count("/x") == (3 if is_adapted else 1), "what is relayed may do harm, done twice"


NONSENSE: dict[str, bytes] = {
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "garbage": b"\x00\x01\x02\x03" * 100,
    "another protocol": b"SSH-2.0-OpenSSH_9.0\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "a status in words": b"HTTP/1.1 OK OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunked and length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "a length past all numbers": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a coding nobody asked for": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a NUL in a field": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a field": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "a field without a name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
    "a space in a name": b"HTTP/1.1 200 OK\r\nX Y: z\r\nContent-Length: 0\r\n\r\n",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nhello\r\nContent-Length: 0\r\n\r\n",
    "a field of 100 KiB": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "fields without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "a reason without end": b"HTTP/1.1 200 " + b"x" * 200_000,
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense(
    start_relay: StartRelay, origin: ScriptedOrigin, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    relay = await start_relay()
    origin.on("/x", [Raw(NONSENSE[name]), Stall()])
    async with relay.wire() as wire:
        await refused(wire, 502, "origin-malformed", caplog)
        assert (await wire.get("/none")).status == 404
    await origin.disconnected("/x")


SLOPPY: dict[str, tuple[bytes, dict[str, str]]] = {
    "LF only": (b"HTTP/1.1 200 OK\nX: y\nContent-Length: 2\n\nok", {"X": "y"}),
    "a folded field": (
        b"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\n\tc\r\nContent-Length: 2\r\n\r\nok",
        {"X": "a  b\tc"},
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nok", {"X": "y"}),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", {}),
    "no space at all": (b"HTTP/1.1 200 OK\r\nX:y\r\nContent-Length:2\r\n\r\nok", {"X": "y"}),
    "60 KiB in a field": (
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        {"X": "x" * 60_000},
    ),
    "500 fields": (
        b"HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nok"
        % b"".join(b"X-%d: y\r\n" % number for number in range(500)),
        {"X-0": "y", "X-499": "y"},
    ),
    "chunk extensions and trailers": (
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
            b'1;a=b\r\no\r\n1;c="d"\r\nk\r\n0;e\r\nX-Sum: 1\r\n\r\n'
        ),
        {},
    ),
    "chunked in capitals": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        {},
    ),
}


@pytest.mark.parametrize("name", SLOPPY)
async def test_what_can_be_understood_is_taken(
    start_relay: StartRelay, origin: ScriptedOrigin, name: str
) -> None:
    relay = await start_relay()
    data, fields = SLOPPY[name]
    origin.on("/x", [Raw(data), Stall()])
    async with relay.wire() as wire:
        response = await wire.get("/x")
        assert (response.status, response.body) == (200, b"ok")
        assert "Trailer" not in response.fields
        for field, value in fields.items():
            assert response.fields[field] == value


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_that_ends_with_the_connection(
    start_relay: StartRelay, origin: ScriptedOrigin, version: str
) -> None:
    relay = await start_relay()
    origin.on("/x", [Raw(f"HTTP/{version} 200 OK\r\n\r\nall".encode()), Cut()])
    async with relay.wire() as wire:
        for _ in range(2):
            response = await wire.get("/x")
            assert (response.status, response.body) == (200, b"all")
            assert response.fields["Via"].endswith(" range-adapter")


# --- Bodies that end too soon ---------------------------------------------------------------------

ENDLESS = {"Cache-Control": "no-store"}
BODIES: dict[str, list[Step]] = {
    "a length": [Head(200, {"Content-Length": "9", **ENDLESS}), Body(b"some")],
    "chunks": [Head(200, {"Transfer-Encoding": "chunked", **ENDLESS}), Chunk(b"some")],
    "half a chunk": [Head(200, {"Transfer-Encoding": "chunked", **ENDLESS}), Raw(b"9\r\nsome")],
    "bad chunks": [
        Head(200, {"Transfer-Encoding": "chunked", **ENDLESS}),
        Chunk(b"some"),
        Raw(b"zz\r\nhello\r\n"),
    ],
}


@pytest.mark.parametrize("end", [Cut(), Reset(), Stall()], ids=["close", "reset", "stall"])
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
async def test_a_body_that_ends_too_soon_is_no_whole_one(
    start_relay: StartRelay, origin: ScriptedOrigin, name: str, end: Step, version: str
) -> None:
    relay = await start_relay({"idle": "300ms"})
    gate = Gate()
    origin.on("/x", [*BODIES[name], Pause(gate), end])
    async with relay.wire() as wire:
        await wire.request("GET", "/x", version=version, Connection="keep-alive")
        if name == "bad chunks":  # all of it may be here before our head is out: then that says it
            gate.open()
            try:
                assert (await wire.response()).status == 502
            except Truncated:
                pass
            return
        head = await wire.response_head()
        assert head.status == 200
        chunked = head.fields.get("Transfer-Encoding") == "chunked"
        assert (await wire.chunk() if chunked else await wire.body(4)) == b"some"
        gate.open()
        if "Content-Length" in head.fields or chunked:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await wire.body(1)
        else:  # an end in good order would be the end of the body
            with pytest.raises(ConnectionError):
                await wire.reader.read(100)


async def test_a_reset_is_no_end_of_a_body_without_length(
    start_relay: StartRelay, origin: ScriptedOrigin
) -> None:
    relay = await start_relay()
    gate = Gate()
    origin.on("/x", [Raw(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\nsome"), Pause(gate), Reset()])
    async with relay.wire() as wire:
        await wire.request("GET", "/x")
        await wire.response_head()
        assert await wire.chunk() == b"some"
        gate.open()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await wire.chunk()


@pytest.mark.usefixtures("heads_wait")
@pytest.mark.parametrize("end", [Cut(), Reset()], ids=["close", "reset"])
async def test_a_body_that_never_begins_is_an_error_with_a_reason(
    start_relay: StartRelay, origin: ScriptedOrigin, caplog: pytest.LogCaptureFixture, end: Step
) -> None:
    relay = await start_relay()
    origin.on("/x", [Head(200, {"Content-Length": "9", **ENDLESS}), end])
    async with relay.wire() as wire:
        await refused(wire, 502, "origin-truncated", caplog)
        assert (await wire.get("/none")).status == 404


async def test_bytes_behind_an_answer_are_no_answer_to_the_next(
    start_relay: StartRelay, origin: ScriptedOrigin
) -> None:
    """Response smuggling: what comes unasked goes down with its connection."""
    relay = await start_relay()
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    origin.on("/x", [Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil), Stall()])
    async with relay.wire() as wire:
        for _ in range(3):
            assert (await wire.get("/x")).body == b"ok"
            assert (await wire.get("/none")).status == 404


# --- Connections kept alive for too long ----------------------------------------------------------


class Forgetful:
    """An origin that closes each connection on its second request, unanswered, as it had timed out."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for turn in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                length = 5 if b"Content-Length: 5" in head else 0
                await reader.readexactly(length)
                self.seen.append(head.split(b" ")[0].decode())
                if turn == 0:
                    writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("method", "status", "seen"),
    [
        ("GET", 200, ["GET", "GET", "GET"]),
        ("HEAD", 200, ["GET", "HEAD", "HEAD"]),
        ("DELETE", 200, ["GET", "DELETE", "DELETE"]),
        ("POST", 502, ["GET", "POST"]),
        ("PATCH", 502, ["GET", "PATCH"]),
        ("PUT", 502, ["GET", "PUT"]),
        ("BREW", 502, ["GET", "BREW"]),
    ],
)
async def test_a_stale_connection(
    start_adapter: StartAdapter, method: str, status: int, seen: list[str]
) -> None:
    forgetful = Forgetful()
    server = await asyncio.start_server(forgetful.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    adapter = await start_adapter(
        origins={"legacy": {"url": url}}, routes=[{"name": "all", "mode": "passthrough"}]
    )
    async with server, adapter.wire() as wire:
        assert (await wire.get("/x")).status == 200
        await wire.request(method, "/x", body=b"hello" if method in {"PUT", "POST", "PATCH"} else b"")
        assert (await wire.response(to_head=method == "HEAD")).status == status
    assert forgetful.seen == seen


# --- Uploads --------------------------------------------------------------------------------------


async def test_an_origin_that_takes_no_upload(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "timeouts": {"idle": "300ms"}}},
        routes=[{"name": "all", "mode": "passthrough"}],
    )
    origin.on("/up", [Stall()], body_first=False)
    async with adapter.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n")
        sending = asyncio.create_task(wire.send(bytes(40 << 20)))
        assert (await wire.response()).status == 504
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_an_upload_may_take_longer_than_an_answer(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "timeouts": {"idle": "300ms", "first_byte": "300ms"}}},
        routes=[{"name": "all", "mode": "passthrough"}],
    )
    origin.on("/up", [ReadBody(), Head(200, {"Content-Length": "2"}), Body(b"ok")], body_first=False)
    async with adapter.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        for byte in (b"a", b"b", b"c"):
            await asyncio.sleep(0.4)
            await wire.send(byte)
        assert (await wire.response()).body == b"ok"


async def test_an_origin_that_resets_an_upload_after_its_answer(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(routes=[{"name": "all", "mode": "passthrough"}])
    origin.on(
        "/up",
        [Head(413, {"Content-Length": "3", "Connection": "close"}), Body(b"big"), Cut()],
        body_first=False,
    )
    async with adapter.wire() as wire:
        await wire.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + bytes(1000))
        response = await wire.response()
        assert (response.status, response.body) == (413, b"big")
