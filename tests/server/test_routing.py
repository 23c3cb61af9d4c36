"""Routes on the wire: several origins, first match wins, rewrites, each with its own policy."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import settled

FILM = bytes(range(256)) * 40


def telling(name: str) -> ScriptedOrigin:
    """An origin that says who it is and what it was asked."""

    def answer(request: OriginRequest) -> Script:
        body = f"{name} {request.method} {request.target.decode()} {request.header('Host')}".encode()
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(body))}
        return [Head(200, fields), Body(b"" if request.method == "HEAD" else body)]

    return ScriptedOrigin(answer)


@pytest.fixture
async def media() -> AsyncIterator[ScriptedOrigin]:
    async with telling("media") as scripted:
        yield scripted


@pytest.fixture
async def archive() -> AsyncIterator[ScriptedOrigin]:
    async with telling("archive") as scripted:
        yield scripted


@pytest.fixture
async def routed(start_adapter: StartAdapter, media: ScriptedOrigin, archive: ScriptedOrigin) -> Adapter:
    return await start_adapter(
        origins={
            "media": {"url": media.url, "host": "preserve"},
            "archive": {"url": archive.url + "/base", "host": "legacy.internal"},
        },
        routes=[
            {"name": "admin", "match": {"path_prefix": "/admin"}, "mode": "deny"},
            {
                "name": "films",
                "match": {"host": ["media.example", "*.media.example"], "path_prefix": "/films"},
                "origin": "media",
                "rewrite": {"strip_prefix": "/films", "add_prefix": "/video"},
            },
            {"name": "writes", "match": {"methods": ["POST"]}, "origin": "media", "mode": "passthrough"},
            {"name": "pdf", "match": {"path_regex": r"\.pdf$", "methods": ["GET"]}, "origin": "archive"},
            {
                "name": "live",
                "match": {"host": "media.example", "path_prefix": "/live"},
                "origin": "media",
                "mode": "passthrough",
            },
        ],
    )


@pytest.mark.parametrize(
    ("method", "host", "target", "answer"),
    [
        ("GET", "media.example", "/films/a.mp4", "media GET /video/a.mp4 media.example"),
        ("GET", "eu.media.example", "/films/a.mp4?x=1", "media GET /video/a.mp4?x=1 eu.media.example"),
        ("GET", "MEDIA.example:8080", "/films/a%20b", "media GET /video/a%20b media.example:8080"),
        ("GET", "media.example", "/films", "media GET /video/ media.example"),
        ("GET", "other.example", "/x.pdf", "archive GET /base/x.pdf legacy.internal"),
        ("GET", "other.example", "/x%2Epdf", "archive GET /base/x%2Epdf legacy.internal"),
        ("GET", "media.example", "/films/x.pdf", "media GET /video/x.pdf media.example"),
        ("POST", "other.example", "/x.pdf", "media POST /x.pdf other.example"),
        ("GET", "media.example", "/live/1", "media GET /live/1 media.example"),
    ],
)
async def test_which_origin_is_asked_for_what(
    routed: Adapter, method: str, host: str, target: str, answer: str
) -> None:
    async with routed.wire() as wire:
        await wire.request(method, target, Host=host)
        response = await wire.response()
        assert (response.status, response.body.decode()) == (200, answer)


@pytest.mark.parametrize(
    ("host", "target", "status"),
    [
        ("media.example", "/admin", 403),
        ("media.example", "/admin/x", 403),
        ("media.example", "/%61dmin/x", 403),
        ("media.example", "//admin/x", 403),
        ("media.example", "/administration", 404),
        ("media.example", "/films/../admin", 400),
        ("media.example", "/films/%2e%2e/admin", 400),
        ("media.example", "/filmsx", 404),
        ("other.example", "/x.txt", 404),
    ],
)
async def test_what_is_refused(
    routed: Adapter, media: ScriptedOrigin, archive: ScriptedOrigin, host: str, target: str, status: int
) -> None:
    async with routed.wire() as wire:
        response = await wire.get(target, Host=host)
        assert response.status == status
        assert response.fields["Cache-Control"] == "no-store"
        assert "detail=" in response.cache_status
    assert not media.requests
    assert not archive.requests


async def test_adapt_and_passthrough(routed: Adapter, media: ScriptedOrigin) -> None:
    async with routed.wire() as wire:
        for _ in range(2):
            part = await wire.get("/films/a.mp4", Host="media.example", Range="bytes=0-4")
            assert (part.status, part.body) == (206, b"media")
            whole = await wire.get("/live/1", Host="media.example", Range="bytes=0-4", If_None_Match='"x"')
            assert whole.status == 200
            assert media.requests[-1].header("Range") == "bytes=0-4"
            assert media.requests[-1].header("If-None-Match") == '"x"'
            await media.idle()
    assert media.count("/video/a.mp4") == 1
    assert media.count("/live/1") == 2


async def test_head_goes_where_get_goes(routed: Adapter, archive: ScriptedOrigin) -> None:
    async with routed.wire() as wire:
        head = await wire.head("/x.pdf", Host="other.example")
        whole = await wire.get("/x.pdf", Host="other.example")
        assert head.fields["Content-Length"] == whole.fields["Content-Length"]
    assert [r.method for r in archive.requests] == ["GET"]


async def test_two_routes_do_not_share_by_accident(
    start_adapter: StartAdapter, media: ScriptedOrigin, archive: ScriptedOrigin
) -> None:
    """Equal targets of two origins are two objects; two rewrites to one target are one."""
    adapter = await start_adapter(
        origins={"media": {"url": media.url}, "archive": {"url": archive.url}},
        defaults={"cache": {"key": ["path"]}},
        routes=[
            {
                "name": "a",
                "match": {"path_prefix": "/a"},
                "origin": "media",
                "rewrite": {"strip_prefix": "/a"},
            },
            {
                "name": "b",
                "match": {"path_prefix": "/b"},
                "origin": "archive",
                "rewrite": {"strip_prefix": "/b"},
            },
            {
                "name": "c",
                "match": {"path_prefix": "/c"},
                "origin": "media",
                "rewrite": {"strip_prefix": "/c"},
            },
        ],
    )
    async with adapter.wire() as wire:
        assert (await wire.get("/a/x.mp4")).body.startswith(b"media GET /x.mp4")
        assert (await wire.get("/b/x.mp4")).body.startswith(b"archive GET /x.mp4")
        assert "hit" in (await wire.get("/c/x.mp4")).cache_status


async def test_each_route_has_its_own_policy(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(
        routes=[
            {"name": "never", "match": {"path_prefix": "/never"}, "cache": {"ttl": "0s"}},
            {"name": "one", "match": {"path_prefix": "/one"}, "ranges": {"max": 1}},
            {"name": "cors", "match": {"path_prefix": "/cors"}, "cors": {"allow_origins": "*"}},
            {"name": "rest"},
        ]
    )
    for path in ("/never", "/one", "/cors", "/rest"):
        origin.serve(path, FILM)
    async with adapter.wire() as wire:
        for number, path in enumerate(("/never", "/one", "/cors", "/rest")):
            await wire.get(path)
            await settled(adapter, origin, number)
            response = await wire.get(path, Range="bytes=0-0,5-5")
            assert ("hit" in response.cache_status) == (path != "/never")
            assert response.status == (200 if path == "/one" else 206)
            assert ("Access-Control-Allow-Origin" in response.fields) == (path == "/cors")


async def test_an_unsafe_method_by_another_route_ends_what_get_had(
    start_adapter: StartAdapter, media: ScriptedOrigin
) -> None:
    adapter = await start_adapter(
        origins={"media": {"url": media.url}},
        routes=[
            {
                "name": "reads",
                "match": {"methods": ["GET"]},
                "origin": "media",
                "rewrite": {"add_prefix": "/r"},
            },
            {"name": "writes", "origin": "media", "mode": "passthrough", "rewrite": {"add_prefix": "/w"}},
        ],
    )
    async with adapter.wire() as wire:
        await wire.get("/x.mp4")
        await media.idle()
        assert "hit" in (await wire.get("/x.mp4")).cache_status
        await wire.request("DELETE", "/x.mp4")
        assert (await wire.response()).body.startswith(b"media DELETE /w/x.mp4")
        assert "hit" not in (await wire.get("/x.mp4")).cache_status


async def test_a_host_of_no_route_is_misdirected(start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(routes=[{"name": "one", "match": {"host": "media.example"}}])
    async with adapter.wire() as wire:
        assert (await wire.get("/x", Host="media.example.")).status == 404
        assert (await wire.get("/x", Host="evil.example")).status == 421
