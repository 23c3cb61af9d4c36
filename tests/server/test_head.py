"""HEAD is right when cold too, whatever the origin makes of HEAD: it is asked that of what is stale alone."""

import asyncio
from collections.abc import Callable, Iterator

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
    Script,
    ScriptedOrigin,
    Stall,
)
from tests.together import until

FILM = bytes(range(256)) * 4096


def refuses_head(how: str) -> "Iterator[object]":
    match how:
        case "405" | "501" | "404":
            yield Head(int(how), {"Content-Length": "0"})
        case "wrong length":
            yield Head(200, {"Content-Length": "7", "Content-Type": "text/html"})
        case "hangs":
            yield Stall()
        case "closes":
            yield Cut()
        case _:
            yield Head(200, {"Content-Type": "video/mp4"})


@pytest.mark.parametrize("how", ["405", "501", "404", "wrong length", "hangs", "closes", "no length"])
async def test_an_origin_without_a_good_head(adapter: Adapter, origin: ScriptedOrigin, how: str) -> None:
    def answer(request: OriginRequest) -> Script:
        if request.method == "HEAD":
            return refuses_head(how)  # type: ignore[return-value]
        head = Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(FILM))})
        return [head, Body(FILM)]

    origin.on("/film.mp4", answer)
    async with adapter.wire() as wire:
        for headers in ([], [("Range", "bytes=0-9")], []):
            response = await wire.head("/film.mp4", headers)
            assert response.status == 200
            assert response.fields["Content-Length"] == str(len(FILM))
            assert response.fields["Accept-Ranges"] == "bytes"
            assert "Content-Range" not in response.fields
        whole = await wire.get("/film.mp4")
        assert whole.body == FILM
        for name in ("ETag", "Content-Type", "Content-Length", "Accept-Ranges"):
            assert whole.fields[name] == response.fields[name]
    assert origin.count("/film.mp4", "HEAD") == 0
    assert origin.count("/film.mp4") == 1


async def test_a_head_needs_no_body(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 0)
    async with adapter.wire() as wire:
        async with asyncio.timeout(10):
            for _ in range(2):
                response = await wire.head("/film.mp4")
                assert response.fields["Content-Length"] == str(len(FILM))
        gate.open()
        assert (await wire.get("/film.mp4")).body == FILM
    assert origin.count("/film.mp4") == 1


async def test_where_the_get_gives_no_length_either_head_waits_for_it(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM, chunked=True)
    async with adapter.wire() as wire:
        for _ in range(2):
            response = await wire.head("/film.mp4")
            assert response.fields["Content-Length"] == str(len(FILM))
            assert "Transfer-Encoding" not in response.fields
    assert origin.count("/film.mp4") == 1


