"""What is stale and has no validator is fetched again and compared: the same bytes stay what they were."""

import asyncio

import pytest

from proxy.semantics.purging import Everything
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Cut, Head, Pause, Script, ScriptedOrigin, Step
from tests.together import until
from tests.wire import Response, Truncated, Wire

FILM = bytes(range(256)) * 4096
OTHER = FILM[:700_000] + b"!" + FILM[700_001:]
STALE = {"Cache-Control": "max-age=60", "Age": "60"}
FRESH = {"Cache-Control": "max-age=60"}


async def stored_stale(wire: Wire, origin: ScriptedOrigin, adapter: Adapter, **more: str) -> Response:
    """The film, stored, and stale from the beginning."""
    origin.serve("/film", FILM, headers=STALE | {name.replace("_", "-"): text for name, text in more.items()})
    response = await wire.get("/film")
    await until(lambda: adapter.service._cache.idle)
    return response


async def test_the_same_bytes_keep_their_tag(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        first = await stored_stale(wire, origin, adapter)
        origin.serve("/film", FILM, headers=FRESH | {"X-New": "1"})
        again = await wire.get("/film", Range="bytes=5-9")
        assert (again.status, again.body) == (206, FILM[5:10])
        assert "fwd=stale" in again.cache_status
        await until(lambda: adapter.service._cache.idle)
        third = await wire.get("/film")
        assert "hit" in third.cache_status
        assert third.fields["X-New"] == "1"
        assert first.fields["ETag"] == again.fields["ETag"] == third.fields["ETag"]
        assert (await wire.get("/film", If_None_Match=first.fields["ETag"])).status == 304
    assert origin.count("/film") == 2
    assert adapter.service._cache.spool.usage()[1] == 1


async def test_a_client_that_wants_it_anew_does_not_change_the_tag(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        first = await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        again = await wire.get("/film", Cache_Control="no-cache")
        assert again.body == FILM
        assert again.fields["ETag"] == first.fields["ETag"]
    assert origin.count("/film") == 2


async def test_a_304_waits_for_the_last_byte(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", FILM, headers=FRESH)
        gate = origin.gate("/film", at=len(FILM) - 1)
        await wire.request("GET", "/film", If_None_Match=tag)
        await gate.reached()
        async with adapter.wire() as other:
            ranged = await other.get("/film", Range="bytes=0-9", If_Range=tag)
            assert (ranged.status, ranged.body) == (206, FILM[:10])
        assert not wire.reader._buffer  # type: ignore[attr-defined]
        gate.open()
        assert (await wire.response()).status == 304
    assert origin.count("/film") == 2


async def test_a_304_that_would_take_too_long_is_a_200(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(defaults={"ranges": {"unknown_length_wait": "0s"}})
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", FILM, headers=FRESH)
        gate = origin.gate("/film", at=len(FILM) - 1)
        await wire.request("GET", "/film", If_None_Match=tag)
        head = await wire.response_head()
        assert (head.status, head.fields["ETag"]) == (200, tag)
        gate.open()
        assert await wire.body(len(FILM)) == FILM


async def test_other_bytes_are_another_generation(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", OTHER, headers=FRESH)
        response = await wire.get("/film", If_None_Match=tag)
        assert (response.status, response.body) == (200, OTHER)
        assert response.fields["ETag"] != tag
        ranged = await wire.get("/film", Range="bytes=699999-700001", If_Range=tag)
        assert (ranged.status, ranged.body) == (200, OTHER)
        await until(lambda: adapter.service._cache.idle)
    assert origin.count("/film") == 2
    assert adapter.service._cache.spool.usage()[1] == 1


async def test_whoever_was_served_of_the_old_one_is_cut_off_and_the_next_gets_the_new_one(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire, adapter.wire() as far, adapter.wire() as next_one:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", OTHER, headers=FRESH)
        gate = origin.gate("/film", at=600_000)
        await wire.request("GET", "/film")
        head = await wire.response_head()
        assert head.fields["ETag"] == tag
        await far.request("GET", "/film", Range="bytes=900000-900009")
        await gate.reached()
        await until(lambda: adapter.service.in_progress == 2)
        gate.open()
        with pytest.raises((asyncio.IncompleteReadError, Truncated, ConnectionError)):
            await wire.body(len(FILM))
        ranged = await far.response()
        assert (ranged.status, ranged.body) == (206, OTHER[900_000:900_010])
        assert ranged.fields["ETag"] != tag, "its head had not left yet: it got an answer of the new one"
        assert (await next_one.get("/film")).body == OTHER
    assert origin.count("/film") == 2


@pytest.mark.parametrize("new", [FILM[:-1], FILM + b"!", FILM[:10], b"", FILM * 2])
@pytest.mark.parametrize("chunked", [True, False])
async def test_another_length_is_another_generation(
    adapter: Adapter, origin: ScriptedOrigin, new: bytes, chunked: bool
) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", new, headers=FRESH, chunked=chunked)
        await wire.request("GET", "/film")
        response = await wire.response_head()
        if response.fields["ETag"] == tag:  # it has begun as the old one
            assert chunked
            with pytest.raises(asyncio.IncompleteReadError):
                await wire.body(len(FILM))
        elif "Content-Length" in response.fields:
            assert await wire.body(len(new)) == new
        else:
            pieces = []
            while piece := await wire.chunk():
                pieces.append(piece)
            assert b"".join(pieces) == new
        async with adapter.wire() as other:
            response = await other.get("/film")
            assert response.body == new
            assert response.fields["ETag"] != tag
    assert origin.count("/film") == 2


async def test_the_same_bytes_without_a_length_keep_their_tag(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", FILM, headers=FRESH, chunked=True)
        response = await wire.get("/film")
        assert (response.body, response.fields["ETag"]) == (FILM, tag)
        assert response.fields["Content-Length"] == str(len(FILM))
        await until(lambda: adapter.service._cache.idle)
        assert "hit" in (await wire.get("/film")).cache_status


async def test_an_early_end_of_the_connection_is_doubted_once(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(defaults={"cache": {"stale_if_error": "0s"}})
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        short: list[Step] = [Head(200, FRESH | {"Content-Type": "video/mp4"}), Body(FILM[:5000]), Cut()]
        origin.once("/film", short)
        assert (await wire.get("/film")).body == FILM, "it was asked for once more"
        await until(lambda: adapter.service._cache.idle)
        async with adapter.wire() as other:
            assert (await other.get("/film")).fields["ETag"] == tag, "what was stored is there yet"
            await until(lambda: adapter.service._cache.idle)
        origin.on("/film", short)
        async with adapter.wire() as other, adapter.wire() as late:
            await other.request("GET", "/film", Range="bytes=9000-")
            response = await other.response()
            assert (response.status, response.fields["Content-Range"]) == (416, "bytes */5000")
            await until(lambda: adapter.service._cache.idle)
            assert (await late.get("/film")).body == FILM[:5000], "it has come twice"


@pytest.mark.parametrize(
    "more", [{"Content-Type": "video/webm"}, {"Content-Encoding": "x"}, {"ETag": '"new"'}, {"Vary": "A"}]
)
async def test_another_head_is_another_generation(
    adapter: Adapter, origin: ScriptedOrigin, more: dict[str, str]
) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        content_type = None if "Content-Type" in more else "video/mp4"
        origin.serve("/film", FILM, headers=FRESH | more, content_type=content_type)
        assert (await wire.get("/film")).fields["ETag"] != tag


async def test_an_origin_that_ignores_conditions_has_its_bytes_compared(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    modified = "Wed, 25 Jun 2014 17:12:18 GMT"
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter, Last_Modified=modified)).fields["ETag"]
        origin.serve("/film", FILM, headers=FRESH | {"Last-Modified": "Thu, 26 Jun 2014 17:12:18 GMT"})
        response = await wire.get("/film")
        assert origin.requests[-1].header("If-Modified-Since") == modified
        assert (response.body, response.fields["ETag"]) == (FILM, tag)
        assert response.fields["Last-Modified"].startswith("Thu")


async def test_open_readers_go_on_over_a_comparison(adapter: Adapter, origin: ScriptedOrigin) -> None:
    big = FILM * 16
    origin.serve("/big", big, headers=STALE)
    async with adapter.wire() as slow, adapter.wire() as wire:
        await slow.request("GET", "/big")
        await slow.response_head()
        await until(lambda: adapter.service._cache.idle)
        assert (await wire.get("/big", Range="bytes=-1")).body == big[-1:]
        await until(lambda: adapter.service._cache.idle)
        assert await slow.body(len(big)) == big
    assert origin.count("/big") == 2


async def test_reloads_share_one_comparison_too(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM)
    async with adapter.wire() as wire, adapter.wire() as other, adapter.wire() as third:
        tag = (await wire.get("/film")).fields["ETag"]
        await until(lambda: adapter.service._cache.idle)
        gate = origin.gate("/film", at=1000)
        await wire.request("GET", "/film", Cache_Control="no-cache")
        await gate.reached()
        await other.request("GET", "/film", Cache_Control="no-cache")
        await until(lambda: adapter.service.in_progress == 2)
        plain = await third.get("/film", Range="bytes=-9")
        assert (plain.body, plain.fields["ETag"]) == (FILM[-9:], tag), "what is fresh goes on serving"
        assert "hit" in plain.cache_status
        gate.open()
        for each in (wire, other):
            response = await each.response()
            assert (response.body, response.fields["ETag"]) == (FILM, tag)
    assert origin.count("/film") == 2
    assert adapter.service._cache.spool.usage() == (len(FILM), 1)


async def test_a_reload_of_what_has_changed_asks_once_and_gets_all_that_is_its_own(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM, headers={"Cache-Control": "public, max-age=60"})
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        news = {"Cache-Control": "public, max-age=60", "Set-Cookie": "seen=1"}
        origin.serve("/film", OTHER[::-1], headers=news)
        response = await wire.get("/film", Cache_Control="no-cache")
        assert (response.body, response.fields["Set-Cookie"]) == (OTHER[::-1], "seen=1")
        assert response.cache_status.endswith("fwd=request;fwd-status=200;stored")
        await until(lambda: adapter.service._cache.idle)
        assert "Set-Cookie" not in (await wire.get("/film")).fields
    assert origin.count("/film") == 2


async def test_an_older_date_does_not_bring_the_old_one_back(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await stored_stale(wire, origin, adapter, Date="Sun, 06 Nov 1994 08:49:37 GMT")
        origin.serve("/film", OTHER[::-1], headers=FRESH | {"Date": "Sat, 05 Nov 1994 08:49:37 GMT"})
        for _ in range(2):
            assert (await wire.get("/film")).body == OTHER[::-1]
            await until(lambda: adapter.service._cache.idle)


async def test_what_has_changed_may_need_the_room_of_what_it_was(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(spool={"max_size": "1500KiB"})
    async with adapter.wire() as wire:
        await stored_stale(wire, origin, adapter)
        origin.serve("/film", OTHER[::-1], headers=FRESH)
        assert (await wire.get("/film")).body == OTHER[::-1]
        await until(lambda: adapter.service._cache.idle)
        assert (await wire.get("/film")).body == OTHER[::-1]


async def test_a_soft_purge_in_between_leaves_the_object(adapter: Adapter, origin: ScriptedOrigin) -> None:
    cache = adapter.service._cache
    async with adapter.wire() as wire:
        await stored_stale(wire, origin, adapter)
        origin.serve("/film", FILM, headers=FRESH)
        gate = origin.gate("/film", at=1000)
        await wire.request("GET", "/film")
        await gate.reached()
        await cache.purge(Everything(), soft=True)
        gate.open()
        assert (await wire.response()).body == FILM
        await until(lambda: cache.idle)
        assert cache.spool.usage()[1] == 1


@pytest.mark.parametrize("known", [True, False])
async def test_while_the_origin_breaks_off_what_is_stored_may_serve(
    adapter: Adapter, origin: ScriptedOrigin, known: bool
) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        framing = {"Content-Length": str(len(FILM))} if known else {"Transfer-Encoding": "chunked"}
        head = Head(200, FRESH | {"Content-Type": "video/mp4"} | framing)
        piece: Body | Chunk = Body(FILM[:5000]) if known else Chunk(FILM[:5000])
        origin.on("/film", [head, piece, Cut()])
        response = await wire.get("/film", Range="bytes=500000-500009")
        assert (response.status, response.body) == (206, FILM[500_000:500_010])
        assert response.fields["ETag"] == tag
        assert "detail=stale-if-error" in response.cache_status
    assert origin.count("/film") == 1 + 1


@pytest.mark.parametrize("new", [FILM, OTHER])
@pytest.mark.parametrize(
    ("old", "now", "who"),
    [
        ("public, max-age=60", "max-age=60", ("Authorization", "Bearer x")),
        ("max-age=60", None, ("Cookie", "session=1")),
    ],
)
async def test_a_running_one_is_joined_by_those_who_may_have_what_comes(
    adapter: Adapter,
    origin: ScriptedOrigin,
    new: bytes,
    old: str,
    now: str | None,
    who: tuple[str, str],
) -> None:
    """By what the new head says of credentials, not the one that was stored."""
    async with adapter.wire() as wire, adapter.wire() as other:
        origin.serve("/film", FILM, headers={"Cache-Control": old, "Age": "60"})
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.serve("/film", new, headers={} if now is None else {"Cache-Control": now})
        gate = origin.gate("/film", at=600_000)
        await wire.request("GET", "/film")
        await gate.reached()
        await other.request("GET", "/film", [who], Range="bytes=900000-900009")
        await origin.requested("/film", 3)
        gate.open()
        assert (await other.response()).body == new[900_000:900_010]


@pytest.mark.parametrize("headers", [FRESH, STALE])
async def test_a_broken_new_one_leaves_the_old_one(
    adapter: Adapter, origin: ScriptedOrigin, headers: dict[str, str]
) -> None:
    """A script that fails in the middle writes its complaint into the body, and is gone."""
    async with adapter.wire() as wire:
        origin.serve("/film", FILM, headers=headers)
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        framing = {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"}
        complaint = Chunk(b"Fatal error: out of memory" * 4000)
        origin.on("/film", [Head(200, FRESH | framing), Chunk(FILM[:100_000]), complaint, Cut()])
        async with adapter.wire() as reload:
            await reload.request("GET", "/film", Cache_Control="no-cache")
            try:
                assert (await reload.response()).status == 502
            except (Truncated, asyncio.IncompleteReadError):
                pass  # it had begun
        await until(lambda: adapter.service._cache.idle)
        await origin.stop()
        response = await wire.get("/film")
        assert (response.status, response.body) == (200, FILM)


async def test_what_a_reload_has_seen_is_what_its_seek_gets(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """The newer one is used as soon as it arrives: no player shall splice two."""
    new = OTHER + b"longer"
    async with adapter.wire() as wire, adapter.wire() as seek:
        origin.serve("/film", FILM, headers=FRESH)
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.serve("/film", new, headers=FRESH)
        gate = origin.gate("/film", at=800_000)
        await wire.request("GET", "/film", Cache_Control="no-cache")
        tag = (await wire.response_head()).fields["ETag"]
        await gate.reached()
        for condition in ([], [("If-Range", tag)]):
            response = await seek.get("/film", condition, Range="bytes=700000-700000")
            assert (response.status, response.body) == (206, new[700_000:700_001])
            assert response.fields["ETag"] == tag
        gate.open()
        assert await wire.body(len(new)) == new


async def test_many_clients_share_one_comparison(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", FILM, headers=FRESH)
        gate = origin.gate("/film", at=1000)
        wires = [adapter.wire() for _ in range(20)]
        for each in wires:
            await each.__aenter__()
            await each.request("GET", "/film")
        await gate.reached()
        await until(lambda: adapter.service.in_progress == 20)
        gate.open()
        for each in wires:
            response = await each.response()
            assert (response.body, response.fields["ETag"]) == (FILM, tag)
            await each.__aexit__(None, None, None)
    assert origin.count("/film") == 2


async def test_an_unsafe_request_in_between_ends_what_is_compared(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire, adapter.wire() as other:
        tag = (await stored_stale(wire, origin, adapter)).fields["ETag"]
        origin.serve("/film", FILM, headers=FRESH)
        gate = origin.gate("/film", at=1000)
        await wire.request("GET", "/film")
        await gate.reached()
        origin.once("/film", [Head(204)])
        await other.request("POST", "/film", body=b"x")
        assert (await other.response()).status == 204
        gate.open()
        assert (await wire.response()).body == FILM
        await until(lambda: adapter.service._cache.idle)
        response = await other.get("/film")
        assert response.body == FILM
        assert response.fields["ETag"] != tag


async def test_a_hundred_comparisons_leave_nothing_open(adapter: Adapter, origin: ScriptedOrigin) -> None:
    def alternating() -> Script:
        pause = asyncio.Event()
        pause.set()
        body = FILM[:5000] if origin.count("/film") % 3 else OTHER[:5000][::-1]
        return [Head(200, STALE | {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"}), Pause(pause),
                Chunk(body[:100]), Chunk(body[100:]), Chunk(b"")]  # fmt: skip

    origin.on("/film", lambda request: alternating())
    async with adapter.wire() as wire:
        for _ in range(30):
            response = await wire.get("/film")
            assert response.body in (FILM[:5000], OTHER[:5000][::-1])
            await until(lambda: adapter.service._cache.idle)
    spool = adapter.service._cache.spool
    assert spool.usage() == (5000, 1)
    assert spool.being_read == 0
    assert spool.room.used == 5000
