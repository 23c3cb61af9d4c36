"""Who may have what: no answer for one credential goes to another, by any road (RFC 9111 section 3.5, and ours)."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Gate, Head, OriginRequest, Pause, Script, ScriptedOrigin
from tests.together import busy, settled, stored, wires
from tests.wire import Response

SIZE = 5_000


@dataclass(frozen=True)
class Person:
    name: str
    field: str

    @property
    def headers(self) -> list[tuple[str, str]]:
        if self.field == "none":
            return []
        value = f"session={self.name}" if self.field == "Cookie" else f"Bearer {self.name}"
        return [(self.field, value)]

    @property
    def body(self) -> bytes:
        return body_for(self.name)

    @property
    def tag(self) -> str:
        return f'"for-{self.name}"'


def body_for(name: str) -> bytes:
    return (f"for {name}; ".encode() * SIZE)[:SIZE]


def who(request: OriginRequest) -> str:
    for value in (request.header("Cookie"), request.header("Authorization")):
        if value:
            return value.replace("Bearer ", "").rpartition("session=")[2]
    return "nobody"


class Personal:
    """An origin's page that differs for everyone; gates stop one person, at the head or after 1000 bytes."""

    def __init__(self, **fields: str) -> None:
        self.fields = {"Content-Type": "video/mp4"} | {
            name.replace("_", "-"): value for name, value in fields.items()
        }
        self.at_head: dict[str, Gate] = {}
        self.in_body: dict[str, Gate] = {}

    def __call__(self, request: OriginRequest) -> Script:
        steps = self.steps(who(request))
        if request.method == "HEAD":  # bytes behind its answer might be taken for the next one
            return [step for step in steps if not isinstance(step, Body)]
        return steps

    def steps(self, name: str) -> Iterator[Head | Body | Pause]:
        data = body_for(name)
        if name in self.at_head:
            yield Pause(self.at_head[name])
        yield Head(200, {**self.fields, "Content-Length": str(SIZE), "ETag": f'"for-{name}"', "X-For": name})
        yield Body(data[:1000])
        if name in self.in_body:
            yield Pause(self.in_body[name])
        yield Body(data[1000:])


@pytest.fixture(params=["Cookie", "Authorization"])
def alice(request: pytest.FixtureRequest) -> Person:
    return Person("alice", request.param)


@pytest.fixture(params=["Cookie", "Authorization", "none"])
def bob(request: pytest.FixtureRequest) -> Person:
    return Person("nobody" if request.param == "none" else "bob", request.param)


PRIVATE_ANSWERS = [
    {},
    {"Cache_Control": "private"},
    {"Cache_Control": "private, max-age=600"},
    {"Cache_Control": "no-store"},
    {"Cache_Control": "no-cache"},
    {"Cache_Control": "max-age=0"},
    {"Set_Cookie": "visitor=1"},
    {"Content_Type": "text/html"},
    {"Vary": "*", "Cache_Control": "max-age=600"},
    {"Vary": "Cookie, Authorization", "Cache_Control": "max-age=600, s-maxage=600"},
]


@pytest.fixture(params=PRIVATE_ANSWERS, ids=lambda fields: ",".join(fields.values()) or "silent")
def personal(request: pytest.FixtureRequest, origin: ScriptedOrigin) -> Personal:
    script = Personal(**request.param)
    origin.on("/mine", script)
    return script


