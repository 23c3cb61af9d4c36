"""What an origin sends beyond its response belongs to nobody: least of all to the next client."""

import asyncio

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import Body, Gate, Head, OriginRequest, Pause, Raw, Script, ScriptedOrigin, Stall
from tests.together import until

EVIL = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 4\r\n\r\ngood"


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (GOOD, 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n", 200),
    ],
)
@pytest.mark.parametrize("later", [False, True], ids=["at once", "once the connection is idle"])
async def test_a_second_response_answers_nobody(
    adapter: Adapter, origin: ScriptedOrigin, response: bytes, status: int, later: bool
) -> None:
    idle, sent = Gate(), asyncio.Event()

    def script(_: OriginRequest) -> Script:
        yield Raw(response)
        if later:
            yield Pause(idle)
        yield Raw(EVIL)
        sent.set()
        yield Stall()  # the connection stays open

    origin.on("/first", script)
    origin.serve("/second", b"mine")
    async with adapter.wire() as wire:
        assert (await wire.get("/first")).status == status
        idle.open()
        await sent.wait()
        for _ in range(2):
            assert (await wire.get("/second")).body == b"mine"


async def test_a_line_too_many_behind_lines_that_end_in_lf(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """Old scripts send both, and all at once."""
    origin.on("/script", [Raw(GOOD.replace(b"\r\n", b"\n") + b"too much\n"), Stall()])
    async with adapter.wire() as wire:
        response = await wire.get("/script")
        assert (response.status, response.body) == (200, b"good")


async def test_a_chunk_that_breaks_after_the_head_ends_the_answer(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    gate = Gate()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n"
    origin.on("/broken", [Raw(head), Pause(gate), Raw(b"no chunk\r\n")])
    async with adapter.wire() as wire:
        await wire.request("GET", "/broken")
        assert (await wire.response_head()).status == 200
        assert await wire.chunk() == b"good"
        gate.open()
        assert await wire.closed()


@pytest.mark.parametrize(
    "pieces",
    [
        [GOOD + b" and more"],
        [GOOD, b" and more"],
        [GOOD[:-2], b"od and", b" more"],
        [GOOD[:20], GOOD[20:-6], GOOD[-6:-4], GOOD[-4:] + b"\r\n\r\n"],
        [GOOD + EVIL],
        [b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOOD + b"!"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nA: b\r\n\r", b"\n" + GOOD + b"!"],
    ],
)
async def test_a_line_too_many_is_left_out(
    adapter: Adapter, origin: ScriptedOrigin, pieces: list[bytes]
) -> None:
    def script(_: OriginRequest) -> Script:
        for piece in pieces:
            yield Raw(piece)
            yield Pause(now)
        yield Stall()

    now = asyncio.Event()
    now.set()
    origin.on("/first", script)
    origin.serve("/second", b"mine")
    async with adapter.wire() as wire:
        for _ in range(2):
            response = await wire.get("/first")
            assert (response.status, response.body) == (200, b"good")
        assert (await wire.get("/second")).body == b"mine"
    assert origin.count("/first") == 1


async def test_content_where_there_can_be_none_is_left_out(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/first", [Raw(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil"), Stall()])
    origin.serve("/second", b"mine")
    async with adapter.wire() as wire:
        response = await wire.get("/first")
        assert (response.status, response.body) == (204, b"")
        assert (await wire.get("/second")).body == b"mine"


async def test_an_origin_that_answers_head_with_a_body(adapter: Adapter, origin: ScriptedOrigin) -> None:
    body = b"<html>" * 100
    stale = {
        "Content-Type": "video/mp4",
        "Cache-Control": "max-age=1",
        "Age": "1",
        "Content-Length": "600",
        "ETag": '"1"',
    }
    origin.on("/film", [Head(200, stale), Raw(body)])
    async with adapter.wire() as wire:
        assert (await wire.get("/film")).body == body
        await until(lambda: adapter.service._cache.idle)
        response = await wire.head("/film")
        assert (response.status, response.fields["Content-Length"]) == (200, "600")
        assert (await wire.get("/film")).body == body
    assert [request.method for request in origin.requests] == ["GET", "HEAD", "GET"]


# --- Connections that nobody else may have --------------------------------------------------------


def deaf(request: OriginRequest) -> Script:
    """An origin that does not read bodies: what comes next on the connection is its next request."""
    body = str(request.target)
    yield Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(body))})
    yield Body(body.encode())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_a_body_that_looks_like_a_request_answers_nobody_else(
    adapter: Adapter, origin: ScriptedOrigin, method: str
) -> None:
    origin.on("/upload", deaf, body_first=False)
    for path in ("/evil", "/film"):
        origin.on(path, deaf, body_first=False)
    async with adapter.wire() as wire, adapter.wire() as other:
        for _ in range(10):
            await wire.request(method, "/upload", body=b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"/upload" in (await wire.response()).body
            assert b"/film" in (await other.get("/film", Cache_Control="no-cache")).body


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "negotiate"])
async def test_a_connection_that_somebody_has_logged_in_is_nobody_elses(
    adapter: Adapter, origin: ScriptedOrigin, scheme: str
) -> None:
    origin.serve("/film", b"film")
    async with adapter.wire() as wire:
        await wire.get("/film", Authorization=f"{scheme} YWxpY2U=", Cache_Control="no-store")
        await origin.idle()
        await wire.get("/film", Cache_Control="no-store")
    first, second = (request.connection for request in origin.requests)
    assert first != second
