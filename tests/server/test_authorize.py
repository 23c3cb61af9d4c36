"""`authorize: origin`: one copy for all whom the origin lets have it, and not a sign of it for the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Cut, Gate, Head, OriginRequest, Pause, Script, ScriptedOrigin
from tests.together import busy, settled, until, wires
from tests.wire import Response, Wire

FILM = bytes(range(256)) * 4096
PAGE = b"<form>Who are you?</form>"
STALE = {"Cache-Control": "max-age=60", "Age": "60"}
GUARDED = {"cache": {"authorize": "origin"}}

VALIDATORS: dict[str, dict[str, str]] = {
    "none": {},
    "etag": {"ETag": '"film"'},
    "weak": {"ETag": 'W/"film"'},
    "modified": {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
}


def page(status: int, body: bytes = PAGE, **fields: str) -> list[Head | Body]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return [Head(status, {"Content-Type": "text/html", "Content-Length": str(len(body))} | named), Body(body)]


DENIALS = {
    "401": page(401, WWW_Authenticate="Basic"),
    "403": page(403),
    "302": page(302, Location="/login"),
    "login": page(200, Set_Cookie="visitor=1"),
    "login with a tag": page(200, ETag='"login"'),
    "login of that type": page(200, Content_Type="video/mp4", Cache_Control="no-store"),
    "404": page(404),
}


@dataclass
class Guarded:
    """An origin's film, for who is `allowed`; the others get `denial`.  Gates stop one person's answers."""

    fields: dict[str, str]
    allowed: set[str] = field(default_factory=lambda: {"session=ann", "session=bob", "Bearer cy"})
    denial: Script = ()
    body: bytes = FILM
    at_head: dict[str, Gate] = field(default_factory=dict)
    in_body: dict[str, Gate] = field(default_factory=dict)
    heads: bool = True
    """Does it check a HEAD?"""

    def __call__(self, request: OriginRequest) -> Iterator[Head | Body | Chunk | Pause]:
        person = request.header("Cookie") or request.header("Authorization") or ""
        if person in self.at_head:
            yield Pause(self.at_head[person])
        if request.method == "HEAD" and not self.heads:
            yield Head(200, {"Content-Length": "0"})
            return
        if person not in self.allowed:
            for step in self.denial:
                if request.method != "HEAD" or isinstance(step, Head):
                    yield step  # type: ignore[misc]  # denials are heads and bodies
            return
        tag, modified = self.fields.get("ETag"), self.fields.get("Last-Modified")
        if (tag and request.header("If-None-Match") == tag) or (
            modified and request.header("If-Modified-Since") == modified
        ):
            yield Head(304, self.fields)
            return
        yield Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(self.body))} | self.fields)
        if request.method == "HEAD":
            return
        yield Body(self.body[:1000])
        if person in self.in_body:
            yield Pause(self.in_body[person])
        yield Body(self.body[1000:])


Person: TypeAlias = list[tuple[str, str]]
ANN: Person = [("Cookie", "session=ann")]
BOB = [("Cookie", "session=bob")]
CY = [("Authorization", "Bearer cy")]
EVE = [("Cookie", "session=eve")]
MAL = [("Authorization", "Bearer mal")]
NOBODY: Person = []


@pytest.fixture(params=[*VALIDATORS])
def film(request: pytest.FixtureRequest, origin: ScriptedOrigin) -> Guarded:
    guarded = Guarded(dict(VALIDATORS[request.param]), {"session=ann", "session=bob", "Bearer cy"})
    origin.on("/film", guarded)
    return guarded


@pytest.fixture
async def guarded(start_adapter: StartAdapter) -> Adapter:
    return await start_adapter(defaults=GUARDED)


@pytest.fixture
async def empty(start_adapter: StartAdapter, tmp_path: Path) -> Adapter:
    """Another adapter before the same origin, that never has anything."""
    return await start_adapter(defaults=GUARDED, spool={"path": str(tmp_path / "empty")})


def requests(tag: str) -> list[tuple[str, dict[str, str]]]:
    return [
        ("GET", {}),
        ("GET", {"Range": "bytes=10-19"}),
        ("GET", {"Range": "bytes=99999999-"}),
        ("GET", {"Range": "bytes=5-6,1-2"}),
        ("HEAD", {}),
        ("GET", {"If-None-Match": tag}),
        ("GET", {"If-None-Match": "*"}),
        ("GET", {"If-Match": tag}),
        ("GET", {"Range": "bytes=10-19", "If-Range": tag}),
        ("GET", {"Cache-Control": "only-if-cached"}),
        ("GET", {"Cache-Control": "no-cache"}),
        ("GET", {"Cache-Control": "no-store"}),
        ("GET", {"Cache-Control": "max-stale"}),
    ]


async def ask(wire: Wire, person: Person, method: str, fields: dict[str, str]) -> Response:
    await wire.request(method, "/film", [*person, *fields.items()])
    return await wire.response(to_head=method == "HEAD")


def told(response: Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that an answer tells, but for the time of the day."""
    fields = sorted((name, value) for name, value in response.fields.items() if name != "Date")
    return response.status, fields, response.body