async def test_nothing_is_kept_for_signatures_that_are_made_for_one_request(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", bytes(SIZE))
    async with adapter.wire() as wire:
        for count in range(3):
            digest = [("Authorization", f'Digest username="ann", nc=0000000{count}')]
            response = await wire.get("/film.mp4", digest, Range="bytes=0-9")
            assert (response.status, len(response.body)) == (206, 10)
            assert "detail=credentials" in response.cache_status
    await settled(adapter, origin, objects=0)


def belongs_to(response: Response, person: Person, body: bytes | None = None) -> None:
    assert response.status in {200, 206}
    assert response.fields["X-For"] == person.name
    assert response.fields["ETag"] == person.tag
    assert response.body == (person.body if body is None else body)


async def test_one_after_the_other(adapter: Adapter, personal: Personal, alice: Person, bob: Person) -> None:
    for person in (alice, bob, alice, bob):
        async with adapter.wire() as wire:
            belongs_to(await wire.get("/mine", person.headers), person)
            belongs_to(
                await wire.get("/mine", person.headers, Range="bytes=10-19"), person, person.body[10:20]
            )
            head = await wire.head("/mine", person.headers)
            belongs_to(head, person, b"")
            assert head.fields["Content-Length"] == str(SIZE)


async def test_during_another_ones_fill(
    adapter: Adapter, personal: Personal, alice: Person, bob: Person
) -> None:
    gate = personal.in_body["alice"] = Gate()
    async with adapter.wire() as hers, adapter.wire() as his:
        await hers.request("GET", "/mine", alice.headers)
        await gate.reached()
        belongs_to(await his.get("/mine", bob.headers), bob)
        belongs_to(await his.get("/mine", bob.headers, Range="bytes=0-9"), bob, bob.body[:10])
        belongs_to(await his.head("/mine", bob.headers), bob, b"")
        gate.open()
        belongs_to(await hers.response(), alice)


async def test_while_anothers_head_is_pending(
    adapter: Adapter, personal: Personal, alice: Person, bob: Person
) -> None:
    gate = personal.at_head["alice"] = Gate()
    async with adapter.wire() as hers, adapter.wire() as his:
        await hers.request("GET", "/mine", alice.headers)
        await gate.reached()
        await his.request("GET", "/mine", bob.headers)
        gate.open()
        response = await his.response()
        belongs_to(response, bob)
        assert "collapsed" not in response.cache_status
        belongs_to(await hers.response(), alice)


async def test_conditions_that_name_anothers_tag(
    adapter: Adapter, personal: Personal, alice: Person, bob: Person
) -> None:
    async with adapter.wire() as wire:
        await wire.get("/mine", alice.headers)
        belongs_to(await wire.get("/mine", bob.headers, If_None_Match=alice.tag), bob)
        belongs_to(await wire.get("/mine", bob.headers, Range="bytes=0-9", If_Range=alice.tag), bob)
        denied = await wire.get("/mine", bob.headers, If_Match=alice.tag)
        assert denied.status == 412
        assert denied.fields.get("ETag") in {None, bob.tag}
        own = await wire.get("/mine", bob.headers, If_None_Match=bob.tag)
        assert own.status == 304
        assert own.fields["X-For"] == bob.name


async def test_only_if_cached_tells_nothing(
    adapter: Adapter, personal: Personal, alice: Person, bob: Person
) -> None:
    async with adapter.wire() as wire:
        never_asked = await wire.get("/other", bob.headers, Cache_Control="only-if-cached")
        await wire.get("/mine", alice.headers)
        response = await wire.get("/mine", bob.headers, Cache_Control="only-if-cached")
        assert response.status == never_asked.status == 504
        assert response.body == never_asked.body
        assert response.cache_status == never_asked.cache_status


# --- Who waits for whom ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 200])
@pytest.mark.parametrize("cache_control", ["public", "max-age=60", "public, s-maxage=60"])
async def test_a_cold_public_object_is_fetched_once_for_all_cookies(
    adapter: Adapter, origin: ScriptedOrigin, count: int, cache_control: str
) -> None:
    body = bytes(range(256)) * 20
    origin.serve("/mine", body, headers={"Cache-Control": cache_control})
    gate = origin.gate("/mine", None)
    async with wires(adapter, count) as clients:
        for number, wire in enumerate(clients):
            await wire.request("GET", "/mine", Cookie=f"session={number}")
        await busy(adapter, count)
        gate.open()
        responses = await asyncio.gather(*(wire.response() for wire in clients))
        assert {response.body for response in responses} == {body}
        assert origin.count("/mine") == 1


@pytest.mark.parametrize("fields", [{}, {"Cache_Control": "private"}, {"Set_Cookie": "a=1"}], ids=str)
@pytest.mark.parametrize("count", [10, 200])
async def test_a_cold_private_object_is_fetched_once_for_each(
    adapter: Adapter, origin: ScriptedOrigin, fields: dict[str, str], count: int
) -> None:
    """Nobody waits for another's body, and for another's head at most once: then all go at the same time."""
    people = [Person(str(number), "Cookie") for number in range(count)]
    personal = Personal(**fields)
    origin.on("/mine", personal)
    first, rest = Gate(), Gate()
    for person in people:
        personal.at_head[person.name] = rest
    personal.at_head["0"] = first
    async with wires(adapter, count) as clients:
        await clients[0].request("GET", "/mine", people[0].headers)
        await first.reached()
        for wire, person in zip(clients[1:], people[1:], strict=True):
            await wire.request("GET", "/mine", person.headers)
        await busy(adapter, count)
        assert origin.count("/mine") == 1
        first.open()
        at_once = min(count - 1, 16)  # what one client may have of 32 connections
        await rest.reached(at_once)
        rest.open()
        for response, person in zip(
            await asyncio.gather(*(wire.response() for wire in clients)), people, strict=True
        ):
            belongs_to(response, person)
        assert origin.count("/mine") == count


async def test_once_an_answer_was_personal_nobody_waits_any_more(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    for path, fields in (("/partition", {}), ("/private", {"Cache_Control": "private"})):
        personal = Personal(**fields)
        origin.on(path, personal)
        async with adapter.wire() as wire, adapter.wire() as slow:
            await wire.get(path, Cookie="session=first")
            gate = personal.at_head["alice"] = Gate()
            await slow.request("GET", path, Cookie="session=alice")
            await gate.reached()
            assert (await wire.get(path, Cookie="session=bob")).body == body_for("bob")
            gate.open()
            assert (await slow.response()).body == body_for("alice")


async def test_one_persons_requests_share_one_fetch(adapter: Adapter, origin: ScriptedOrigin) -> None:
    personal = Personal()
    origin.on("/mine", personal)
    gate = personal.at_head["alice"] = personal.at_head["bob"] = Gate()
    people = [Person(name, "Cookie") for name in ("alice", "bob") * 10]
    async with wires(adapter, len(people)) as clients:
        for wire, person in zip(clients, people, strict=True):
            await wire.request("GET", "/mine", person.headers)
        await busy(adapter, len(people))
        gate.open()
        for wire, person in zip(clients, people, strict=True):
            belongs_to(await wire.response(), person)
        assert origin.count("/mine") == 2


@pytest.mark.parametrize("stored_before", [False, True])
@pytest.mark.parametrize(
    ("cache_control", "field"),
    [
        ("max-age=0, must-revalidate", "Authorization"),
        ("no-cache, s-maxage=0", "Authorization"),
        ("public, no-cache", "Cookie"),
        ("public, max-age=0", "Cookie"),
    ],
)
@pytest.mark.parametrize("other", ["nobody", "bob"])
async def test_what_the_origin_wants_to_be_asked_about_is_granted_to_one(
    adapter: Adapter, origin: ScriptedOrigin, cache_control: str, field: str, other: str, stored_before: bool
) -> None:
    """Whoever waits for another's head, or for the 304 to it, has not been let in yet."""
    alice, bob = Person("alice", field), Person(other, field if other == "bob" else "none")
    gate = Gate()
    if stored_before:
        gate.open()

    def answer(request: OriginRequest) -> Script:
        if who(request) != "alice":
            return [Head(403, {"Content-Length": "2"}), Body(b"no")]
        if request.header("If-None-Match"):
            return [Pause(gate), Head(304, {"ETag": '"1"'})]
        fields = {"Content-Type": "video/mp4", "Content-Length": "6", "ETag": '"1"'}
        return [Pause(gate), Head(200, {**fields, "Cache-Control": cache_control}), Body(b"secret")]

    origin.on("/mine", answer)
    async with adapter.wire() as hers, adapter.wire() as his:
        if stored_before:
            assert (await hers.get("/mine", alice.headers)).body == b"secret"
            await settled(adapter, origin)
            gate = Gate()
        await hers.request("GET", "/mine", alice.headers)
        await gate.reached()
        await his.request("GET", "/mine", bob.headers)
        await busy(adapter, 2)
        gate.open()
        assert (await hers.response()).body == b"secret"
        assert (await his.response()).status == 403


# --- What is for all ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cache_control", "field", "shared"),
    [
        ("max-age=60", "Cookie", True),
        ("public", "Cookie", True),
        ("max-age=60", "Authorization", False),
        ("max-age=60, must-revalidate", "Authorization", True),
        ("must-revalidate", "Authorization", False),
        ("s-maxage=60", "Authorization", True),
        ("public", "Authorization", True),
        ("", "Cookie", False),
        ("", "Authorization", False),
        ("no-cache", "Cookie", False),
    ],
)
async def test_what_credentials_share(
    adapter: Adapter, origin: ScriptedOrigin, cache_control: str, field: str, shared: bool
) -> None:
    origin.serve("/v.mp4", b"x" * 100, headers={"Cache-Control": cache_control} if cache_control else {})
    async with adapter.wire() as wire:
        for person in (Person("alice", field), Person("bob", field), Person("nobody", "none")):
            assert (await wire.get("/v.mp4", person.headers)).status == 200
    assert origin.count("/v.mp4") == (1 if shared else 3)


@pytest.mark.parametrize("field", ["Cookie", "Authorization"])
async def test_what_was_fetched_for_nobody_is_not_for_somebody_unless_it_says_so(
    adapter: Adapter, origin: ScriptedOrigin, field: str
) -> None:
    origin.on("/mine", Personal())
    async with adapter.wire() as wire:
        for person in (Person("nobody", "none"), Person("alice", field), Person("nobody", "none")):
            belongs_to(await wire.get("/mine", person.headers), person)
    assert origin.count("/mine") == 2


async def test_cookies_of_analytics_separate_nobody(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/v.mp4", b"x" * 100)
    async with adapter.wire() as wire:
        for cookie in ("_ga=GA1.2.3", "_ga=other; _gid=9", "_fbp=fb.1"):
            assert (await wire.get("/v.mp4", Cookie=cookie)).status == 200
        assert (await wire.get("/v.mp4")).cache_status.startswith("range-adapter;hit")
        assert origin.count("/v.mp4") == 1
        await wire.get("/v.mp4", Cookie="_ga=1; session=2")
    assert origin.count("/v.mp4") == 2


async def test_the_order_of_cookies_separates_nobody(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/v.mp4", b"x" * 100)
    async with adapter.wire() as wire:
        await wire.get("/v.mp4", Cookie="a=1; b=2")
        assert "hit" in (await wire.get("/v.mp4", Cookie="b=2; a=1; _ga=5")).cache_status
        assert "hit" not in (await wire.get("/v.mp4", Cookie="b=1; a=2")).cache_status


async def test_a_route_may_share_everything(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"cache": {"shared": True}})
    origin.serve("/v.mp4", b"x" * 100, headers={"Set-Cookie": "visitor=7"})
    async with adapter.wire() as wire:
        assert (await wire.get("/v.mp4")).fields["Set-Cookie"] == "visitor=7", "its own"
        for headers in ([], [("Cookie", "a=1")], [("Authorization", "Basic dTpw")]):
            response = await wire.get("/v.mp4", headers)
            assert response.status == 200
            assert "Set-Cookie" not in response.fields
    assert origin.count("/v.mp4") == 1


# --- Set-Cookie -----------------------------------------------------------------------------------


class Visitors:
    """An origin that gives everyone a number."""

    def __init__(self, **fields: str) -> None:
        self.count = 0
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}

    def __call__(self, request: OriginRequest) -> Script:
        self.count += 1
        data = f"visitor {self.count}".encode()
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data)), **self.fields}
        return [Head(200, {**fields, "Set-Cookie": f"visitor={self.count}"}), Body(data)]