async def test_but_not_for_ever(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"ranges": {"unknown_length_wait": "50ms"}})
    gate = Gate()
    head = Head(200, {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"})
    origin.on("/film.mp4", [head, Chunk(b"x" * 1000), Pause(gate), Chunk(b"")])
    async with adapter.wire() as wire:
        response = await wire.head("/film.mp4")
        assert response.status == 200
        assert "Content-Length" not in response.fields
        gate.open()
        assert (await wire.get("/film.mp4")).body == b"x" * 1000  # the connection is in step


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_passing_answer_is_closed_after_its_head(
    adapter: Adapter, origin: ScriptedOrigin, chunked: bool
) -> None:
    origin.serve("/page", FILM * 8, content_type="text/html", chunked=chunked)
    gate = origin.gate("/page", 1000)
    async with adapter.wire() as wire:
        response = await wire.head("/page")
        assert response.status == 200
        assert response.fields.get("Content-Length") == (None if chunked else str(len(FILM) * 8))
        await origin.disconnected("/page")
        gate.open()
        assert (await wire.get("/other")).status == 404  # the connection is in step


async def test_a_head_that_fails(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/film.mp4", [Cut()])
    async with adapter.wire() as wire:
        response = await wire.head("/film.mp4")
        assert response.status == 502
        response = await wire.head("/missing")
        assert response.status == 404
        assert (await wire.get("/missing")).status == 404


async def test_an_empty_object(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/empty.mp4", b"")
    async with adapter.wire() as wire:
        for _ in range(2):
            assert (await wire.head("/empty.mp4")).fields["Content-Length"] == "0"
            response = await wire.get("/empty.mp4", Range="bytes=0-")
            assert (response.status, response.body) == (200, b"")


# --- What the origin's own answer to HEAD does to what is stored (RFC 9111 section 4.3.5) ----------

STALE = {"Cache-Control": "max-age=60", "Age": "60", "Content-Type": "video/mp4", "ETag": '"1"'}
RENEWED = {"Cache-Control": "max-age=60", "X-New": "1", "Content-Type": "video/mp4", "ETag": '"1"'}


def answering(head: Script, body: Script) -> Callable[[OriginRequest], Script]:
    return lambda request: head if request.method == "HEAD" else body


async def test_a_head_for_what_is_stale_freshens_it(adapter: Adapter, origin: ScriptedOrigin) -> None:
    length = {"Content-Length": str(len(FILM))}
    origin.on("/film", answering([Head(200, RENEWED | length)], [Head(200, STALE | length), Body(FILM)]))
    async with adapter.wire() as wire:
        tag = (await wire.get("/film")).fields["ETag"]
        await until(lambda: adapter.service._cache.idle)
        response = await wire.head("/film")
        assert (response.status, response.fields["X-New"], response.fields["ETag"]) == (200, "1", tag)
        assert "fwd=stale;fwd-status=200" in response.cache_status
        again = await wire.get("/film", Range="bytes=0-4")
        assert (again.body, again.fields["X-New"]) == (FILM[:5], "1")
        assert "hit" in again.cache_status
    assert [request.method for request in origin.requests] == ["GET", "HEAD"]


@pytest.mark.parametrize(
    "head",
    [
        [Head(405, {"Content-Length": "0"})],
        [Head(501, {"Content-Length": "0"})],
        [Head(200, RENEWED | {"Content-Length": "0"})],
        [Head(200, RENEWED | {"Content-Length": "5"})],
        [Head(200, RENEWED | {"Content-Length": str(len(FILM)), "Content-Type": "text/html"})],
        [Head(200, RENEWED | {"Content-Length": str(len(FILM)), "ETag": '"new"'})],
        [Head(302, {"Location": "/login", "Content-Length": "0"})],
    ],
)
async def test_where_that_says_something_else_the_object_is_fetched(
    adapter: Adapter, origin: ScriptedOrigin, head: Script
) -> None:
    length = {"Content-Length": str(len(FILM))}
    origin.on("/film", answering(head, [Head(200, STALE | length), Body(FILM)]))
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.on("/film", answering(head, [Head(200, RENEWED | length), Body(FILM)]))
        response = await wire.head("/film")
        assert (response.status, response.fields["Content-Length"]) == (200, str(len(FILM)))
        assert response.fields["X-New"] == "1"
    assert [request.method for request in origin.requests] == ["GET", "HEAD", "GET"]


async def test_a_length_alone_does_not_freshen(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """Other bytes may have the same length: they are fetched and compared."""
    head = {"Cache-Control": "max-age=60", "Content-Type": "video/mp4", "Content-Length": "4"}
    origin.on("/film", answering([Head(200, head)], [Head(200, head | {"Age": "60"}), Body(b"old!")]))
    async with adapter.wire() as wire:
        tag = (await wire.get("/film")).fields["ETag"]
        await until(lambda: adapter.service._cache.idle)
        origin.on("/film", answering([Head(200, head)], [Head(200, head), Body(b"new!")]))
        assert (await wire.head("/film")).fields["ETag"] != tag
        assert (await wire.get("/film")).body == b"new!"
    assert "HEAD" not in {request.method for request in origin.requests}


@pytest.mark.parametrize("directives", ["max-age=60", "max-age=60, must-revalidate"])
async def test_an_origin_that_breaks_at_head_is_asked_by_get(
    adapter: Adapter, origin: ScriptedOrigin, directives: str
) -> None:
    fields = STALE | {"Cache-Control": directives, "Content-Length": str(len(FILM))}
    origin.on("/film", [Head(200, fields), Body(FILM)])
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.on("/film", answering([Cut()], [Head(304, {"ETag": '"1"'})]))
        response = await wire.head("/film")
        assert (response.status, "fwd-status=304" in response.cache_status) == (200, True)