# --- States ---------------------------------------------------------------------------------------


@asynccontextmanager
async def warm(adapter: Adapter, origin: ScriptedOrigin, film: Guarded) -> AsyncIterator[str]:
    async with adapter.wire() as wire:
        first = await ask(wire, ANN, "GET", {})
        assert (first.status, first.body) == (200, FILM)
        await settled(adapter, origin)
    yield first.fields["ETag"]


@asynccontextmanager
async def stale(adapter: Adapter, origin: ScriptedOrigin, film: Guarded) -> AsyncIterator[str]:
    film.fields = STALE | film.fields
    async with warm(adapter, origin, film) as tag:
        yield tag


@asynccontextmanager
async def filling(adapter: Adapter, origin: ScriptedOrigin, film: Guarded) -> AsyncIterator[str]:
    gate = film.in_body["session=ann"] = Gate()
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", ANN)
        tag = (await wire.response_head()).fields["ETag"]
        yield tag
        gate.open()
        assert await wire.body(len(FILM)) == FILM


@asynccontextmanager
async def before_the_head(adapter: Adapter, origin: ScriptedOrigin, film: Guarded) -> AsyncIterator[str]:
    gate = film.at_head["session=ann"] = Gate()
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", ANN)
        await gate.reached()
        yield film.fields.get("ETag", '"film"')
        gate.open()
        assert (await wire.response()).body == FILM


@asynccontextmanager
async def comparing(adapter: Adapter, origin: ScriptedOrigin, film: Guarded) -> AsyncIterator[str]:
    if film.fields:
        pytest.skip("what has a validator is not compared")
    async with stale(adapter, origin, film) as tag:
        del film.fields["Age"]
        async with filling(adapter, origin, film) as same:
            assert same == tag
            yield tag


@asynccontextmanager
async def cold(adapter: Adapter, origin: ScriptedOrigin, film: Guarded) -> AsyncIterator[str]:
    yield film.fields.get("ETag", '"film"')


State: TypeAlias = Callable[[Adapter, ScriptedOrigin, Guarded], AbstractAsyncContextManager[str]]
STATES: list[State] = [cold, warm, stale, filling, before_the_head, comparing]


# --- Who is denied --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("state", STATES)
async def test_a_denied_client_learns_nothing(
    start_adapter: StartAdapter,
    empty: Adapter,
    origin: ScriptedOrigin,
    film: Guarded,
    state: State,
    method: str,
) -> None:
    adapter = await start_adapter(defaults={"cache": {"authorize": {"method": method, "ttl": "1h"}}})
    async with state(adapter, origin, film) as tag, adapter.wire() as wire, empty.wire() as other:
        for (name, denial), person in product(DENIALS.items(), [EVE, MAL, NOBODY]):
            film.denial = denial
            for verb, fields in requests(tag):
                answer, expected = (
                    await ask(wire, person, verb, fields),
                    await ask(other, person, verb, fields),
                )
                assert told(answer) == told(expected), (name, verb, fields)
                if "only-if-cached" in fields.values():
                    assert answer.status == 504
                    continue
                assert "Age" not in answer.fields
                assert answer.fields.get("ETag") in {None, '"login"'}
                if answer.status != 206:
                    assert verb == "HEAD" or answer.body == PAGE or answer.status in {304, 412, 416}
                if name.startswith("login") and "type" not in name:
                    assert answer.status == 200
                    assert "Accept-Ranges" not in answer.fields
        assert adapter.service._cache.spool.usage()[1] == (state in {warm, stale, comparing})
    if state is not cold:
        async with adapter.wire() as wire:  # and all of that has changed nothing
            await settled(adapter, origin)
            assert (await ask(wire, BOB, "GET", {})).body == FILM
            assert adapter.service._cache.filled_bytes == len(FILM) * (
                2
                if state is comparing or (state is stale and not {"ETag", "Last-Modified"} & {*film.fields})
                else 1
            )


