"""What an unsafe request makes invalid besides its target: what its answer names (RFC 9111 section 4.4)."""

import re
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.request import ClientRequest
from proxy.server.invalidation import _resolved
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import settled
from tests.wire import Wire

METHODS = ["POST", "PUT", "DELETE", "M-SEARCH", "BREW"]
HOST = "media.example"
PAGE = "/docs/page.mp4"
Pairs: TypeAlias = Sequence[tuple[str, str]]


class Shelf:
    """An origin that answers unsafe requests with `fields`, and everything else with an object to keep."""

    def __init__(self, *fields: tuple[str, str], status: int = 201) -> None:
        self.fields = fields
        self.status = status

    def __call__(self, request: OriginRequest) -> Script:
        if request.method != "GET":
            return [Head(self.status, [*self.fields, ("Content-Length", "0")])]
        cookie = request.header("Cookie") or "nobody"
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(cookie)), "Vary": "Accept-Language"}
        return [Head(200, fields), Body(cookie.encode())]


def shelf(origin: ScriptedOrigin, *fields: tuple[str, str], status: int = 201) -> None:
    script = Shelf(*fields, status=status)
    for path in ("/docs/", PAGE, "/docs/other.mp4", "/docs/page.mp4?", "/docs/page.mp4?a=%7e"):
        origin.on(path, script)


async def is_hit(wire: Wire, target: str = PAGE, host: str = HOST, fields: Pairs = ()) -> bool:
    return "hit" in (await wire.get(target, fields, Host=host)).cache_status


async def send(wire: Wire, method: str, target: str = "/docs/", host: str = HOST, fields: Pairs = ()) -> None:
    await wire.request(method, target, fields, Host=host)
    assert (await wire.response()).status < 600


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize("status", [200, 201, 303])
async def test_what_the_answer_names_is_forgotten(
    adapter: Adapter, origin: ScriptedOrigin, method: str, name: str, status: int
) -> None:
    shelf(origin, (name, PAGE), status=status)
    async with adapter.wire() as wire:
        for path in (PAGE, "/docs/other.mp4"):
            await wire.get(path, Host=HOST)
        await settled(adapter, origin, 2)
        assert await is_hit(wire)
        await send(wire, method)
        assert not await is_hit(wire)
        assert await is_hit(wire, "/docs/other.mp4")


async def test_both_fields_count(adapter: Adapter, origin: ScriptedOrigin) -> None:
    shelf(origin, ("Location", PAGE), ("Content-Location", "other.mp4"))
    async with adapter.wire() as wire:
        for path in (PAGE, "/docs/other.mp4"):
            await wire.get(path, Host=HOST)
        await settled(adapter, origin, 2)
        await send(wire, "POST")
        assert not await is_hit(wire)
        assert not await is_hit(wire, "/docs/other.mp4")


async def test_it_is_forgotten_for_everyone_and_in_every_variant(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    shelf(origin, ("Location", PAGE))
    everyone: list[Pairs] = [
        [],
        [("Accept-Language", "de")],
        [("Cookie", "session=alice")],
        [("Cookie", "session=bob")],
    ]
    async with adapter.wire() as wire:
        for fields in everyone:
            assert not await is_hit(wire, fields=fields)
        await settled(adapter, origin, len(everyone))
        for fields in everyone:
            assert await is_hit(wire, fields=fields)
        await send(wire, "PUT", fields=[("Cookie", "session=carol")])
        for fields in everyone:
            assert not await is_hit(wire, fields=fields)


NAMES_IT = [
    "page.mp4",
    "./page.mp4",
    "../docs/page.mp4",
    "../../../docs/page.mp4",
    "/x/../docs/page.mp4",
    f"//{HOST}{PAGE}",
    f"//{HOST}:80{PAGE}",
    f"//{HOST}:{PAGE}",
    f"//{HOST}.{PAGE}",
    f"http://{HOST}{PAGE}",
    f"HTTP://{HOST.upper()}:80{PAGE}#there",
    "/docs/%70age.mp4",
]
NAMES_ANOTHER = [
    "",
    "?",
    "?x",
    "page.mp4?",
    "page.mp4;",
    "/docs//page.mp4",
    "/docs/%2e%2e/docs/page.mp4",
    f"https://{HOST}{PAGE}",
    f"//{HOST}:81{PAGE}",
    f"http://{HOST}.evil.example{PAGE}",
    f"//user@{HOST}{PAGE}",
    f"http:{PAGE}",
    f"mailto:{PAGE}",
    f"http://[{PAGE}",
    "page .mp4",
    "p\u00e4ge.mp4",
    "http://",
    ":",
    "/" * 4000,
]


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("reference", "forgets"),
    [(each, True) for each in NAMES_IT] + [(each, False) for each in NAMES_ANOTHER],
)
async def test_whom_a_reference_names(
    adapter: Adapter, origin: ScriptedOrigin, name: str, reference: str, forgets: bool
) -> None:
    shelf(origin, (name, reference))
    async with adapter.wire() as wire:
        await wire.get(PAGE, Host=HOST)
        await settled(adapter, origin)
        await send(wire, "POST", "/docs/?form")
        assert await is_hit(wire) is not forgets


