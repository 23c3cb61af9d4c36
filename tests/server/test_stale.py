"""What is stale may serve while the origin fails, or while it is asked (RFC 5861), and never against its will."""

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Cut, Head, OriginRequest, Raw, Reset, Script, ScriptedOrigin
from tests.together import until
from tests.wire import Wire

FILM = bytes(range(256)) * 400
TAG = '"1"'


def lines(directives: str, *, age: int = 60, tag: str | None = TAG) -> dict[str, str]:
    """An answer of which `max-age=60` is over."""
    return {"Cache-Control": directives, "Age": str(age)} | ({} if tag is None else {"ETag": tag})


async def store(
    wire: Wire, adapter: Adapter, origin: ScriptedOrigin, directives: str, tag: str | None = TAG
) -> None:
    origin.serve("/film", FILM, headers=lines(directives, tag=tag))
    assert (await wire.get("/film")).body == FILM
    await until(lambda: adapter.service._cache.idle)


# --- stale-if-error -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_failing_origin_is_stood_in_for(
    adapter: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.on("/film", [Head(status, {"Content-Length": "0", "Cache-Control": "max-age=600"})])
        response = await wire.get("/film", Range="bytes=1-2")
        assert (response.status, response.body) == (206, FILM[1:3])
        assert int(response.fields["Age"]) >= 60
        assert f"fwd=stale;fwd-status={status};" in response.cache_status
        assert "detail=stale-if-error" in response.cache_status
        again = await wire.get("/film")
        assert (again.status, again.body) == (200, FILM)
        assert "hit;ttl=" in again.cache_status
    assert origin.count("/film") == 2, "an origin that has just failed is spared"


