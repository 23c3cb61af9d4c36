"""What a URL means to a purge, and the method PURGE of the main listener."""

import json

import pytest

from proxy.config import parse
from proxy.config.document import read_text
from proxy.explain import explain
from proxy.semantics.request import ClientRequest
from proxy.server.lines import Line
from tests.access_log import access_log
from tests.admin.test_purging import ADMIN, is_hit, purge
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import settled, until
from tests.wire import Response

FILM = bytes(range(256)) * 40
HERE = {"purge_from": ["127.0.0.0/8", "::1"]}
ROUTES = [
    {"name": "hidden", "match": {"host": "media.example", "path_prefix": "/hidden"}, "mode": "deny"},
    {"name": "live", "match": {"host": "media.example", "path_prefix": "/live"}, "mode": "passthrough"},
    {"name": "one", "match": {"host": "one.example", "methods": "GET"}, "rewrite": {"add_prefix": "/of-one"}},
    {
        "name": "shared",
        "match": {"host": "media.example", "path_prefix": "/shared"},
        "cache": {"key": ["path"]},
    },
    {"name": "media", "match": {"host": ["media.example", "two.example:8080"]}},
]
SHARED = [{"name": "all", "cache": {"key": ["path", "query"]}}]


async def stock(adapter: Adapter, origin: ScriptedOrigin, target: str, **fields: str) -> None:
    """Have one object stored."""
    async with adapter.wire() as wire:
        assert (await wire.get(target, (), **{"Host": "media.example", **fields})).status == 200
    await origin.idle()


async def send_purge(adapter: Adapter, target: str, **fields: str) -> Response:
    async with adapter.wire() as wire:
        await wire.request("PURGE", target, (), b"", **({"Host": "media.example"} | fields))
        return await wire.response()


# --- What a URL means -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example/f%69lm.mp4?a=1",
        "https://media.example/film.mp4?a=1",
        "HTTP://MEDIA.example:80/film.mp4?a=1",
        "https://media.example:443/film.mp4?a=1",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_url_is_meant_as_clients_write_it(
    start_adapter: StartAdapter, origin: ScriptedOrigin, url: str, scheme: str
) -> None:
    adapter = await start_adapter(admin=ADMIN, server={"trusted_proxies": "127.0.0.1"})
    origin.serve("/film.mp4?a=1", FILM)
    for _ in range(2):
        await stock(adapter, origin, "/film.mp4?a=1", X_Forwarded_Proto=scheme)
        await settled(adapter, origin)
    assert origin.count("/film.mp4?a=1") == 1
    assert await purge(adapter, urls=[url]) == (200, {"purged": [url], "soft": False})
    await stock(adapter, origin, "/film.mp4?a=1", X_Forwarded_Proto=scheme)
    assert origin.count("/film.mp4?a=1") == 2


async def test_the_routes_decide(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(admin=ADMIN, routes=ROUTES)
    origin.serve("/of-one/film.mp4", FILM)
    origin.serve("/film.mp4", FILM)
    await stock(adapter, origin, "/film.mp4", Host="one.example")
    await stock(adapter, origin, "/film.mp4")
    await settled(adapter, origin, 2)
    assert (await purge(adapter, urls=["http://one.example/film.mp4"]))[0] == 200
    assert not await is_hit(adapter, "/film.mp4", "one.example")
    assert await is_hit(adapter, "/film.mp4")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://other.example/x", "no route is for the host 'other.example'"),
        ("http://other.example/x*", "no route is for the host 'other.example'"),
        ("http://two.example/x", "no route is for the host 'two.example'"),
        ("http://media.example/hidden/x", "route hidden denies this"),
        ("http://media.example/live/x", "route live stores nothing (mode passthrough)"),
        ("/film.mp4", "name the host: http://HOST/film.mp4 (or write /film.mp4*)"),
        ("/shared/film.mp4", "name the host: http://HOST/shared/film.mp4 (or write /shared/film.mp4*)"),
        ("http://media.example/a/../b", "the path has dot segments"),
        ("film.mp4", "write http://host/path, or /path"),
        ("*", "write http://host/path, or /path"),
        ("ftp://media.example/x", "write http://host/path, or /path"),
        ("http://*/x", "the host is malformed; /path* stands for all hosts"),
        ("http://media.example*", "the host is malformed; /path* stands for all hosts"),
        ("http:///x", "the host is malformed; /path* stands for all hosts"),
        ("http://user@media.example/x", "the host is malformed; /path* stands for all hosts"),
        ("http://media.example/x#part", "leave out # and what follows; no request carries it"),
        ("http://media.example/größe", "write it as requests carry it: percent-encoded, the host in ASCII"),
        ("http://media.example/a b", "write it as requests carry it: percent-encoded, the host in ASCII"),
    ],
)
async def test_a_url_that_means_nothing(start_adapter: StartAdapter, url: str, why: str) -> None:
    adapter = await start_adapter(admin=ADMIN, routes=ROUTES)
    assert await purge(adapter, urls=[url]) == (400, {"error": f"{url}: {why}"})


