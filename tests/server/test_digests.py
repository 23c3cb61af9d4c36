"""`Repr-Digest` on the wire (RFC 9530).  The oracle is hashlib, over what the origin serves."""

import threading
from base64 import b64encode
from hashlib import sha256

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.spool.objects import MIB, pattern
from tests.together import settled, until
from tests.wire import Response, Wire

pytestmark = pytest.mark.usefixtures("digests_are_waited_for")

FILM = pattern(300_000)
LONG = pattern(9 * MIB)
HOST = [("Host", "films.example")]  # the port, and so the default, is another after each restart
WANT = [*HOST, ("Want-Repr-Digest", "sha-512=9, sha-256=3")]


def told(body: bytes) -> str:
    return f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"


async def fetched(adapter: Adapter, origin: ScriptedOrigin, wire: Wire, path: str = "/film") -> Response:
    """Have the object stored complete."""
    response = await wire.get(path, HOST)
    await settled(adapter, origin)
    return response


@pytest.mark.parametrize("body", [FILM, b""])
async def test_who_wants_it_has_it_and_then_everyone(
    adapter: Adapter, origin: ScriptedOrigin, body: bytes
) -> None:
    origin.serve("/film", body)
    async with adapter.wire() as wire:
        assert "Repr-Digest" not in (await fetched(adapter, origin, wire)).fields
        assert "Repr-Digest" not in (await wire.get("/film", HOST)).fields, "nobody wanted it so far"
        first = await wire.get("/film", WANT)
        assert (first.body, first.fields.getall("Repr-Digest")) == (body, [told(body)])
        assert (await wire.get("/film", HOST)).fields["Repr-Digest"] == told(body)
    assert origin.count("/film") == 1