@pytest.mark.parametrize("cache_control", ["", "max-age=60", "s-maxage=60", "public", "public, max-age=60"])
async def test_a_fresh_cookie_reaches_at_most_one_client(
    adapter: Adapter, origin: ScriptedOrigin, cache_control: str
) -> None:
    visitors = Visitors(**({"Cache_Control": cache_control} if cache_control else {}))
    origin.on("/page", visitors)
    given: list[str] = []
    for _ in range(3):
        async with adapter.wire() as wire:
            response = await wire.get("/page")
            given += response.fields.getall("Set-Cookie", [])
            response = await wire.get("/page", Range="bytes=0-2")
            given += response.fields.getall("Set-Cookie", [])
    assert len(given) == len(set(given))
    if "public" in cache_control:
        assert given == ["visitor=1"]
        assert visitors.count == 1


async def test_a_fresh_cookie_and_those_who_wait(adapter: Adapter, origin: ScriptedOrigin) -> None:
    visitors = Visitors()
    origin.on("/page", visitors)
    gate = origin.gate("/page", None)
    async with wires(adapter, 10) as clients:
        for wire in clients:
            await wire.request("GET", "/page")
        await busy(adapter, 10)
        gate.open()
        responses = await asyncio.gather(*(wire.response() for wire in clients))
        for response in responses:
            assert response.fields["Set-Cookie"].partition("=")[2] == response.body.decode().split()[1]
        assert len({response.body for response in responses}) == 10


