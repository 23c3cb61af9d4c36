"""What tells two objects apart, on the wire: that it is config, and that nothing else selects an answer."""

import gzip
from collections.abc import Iterable
from typing import Any

import pytest

from proxy.spool.entry import Entry
from proxy.spool.index import MAX_VARIANTS, Index
from tests.conftest import StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import settled

FRESH = {"Content-Type": "text/plain", "Cache-Control": "max-age=60"}


class Telling:
    """An origin whose answer tells what it was asked: `of` is `target` or the name of a field."""

    def __init__(self, of: str = "target", **fields: str) -> None:
        self.of = of
        self.fields = FRESH | fields

    def __call__(self, request: OriginRequest) -> Script:
        asked = request.target.decode() if self.of == "target" else str(request.header(self.of))
        body = asked.encode()
        return [Head(200, {**self.fields, "Content-Length": str(len(body))}), Body(body)]


def cache(**keys: Any) -> dict[str, Any]:
    return {"defaults": {"cache": keys}}


def telling(
    origin: ScriptedOrigin, of: str = "target", *, at: Iterable[str] = ("/a",), **fields: str
) -> None:
    for target in at:
        origin.on(target.partition("?")[0], Telling(of, **fields))


def targets(origin: ScriptedOrigin) -> list[str]:
    return [request.target.decode() for request in origin.requests]


# --- Parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "asked", "fetched"),
    [
        ({"drop": ["utm_*"]}, ["/a?id=1&utm_x=1", "/a?utm_y=2&id=1", "/a?id=1", "/a?i%64=%31"], ["/a?id=1"]),
        ({"drop": ["utm_*"]}, ["/a?%75tm_x=1", "/a", "/a?utm_x&utm_y="], ["/a"]),
        ({"keep": ["id"]}, ["/a?x&id=2&y", "/a?id=2", "/a?&&id=2&"], ["/a?id=2"]),
        ({"keep": ["id"]}, ["/a?x=1", "/a", "/a?"], ["/a"]),
        ({"sort": True}, ["/a?b=1&a=2&a=1", "/a?a=2&b=1&a=1"], ["/a?a=2&a=1&b=1"]),
        ({"sort": True}, ["/a?a=2&a=1", "/a?a=1&a=2"], ["/a?a=2&a=1", "/a?a=1&a=2"]),
        ({"drop": ["x"]}, ["/a?x=1;id=1", "/a?id=1;x=1", "/a?id=1"], ["/a", "/a?id=1;x=1", "/a?id=1"]),
        ({}, ["/a?b=1&a=2", "/a?a=2&b=1", "/a?", "/a"], ["/a?b=1&a=2", "/a?a=2&b=1", "/a?", "/a"]),
    ],
)
async def test_parameters_that_do_not_matter_reach_no_origin(
    start_adapter: StartAdapter,
    origin: ScriptedOrigin,
    query: dict[str, Any],
    asked: list[str],
    fetched: list[str],
) -> None:
    telling(origin)
    adapter = await start_adapter(**cache(query=query))
    async with adapter.wire() as wire:
        for target in asked:
            body = (await wire.get(target)).body.decode()
            assert body in fetched
            assert (await wire.get(target, Range="bytes=0-1")).body.decode() == body[:2]
    assert targets(origin) == fetched