@pytest.mark.parametrize(
    ("reference", "forgotten"), [("?", "?"), ("?a=~", "?a=%7e"), ("", ""), (PAGE, "")], ids=repr
)
async def test_a_query_is_compared_to_the_character(
    adapter: Adapter, origin: ScriptedOrigin, reference: str, forgotten: str
) -> None:
    shelf(origin, ("Location", reference))
    queries = ["", "?", "?a=%7e"]
    async with adapter.wire() as wire:
        for query in queries:
            await wire.get(PAGE + query, Host=HOST)
        await settled(adapter, origin, len(queries))
        await send(wire, "POST", PAGE + "?a=%7E" if forgotten == "?a=%7e" else PAGE + forgotten)
        for query in queries:
            assert await is_hit(wire, PAGE + query) is (query != forgotten)


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
@pytest.mark.parametrize("method", METHODS)
async def test_a_failure_changes_nothing(
    adapter: Adapter, origin: ScriptedOrigin, method: str, status: int
) -> None:
    shelf(origin, ("Location", PAGE), ("Content-Location", PAGE), status=status)
    async with adapter.wire() as wire:
        await wire.get(PAGE, Host=HOST)
        await settled(adapter, origin)
        await send(wire, method)
        assert await is_hit(wire)


async def test_a_safe_method_changes_nothing(adapter: Adapter, origin: ScriptedOrigin) -> None:
    shelf(origin, ("Location", PAGE), ("Content-Location", PAGE), status=200)
    async with adapter.wire() as wire:
        await wire.get(PAGE, Host=HOST)
        await settled(adapter, origin)
        for method in ("OPTIONS", "PROPFIND", "SEARCH"):
            await send(wire, method)
            assert await is_hit(wire)


async def test_a_field_that_comes_twice_names_nothing(adapter: Adapter, origin: ScriptedOrigin) -> None:
    shelf(origin, ("Location", PAGE), ("Location", PAGE))
    async with adapter.wire() as wire:
        await wire.get(PAGE, Host=HOST)
        await settled(adapter, origin)
        await send(wire, "POST")
        assert await is_hit(wire)


async def test_another_hosts_copy_stays(adapter: Adapter, origin: ScriptedOrigin) -> None:
    shelf(origin, ("Location", PAGE))
    async with adapter.wire() as wire:
        for host in (HOST, "other.example"):
            await wire.get(PAGE, Host=host)
        await settled(adapter, origin, 2)
        await send(wire, "POST", host="other.example")
        assert await is_hit(wire)
        assert not await is_hit(wire, host="other.example")


@pytest.mark.parametrize("at", ["head", "body"])
async def test_what_is_being_fetched_is_for_nobody_new(
    adapter: Adapter, origin: ScriptedOrigin, at: str
) -> None:
    shelf(origin, ("Location", PAGE))
    gate = origin.gate(PAGE, None if at == "head" else 3)
    async with adapter.wire() as early, adapter.wire() as wire:
        await early.request("GET", PAGE, Host=HOST)
        await gate.reached()
        await send(wire, "POST")
        await wire.request("GET", PAGE, Host=HOST)
        await gate.reached(2)
        gate.open()
        for each in (early, wire):
            response = await each.response()
            assert (response.status, response.body) == (200, b"nobody")
            assert response.cache_status == "range-adapter;fwd=uri-miss;fwd-status=200;stored"
        await settled(adapter, origin)
        assert origin.count(PAGE) == 2


