"""Range clients in browsers: what a page of another site may send, and read."""

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Cut, Head, ScriptedOrigin
from tests.wire import Response

FILM = bytes(range(256)) * 40
SITE = "https://viewer.example"


async def with_cors(start_adapter: StartAdapter, origins: object = "*") -> Adapter:
    return await start_adapter(defaults={"cors": {"allow_origins": origins, "max_age": "10m"}})


def members(response: Response, name: str) -> set[str]:
    return {member.strip().lower() for member in response.fields.get(name, "").split(",")}


@pytest.mark.parametrize("origins", ["*", [SITE, "https://other.example"]])
async def test_a_preflight_allows_range(
    start_adapter: StartAdapter, origin: ScriptedOrigin, origins: object
) -> None:
    adapter = await with_cors(start_adapter, origins)
    async with adapter.wire() as wire:
        await wire.request(
            "OPTIONS",
            "/film.mp4",
            Origin=SITE,
            Access_Control_Request_Method="GET",
            Access_Control_Request_Headers="range,if-range",
        )
        response = await wire.response()
        assert response.status == 204
        assert response.fields["Access-Control-Allow-Origin"] == ("*" if origins == "*" else SITE)
        assert {"range", "if-range"} <= members(response, "Access-Control-Allow-Headers")
        assert {"get", "head"} <= members(response, "Access-Control-Allow-Methods")
        assert response.fields["Access-Control-Max-Age"] == "600"
    assert origin.requests == []


async def test_another_site_is_told_nothing(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await with_cors(start_adapter, [SITE])
    origin.serve("/film.mp4", FILM, headers={"Access-Control-Allow-Origin": "*"})
    async with adapter.wire() as wire:
        await wire.request(
            "OPTIONS", "/x", Origin="https://evil.example", Access_Control_Request_Method="GET"
        )
        preflight = await wire.response()
        assert preflight.status == 204
        for response in (preflight, await wire.get("/film.mp4", Origin="https://evil.example")):
            assert not [name for name in response.fields if name.lower().startswith("access-control")]
            assert "origin" in members(response, "Vary")


async def test_every_kind_of_answer_can_be_read(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await with_cors(start_adapter, [SITE])
    origin.serve("/film.mp4", FILM, headers={"Vary": "Accept-Encoding", "ETag": '"x"'})
    origin.on("/broken.mp4", [Cut()])
    async with adapter.wire() as wire:
        for target, fields, status in [
            ("/film.mp4", {}, 200),
            ("/film.mp4", {"Range": "bytes=0-9"}, 206),
            ("/film.mp4", {"Range": "bytes=0-9,20-29"}, 206),
            ("/film.mp4", {"Range": "bytes=99999999-"}, 416),
            ("/film.mp4", {"If-None-Match": '"x"'}, 304),
            ("/film.mp4", {"If-Match": '"y"'}, 412),
            ("/missing", {}, 404),
            ("/broken.mp4", {}, 502),
        ]:
            response = await wire.get(target, list(fields.items()), Origin=SITE)
            assert response.status == status
            assert response.fields["Access-Control-Allow-Origin"] == SITE
            exposed = members(response, "Access-Control-Expose-Headers")
            assert exposed >= {"content-range", "accept-ranges", "etag", "content-length"}
            assert "origin" in members(response, "Vary")


async def test_one_stored_object_serves_all_sites(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await with_cors(start_adapter, [SITE, "https://b.example"])
    origin.serve("/film.mp4", FILM, headers={"Access-Control-Allow-Origin": "https://first.example"})
    async with adapter.wire() as wire:
        for site in (SITE, "https://b.example", SITE):
            response = await wire.get("/film.mp4", Origin=site)
            assert response.fields.getall("Access-Control-Allow-Origin") == [site]
        assert "Access-Control-Allow-Origin" not in (await wire.get("/film.mp4")).fields
    assert origin.count("/film.mp4") == 1


async def test_the_routes_word_replaces_the_origins(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await with_cors(start_adapter)
    said = {
        "Access-Control-Allow-Origin": "https://first.example",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "X-Other",
    }
    origin.serve("/film.mp4", FILM, headers=said)
    async with adapter.wire() as wire:
        for method in ("GET", "POST"):
            await wire.request(method, "/film.mp4", Origin=SITE)
            response = await wire.response()
            assert response.fields.getall("Access-Control-Allow-Origin") == ["*"]
            assert "Access-Control-Allow-Credentials" not in response.fields
            assert len(response.fields.getall("Access-Control-Expose-Headers")) == 1


async def test_without_cors_it_is_the_origins_business(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/film.mp4", [Head(200, {"Access-Control-Allow-Origin": SITE, "Content-Length": "0"})])
    async with adapter.wire() as wire:
        await wire.request("OPTIONS", "/film.mp4", Origin=SITE, Access_Control_Request_Method="GET")
        response = await wire.response()
        assert response.fields["Access-Control-Allow-Origin"] == SITE
    assert origin.requests[0].method == "OPTIONS"


async def test_plain_options_is_no_preflight(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await with_cors(start_adapter)
    origin.on("/film.mp4", [Head(200, {"Allow": "GET", "Content-Length": "0"})])
    async with adapter.wire() as wire:
        await wire.request("OPTIONS", "/film.mp4")
        assert (await wire.response()).fields["Allow"] == "GET"


async def test_a_denied_route_answers_no_preflight(start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(
        defaults={"cors": {"allow_origins": "*"}}, routes=[{"name": "no", "mode": "deny"}]
    )
    async with adapter.wire() as wire:
        await wire.request("OPTIONS", "/x", Origin=SITE, Access_Control_Request_Method="GET")
        assert (await wire.response()).status == 403