async def test_relayed_requests_keep_their_target(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    telling(origin, at=["/raw", "/a"])
    adapter = await start_adapter(
        **cache(query={"keep": [], "sort": True}),
        routes=[{"match": {"path_prefix": "/raw"}, "mode": "passthrough"}, {}],
    )
    asked = ["/raw?b=%7e&&a;?", "/a?b=1&a=2&"]
    async with adapter.wire() as wire:
        assert (await wire.get(asked[0])).body.decode() == asked[0]
        await wire.request("POST", asked[1], body=b"x")
        assert (await wire.response()).body.decode() == asked[1]
    assert targets(origin) == asked


async def test_an_unsafe_request_is_about_the_object_whatever_its_parameters_are_called(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    telling(origin)
    adapter = await start_adapter(**cache(query={"drop": ["utm_*"]}, key_fields=["X-Tenant"]))
    async with adapter.wire() as wire:
        for tenant in ("a", "b"):
            await wire.get("/a?id=1", X_Tenant=tenant)
        await settled(adapter, origin, 2)
        await wire.request("POST", "/a?utm_x=1&id=1", body=b"x")
        await wire.response()
        for tenant in ("a", "b"):
            response = await wire.get("/a?id=1", X_Tenant=tenant)
            assert "fwd=" in response.cache_status


async def test_a_query_that_is_not_in_the_key_goes_to_the_origin_all_the_same(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    telling(origin)
    adapter = await start_adapter(**cache(key=["host", "path"]))
    async with adapter.wire() as wire:
        for target in ("/a?signature=1", "/a?signature=2", "/a"):
            assert (await wire.get(target)).body == b"/a?signature=1"
    assert targets(origin) == ["/a?signature=1"]


# --- Spellings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spellings",
    [
        ["/a~b", "/a%7Eb", "/a%7eb", "/%61~b"],
        ["/a%2fb?c=%c3%a4", "/a%2Fb?c=%C3%A4", "/a%2Fb?%63=%c3%A4"],
        ["/", "http://h", "http://H:80/", "http://h.:/"],
    ],
)
async def test_another_spelling_is_no_other_object(
    start_adapter: StartAdapter, origin: ScriptedOrigin, spellings: list[str]
) -> None:
    telling(origin, at=spellings)
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        bodies = {(await wire.get(target, Host="h")).body.decode() for target in spellings}
    assert bodies == {spellings[0]}, "the origin is asked as the first client spelled it"
    assert targets(origin) == spellings[:1]


async def test_what_may_differ_is_another_object(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    different = ["/a", "/a/", "/a//", "//a", "/A", "/a?", "/a?b+c", "/a?b%20c", "/a%2F", "/%2561"]
    telling(origin, at=different)
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        for target in [*different, *different]:
            assert (await wire.get(target)).body.decode() == target
    assert targets(origin) == different


async def test_the_origin_hears_the_host_as_it_stands_in_the_key(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """It may build links of it, or not know the host in another spelling: that would be stored for everybody."""
    telling(origin, "Host")
    legacy = {"legacy": {"url": origin.url, "host": "preserve"}}
    adapter = await start_adapter(origins=legacy)
    async with adapter.wire() as wire:
        for host in ("Example.com.:80", "example.com", "EXAMPLE.com:", "example.com:80"):
            assert (await wire.get("/a", Host=host)).body == b"example.com"
        assert (await wire.get("/a", Host="example.com:8080")).body == b"example.com:8080"
    first = origin.requests[0]
    assert first.header("X-Forwarded-Host") == "example.com"
    assert "host=example.com;" in str(first.header("Forwarded"))
    assert len(origin.requests) == 2


async def test_a_variant_by_host_has_no_spellings(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    telling(origin, "Host", Vary="Host")
    adapter = await start_adapter(origins={"legacy": {"url": origin.url, "host": "preserve"}})
    async with adapter.wire() as wire:
        for host in ("h:80", "H", "h."):
            assert (await wire.get("/a", Host=host)).body == b"h"
    assert len(origin.requests) == 1


# --- Fields of the request ------------------------------------------------------------------------


async def test_key_fields_tell_objects_apart(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    telling(origin, "X-Tenant")
    adapter = await start_adapter(**cache(key_fields=["X-Tenant"]))
    async with adapter.wire() as wire:
        for _ in range(2):
            assert (await wire.get("/a", X_Tenant="red")).body == b"red"
            assert (await wire.get("/a", [("x-tenant", " blue\t")], Range="bytes=1-2")).body == b"lu"
            assert (await wire.get("/a", X_Tenant="")).body == b""
            assert (await wire.get("/a")).body == b"None"
            assert (await wire.get("/a", X_Tenant="no", Connection="X-Tenant")).body == b"None"
    assert len(origin.requests) == 4


async def test_a_spelling_with_underscores_spoils_no_other_answer(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """A CGI origin cannot tell the two fields apart; whose answer it was must not be stored for the others."""

    def cgi(request: OriginRequest) -> Script:
        body = (request.header("X_Tenant") or str(request.header("X-Tenant"))).encode()
        return [Head(200, {**FRESH, "Content-Length": str(len(body))}), Body(body)]

    origin.on("/a", cgi)
    adapter = await start_adapter(**cache(key_fields=["X-Tenant"]))
    async with adapter.wire() as wire:
        sneaky = [("X-Tenant", "red"), ("X_Tenant", "evil")]
        assert (await wire.get("/a", sneaky)).body == b"evil"
        assert (await wire.get("/a", X_Tenant="red")).body == b"red"
        assert (await wire.get("/a", [("X_Tenant", "evil")])).body == b"evil"
        assert (await wire.get("/a")).body == b"None"


async def test_no_spelling_of_accept_encoding_selects_a_coding_unseen(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    telling(origin, "Accept_Encoding")
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        assert (await wire.get("/a", [("Accept_Encoding", "br")])).body == b"None"
    assert origin.requests[0].values("Accept-Encoding") == ["identity"]


async def test_fields_that_are_not_in_the_key_select_nothing(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    telling(origin, "X-Tenant")
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        assert (await wire.get("/a", X_Tenant="red")).body == (await wire.get("/a", X_Tenant="blue")).body
    assert len(origin.requests) == 1


# --- Floods ---------------------------------------------------------------------------------------


async def test_a_flood_of_user_agents_keeps_few_variants(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[bytes] = []
    lookup = Index.lookup

    def counted(index: Index, key: bytes) -> tuple[Entry, ...]:
        looked_up.append(key)
        found = lookup(index, key)
        assert len(found) <= MAX_VARIANTS
        return found

    monkeypatch.setattr(Index, "lookup", counted)
    telling(origin, "User-Agent", Vary="User-Agent")
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        for number in range(500):
            agent = f"flood/{number} ({'x' * (number * 5)})"
            assert (await wire.get("/a", User_Agent=agent)).body == agent.encode()
        await settled(adapter, origin, MAX_VARIANTS)
        fetched = len(origin.requests)
        assert (await wire.get("/a", User_Agent="ordinary")).body == b"ordinary"
        await settled(adapter, origin, MAX_VARIANTS)
        looked_up.clear()
        for _ in range(20):
            assert (await wire.get("/a", User_Agent="ordinary")).body == b"ordinary"
        assert len(origin.requests) == fetched + 1
        assert len(looked_up) <= 1, "one lookup finds all variants, and is remembered"


async def test_a_flood_of_codings_makes_eight_variants(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    def coding(request: OriginRequest) -> Script:
        asked = str(request.header("Accept-Encoding"))
        body = gzip.compress(asked.encode(), mtime=0)
        fields = {**FRESH, "Vary": "Accept-Encoding", "Content-Encoding": "gzip"}
        return [Head(200, {**fields, "Content-Length": str(len(body))}), Body(body)]

    origin.on("/a", coding)
    adapter = await start_adapter()
    names = ("br", "gzip", "zstd")
    async with adapter.wire() as wire:
        for number in range(400):
            wanted = [name for bit, name in enumerate(names) if number >> bit & 1]
            odd = [
                f"x-{number}",
                f"deflate;q=0.{number % 1000:03}",
                f"GZIP;q=0;x={number}",
                "*",
                ";q=1",
                ",,",
            ]
            members = [f"{name.upper()} ; q=0.{1 + number % 9}" for name in wanted] + odd
            members = members[number % 5 :] + members[: number % 5]
            response = await wire.get("/a", Accept_Encoding=",".join(members))
            assert gzip.decompress(response.body).decode() == (", ".join(wanted) or "identity")
        assert len(origin.requests) == 8
        await settled(adapter, origin, 8)
