"""What real clients were seen to send and to expect, on the wire: those that are too heavy to install for a test."""

import gzip
import logging
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict, WrappedLogger

from proxy.server.lines import Line
from tests.access_log import access_log
from tests.conftest import Adapter, StartAdapter
from tests.origin_script import Bell
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin

BLOB = random.Random(206).randbytes(3_000_000)
LENGTH = len(BLOB)
MODIFIED = "Tue, 01 Sep 2015 09:30:00 GMT"


@pytest.fixture(params=[True, False], ids=["sized", "unsized"])
def blob(request: pytest.FixtureRequest, origin: ScriptedOrigin) -> str:
    """An object with a Content-Length from the origin, and without; with nothing else."""
    origin.serve("/blob", BLOB, chunked=not request.param)
    return "/blob"


class Log:
    """What the adapter has logged so far, and a way to wait for more of it."""

    def __init__(self) -> None:
        self.events: list[EventDict] = []
        self._bell = Bell()

    def ring(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        self._bell.ring()
        return event

    async def requests(self, count: int) -> list[EventDict]:
        """The first `count` lines of the access log, once they are written."""
        await self._bell.until(lambda: len(self._requests()) >= count)
        return self._requests()

    def _requests(self) -> list[EventDict]:
        return [event for event in self.events if event["event"] == "request"]

    @property
    def problems(self) -> list[EventDict]:
        return [event for event in self.events if event["log_level"] not in {"debug", "info"}]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """No client's habit is a reason to complain."""
    log = Log()

    def note(line: Line) -> None:
        log.events.append({**line.event(), "log_level": "info"})
        log.ring(None, "info", {})

    with capture_logs(processors=[log.ring]) as log.events, access_log(note):
        yield log
    assert log.problems == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Where clients look for what we can do


async def test_accept_ranges_stands_in_every_answer(adapter: Adapter, blob: str) -> None:
    """On the 200: GStreamer, WebKit, pdf.js, smart-open.  On HEAD: qemu, nbdkit.  On the 206: zip.js, httpdirfs."""
    async with adapter.wire() as wire:
        for _ in ("cold", "warm"):
            for response in (
                await wire.get(blob),
                await wire.head(blob),
                await wire.get(blob, Range="bytes=0-1"),
                await wire.get(blob, Range=f"bytes={LENGTH}-"),
            ):
                assert response.fields.getall("Accept-Ranges") == ["bytes"]


async def test_the_first_answer_tells_the_size(adapter: Adapter, blob: str) -> None:
    """polars, remotezip and zip.js open with a suffix, without HEAD."""
    async with adapter.wire() as wire:
        response = await wire.get(blob, Range="bytes=-65536")
    assert response.status == 206
    assert response.fields["Content-Range"] == f"bytes {LENGTH - 65536}-{LENGTH - 1}/{LENGTH}"
    assert response.body == BLOB[-65536:]


async def test_head_with_range_is_a_plain_200(adapter: Adapter, blob: str) -> None:
    async with adapter.wire() as wire:
        for _ in ("cold", "warm"):
            head = await wire.head(blob, Range="bytes=100-199")
            assert head.status == 200
            assert head.fields["Content-Length"] == str(LENGTH)
            assert "Content-Range" not in head.fields
            response = await wire.get(blob, Range="bytes=100-199")
            assert (response.status, response.body) == (206, BLOB[100:200])


async def test_a_complete_download_is_told_so(adapter: Adapter, blob: str) -> None:
    """curl and wget ask for what follows the last byte."""
    async with adapter.wire() as wire:
        for _ in ("cold", "warm"):
            response = await wire.get(blob, Range=f"bytes={LENGTH}-")
            assert response.status == 416
            assert response.fields["Content-Range"] == f"bytes */{LENGTH}"
        assert (await wire.get(blob, Range="bytes=0-0")).body == BLOB[:1]


async def test_an_end_past_the_end_is_clamped(adapter: Adapter, blob: str) -> None:
    """httpdirfs asks for whole blocks, the last one too."""
    async with adapter.wire() as wire:
        response = await wire.get(blob, Range=f"bytes={LENGTH - 10}-{LENGTH + 8_388_607}")
    assert (response.status, response.body) == (206, BLOB[-10:])
    assert response.fields["Content-Range"] == f"bytes {LENGTH - 10}-{LENGTH - 1}/{LENGTH}"


# Several ranges


@pytest.mark.parametrize("count", [2, 10, 12], ids=["pdf", "zchunk", "zsync"])
async def test_several_ranges_in_a_request(adapter: Adapter, blob: str, count: int) -> None:
    starts = [number * 200_000 for number in range(count)]
    asked = ",".join(f"{start}-{start + 2047}" for start in starts)
    async with adapter.wire() as wire:
        for _ in ("cold", "warm"):
            response = await wire.get(blob, Range=f"bytes={asked}")
            assert response.status == 206
            assert response.parts() == [
                (f"bytes {start}-{start + 2047}/{LENGTH}", BLOB[start : start + 2048]) for start in starts
            ]


async def test_a_line_break_stands_before_the_first_part(adapter: Adapter, blob: str) -> None:
    """As Apache and nginx send it (RFC 9110 section 14.6): zsync drops a line there, and loops for ever otherwise."""
    async with adapter.wire() as wire:
        response = await wire.get(blob, Range="bytes=0-1,500-501")
    boundary = response.fields["Content-Type"].partition("boundary=")[2]
    assert response.body.startswith(f"\r\n--{boundary}\r\n".encode())


# Validators


async def test_if_range_by_the_tag_of_the_first_answer(adapter: Adapter, blob: str) -> None:
    """Chromium sends it with nearly every later range."""
    async with adapter.wire() as wire:
        tag = (await wire.get(blob, Range="bytes=0-")).fields["ETag"]
        response = await wire.get(blob, Range="bytes=2000000-", If_Range=tag)
        assert (response.status, response.body) == (206, BLOB[2_000_000:])
        assert response.fields["ETag"] == tag
        response = await wire.get(blob, Range="bytes=2000000-", If_Range='"another"')
        assert (response.status, response.body) == (200, BLOB)


@pytest.mark.parametrize(
    "modified", [MODIFIED, "Tuesday, 01-Sep-15 09:30:00 GMT", "Tue Sep  1 09:30:00 2015"]
)
async def test_if_range_by_date(origin: ScriptedOrigin, adapter: Adapter, modified: str) -> None:
    """apt sends back what Last-Modified said, to the letter."""
    origin.serve("/package.deb", BLOB, headers={"Last-Modified": modified})
    async with adapter.wire() as wire:
        given = (await wire.get("/package.deb")).fields["Last-Modified"]
        assert given == modified
        response = await wire.get("/package.deb", Range="bytes=2000000-", If_Range=given)
        assert (response.status, response.body) == (206, BLOB[2_000_000:])
        response = await wire.get(
            "/package.deb", Range="bytes=2000000-", If_Range="Tue, 01 Sep 2015 09:30:01 GMT"
        )
        assert (response.status, response.body) == (200, BLOB)


async def test_if_match_on_a_seek(adapter: Adapter, blob: str) -> None:
    """VLC, smart-open and undici."""
    async with adapter.wire() as wire:
        tag = (await wire.get(blob)).fields["ETag"]
        response = await wire.get(blob, Range="bytes=2000000-", If_Match=tag)
        assert (response.status, response.body) == (206, BLOB[2_000_000:])
        response = await wire.get(blob, Range="bytes=2000000-", If_Match='"another"')
        assert response.status == 412


async def test_if_match_after_a_change(origin: ScriptedOrigin, adapter: Adapter) -> None:
    stale = {"Cache-Control": "max-age=0"}
    origin.serve("/film", BLOB, headers=stale | {"ETag": '"one"'}, conditional=True)
    async with adapter.wire() as wire:
        assert (await wire.get("/film", Range="bytes=0-")).fields["ETag"] == '"one"'
        origin.serve("/film", BLOB[::-1], headers=stale | {"ETag": '"two"'}, conditional=True)
        response = await wire.get("/film", Range="bytes=2000000-", If_Match='"one"')
        assert response.status == 412
        response = await wire.get("/film", Range="bytes=2000000-", If_Range='"one"')
        assert (response.status, response.body) == (200, BLOB[::-1])


@pytest.mark.parametrize("condition", ["If-Range", "If-Match"])
async def test_fetch_resumes_with_no_cache(adapter: Adapter, blob: str, condition: str) -> None:
    """By the Fetch standard, a script's condition brings `no-cache` with it, in browsers and in Node.

    What it means is the rest of what it has; the object is fresh, and nobody but us can validate a tag of ours.
    """
    async with adapter.wire() as wire:
        tag = (await wire.get(blob)).fields["ETag"]
        fields = [(condition, tag), ("Cache-Control", "no-cache"), ("Pragma", "no-cache")]
        response = await wire.get(blob, fields, Range="bytes=2000000-")
    assert (response.status, response.body) == (206, BLOB[2_000_000:])


# Codings


async def test_gzip_beside_range_gives_identity(origin: ScriptedOrigin, adapter: Adapter) -> None:
    """requests and aiohttp offer gzip with every request."""

    def answer(request: OriginRequest) -> Script:
        coded = "gzip" in (request.header("Accept-Encoding") or "")
        body = gzip.compress(BLOB) if coded else BLOB
        fields = {"Content-Type": "video/mp4", "Vary": "Accept-Encoding", "Content-Length": str(len(body))}
        return [Head(200, fields | ({"Content-Encoding": "gzip"} if coded else {})), Body(body)]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        for _ in ("cold", "warm"):
            response = await wire.get("/film", Range="bytes=100-199", Accept_Encoding="gzip, deflate")
            assert (response.status, response.body) == (206, BLOB[100:200])
            assert "Content-Encoding" not in response.fields


# Connections: ffmpeg uses twenty for one seek, WebKit more; each asks for the rest and leaves early


STARTS = range(0, 2_200_000, 100_000)


async def test_open_ended_ranges_dropped_during_the_fill(
    origin: ScriptedOrigin, start_adapter: StartAdapter, log: Log
) -> None:
    origin.serve("/film.mp4", BLOB)
    gate = origin.gate("/film.mp4", at=2_500_000)
    adapter = await start_adapter(logging={"access": True})
    for start in STARTS:
        async with adapter.wire() as wire:
            await wire.request("GET", "/film.mp4", Range=f"bytes={start}-")
            assert (await wire.response_head()).status == 206
            assert await wire.body(1000) == BLOB[start : start + 1000]
    gate.open()
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4")).body == BLOB
    answered = await log.requests(len(STARTS) + 1)
    assert {event.get("reason") for event in answered} == {None, "client-gone"}
    assert origin.count("/film.mp4") == 1
    assert not any(request.left for request in origin.requests)


async def test_open_ended_ranges_dropped_of_what_is_stored(
    origin: ScriptedOrigin, start_adapter: StartAdapter, log: Log
) -> None:
    """More than the sockets hold: each of them leaves us in the middle of sending."""
    film = BLOB * 6
    origin.serve("/film.mp4", film)
    adapter = await start_adapter(logging={"access": True})
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4")).body == film
    for start in STARTS:
        async with adapter.wire() as wire:
            await wire.request("GET", "/film.mp4", Range=f"bytes={start}-")
            assert (await wire.response_head()).status == 206
            assert await wire.body(1000) == film[start : start + 1000]
    _, *dropped = await log.requests(len(STARTS) + 1)
    assert {(event.get("reason"), event.get("aborted")) for event in dropped} == {("client-gone", True)}
    assert origin.count("/film.mp4") == 1


async def test_the_only_client_leaves_and_the_fill_goes_on(
    origin: ScriptedOrigin, start_adapter: StartAdapter, log: Log
) -> None:
    """The next request finds it done."""
    origin.serve("/film.mp4", BLOB)
    gate = origin.gate("/film.mp4", at=1_000_000)
    adapter = await start_adapter(logging={"access": True})
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4", Range="bytes=0-")
        await wire.response_head()
    gate.open()
    await origin.idle()
    async with adapter.wire() as wire:
        response = await wire.get("/film.mp4", Range=f"bytes={LENGTH - 100}-")
    assert response.body == BLOB[-100:]
    assert origin.count("/film.mp4") == 1
    assert not origin.requests[0].left


async def test_a_far_seek_into_a_cold_film(origin: ScriptedOrigin, adapter: Adapter) -> None:
    """No client gives up on it: it waits for the fill to come there, and others are served meanwhile."""
    origin.serve("/film.mp4", BLOB)
    gate = origin.gate("/film.mp4", at=1_000_000)
    async with adapter.wire() as index, adapter.wire() as begin:
        await index.request("GET", "/film.mp4", Range=f"bytes={LENGTH - 50_000}-")
        await gate.reached()
        assert (await begin.get("/film.mp4", Range="bytes=0-999999")).body == BLOB[:1_000_000]
        gate.open()
        assert (await index.response()).body == BLOB[-50_000:]
    assert origin.count("/film.mp4") == 1


async def test_pieces_in_order_on_one_connection(origin: ScriptedOrigin, adapter: Adapter, blob: str) -> None:
    """As Safari reads: two bytes first, then piece after piece."""
    async with adapter.wire() as wire:
        first = await wire.get(blob, Range="bytes=0-1")
        assert first.fields["Content-Range"] == f"bytes 0-1/{LENGTH}"
        pieces = [
            (await wire.get(blob, Range=f"bytes={start}-{stop - 1}")).body
            for start, stop in pairwise([*range(0, LENGTH, 262_144), LENGTH])
        ]
    assert b"".join(pieces) == BLOB
    assert origin.count(blob) == 1