async def test_a_304_brings_no_cookie_to_others(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"cache": {"ttl": "0s"}})
    visitors = count(2)

    def answer(request: OriginRequest) -> Script:
        if request.header("If-None-Match"):
            return [Head(304, {"ETag": '"1"', "Set-Cookie": f"visitor={next(visitors)}", "X-New": "yes"})]
        return [
            Head(200, {"Content-Type": "video/mp4", "Content-Length": "3", "ETag": '"1"'}),
            Body(b"abc"),
        ]

    origin.on("/v.mp4", answer)
    async with adapter.wire() as wire:
        await wire.get("/v.mp4")
        await origin.idle()
        for number in range(2, 5):
            response = await wire.get("/v.mp4")
            assert response.fields["X-New"] == "yes"
            assert response.fields.getall("Set-Cookie") == [f"visitor={number}"], (
                "the one of its own validation"
            )
        assert "Set-Cookie" not in (await wire.get("/v.mp4", Cache_Control="max-stale")).fields


# --- Unsafe methods -------------------------------------------------------------------------------


async def test_after_an_unsafe_request_its_target_is_asked_for_again(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    versions = iter(range(100))

    def answer(request: OriginRequest) -> Script:
        if request.method != "GET":
            status = 405 if request.header("X-Fail") else 200
            return [Head(status, {"Content-Length": "0"})]
        data = f"version {next(versions)}".encode()
        return [
            Head(200, {"Content-Length": str(len(data)), "Cache-Control": "max-age=60"}),
            Body(data),
        ]

    origin.on("/doc", answer)
    async with adapter.wire() as wire:
        assert (await wire.get("/doc")).body == b"version 0"
        for number, method in enumerate(["POST", "PUT", "DELETE", "PATCH", "BREW"], 1):
            await wire.request(method, "/doc", X_Fail="1")
            assert (await wire.response()).status == 405
            assert (await wire.get("/doc")).body == f"version {number - 1}".encode()
            await wire.request(method, "/doc")
            assert (await wire.response()).status == 200
            assert (await wire.get("/doc")).body == f"version {number}".encode()
        for method in ("OPTIONS", "TRACE", "PROPFIND"):
            await wire.request(method, "/doc")
            assert (await wire.response()).status == 200
            assert "hit" in (await wire.get("/doc")).cache_status


async def test_an_unsafe_request_ends_the_partition_of_its_credentials(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    for path in ("/a", "/b"):
        origin.on(path, Personal())
    origin.on("/login", [Head(303, {"Location": "/", "Content-Length": "0"})])
    alice, bob = Person("alice", "Cookie"), Person("bob", "Cookie")
    async with adapter.wire() as wire:
        for path in ("/a", "/b"):
            for person in (alice, bob):
                await wire.get(path, person.headers)
                assert "hit" in (await wire.get(path, person.headers)).cache_status
        await wire.request("POST", "/login", alice.headers)
        assert (await wire.response()).status == 303
        for path in ("/a", "/b"):
            assert "hit" not in (await wire.get(path, alice.headers)).cache_status
            assert "hit" in (await wire.get(path, bob.headers)).cache_status


@pytest.mark.parametrize("changes", ["alice", "nobody"])
async def test_an_unsafe_request_ends_everyones_copies_of_its_target(
    adapter: Adapter, origin: ScriptedOrigin, changes: str
) -> None:
    for path in ("/doc", "/other"):
        origin.on(path, Personal())
    people = [Person("alice", "Cookie"), Person("bob", "Cookie"), Person("nobody", "none")]
    async with adapter.wire() as wire:
        for person in people:
            await wire.get("/doc", person.headers)
            await wire.get("/other", person.headers)
        await settled(adapter, origin, 6)
        await wire.request("PUT", "/doc", next(each for each in people if each.name == changes).headers)
        assert (await wire.response()).status == 200
        for person in people:
            assert "hit" not in (await wire.get("/doc", person.headers)).cache_status
        assert "hit" in (await wire.get("/other", people[1].headers)).cache_status


async def test_an_unsafe_request_ends_anothers_copy_that_is_still_arriving(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    personal = Personal()
    origin.on("/doc", personal)
    alice, bob = Person("alice", "Cookie"), Person("bob", "Cookie")
    gate = personal.in_body["bob"] = Gate()
    async with adapter.wire() as hers, adapter.wire() as his:
        await his.request("GET", "/doc", bob.headers)
        await gate.reached()
        await hers.request("PUT", "/doc", alice.headers)
        assert (await hers.response()).status == 200
        gate.open()
        belongs_to(await his.response(), bob)
        assert "fwd=uri-miss" in (await his.get("/doc", bob.headers)).cache_status


@pytest.mark.parametrize("at", ["head", "body"])
async def test_an_unsafe_request_ends_the_sharing_of_what_is_being_fetched(
    adapter: Adapter, origin: ScriptedOrigin, at: str
) -> None:
    gate = Gate()
    contents = [b"old" * 1000, b"new" * 1000]

    def answer(request: OriginRequest) -> Script:
        if request.method == "PUT":
            yield Head(204)
            return
        data = contents.pop(0)
        if at == "head" and contents:
            yield Pause(gate)
        yield Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(data))})
        yield Body(data[:1000])
        if at == "body" and contents:
            yield Pause(gate)
        yield Body(data[1000:])

    origin.on("/v.mp4", answer)
    async with adapter.wire() as early, adapter.wire() as late:
        await early.request("GET", "/v.mp4")
        await gate.reached()
        await late.request("PUT", "/v.mp4")
        assert (await late.response()).status == 204
        assert (await late.get("/v.mp4")).body == b"new" * 1000
        gate.open()
        assert (await early.response()).body == b"old" * 1000
        await settled(adapter, origin)
        response = await late.get("/v.mp4")
        assert response.body == b"new" * 1000
        assert "hit" in response.cache_status


