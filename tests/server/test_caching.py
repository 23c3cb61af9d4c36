"""What is stored, for how long, and what a client may say about it (RFC 9111)."""

import time

import pytest

from proxy.semantics.fields import format_http_date, parse_http_date
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import settled
from tests.wire import Response, Wire

FILM = bytes(range(256)) * 40


async def hits(wire: Wire, path: str) -> bool:
    """Is the second of two requests a hit?"""
    await wire.get(path)
    return "hit" in (await wire.get(path)).cache_status


# --- What the origin says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "cache_control", "stored"),
    [
        ("video/mp4", None, True),
        ("application/pdf", None, True),
        (None, None, True),
        ("text/html", None, False),
        ("application/json", None, False),
        ("text/html", "max-age=60", True),
        ("text/html", "s-maxage=60, max-age=0", True),
        ("video/mp4", "max-age=60, s-maxage=0", False),
        ("video/mp4", "no-store", False),
        ("video/mp4", "private", False),
        ("video/mp4", "no-cache", False),
        ("video/mp4", "max-age=0", False),
        ("video/mp4", "max-age=60, max-age=0", False),
        ("video/mp4", "max-age=nonsense", False),
        ("video/mp4", 'private="X-Secret"', True),
        ("audio/mpegurl", None, False),
        ("text/event-stream", "max-age=60", False),
    ],
)
async def test_what_is_reused(
    adapter: Adapter,
    origin: ScriptedOrigin,
    content_type: str | None,
    cache_control: str | None,
    stored: bool,
) -> None:
    headers = {"X-Secret": "1"} | ({"Cache-Control": cache_control} if cache_control else {})
    origin.serve("/thing", FILM, content_type=content_type, headers=headers)
    async with adapter.wire() as wire:
        assert await hits(wire, "/thing") == stored
        assert (await wire.get("/thing")).body == FILM
        if cache_control and "X-Secret" in cache_control:
            assert "X-Secret" not in (await wire.get("/thing")).fields


@pytest.mark.parametrize(
    ("status", "cache_control", "stored"),
    [
        (404, "max-age=60", True),
        (410, "max-age=60", True),
        (301, "max-age=60", True),
        (302, "max-age=60", True),
        (404, None, False),
        (301, None, False),
        (500, None, False),
        (401, "max-age=60", False),
        (429, "max-age=60", False),
    ],
)
async def test_other_statuses(
    adapter: Adapter, origin: ScriptedOrigin, status: int, cache_control: str | None, stored: bool
) -> None:
    fields = {"Content-Length": "4", "Location": "/elsewhere"}
    if cache_control:
        fields["Cache-Control"] = cache_control
    origin.on("/thing", [Head(status, fields), Body(b"gone")])
    async with adapter.wire() as wire:
        for _ in range(2):
            response = await wire.get("/thing", Range="bytes=0-1")
            assert (response.status, response.body) == (status, b"gone")
            assert response.fields["Location"] == "/elsewhere"
        assert ("hit" in response.cache_status) == stored