async def test_a_path_alone_where_the_host_tells_nothing(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(admin=ADMIN, routes=SHARED)
    origin.serve("/film.mp4", FILM)
    await stock(adapter, origin, "/film.mp4")
    await settled(adapter, origin)
    assert await is_hit(adapter, "/film.mp4", "any.example")
    assert (await purge(adapter, urls=["/film.mp4"]))[0] == 200
    assert not await is_hit(adapter, "/film.mp4", "any.example")


@pytest.mark.parametrize(
    ("url", "gone"),
    [
        (
            "http://media.example/films/*",
            {("media.example", "/films/a.mp4?x"), ("media.example", "/films/b.mp4")},
        ),
        ("http://media.example/f%69lms/a*", {("media.example", "/films/a.mp4?x")}),
        ("http://media.example/films/a.mp4?*", {("media.example", "/films/a.mp4?x")}),
        ("/films/b*", {("media.example", "/films/b.mp4"), ("other.example", "/films/b.mp4")}),
        (
            "http://media.example/*",
            {("media.example", target) for target in ("/films/a.mp4?x", "/films/b.mp4", "/x.pdf")},
        ),
        ("http://media.example/FILMS/*", set()),
    ],
)
async def test_a_prefix(
    start_adapter: StartAdapter, origin: ScriptedOrigin, url: str, gone: set[tuple[str, str]]
) -> None:
    adapter = await start_adapter(admin=ADMIN)
    objects = [("media.example", target) for target in ("/films/a.mp4?x", "/films/b.mp4", "/x.pdf")]
    objects.append(("other.example", "/films/b.mp4"))
    for host, target in objects:
        origin.serve(target, FILM)
        await stock(adapter, origin, target, Host=host)
    await settled(adapter, origin, len(objects))
    assert (await purge(adapter, urls=[url]))[0] == 200
    assert {(host, target) for host, target in objects if not await is_hit(adapter, target, host)} == gone


# --- PURGE ----------------------------------------------------------------------------------------


async def test_purge(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server=HERE, routes=ROUTES)
    origin.serve("/of-one/film.mp4", FILM)
    await stock(adapter, origin, "/film.mp4", Host="one.example")  # a route for GET alone
    await settled(adapter, origin)
    response = await send_purge(adapter, "/film.mp4", Host="one.example")
    assert (response.status, response.body) == (200, b"purged one.example/film.mp4\n")
    assert response.cache_status == "range-adapter;detail=purge"
    assert response.fields["Cache-Control"] == "no-store"
    assert not await is_hit(adapter, "/film.mp4", "one.example")
    assert [request.method for request in origin.requests] == ["GET", "GET"]


async def test_purge_of_a_prefix(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server=HERE)
    for target in ("/films/a.mp4", "/x.pdf"):
        origin.serve(target, FILM)
        await stock(adapter, origin, target)
    await settled(adapter, origin, 2)
    response = await send_purge(adapter, "/films/*")
    assert (response.status, response.body) == (200, b"purged media.example/films/*\n")
    assert not await is_hit(adapter, "/films/a.mp4")
    assert await is_hit(adapter, "/x.pdf")


async def test_purge_softly(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server=HERE)

    def script(request: OriginRequest) -> Script:
        if request.values("If-None-Match"):
            return [Head(304, {"ETag": '"1"'})]
        return [Head(200, {"Content-Type": "video/mp4", "ETag": '"1"', "Content-Length": "3"}), Body(b"abc")]

    origin.on("/film.mp4", script)
    await stock(adapter, origin, "/film.mp4")
    await settled(adapter, origin)
    response = await send_purge(adapter, "/film.mp4", Soft_Purge="1")
    assert (response.status, response.body) == (200, b"made stale media.example/film.mp4\n")
    async with adapter.wire() as wire:
        response = await wire.get("/film.mp4", Host="media.example")
    assert response.body == b"abc"
    assert "fwd=stale;fwd-status=304" in response.cache_status


@pytest.mark.parametrize(
    ("allowed", "fields"),
    [
        (["192.0.2.0/24"], {"X_Forwarded_For": "192.0.2.1"}),
        (["192.0.2.0/24"], {"Forwarded": "for=192.0.2.1"}),
        (["unix"], {}),
    ],
)
async def test_purge_from_elsewhere(
    start_adapter: StartAdapter, origin: ScriptedOrigin, allowed: list[str], fields: dict[str, str]
) -> None:
    adapter = await start_adapter(server={"purge_from": allowed, "trusted_proxies": "127.0.0.1"})
    origin.serve("/film.mp4", FILM)
    await stock(adapter, origin, "/film.mp4")
    await settled(adapter, origin)
    for target in ("/film.mp4", "/*"):
        response = await send_purge(adapter, target, **fields)
        assert (response.status, response.body) == (403, b"403 Forbidden: purge-denied\n")
        assert response.cache_status == "range-adapter;detail=purge-denied"
    assert await is_hit(adapter, "/film.mp4")


@pytest.mark.parametrize(
    ("target", "fields", "status", "reason"),
    [
        ("/live/x", {}, 409, "nothing-stored"),
        ("/hidden/x", {}, 403, "denied"),
        ("/x", {"Host": "other.example"}, 421, "misdirected"),
        ("/*", {"Host": "other.example"}, 421, "misdirected"),
        ("/x", {"Soft_Purge": "yes"}, 400, "bad-soft-purge"),
        ("/a/../x", {}, 400, "dot-segments"),
    ],
)
async def test_purge_of_nothing(
    start_adapter: StartAdapter,
    origin: ScriptedOrigin,
    target: str,
    fields: dict[str, str],
    status: int,
    reason: str,
) -> None:
    adapter = await start_adapter(server=HERE, routes=ROUTES)
    response = await send_purge(adapter, target, **fields)
    assert response.status == status
    assert response.body.endswith(f": {reason}\n".encode())
    assert origin.requests == []


async def test_where_nobody_may_purge_is_a_method_like_others(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/film.mp4", [Head(200, {"Content-Length": "2"}), Body(b"ok")])
    response = await send_purge(adapter, "/film.mp4")
    assert (response.status, response.body) == (200, b"ok")
    assert origin.requests[0].method == "PURGE"


async def test_a_purge_has_its_line(start_adapter: StartAdapter) -> None:
    lines: list[Line] = []
    with access_log(lines.append):
        adapter = await start_adapter(server=HERE, logging={"access": True})
        assert (await send_purge(adapter, "/film.mp4")).status == 200
        await send_purge(adapter, "/film.mp4", Soft_Purge="2")
        await until(lambda: len(lines) == 2)
    told = [(line.about.method, line.about.target, line.status, line.remarks.reason) for line in lines]
    assert told == [("PURGE", "/film.mp4", 200, None), ("PURGE", "/film.mp4", 400, "bad-soft-purge")]
    assert lines[0].about.route == "all"


# --- explain --------------------------------------------------------------------------------------


def explained(target: str, host: str = "media.example", **server: object) -> tuple[str, str | None, str]:
    config = {"origins": {"a": {"url": "http://a"}}, "routes": ROUTES, "server": server}
    settings = parse(read_text(json.dumps(config), "test.yaml", {}), {})
    path, _, query = target.partition("?")
    request = ClientRequest("PURGE", target, path, query or None, "http", host, {}, "", "")  # type: ignore[arg-type]
    explanation = explain(settings, request)
    return explanation.outcome, explanation.cache_key, "; ".join(explanation.policy)


def test_explain_tells_the_truth_of_purges() -> None:
    outcome, key, policy = explained("/film.mp4", purge_from=["10.0.0.0/8", "unix"])
    assert (outcome, key is not None and "media.example/film.mp4" in key) == ("answered here: purge", True)
    assert "obeyed from 10.0.0.0/8, unix (server.purge_from); others get 403 purge-denied" in policy
    outcome, key, policy = explained("/films/*", purge_from="unix")
    assert (outcome, key) == ("answered here: purge", None)
    assert policy.startswith("all under media.example/films/; ")
    assert explained("/live/x", purge_from="unix")[0] == "409 nothing-stored: route live stores nothing"
    assert explained("/hidden/x", purge_from="unix")[0].startswith("403 denied: ")
    assert explained("/x*", "other.example", purge_from="unix")[0].startswith("421 misdirected: ")
    assert explained("/film.mp4") == ("relayed: method", None, "")
