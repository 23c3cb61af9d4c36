"""Range requests on real sockets: what RFC 9110 says, cold and warm, and the framing to the byte."""

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import Body as OriginBody
from tests.scripted_origin import Head, OriginRequest, Script, ScriptedOrigin
from tests.spool.objects import pattern

FILM = pattern(300_000)
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture(params=["cold", "warm"])
async def film(request: pytest.FixtureRequest, origin: ScriptedOrigin, adapter: Adapter) -> str:
    origin.serve("/film", FILM, headers={"ETag": '"v1"', "Last-Modified": PAST})
    if request.param == "warm":
        async with adapter.wire() as wire:
            await wire.get("/film")
    return "/film"


@pytest.mark.parametrize(
    ("ask", "content_range", "expected"),
    [
        ("bytes=0-1", "bytes 0-1/300000", FILM[:2]),
        ("bytes=0-", "bytes 0-299999/300000", FILM),
        ("bytes=299999-", "bytes 299999-299999/300000", FILM[-1:]),
        ("bytes=1000-200999", "bytes 1000-200999/300000", FILM[1000:201_000]),
        ("bytes=-500", "bytes 299500-299999/300000", FILM[-500:]),
        ("bytes=-999999", "bytes 0-299999/300000", FILM),
        ("bytes=10-999999", "bytes 10-299999/300000", FILM[10:]),
        ("BYTES=0-0", "bytes 0-0/300000", FILM[:1]),
        ("bytes=0-0,", "bytes 0-0/300000", FILM[:1]),
        ("bytes=400000-,5-6", "bytes 5-6/300000", FILM[5:7]),
    ],
)
async def test_one_range(film: str, adapter: Adapter, ask: str, content_range: str, expected: bytes) -> None:
    async with adapter.wire() as wire:
        response = await wire.get(film, Range=ask)
        assert response.status == 206
        assert response.fields["Content-Range"] == content_range
        assert response.fields["Content-Length"] == str(len(expected))
        assert response.fields["Accept-Ranges"] == "bytes"
        assert response.body == expected


@pytest.mark.parametrize(
    "ask",
    ["bytes=0-1,100000-200000,-3", "bytes=200-299,0-99", "bytes=5-5, 6-6", "bytes=250000-,0-9"],
)
async def test_several_ranges(film: str, adapter: Adapter, ask: str) -> None:
    async with adapter.wire() as wire:
        response = await wire.get(film, Range=ask)
        assert response.status == 206
        assert "Content-Range" not in response.fields
        expected = []
        for member in ask.removeprefix("bytes=").split(","):
            first, last = member.strip().split("-")
            start = int(first) if first else len(FILM) - int(last)
            stop = int(last) + 1 if first and last else len(FILM)
            expected.append((f"bytes {start}-{stop - 1}/300000", FILM[start:stop]))
        assert response.parts() == expected
        assert (await wire.get(film, Range="bytes=0-0")).body == FILM[:1], "the length was exact"


@pytest.mark.parametrize(
    "ask",
    [
        "items=0-1",
        "bytes",
        "bytes=",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=1-2-3",
        "bytes=--1",
        "bytes=0-1;2-3",
        "bytes=" + ",".join(["0-"] * 5),
        "bytes=" + ",".join(f"{n}-{n}" for n in range(101)),
        "bytes=0-9,5-14,8-20,9-30",
    ],
)
async def test_what_is_ignored(film: str, adapter: Adapter, ask: str) -> None:
    async with adapter.wire() as wire:
        response = await wire.get(film, Range=ask)
        assert response.status == 200
        assert response.body == FILM


@pytest.mark.parametrize("ask", ["bytes=300000-", "bytes=300000-300001,400000-", "bytes=-0"])
async def test_416(film: str, adapter: Adapter, ask: str) -> None:
    async with adapter.wire() as wire:
        response = await wire.get(film, Range=ask)
        assert response.status == 416
        assert response.fields["Content-Range"] == "bytes */300000"
        assert (await wire.get(film, Range="bytes=0-0")).status == 206


async def test_head_ignores_range(film: str, adapter: Adapter) -> None:
    async with adapter.wire() as wire:
        response = await wire.head(film, Range="bytes=0-1")
        assert response.status == 200
        assert response.fields["Content-Length"] == "300000"
        assert response.fields["Accept-Ranges"] == "bytes"
        assert "Content-Range" not in response.fields
        assert (await wire.get(film, Range="bytes=0-1")).body == FILM[:2]


async def test_head_where_the_origin_has_none(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/film", FILM, accept_head=False)
    async with adapter.wire() as wire:
        response = await wire.head("/film")
        assert response.status == 200
        assert response.fields["Content-Length"] == "300000"


async def test_head_where_the_origin_tells_no_length_on_it(origin: ScriptedOrigin, adapter: Adapter) -> None:
    def answer(request: OriginRequest) -> Script:
        if request.method == "HEAD":
            return [Head(200, {"Content-Type": "video/mp4"})]
        return [Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(FILM))}), OriginBody(FILM)]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        assert (await wire.head("/film")).fields["Content-Length"] == "300000"


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"v1"', 206), ('"v2"', 200), ('W/"v1"', 200), (PAST, 206), ("Sun, 06 Nov 1994 08:49:38 GMT", 200)],
)
async def test_if_range(film: str, adapter: Adapter, condition: str, status: int) -> None:
    async with adapter.wire() as wire:
        response = await wire.get(film, Range="bytes=0-9", If_Range=condition)
        assert response.status == status
        assert response.body == (FILM[:10] if status == 206 else FILM)


async def test_an_empty_object(origin: ScriptedOrigin, adapter: Adapter) -> None:
    origin.serve("/empty", b"")
    async with adapter.wire() as wire:
        for _ in range(2):
            response = await wire.get("/empty", Range="bytes=0-")
            assert response.status == 200
            assert response.body == b""


async def test_many_ranges_are_cheap_to_refuse(film: str, adapter: Adapter) -> None:
    async with adapter.wire() as wire:
        response = await wire.get(film, Range="bytes=" + ",".join(["0-299999"] * 100))
        assert response.status == 200
        assert len(response.body) == len(FILM)