async def test_a_partition_ends_with_its_credentials_idleness(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/mine.mp4", b"mine")
    adapter = await start_adapter(spool={"partition_ttl": "0s"})
    async with adapter.wire() as wire:
        await wire.get("/mine.mp4", Cookie="session=1")
        await settled(adapter, origin)
        again = await wire.get("/mine.mp4", Cookie="session=1")
    assert "fwd=uri-miss" in again.cache_status
    assert origin.count("/mine.mp4") == 2


async def test_nobody_is_served_from_a_partition_that_is_ending(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve("/mine.mp4", b"mine")
    adapter = await start_adapter()
    spool = adapter.service._cache.spool
    async with wires(adapter, 2) as [first, second]:
        await first.get("/mine.mp4", Cookie="session=1")
        await settled(adapter, origin)
        dropping, go_on, drop = asyncio.Event(), asyncio.Event(), spool.drop_partition

        async def slow_drop(partition: bytes) -> None:
            dropping.set()
            await go_on.wait()
            await drop(partition)

        monkeypatch.setattr(spool, "drop_partition", slow_drop)
        adapter.service._cache._partitions._seen._until.clear()
        await first.request("GET", "/mine.mp4", Cookie="session=1")
        await dropping.wait()
        await second.request("GET", "/mine.mp4", Cookie="session=1")
        await busy(adapter, 2)
        go_on.set()
        for wire in (first, second):
            assert "hit" not in (await wire.response()).cache_status


async def test_who_reads_for_long_has_been_seen(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/mine.mp4", b"mine" * 1000)
    gate = origin.gate("/mine.mp4", 1000)
    partitions = adapter.service._cache._partitions
    async with adapter.wire() as wire:
        await wire.request("GET", "/mine.mp4", Cookie="session=1")
        await gate.reached()
        partitions._seen._until.clear()  # as if it took longer than partition_ttl
        gate.open()
        assert len((await wire.response()).body) == 4000
        await busy(adapter, 0)
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/mine.mp4", Cookie="session=1")).cache_status


async def test_what_a_credential_left_behind_goes(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.partitions.SWEEP_INTERVAL", 0.01)
    for path in ("/mine.mp4", "/all.mp4"):
        origin.serve(path, b"mine")
    adapter = await start_adapter(spool={"partition_ttl": "300ms"})
    async with adapter.wire() as wire:
        await wire.get("/all.mp4")
        await wire.get("/mine.mp4", Cookie="session=1")
        await settled(adapter, origin, 2)
        await stored(adapter, 1)
        assert "hit" in (await wire.get("/all.mp4")).cache_status


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "passthrough"},
        {"cache": {"shared": True}},
        {"cache": {"authorize": "origin"}},
        {"cache": {"ignore_cookies": ["theme"]}},
    ],
)
async def test_a_logout_by_another_route_ends_the_partition_too(
    start_adapter: StartAdapter, origin: ScriptedOrigin, other: dict[str, object]
) -> None:
    adapter = await start_adapter(
        routes=[{"match": {"path_prefix": "/films"}, "cache": {"ignore_cookies": ["lang"]}}, other]
    )
    origin.serve("/films/a", b"hers")
    origin.on("/logout", [Head(204)])
    async with adapter.wire() as wire:
        cookie = "session=1; lang=de; theme=dark"
        await wire.get("/films/a", Cookie=cookie)
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/films/a", Cookie=cookie)).cache_status
        await wire.request("POST", "/logout", Cookie=cookie)
        await wire.response()
        assert "hit" not in (await wire.get("/films/a", Cookie=cookie)).cache_status