# --- Routes -------------------------------------------------------------------------------------------


async def test_a_get_of_it_may_take_another_route(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """And what it asks the origin for may be written otherwise."""
    routes = [
        {"name": "writes", "match": {"methods": ["POST"]}, "origin": "legacy", "mode": "passthrough"},
        {"name": "no", "match": {"path_prefix": "/no"}, "mode": "deny"},
        {
            "name": "films",
            "match": {"path_prefix": "/films"},
            "origin": "legacy",
            "rewrite": {"strip_prefix": "/films", "add_prefix": "/docs"},
            "cache": {"key": ["path"]},
        },
    ]
    adapter = await start_adapter(routes=routes)
    script = Shelf(("Location", "/films/page.mp4?x"), ("Content-Location", "/no/page.mp4"))
    for path in (PAGE, "/upload"):
        origin.on(path, script)
    async with adapter.wire() as wire:
        await wire.get("/films/page.mp4", Host=HOST)
        await settled(adapter, origin)
        await send(wire, "POST", "/upload")
        assert not await is_hit(wire, "/films/page.mp4")


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("own", [False, True])
async def test_the_origin_may_name_itself_where_both_sides_use_the_same_paths(
    start_adapter: StartAdapter, origin: ScriptedOrigin, rewritten: bool, own: bool
) -> None:
    rewrite = {"add_prefix": "/legacy"} if rewritten else {}
    adapter = await start_adapter(routes=[{"name": "all", "origin": "legacy", "rewrite": rewrite}])
    prefix = "/legacy" if rewritten else ""
    script = Shelf(("Location", (origin.url if own else "http://127.0.0.1:1") + PAGE))
    for path in (PAGE, "/docs/"):
        origin.on(prefix + path, script)
    async with adapter.wire() as wire:
        await wire.get(PAGE, Host=HOST)
        await settled(adapter, origin)
        await send(wire, "POST")
        assert await is_hit(wire) is not (own and not rewritten)


# --- Resolving ----------------------------------------------------------------------------------------


def request_for(target: str) -> ClientRequest:
    path, mark, query = target.partition("?")
    return ClientRequest(
        method="POST",
        target=target,
        path=path,
        query=query if mark else None,
        scheme="http",
        host="a.example",
        fields=CIMultiDict(),
        peer="::1",
        client="::1",
    )


_SEGMENTS = st.lists(st.sampled_from(["a", "b", ".", "..", "c%2F", "x=1,2", "..."]), max_size=5).map("/".join)


@given(
    base=_SEGMENTS.map(lambda path: re.sub(r"(?<![^/])\.\.?(?![^/])", "d", f"/{path}")),
    authority=st.sampled_from(["", "", "//b.example", "http://b.example", "https://a.example"]),
    path=st.tuples(st.sampled_from(["", "/"]), _SEGMENTS).map("".join),
    query=st.sampled_from(["", "?q", "?q=/../x?", "?q#f"]),
)
def test_it_resolves_as_the_standard_library_does(base: str, authority: str, path: str, query: str) -> None:
    """Which knows all of this, but drops a bare `?` and an empty parameter."""
    if authority and not path.startswith("/"):
        path = f"/{path}"
    resolved = _resolved(request_for(base), authority + path + query)
    site = urljoin(f"http://a.example{base}", authority)
    expected = urlsplit(urljoin(site, path + query))  # in two steps: of a whole URL it keeps the dots
    assert resolved is not None
    assert resolved == (f"{expected.scheme}://{expected.netloc}", expected.path, expected.query or None)


def test_nothing_is_named_by_what_is_no_reference() -> None:
    for text in ("a b", "\u00e9", "\udcff", "a\tb", "a\\\x7f"):
        assert _resolved(request_for("/"), text) is None