@pytest.mark.parametrize("state", [warm, stale, filling])
async def test_a_page_with_a_lifetime_does_not_take_the_place_of_what_is_fresh(
    guarded: Adapter, origin: ScriptedOrigin, film: Guarded, state: State
) -> None:
    film.denial = page(200, Content_Type="video/mp4", Cache_Control="max-age=600")
    async with state(guarded, origin, film) as tag, guarded.wire() as wire:
        for _ in range(2):
            answer = await ask(wire, EVE, "GET", {"Cache-Control": "no-cache", "If-None-Match": tag})
            assert (answer.status, answer.body) == (200, PAGE)
            assert answer.fields.get("ETag") != tag
            if state is not stale:
                assert "detail=origin-decided" in answer.cache_status
            assert (await ask(wire, BOB, "GET", {"Range": "bytes=7-9"})).body == FILM[7:10]
    if state is not stale:
        assert (await ask_alone(guarded, BOB)).fields["ETag"] == tag


async def ask_alone(adapter: Adapter, person: Person, **fields: str) -> Response:
    async with adapter.wire() as wire:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return await ask(wire, person, "GET", named)


# --- Who is allowed -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("state", [warm, stale, filling, comparing])
async def test_an_allowed_client_has_the_shared_bytes(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded, state: State, method: str
) -> None:
    adapter = await start_adapter(defaults={"cache": {"authorize": {"method": method}}})
    async with state(adapter, origin, film) as tag, adapter.wire() as wire:
        film.fields.pop("Age", None)
        for person in (BOB, CY, ANN if state in {warm, stale} else CY):
            part = await ask(wire, person, "GET", {"Range": "bytes=10-19"})
            assert (part.status, part.body) == (206, FILM[10:20])
            assert part.fields["ETag"] == tag
            if state in {warm, filling}:
                assert "fwd=request;fwd-status=" in part.cache_status
            part = await ask(wire, person, "GET", {"Range": "bytes=10-19", "If-Range": tag})
            assert (part.status, part.body) == (206 if not tag.startswith("W/") else 200, part.body)
            assert "hit" not in part.cache_status
            only = await ask(wire, person, "GET", {"Cache-Control": "only-if-cached"})
            assert only.status == 504
            if state is not comparing:  # there, they wait for the last byte
                beyond = await ask(wire, person, "GET", {"Range": "bytes=99999999-"})
                assert (beyond.status, beyond.fields["Content-Range"]) == (416, f"bytes */{len(FILM)}")
                head = await ask(wire, person, "HEAD", {})
                assert (head.status, head.fields["Content-Length"]) == (200, str(len(FILM)))
                same = await ask(wire, person, "GET", {"If-None-Match": tag})
                assert (same.status, same.fields["ETag"]) == (304, tag)
    async with adapter.wire() as wire:
        assert (await ask(wire, BOB, "GET", {})).body == FILM
    await settled(adapter, origin)
    compared = state is comparing or (state is stale and not {"ETag", "Last-Modified"} & {*film.fields})
    assert adapter.service._cache.filled_bytes == len(FILM) * (1 + compared)
    assert {request.method for request in origin.requests} <= {"GET", method}