@pytest.mark.parametrize(
    "failure", [[Cut()], [Reset()], [Raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")]]
)
async def test_a_broken_connection_is_stood_in_for(
    adapter: Adapter, origin: ScriptedOrigin, failure: list[Cut | Reset | Raw]
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.on("/film", failure)
        response = await wire.get("/film")
        assert (response.status, response.body) == (200, FILM)
        assert "fwd=stale;ttl=" in response.cache_status
        assert "detail=stale-if-error" in response.cache_status


async def test_an_origin_that_is_gone_is_stood_in_for_without_validators_too(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60", tag=None)
        await origin.stop()
        assert (await wire.get("/film")).body == FILM
        assert (await wire.head("/film")).status == 200


async def test_an_answer_of_a_client_error_is_an_answer(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.on("/film", [Head(404, {"Content-Length": "0"})])
        assert (await wire.get("/film")).status == 404


@pytest.mark.parametrize(
    "directives",
    [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "s-maxage=60",
        "no-cache",
        "max-age=60, stale-if-error=30, must-revalidate",
    ],
)
async def test_not_against_the_origins_will(
    adapter: Adapter, origin: ScriptedOrigin, directives: str
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, directives)
        origin.once("/film", [Head(503, {"Content-Length": "0"})])
        response = await wire.get("/film")
        assert (response.status, "detail=origin-failed" in response.cache_status) == (503, True)
        await origin.stop()
        response = await wire.get("/film")
        assert response.status == 504
        assert b"origin-unreachable" in response.body


@pytest.mark.parametrize("asked", ["no-cache", "max-age=0", "min-fresh=1"])
async def test_not_against_the_clients_will(adapter: Adapter, origin: ScriptedOrigin, asked: str) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        await origin.stop()
        assert (await wire.get("/film", Cache_Control=asked)).status == 502


async def test_not_longer_than_it_may(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"cache": {"stale_if_error": "0s"}})
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.once("/film", [Head(503, {"Content-Length": "0"})])
        assert (await wire.get("/film")).status == 503
        await store(wire, adapter, origin, "max-age=60, stale-if-error=600")
        await origin.stop()
        assert (await wire.get("/film")).status == 200


async def test_everyone_who_waits_is_served(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire, adapter.wire() as other:
        await store(wire, adapter, origin, "max-age=60")
        origin.on("/film", [Head(503, {"Content-Length": "0"})])
        gate = origin.gate("/film", at=None)
        await wire.request("GET", "/film")
        await gate.reached()
        await other.request("GET", "/film")
        await until(lambda: adapter.service.in_progress == 2)
        gate.open()
        for each in (wire, other):
            assert (await each.response()).body == FILM
    assert origin.count("/film") == 2


async def test_a_success_ends_the_sparing(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.once("/film", [Head(503, {"Content-Length": "0"})])
        assert (await wire.get("/film")).body == FILM
        origin.serve("/film", FILM[::-1], headers={"Cache-Control": "max-age=60", "ETag": '"2"'})
        assert (await wire.get("/film", Cache_Control="no-cache")).body == FILM[::-1]
        assert "hit" in (await wire.get("/film")).cache_status


async def test_one_clients_odd_request_does_not_keep_the_origin_from_others(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"trusted_proxies": ["127.0.0.1/32"]})
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.once("/film", [Head(503, {"Content-Length": "0"})])
        assert (await wire.get("/film", X_Forwarded_For="192.0.2.1")).body == FILM
        origin.serve("/film", FILM[::-1], headers={"Cache-Control": "max-age=60", "ETag": '"2"'})
        assert (await wire.get("/film", X_Forwarded_For="192.0.2.1")).body == FILM, (
            "it is spared for this one"
        )
        assert (await wire.get("/film", X_Forwarded_For="192.0.2.2")).body == FILM[::-1]


async def test_an_origin_that_is_gone_is_spared_for_all_who_share_the_object(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "public, max-age=60")
        origin.on("/film", [Raw(b"no answer\r\n\r\n")])
        for number in range(5):
            assert (await wire.get("/film", Cookie=f"session={number}")).body == FILM
    assert origin.count("/film") == 2


@pytest.mark.parametrize(
    "answer",
    [
        Head(404, {"Content-Length": "0"}),
        Head(410, {"Content-Length": "0"}),
        Head(200, {"Content-Length": "0", "Cache-Control": "no-store"}),
    ],
)
async def test_what_the_origin_has_taken_back_does_not_return(
    adapter: Adapter, origin: ScriptedOrigin, answer: Head
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60, stale-if-error=600")
        origin.once("/film", [answer])
        assert (await wire.get("/film")).status == answer.status
        origin.on("/film", [Head(503, {"Content-Length": "0"})])
        assert (await wire.get("/film")).status == 503


async def test_to_a_client_with_credentials_it_may_be_another_answer(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "public, max-age=60, stale-if-error=600")
        origin.once("/film", [Head(404, {"Content-Length": "0"})])
        assert (await wire.get("/film", Cookie="session=1")).status == 404
        origin.on("/film", [Head(503, {"Content-Length": "0"})])
        assert (await wire.get("/film")).body == FILM


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_what_a_reload_got_instead_does_not_replace_what_is_fresh(
    adapter: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    origin.serve("/film", FILM, headers={"Cache-Control": "max-age=60"})
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        instead = {"Content-Length": "0", "Location": "/login", "Cache-Control": "max-age=60"}
        origin.on("/film", [Head(status, instead)])
        response = await wire.get("/film", Cache_Control="no-cache")
        assert (response.status, "detail=fresh-kept" in response.cache_status) == (status, True)
        assert (await wire.get("/film")).body == FILM


async def test_a_failure_with_a_lifetime_does_not_replace_what_may_stand_in_for_it(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.on("/film", [Head(500, {"Content-Length": "0", "Cache-Control": "max-age=600"})])
        assert (await wire.get("/film", Cache_Control="no-cache")).status == 500
        assert (await wire.get("/film")).body == FILM


async def test_a_query_that_is_not_in_the_key_ends_nothing(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(defaults={"cache": {"key": ["host", "path"]}})
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        origin.once("/film", [Head(404, {"Content-Length": "0"})])
        assert (await wire.get("/film?signature=bad")).status == 404
        await origin.stop()
        assert (await wire.get("/film")).body == FILM


async def test_a_304_to_a_client_with_credentials_ends_nothing_for_others(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    def private(request: OriginRequest) -> Script:
        lines = {"ETag": TAG, "Cache-Control": "private"}
        if request.header("If-None-Match"):
            return [Head(304, lines)]
        return [Head(200, lines | {"Content-Length": "4"}), Body(b"hers")]

    origin.serve("/film", FILM, headers=lines("max-age=60", age=0))
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.on("/film", private)
        assert (await wire.get("/film", Cache_Control="no-cache", Cookie="login=1")).body == b"hers"
        assert (await wire.get("/film")).body == FILM


# --- stale-while-revalidate -----------------------------------------------------------------------


async def test_the_stale_copy_serves_at_once_and_the_origin_is_asked_once(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60, stale-while-revalidate=600")
        origin.serve("/film", FILM[::-1], headers={"Cache-Control": "max-age=60", "ETag": '"2"'})
        gate = origin.gate("/film", at=None)
        for _ in range(20):
            response = await wire.get("/film")
            assert response.body == FILM
            assert "hit;ttl=" in response.cache_status
            assert "detail=stale-while-revalidate" in response.cache_status
        await gate.reached()
        assert origin.count("/film") == 2
        gate.open()
        await until(lambda: adapter.service._cache.idle)
        assert (await wire.get("/film")).body == FILM[::-1]
    assert origin.count("/film") == 2


async def test_without_validators_the_stale_copy_serves_while_it_is_compared(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60, stale-while-revalidate=600", tag=None)
        origin.serve("/film", FILM, headers={"Cache-Control": "max-age=60"})
        gate = origin.gate("/film", at=10)
        tag = (await wire.get("/film")).fields["ETag"]
        await gate.reached()
        assert (await wire.get("/film", Range="bytes=-9")).body == FILM[-9:]
        assert (await wire.get("/film", If_None_Match=tag)).status == 304
        gate.open()
        await until(lambda: adapter.service._cache.idle)
        response = await wire.get("/film")
        assert response.fields["ETag"] == tag
        assert "detail" not in response.cache_status
    assert origin.count("/film") == 2


async def test_a_failed_refresh_is_not_tried_again_at_once(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60, stale-while-revalidate=600")
        origin.on("/film", [Head(503, {"Content-Length": "0"})])
        for _ in range(5):
            assert (await wire.get("/film")).body == FILM
            await until(lambda: adapter.service._cache.idle)
    assert origin.count("/film") == 2


async def test_what_the_origin_does_not_let_us_keep_any_more_is_not_served_again(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60, stale-while-revalidate=600")
        origin.on("/film", [Head(200, {"Content-Length": "3", "Cache-Control": "no-store"}), Body(b"new")])
        assert (await wire.get("/film")).body == FILM
        await until(lambda: adapter.service._cache.idle)
        await origin.idle()
        assert (await wire.get("/film")).body == b"new"


async def test_the_route_may_allow_it(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"cache": {"stale_while_revalidate": "1h"}})
    async with adapter.wire() as wire:
        await store(wire, adapter, origin, "max-age=60")
        assert "detail=stale-while-revalidate" in (await wire.get("/film")).cache_status


async def test_a_refresh_that_breaks_off_is_not_tried_again_at_once(
    impatient: Adapter, origin: ScriptedOrigin
) -> None:
    async with impatient.wire() as wire:
        await store(wire, impatient, origin, "max-age=60, stale-while-revalidate=600")
        lines = {"Content-Length": "9000", "Content-Type": "video/mp4", "Cache-Control": "max-age=60"}
        origin.on("/film", [Head(200, lines), Body(FILM[:500]), Cut()])
        for _ in range(5):
            assert (await wire.get("/film")).body == FILM
            await until(lambda: impatient.service._cache.idle)
    assert origin.count("/film") == 2
