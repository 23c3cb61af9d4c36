"""Fields of an answer that are for the one who asked: they reach that client, and no other."""

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Head, ScriptedOrigin
from tests.together import until

FILM = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"Cache-Control": "public, max-age=60", "Set-Cookie": "session=1"}, "Set-Cookie"),
        ({"Cache-Control": 'max-age=60, no-cache="X-A"', "X-A": "1"}, "X-A"),
        ({"Cache-Control": 'max-age=60, private="x-a, x-b"', "X-A": "1"}, "X-A"),
        ({"CDN-Cache-Control": 'max-age=60, private="x-a"', "X-A": "1"}, "X-A"),
        ({"Cache-Control": 'max-age=60, no-cache="Set-Cookie"', "Set-Cookie": "a=1"}, "Set-Cookie"),
    ],
)
async def test_only_the_one_who_caused_the_fetch_gets_them(
    adapter: Adapter, origin: ScriptedOrigin, headers: dict[str, str], name: str
) -> None:
    origin.serve("/film", FILM, headers=headers)
    gate = origin.gate("/film", at=5)
    async with adapter.wire() as first, adapter.wire() as second:
        await first.request("GET", "/film", Range="bytes=1-3")
        await gate.reached()
        await second.request("GET", "/film")
        follower = await second.response_head()
        gate.open()
        assert name in (await first.response()).fields
        assert name not in follower.fields
        assert await second.body(len(FILM)) == FILM
        assert name not in (await second.get("/film")).fields
    assert origin.count("/film") == 1


async def test_those_of_a_304_reach_the_one_who_caused_the_validation(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    lines = {"Cache-Control": "public, max-age=60", "ETag": '"1"'}
    origin.serve("/film", FILM, headers=lines | {"Age": "60"})
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.on("/film", [Head(304, lines | {"Set-Cookie": "session=1", "X-New": "1"})])
        response = await wire.get("/film")
        assert (response.status, response.body) == (200, FILM)
        assert response.fields["Set-Cookie"] == "session=1"
        again = await wire.get("/film")
        assert "hit" in again.cache_status
        assert "Set-Cookie" not in again.fields
        assert again.fields["X-New"] == "1"


async def test_a_field_that_a_304_limits_is_not_kept_either(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve(
        "/film", FILM, headers={"Cache-Control": "max-age=60", "Age": "60", "ETag": '"1"', "X-A": "0"}
    )
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        origin.on(
            "/film", [Head(304, {"Cache-Control": 'max-age=60, private="x-a"', "ETag": '"1"', "X-A": "1"})]
        )
        assert (await wire.get("/film")).fields.getall("X-A") == ["1"]
        assert "X-A" not in (await wire.get("/film")).fields


async def test_a_withheld_field_that_we_write_ourselves_stays_ours(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter()
    origin.serve("/film", FILM, headers={"Cache-Control": 'max-age=60, private="etag"', "ETag": '"theirs"'})
    async with adapter.wire() as wire:
        first, second = await wire.get("/film"), await wire.get("/film")
        assert first.fields.getall("ETag") == second.fields.getall("ETag")
        assert first.fields["ETag"] != '"theirs"'


async def test_what_a_304_that_sets_a_cookie_brings_is_for_that_client_too(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM, headers={"Cache-Control": "max-age=60", "Age": "60", "ETag": '"1"'})
    async with adapter.wire() as wire:
        await wire.get("/film")
        await until(lambda: adapter.service._cache.idle)
        news = {"Cache-Control": "max-age=60", "ETag": '"1"', "Set-Cookie": "a=1", "X-CSRF-Token": "hers"}
        origin.on("/film", [Head(304, news)])
        response = await wire.get("/film")
        assert (response.body, response.fields["X-CSRF-Token"]) == (FILM, "hers")
        assert response.fields["Set-Cookie"] == "a=1"
        assert response.fields.getall("Content-Length") == [str(len(FILM))]
        again = await wire.get("/film")
        assert "hit" in again.cache_status
        assert "X-CSRF-Token" not in again.fields