async def test_each_request_asks_with_its_own_credentials(
    guarded: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    async with warm(guarded, origin, film):
        for number, person in enumerate((BOB, CY, ANN, BOB), start=2):
            assert (await ask_alone(guarded, person, Range="bytes=0-0")).status == 206
            assert origin.count("/film") == number
            request = origin.requests[-1]
            name, value = person[0]
            assert request.header(name) == value
            assert request.header("Range") is None
            assert request.header("If-None-Match") == film.fields.get("ETag")
            assert request.header("If-Modified-Since") == film.fields.get("Last-Modified")


async def test_who_has_lost_the_right_is_denied_at_once(
    guarded: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    async with warm(guarded, origin, film):
        film.allowed, film.denial = set(), page(403)
        assert (await ask_alone(guarded, ANN)).status == 403


async def test_many_at_once_are_one_fill(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    legacy = {"url": origin.url, "fills_per_client": 24}
    guarded = await start_adapter(defaults=GUARDED, origins={"legacy": legacy})
    people = [f"session={number}" for number in range(20)]
    gate = Gate()
    film.allowed = set(people)
    film.at_head = dict.fromkeys([*people, "session=eve"], gate)
    film.denial = page(403)
    async with wires(guarded, 21) as clients:
        for wire, person in zip(clients, [*people, "session=eve"], strict=True):
            await wire.request("GET", "/film", [("Cookie", person)])
        await gate.reached(21)  # nobody waits for another's head
        gate.open()
        *allowed, denied = await asyncio.gather(*(wire.response() for wire in clients))
    assert {response.body for response in allowed} == {FILM}
    assert len({response.fields["ETag"] for response in allowed}) == 1
    assert denied.status == 403
    assert guarded.service._cache.filled_bytes == len(FILM)


@pytest.mark.parametrize("person", [BOB, EVE], ids=["allowed", "denied"])
async def test_nobody_waits_for_anothers_head(
    guarded: Adapter, origin: ScriptedOrigin, film: Guarded, person: Person
) -> None:
    film.denial = page(403)
    async with before_the_head(guarded, origin, film):
        response = await ask_alone(guarded, person)
        assert (response.status, response.body) == ((200, FILM) if person is BOB else (403, PAGE))
    assert guarded.service._cache.filled_bytes == len(FILM)


async def test_questions_take_no_place_of_a_fill(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    """Of four connections, three are for fills: all of these are taken."""
    adapter = await start_adapter(
        defaults=GUARDED, origins={"legacy": {"url": origin.url, "max_connections": 4, "fills_per_client": 3}}
    )
    async with warm(adapter, origin, film), wires(adapter, 3) as busy_ones:
        for number, wire in enumerate(busy_ones):
            origin.serve(f"/other{number}", FILM)
            gate = origin.gate(f"/other{number}", at=1)
            await wire.request("GET", f"/other{number}")
            await gate.reached()
        assert (await ask_alone(adapter, BOB, Range="bytes=3-4")).body == FILM[3:5]


async def test_what_changes_while_it_is_stale_is_replaced(
    guarded: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    async with stale(guarded, origin, film):
        film.body = FILM[:5000]
        del film.fields["Age"]
        if "ETag" in film.fields:
            film.fields["ETag"] = '"other"'
        if "Last-Modified" in film.fields:
            film.fields["Last-Modified"] = "Tue, 02 Jan 2024 00:00:00 GMT"
        assert (await ask_alone(guarded, BOB)).body == FILM[:5000]
        await settled(guarded, origin)
        again = await ask_alone(guarded, CY, Range="bytes=4990-")
        assert (again.status, again.body) == (206, FILM[4990:5000])


async def test_a_cookie_for_one_client_is_for_that_client(guarded: Adapter, origin: ScriptedOrigin) -> None:
    def script(request: OriginRequest) -> Script:
        cookie = {"Set-Cookie": f"seen={request.header('Cookie')}", "ETag": '"film"'}
        if request.header("If-None-Match"):
            return [Head(304, cookie)]
        return [Head(200, {"Content-Type": "video/mp4", "Content-Length": "3"} | cookie), Body(b"abc")]

    origin.on("/film", script)
    for person in (ANN, BOB, ANN):
        response = await ask_alone(guarded, person)
        assert (response.body, response.fields.getall("Set-Cookie")) == (b"abc", [f"seen={person[0][1]}"])
    assert guarded.service._cache.filled_bytes == 3


async def test_without_length_and_validators_there_is_nothing_to_tell_by(
    guarded: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM, chunked=True)
    for number, person in enumerate((ANN, BOB), start=1):
        response = await ask_alone(guarded, person)
        assert response.body == FILM
        assert "hit" not in response.cache_status
        await settled(guarded, origin)
        assert origin.count("/film") == number
    assert guarded.service._cache.filled_bytes == len(FILM)


async def test_private_films_keep_their_ranges(guarded: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM, headers={"Cache-Control": "private"})
    response = await ask_alone(guarded, ANN, Range="bytes=5-9")
    assert (response.status, response.body) == (206, FILM[5:10])


# --- A HEAD as the question -----------------------------------------------------------------------


async def test_an_origin_that_is_wrong_about_head_is_asked_by_get(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    adapter = await start_adapter(defaults={"cache": {"authorize": {"method": "HEAD"}}})
    film.heads, film.denial = False, page(403)
    async with warm(adapter, origin, film):
        assert (await ask_alone(adapter, BOB, Range="bytes=3-4")).body == FILM[3:5]
        assert (await ask_alone(adapter, EVE)).status == 403
    assert [request.method for request in origin.requests] == ["GET", "HEAD", "GET", "HEAD", "GET"]


# --- The origin fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [cold, warm, stale])
@pytest.mark.parametrize("directives", ["max-age=60", "max-age=60, must-revalidate"])
@pytest.mark.parametrize("person", [ANN, EVE], ids=["allowed", "denied"])
@pytest.mark.parametrize("failure", [[Cut()], page(503)], ids=["cut", "503"])
async def test_an_origin_that_fails_cannot_say_yes(
    guarded: Adapter,
    empty: Adapter,
    origin: ScriptedOrigin,
    film: Guarded,
    state: State,
    person: Person,
    failure: Script,
    directives: str,
) -> None:
    film.fields["Cache-Control"] = directives
    async with state(guarded, origin, film) as tag:
        origin.on("/film", failure)
        for fields in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": tag}):
            async with guarded.wire() as wire, empty.wire() as other:
                answer = await ask(wire, person, "GET", fields)
                assert told(answer) == told(await ask(other, person, "GET", fields))
                assert answer.status == (502 if failure == [Cut()] else 503)


async def test_stale_while_revalidate_waits_for_a_yes(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    cache = {"authorize": "origin", "stale_while_revalidate": "1h"}
    adapter = await start_adapter(defaults={"cache": cache})
    film.denial = page(403)
    async with stale(adapter, origin, film):
        assert (await ask_alone(adapter, EVE)).status == 403
        assert "stale-while-revalidate" not in (await ask_alone(adapter, BOB)).cache_status


# --- A yes that is remembered ---------------------------------------------------------------------


@pytest.fixture
async def trusting(start_adapter: StartAdapter) -> Adapter:
    return await start_adapter(defaults={"cache": {"authorize": {"ttl": "1h"}}})


async def test_a_yes_is_remembered_for_its_credentials(
    trusting: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    film.denial = page(403)
    async with warm(trusting, origin, film):
        hit = await ask_alone(trusting, ANN, Range="bytes=1-2")
        assert (hit.status, hit.body) == (206, FILM[1:3])
        assert "hit" in hit.cache_status
        assert (await ask_alone(trusting, ANN, Cache_Control="only-if-cached")).status == 200
        assert origin.count("/film") == 1
        for number in (2, 2):
            assert (await ask_alone(trusting, BOB)).status == 200
            assert origin.count("/film") == number
        for number in (3, 4):  # a no is not
            assert (await ask_alone(trusting, EVE)).status == 403
            assert (await ask_alone(trusting, EVE, Cache_Control="only-if-cached")).status == 504
            assert origin.count("/film") == number


async def test_a_no_ends_an_earlier_yes(trusting: Adapter, origin: ScriptedOrigin, film: Guarded) -> None:
    film.denial = page(403)
    async with warm(trusting, origin, film):
        film.allowed = set()
        assert (await ask_alone(trusting, ANN)).status == 200
        assert (await ask_alone(trusting, ANN, Cache_Control="no-cache")).status == 403
        assert (await ask_alone(trusting, ANN)).status == 403


async def test_a_remembered_yes_is_enough_where_the_origin_fails(
    trusting: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    async with stale(trusting, origin, film):
        origin.on("/film", [Cut()])
        answer = await ask_alone(trusting, ANN)
        assert (answer.status, answer.body) == (200, FILM)
        assert "detail=stale-if-error" in answer.cache_status
        assert (await ask_alone(trusting, BOB)).status == 502


@pytest.mark.parametrize(
    ("method", "path", "person", "asked"),
    [
        ("POST", "/logout", ANN, True),
        ("POST", "/logout", BOB, False),
        ("GET", "/logout", ANN, False),
    ],
)
async def test_an_unsafe_request_ends_the_yes_to_its_credentials(
    trusting: Adapter,
    origin: ScriptedOrigin,
    film: Guarded,
    method: str,
    path: str,
    person: Person,
    asked: bool,
) -> None:
    origin.on("/logout", [Head(204)])
    async with warm(trusting, origin, film), trusting.wire() as wire:
        await wire.request(method, path, person)
        assert (await wire.response()).status == 204
        film.allowed, film.denial = set(), page(403)
        assert (await ask_alone(trusting, ANN)).status == (403 if asked else 200)


async def test_a_yes_from_before_an_unsafe_request_is_not_remembered(
    trusting: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    origin.on("/logout", [Head(204)])
    async with warm(trusting, origin, film), trusting.wire() as hers, trusting.wire() as wire:
        gate = film.at_head["session=bob"] = Gate()
        await hers.request("GET", "/film", BOB, Range="bytes=0-0")
        await gate.reached()
        await wire.request("POST", "/logout", BOB)
        assert (await wire.response()).status == 204
        gate.open()
        assert (await hers.response()).status == 206
        film.allowed, film.denial = set(), page(403)
        assert (await ask_alone(trusting, BOB)).status == 403


async def test_a_yes_is_to_one_generation(trusting: Adapter, origin: ScriptedOrigin, film: Guarded) -> None:
    async with warm(trusting, origin, film), trusting.wire() as wire:
        origin.once("/film", [Head(204)])
        await wire.request("POST", "/film", BOB)
        assert (await wire.response()).status == 204
        film.allowed.remove("session=ann")
        film.denial = page(403)
        assert (await ask_alone(trusting, BOB)).body == FILM
        await settled(trusting, origin)
        assert (await ask_alone(trusting, ANN)).status == 403


async def test_a_signature_is_not_covered_by_the_yes_to_another(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    cache = {"authorize": {"ttl": "1h"}, "key": ["host", "path"]}
    adapter = await start_adapter(defaults={"cache": cache})
    origin.serve("/film?sign=good", FILM)
    origin.on("/film?sign=bad", page(403))
    async with adapter.wire() as wire:
        assert (await wire.get("/film?sign=good")).status == 200
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/film?sign=good")).cache_status
        assert (await wire.get("/film?sign=bad")).status == 403


# --- Beside other routes --------------------------------------------------------------------------


async def test_no_other_route_finds_what_is_guarded(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    film.denial = page(403)
    routes = [
        {"name": "guarded", "match": {"path_prefix": "/in"}, "rewrite": {"strip_prefix": "/in"}, **GUARDED},
        {"name": "open"},
    ]
    adapter = await start_adapter(routes=routes)
    async with adapter.wire() as wire:
        assert (await wire.get("/in/film", ANN)).body == FILM
        await settled(adapter, origin)
        assert (await wire.get("/film")).status == 403


async def test_nor_this_one_once_it_is_open(
    start_adapter: StartAdapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    film.denial = page(403)
    adapter = await start_adapter(defaults=GUARDED)
    async with warm(adapter, origin, film):
        await adapter.service.stop()
    adapter = await start_adapter()
    assert (await ask_alone(adapter, NOBODY)).status == 403


async def test_a_client_that_leaves_takes_its_question_along(
    guarded: Adapter, origin: ScriptedOrigin, film: Guarded
) -> None:
    film.denial = page(403)
    gate = film.at_head["session=eve"] = Gate()
    async with warm(guarded, origin, film):
        async with guarded.wire() as wire:
            await wire.request("GET", "/film", EVE)
            await gate.reached()
        await busy(guarded, 0)
        gate.open()
        await until(lambda: guarded.service._cache.idle)
        await origin.idle()