async def test_every_answer_of_the_whole_or_of_slices_has_it(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        one = await wire.get("/film", WANT, Range="bytes=5-9")
        assert (one.status, one.body, one.fields["Repr-Digest"]) == (206, FILM[5:10], told(FILM))
        several = await wire.get("/film", WANT, Range="bytes=0-9,-10")
        assert [data for _, data in several.parts()] == [FILM[:10], FILM[-10:]]
        assert several.fields["Repr-Digest"] == told(FILM)
        assert several.body.count(b"Repr-Digest") == 0
        head = await wire.head("/film", WANT)
        assert (head.status, head.fields["Repr-Digest"]) == (200, told(FILM))
        for condition, status in [
            ({"If_None_Match": one.fields["ETag"]}, 304),
            ({"If_Match": '"other"'}, 412),
            ({"Range": f"bytes={len(FILM)}-"}, 416),
        ]:
            response = await wire.get("/film", WANT, **condition)
            assert (response.status, "Repr-Digest" in response.fields) == (status, False)


async def test_a_head_makes_it_known(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        assert (await wire.head("/film", WANT)).fields["Repr-Digest"] == told(FILM)


@pytest.mark.parametrize(
    ("want", "has"),
    [
        (["sha-256=10"], True),
        (["sha-512=1", "sha-256=1"], True),
        (["sha-512=10"], False),
        (["md5=1, unknown=10"], False),
        (["sha-256=0"], False),
        (["sha-256=99"], False),
        (["sha-256"], False),
        (["sha-256=1;;"], False),
        (["\xff"], False),
    ],
)
async def test_what_makes_it_known(
    adapter: Adapter, origin: ScriptedOrigin, want: list[str], has: bool
) -> None:
    origin.serve("/film", FILM)
    wanting = [*HOST, *(("Want-Repr-Digest", line) for line in want)]
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        for fields in (wanting, HOST):
            response = await wire.get("/film", fields, Range="bytes=0-0")
            assert (response.status, "Repr-Digest" in response.fields) == (206, has)


async def test_who_refuses_it_does_not_get_it(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        await wire.get("/film", WANT)
        for want, has in [("sha-256=0", False), ("sha-512=10", True), ("sha-256=oops", True)]:
            response = await wire.get("/film", [*HOST, ("Want-Repr-Digest", want)])
            assert (response.body, "Repr-Digest" in response.fields) == (FILM, has)


async def test_a_large_object_has_it_later(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/long", LONG)
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire, "/long")
        first = await wire.get("/long", WANT, Range="bytes=0-9")
        assert (first.status, "Repr-Digest" in first.fields) == (206, False)
        while "Repr-Digest" not in (head := await wire.head("/long", HOST)).fields:
            assert head.status == 200
        assert head.fields["Repr-Digest"] == told(LONG)
        assert (await wire.get("/long", HOST, Range="bytes=0-9")).fields["Repr-Digest"] == told(LONG)


async def test_what_is_arriving_has_none(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=1000)
    async with adapter.wire() as wire:
        response = await wire.get("/film", WANT, Range="bytes=0-99")
        assert (response.status, "Repr-Digest" in response.fields) == (206, False)
        gate.open()
        await settled(adapter, origin)
        assert (await wire.get("/film", WANT)).fields["Repr-Digest"] == told(FILM)


@pytest.mark.parametrize("value", ["sha-512=:AAAA:", "sha-256=:AAAA:", "not a structured field,"])
async def test_the_origins_own_is_left_as_it_is(adapter: Adapter, origin: ScriptedOrigin, value: str) -> None:
    origin.serve("/film", FILM, headers={"Repr-Digest": value})
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        for fields in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=0-9,20-29"}):
            assert (await wire.get("/film", WANT, **fields)).fields.getall("Repr-Digest") == [value]


async def test_digests_of_the_content_are_of_the_whole_content_only(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    digests = {"Content-MD5": "AAAA", "Digest": "sha-256=AAAA", "Content-Digest": "sha-256=:AAAA:"}
    origin.serve("/film", FILM, headers=digests)
    async with adapter.wire() as wire:
        whole = await fetched(adapter, origin, wire)
        assert {name: whole.fields.get(name) for name in digests} == digests
        conditions = [{"Range": "bytes=0-9"}, {"Range": "bytes=0-9,20-29"}, {"Range": f"bytes={len(FILM)}-"}]
        conditions += [{"If_None_Match": "*"}, {"If_Match": '"other"'}]
        for fields in conditions:
            response = await wire.get("/film", HOST, **fields)
            assert response.status != 200
            assert not set(digests) & set(response.fields)
            assert not any(name.encode() in response.body for name in digests)


async def test_a_validation_keeps_it(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"cache": {"ttl": "0s"}})
    origin.serve("/film", FILM, headers={"ETag": '"film"'}, conditional=True)
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        for fields in (WANT, HOST, HOST):
            response = await wire.get("/film", fields)
            assert "fwd-status=304" in response.cache_status
            assert response.fields["Repr-Digest"] == told(FILM)


async def test_another_generation_has_another(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(defaults={"cache": {"ttl": "0s"}})
    bodies = [FILM, FILM[::-1]]

    def film(request: OriginRequest) -> Script:
        body = bodies[0]
        fields = {"Content-Length": str(len(body)), "Content-Type": "video/mp4", "ETag": f'"{len(bodies)}"'}
        if request.header("If-None-Match") == fields["ETag"]:
            return [Head(304, {"ETag": fields["ETag"]})]
        return [Head(200, fields), Body(body)]

    origin.on("/film", film)
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire)
        assert (await wire.get("/film", WANT)).fields["Repr-Digest"] == told(FILM)
        del bodies[0]
        changed = await wire.get("/film", HOST)
        assert (changed.body, "Repr-Digest" in changed.fields) == (FILM[::-1], False)
        await settled(adapter, origin)
        assert (await wire.get("/film", WANT)).fields["Repr-Digest"] == told(FILM[::-1])


async def test_it_outlives_a_restart(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM)
    first = await start_adapter()
    async with first.wire() as wire:
        await fetched(first, origin, wire)
        await wire.get("/film", WANT)
    await first.service.stop()
    second = await start_adapter()
    async with second.wire() as wire:
        response = await wire.get("/film", HOST, Range="bytes=0-9")
        assert (response.fields["Repr-Digest"], "hit" in response.cache_status) == (told(FILM), True)


async def test_what_is_under_way_ends_with_the_service(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.digesting.STEP", 1024)
    origin.serve("/long", LONG)
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire, "/long")
        await wire.head("/long", WANT)
    await until(_is_digesting)
    await adapter.service.stop()
    assert not _is_digesting()


def _is_digesting() -> bool:
    return any(thread.name.startswith("digest") for thread in threading.enumerate())


async def test_other_statuses_have_none(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/gone", [Head(404, {"Content-Length": "4", "Cache-Control": "max-age=60"}), Body(b"gone")])
    async with adapter.wire() as wire:
        await fetched(adapter, origin, wire, "/gone")
        response = await wire.get("/gone", WANT)
        assert "hit" in response.cache_status
        assert (response.status, "Repr-Digest" in response.fields) == (404, False)