async def test_what_is_not_stored_has_ranges_all_the_same(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/page", FILM, content_type="text/html")
    async with adapter.wire() as wire:
        part = await wire.get("/page", Range="bytes=100-199")
        assert (part.status, part.body) == (206, FILM[100:200])
        assert part.fields["Content-Range"] == f"bytes 100-199/{len(FILM)}"
        several = await wire.get("/page", Range="bytes=0-9,100-109")
        assert several.status == 206
        assert [data for _, data in several.parts()] == [FILM[:10], FILM[100:110]]
        backwards = await wire.get("/page", Range="bytes=100-109,0-9")
        assert (backwards.status, backwards.body) == (200, FILM)
        assert (await wire.get("/page", Range=f"bytes={len(FILM)}-")).status == 416
        assert (await wire.get("/page", Range="bytes=-10")).body == FILM[-10:]
        assert "detail=no-freshness" in part.cache_status


# --- Age and Date ---------------------------------------------------------------------------------


def now() -> int:
    return int(time.time())


async def test_age_counts_from_the_origin(adapter: Adapter, origin: ScriptedOrigin) -> None:
    date = format_http_date(now() - 100)
    origin.serve("/film.mp4", FILM, headers={"Date": date, "Age": "30", "Cache-Control": "max-age=600"})
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        response = await wire.get("/film.mp4")
        assert 100 <= int(response.fields["Age"]) <= 105
        assert response.fields["Date"] == date
        assert 490 <= int(response.cache_status.rpartition("ttl=")[2]) <= 500
        assert len(response.fields.getall("Age")) == 1


async def test_an_upstream_age_may_be_all_of_it(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM, headers={"Age": "700", "Cache-Control": "max-age=600"})
    async with adapter.wire() as wire:
        assert not await hits(wire, "/film.mp4")


async def test_a_missing_date_is_added_when_it_arrives(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        first = await wire.get("/film.mp4")
        second = await wire.get("/film.mp4")
        date = parse_http_date(first.fields["Date"])
        assert date is not None
        assert abs(date - now()) <= 5
        assert second.fields["Date"] == first.fields["Date"]
        assert "Age" not in first.fields
        assert int(second.fields["Age"]) <= 5


async def test_a_304_resets_age(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter()

    def answer(request: OriginRequest) -> Script:
        fields = {"ETag": '"1"', "Cache-Control": "max-age=60"}
        if request.header("If-None-Match"):
            return [Head(304, {**fields, "Date": format_http_date(now())})]
        old = format_http_date(now() - 100)
        return [Head(200, {**fields, "Date": old, "Content-Length": "3"}), Body(b"abc")]

    origin.on("/film.mp4", answer)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
        assert int((await wire.get("/film.mp4")).fields["Age"]) <= 5
        response = await wire.get("/film.mp4")
        assert "hit" in response.cache_status
        assert int(response.fields["Age"]) <= 5


# --- What the client says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cache_control", "asks"),
    [
        ("no-cache", True),
        ("max-age=0", True),
        ("max-age=3600", False),
        ("min-fresh=99999", True),
        ("no-store", True),
        ("max-stale", False),
        ("only-if-cached", False),
        ("nonsense", False),
    ],
)
async def test_directives_of_a_client(
    adapter: Adapter, origin: ScriptedOrigin, cache_control: str, asks: bool
) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        response = await wire.get("/film.mp4", Cache_Control=cache_control)
        assert response.body == FILM
        assert ("fwd=request" in response.cache_status) == asks
    assert origin.count("/film.mp4") == (2 if asks else 1)
    assert all(r.header("Cache-Control") is None for r in origin.requests)


async def test_pragma_of_old_clients(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        assert "fwd=request" in (await wire.get("/film.mp4", Pragma="no-cache")).cache_status


async def test_only_if_cached(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as wire, adapter.wire() as first:
        refused = await wire.get("/film.mp4", Cache_Control="only-if-cached")
        assert (refused.status, origin.count("/film.mp4")) == (504, 0)
        assert "detail=only-if-cached" in refused.cache_status
        await first.request("GET", "/film.mp4")
        await first.response_head()
        arriving = await wire.get("/film.mp4", Cache_Control="only-if-cached", Range="bytes=0-9")
        assert arriving.status == 206
        gate.open()
    assert origin.count("/film.mp4") == 1


async def test_a_reload_does_not_disturb_others(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": '"1"'}, conditional=True)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await origin.idle()
        for _ in range(3):
            response = await wire.get("/film.mp4", Cache_Control="no-cache")
            assert "fwd-status=304" in response.cache_status
    assert origin.count("/film.mp4") == 4


# --- What the route says --------------------------------------------------------------------------


async def adapter_with(start_adapter: StartAdapter, **cache: object) -> Adapter:
    return await start_adapter(defaults={"cache": cache})


@pytest.mark.parametrize(
    ("cache_control", "stored"),
    [(None, True), ("max-age=0", True), ("no-cache", True), ("no-store", False), ("private", False)],
)
async def test_without_respect_the_ttl_wins(
    start_adapter: StartAdapter, origin: ScriptedOrigin, cache_control: str | None, stored: bool
) -> None:
    adapter = await adapter_with(start_adapter, respect_origin=False, ttl="1h")
    headers = {"Cache-Control": cache_control} if cache_control else {}
    origin.serve("/film.mp4", FILM, headers=headers)
    async with adapter.wire() as wire:
        assert await hits(wire, "/film.mp4") == stored


async def test_a_ttl_of_0s_asks_each_time(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await adapter_with(start_adapter, ttl="0s")
    origin.serve("/film.mp4", FILM)
    origin.serve("/fresh.mp4", FILM, headers={"Cache-Control": "max-age=60"})
    async with adapter.wire() as wire:
        for _ in range(3):
            response = await wire.get("/film.mp4", Range="bytes=0-9")
            assert (response.status, response.body) == (206, FILM[:10])
            await origin.idle()
        assert await hits(wire, "/fresh.mp4")
    assert origin.count("/film.mp4") == 3


async def test_media_types_are_the_routes(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await adapter_with(start_adapter, media_types=["text/*"])
    origin.serve("/page", FILM, content_type="text/html; charset=utf-8")
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        assert await hits(wire, "/page")
        assert not await hits(wire, "/film.mp4")


async def test_without_the_host_in_the_key_the_origin_hears_of_no_clients_host(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await adapter_with(start_adapter, key="path")
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4", Host="evil.example")).status == 200
    (asked,) = origin.requests
    authority = f"127.0.0.1:{origin.port}"
    assert asked.header("Host") == asked.header("X-Forwarded-Host") == authority
    assert f'host="{authority}"' in (asked.header("Forwarded") or "")
    assert "evil" not in str(asked.headers)


async def test_the_ttl_holds_for_an_origin_whose_clock_is_hours_behind(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM, headers={"Date": "Wed, 25 Jun 2014 17:12:18 GMT"})
    async with adapter.wire() as wire:
        assert await hits(wire, "/film.mp4")


async def test_after_a_validation_too_the_age_does_not_count_that_clock(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    fields = {"Date": "Wed, 25 Jun 2014 17:12:18 GMT", "ETag": '"a"'}
    origin.serve("/film.mp4", FILM, headers=fields, conditional=True)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
        validated = await wire.get("/film.mp4", Cache_Control="no-cache")
    assert "fwd-status=304" in validated.cache_status
    assert int(validated.fields["Age"]) < 60


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        (["path"], ["/a?x=1", "/a?x=2", "/a"], ["/b"]),
        (["path", "query"], ["/a?x=1"], ["/a?x=2", "/a", "/a?"]),
        (["host"], ["/a", "/b?c"], []),
    ],
)
async def test_key_parts(
    start_adapter: StartAdapter, origin: ScriptedOrigin, key: list[str], same: list[str], other: list[str]
) -> None:
    adapter = await adapter_with(start_adapter, key=key)

    def answer(request: OriginRequest) -> Script:
        fields = {"Content-Length": str(len(request.target)), "Cache-Control": "max-age=60"}
        return [Head(200, fields), Body(request.target)]

    for path in ("/a", "/b"):
        origin.on(path, answer)
    async with adapter.wire() as wire:
        for target in same:
            assert (await wire.get(target, Host="x.example")).body == same[0].encode()
        for target in other:
            assert (await wire.get(target, Host="x.example")).body == target.encode()
        if "host" not in key:
            assert (await wire.get(same[0], Host="y.example")).body == same[0].encode()


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("/a%2Db", "/a-b", True),
        ("/a%c3%a9", "/a%C3%A9", True),
        ("/a?q=%7e", "/a?q=~", True),
        ("/a%2Fb", "/a/b", False),
        ("/a", "/A", False),
        ("/a", "/a/", False),
        ("/a", "/a?", False),
        ("/a+b", "/a%20b", False),
        ("/a//b", "/a/b", False),
        ("/a?x&y", "/a?y&x", False),
    ],
)
async def test_two_spellings_of_one_url(
    adapter: Adapter, origin: ScriptedOrigin, first: str, second: str, equal: bool
) -> None:
    def answer(request: OriginRequest) -> Script:
        fields = {"Content-Length": str(len(request.target)), "Cache-Control": "max-age=60"}
        return [Head(200, fields), Body(request.target)]

    for target in (first, second):
        origin.on(target.partition("?")[0], answer)
    async with adapter.wire() as wire:
        assert (await wire.get(first)).body == first.encode(), "the origin sees the client's spelling"
        assert (await wire.get(second)).body == (first if equal else second).encode()


async def test_hosts_and_their_case(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4", Host="A.example")
        assert "hit" in (await wire.get("/film.mp4", Host="a.EXAMPLE")).cache_status
        assert "hit" not in (await wire.get("/film.mp4", Host="b.example")).cache_status
        absolute = await wire.get("http://a.example/film.mp4", Host="ignored.example")
        assert "hit" in absolute.cache_status


# --- What else speaks of freshness ----------------------------------------------------------------

OLD = "Wed, 25 Jun 2014 17:12:18 GMT"


@pytest.mark.parametrize(
    ("headers", "cache", "stored"),
    [
        ({"Last-Modified": OLD}, {}, True),
        ({"Last-Modified": OLD}, {"heuristic": 0}, False),
        ({"Last-Modified": OLD}, {"ttl": "0s"}, False),
        ({"ETag": '"1"'}, {}, False),
        ({"Cache-Control": "no-store", "CDN-Cache-Control": "max-age=60"}, {}, True),
        ({"Cache-Control": "max-age=60", "CDN-Cache-Control": "no-store"}, {}, False),
        ({"Cache-Control": "max-age=60", "CDN-Cache-Control": "no-store"}, {"targeted_fields": []}, True),
        (
            {"Own": "max-age=60", "CDN-Cache-Control": "no-store"},
            {"targeted_fields": ["Own", "CDN-Cache-Control"]},
            True,
        ),
        ({"Cache-Control": "max-age=60", "CDN-Cache-Control": "&"}, {}, True),
    ],
)
async def test_a_page_is_reused(
    start_adapter: StartAdapter,
    origin: ScriptedOrigin,
    headers: dict[str, str],
    cache: dict[str, object],
    stored: bool,
) -> None:
    adapter = await start_adapter(defaults={"cache": cache})
    origin.serve("/page", FILM, content_type="text/html", headers=headers)
    async with adapter.wire() as wire:
        assert await hits(wire, "/page") == stored
        response = await wire.get("/page")
        assert {name: response.fields[name] for name in headers} == headers, "all pass as they came"


# --- Cache-Status ---------------------------------------------------------------------------------


async def test_cache_status_is_on_every_answer(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(
        server={"name": "edge-1"},
        routes=[
            {"name": "no", "match": {"path_prefix": "/no"}, "mode": "deny"},
            {"name": "through", "match": {"path_prefix": "/through"}, "mode": "passthrough"},
            {"name": "rest", "cors": {"allow_origins": "*"}},
        ],
    )
    origin.serve("/film.mp4", FILM)
    origin.serve("/through", FILM, headers={"Cache-Status": 'ExampleCache; hit, "odd"; fwd=miss'})
    async with adapter.wire() as wire:

        async def ask(method: str, target: str, *headers: tuple[str, str]) -> Response:
            await wire.request(method, target, headers)
            return await wire.response(to_head=method == "HEAD")

        assert (await ask("GET", "/film.mp4")).cache_status == "edge-1;fwd=uri-miss;fwd-status=200;stored"
        await settled(adapter, origin)
        assert (await ask("GET", "/film.mp4")).cache_status.startswith("edge-1;hit;ttl=")
        assert (await ask("HEAD", "/film.mp4")).cache_status.startswith("edge-1;hit;ttl=")
        assert (await ask("GET", "/film.mp4", ("Range", "bytes=99999999-"))).cache_status.startswith(
            "edge-1;hit"
        )
        assert (await ask("GET", "/missing")).cache_status == (
            "edge-1;fwd=uri-miss;fwd-status=404;detail=no-freshness"
        )
        assert (await ask("POST", "/film.mp4")).cache_status == "edge-1;fwd=method;fwd-status=200"
        assert (await ask("GET", "/through")).cache_status == (
            'ExampleCache; hit, "odd"; fwd=miss, edge-1;fwd=bypass;fwd-status=200'
        )
        assert (await ask("GET", "/no")).cache_status == "edge-1;detail=denied"
        origin_of_page, method = ("Origin", "https://a"), ("Access-Control-Request-Method", "GET")
        preflight = await ask("OPTIONS", "/x", origin_of_page, method)
        assert preflight.cache_status == "edge-1;detail=preflight"
        only_if_cached = ("Cache-Control", "only-if-cached, no-cache")
        refused = await ask("GET", "/film.mp4", only_if_cached)
        assert refused.cache_status == "edge-1;detail=only-if-cached"
        await wire.send(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
        assert (await wire.response()).cache_status == "edge-1;detail=malformed-request"
    await origin.stop()
    async with adapter.wire() as wire:
        response = await wire.get("/nobody.mp4")
        assert response.cache_status == "edge-1;fwd=uri-miss;detail=origin-unreachable"
