"""Every stored representation has a strong validator, which stays what it is for as long as its bytes do."""

import asyncio

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Gate, Head, OriginRequest, Pause, Script, ScriptedOrigin
from tests.together import settled, stored

FILM = bytes(range(256)) * 4096
SITE = "media.example"


@pytest.mark.parametrize(
    "tag",
    ['"abc"', '""', '"a b"', '"a,b"', '"\\"', '"W/"', '"\xe9\xff"', '"5d-4f1;gzip"', "'x'", "abc", 'w/"x"'],
)
async def test_a_strong_tag_of_the_origin_is_emitted_byte_for_byte(
    adapter: Adapter, origin: ScriptedOrigin, tag: str
) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": tag})
    is_tag = tag.startswith('"') and " " not in tag
    async with adapter.wire() as wire:
        for headers in ([], [("Range", "bytes=0-9")], []):
            emitted = (await wire.get("/film.mp4", headers)).fields["ETag"]
            assert emitted == tag if is_tag else emitted.startswith('"ra-')
        assert (await wire.head("/film.mp4")).fields["ETag"] == emitted
        assert (await wire.get("/film.mp4", If_None_Match=emitted)).status == 304


@pytest.mark.parametrize(
    "headers", [{}, {"ETag": 'W/"weak"'}, {"Last-Modified": "Wed, 25 Jun 2014 17:12:18 GMT"}]
)
async def test_ours_is_strong_and_one_for_a_generation(
    adapter: Adapter, origin: ScriptedOrigin, headers: dict[str, str]
) -> None:
    origin.serve("/film.mp4", FILM, headers=headers)
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as first, adapter.wire() as wire:
        await first.request("GET", "/film.mp4")
        tag = (await first.response_head()).fields["ETag"]
        assert tag.startswith('"')
        during = await wire.get("/film.mp4", Range="bytes=10-19", If_Range=tag)
        assert (during.status, during.fields["ETag"]) == (206, tag)
        assert (await wire.get("/film.mp4", If_None_Match=tag)).status == 304
        assert (await wire.head("/film.mp4")).fields["ETag"] == tag
        gate.open()
        await first.body(len(FILM))
        after = await wire.get("/film.mp4", Range="bytes=10-19", If_Range=tag)
        assert (after.status, after.fields["ETag"]) == (206, tag)
        assert (await wire.get("/film.mp4", Range="bytes=0-9", If_Match=tag)).status == 206
        assert (await wire.get("/film.mp4", If_Match='"other"')).status == 412


async def test_ours_outlives_a_restart(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": 'W/"weak"'})
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        tag = (await wire.get("/film.mp4", Host=SITE)).fields["ETag"]
    await settled(adapter, origin)
    await adapter.service.stop()
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        response = await wire.get("/film.mp4", Host=SITE, Range="bytes=0-9", If_Range=tag)
        assert response.status == 206
        assert (await wire.get("/film.mp4", Host=SITE, If_None_Match='W/"weak"')).status == 304
    assert origin.count("/film.mp4") == 1


async def test_the_weak_tag_of_the_origin_still_matches_weakly(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": 'W/"weak"'})
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4", If_None_Match='W/"weak"')).status == 304
        assert (await wire.get("/film.mp4", If_None_Match='"x", "weak"')).status == 304
        assert (await wire.get("/film.mp4", Range="bytes=0-9", If_Range='W/"weak"')).status == 200
        assert (await wire.get("/film.mp4", Range="bytes=0-9", If_Range='"weak"')).status == 200
        assert (await wire.get("/film.mp4", If_Match='W/"weak"')).status == 412


async def test_it_is_validated_with_what_the_origin_knows(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(defaults={"cache": {"ttl": "0s"}})
    modified = "Wed, 25 Jun 2014 17:12:18 GMT"
    headers = {"ETag": 'W/"weak"', "Last-Modified": modified}
    origin.serve("/film.mp4", FILM, headers=headers, conditional=True)
    async with adapter.wire() as wire:
        tag = (await wire.get("/film.mp4")).fields["ETag"]
        await origin.idle()
        response = await wire.get("/film.mp4", Range="bytes=0-9", If_Range=tag, If_None_Match='"other"')
        assert (response.status, response.fields["ETag"]) == (206, tag)
    asked = origin.requests[-1]
    assert asked.values("If-None-Match") == ['W/"weak"']
    assert asked.values("If-Modified-Since") == [modified]
    assert asked.header("If-Range") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
async def test_our_tags_never_reach_the_origin(adapter: Adapter, origin: ScriptedOrigin, method: str) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        tag = (await wire.get("/film.mp4")).fields["ETag"]
        for field in ("If-None-Match", "If-Match", "If-Range"):
            for value in (tag, f'"x", {tag}, W/"y"', f"W/{tag}"):
                await wire.request(method, "/film.mp4", [(field, value)], Cache_Control="no-cache")
                response = await wire.response(to_head=method == "HEAD")
                if method not in {"GET", "HEAD"} and field == "If-Match" and '"x"' not in value:
                    assert response.status == 412
    sent = [value for r in origin.requests for _, value in r.headers]
    assert not [value for value in sent if b"ra-" in value.replace(b"range-adapter", b"")]


async def test_the_other_tags_of_a_condition_reach_the_origin(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        tag = (await wire.get("/film.mp4")).fields["ETag"]
        await wire.request("PUT", "/film.mp4", If_Match=f'"x", {tag}, W/"y,z"', If_None_Match=f'{tag},"q"')
        await wire.response()
        asked = origin.requests[-1]
        assert asked.values("If-Match") == ['"x", W/"y,z"']
        assert asked.values("If-None-Match") == ['"q"']
        await wire.request("PUT", "/film.mp4", If_None_Match="*", If_Match="garbage")
        await wire.response()
        asked = origin.requests[-1]
        assert (asked.header("If-None-Match"), asked.header("If-Match")) == ("*", "garbage")


async def test_bytes_of_two_generations_never_meet(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """A reload in the middle of a fill: the old readers keep theirs, and each tag names its own bytes."""
    gate, contents = Gate(), [b"old" * 5000, b"new" * 5000]

    def answer(request: OriginRequest) -> Script:
        body = contents.pop(0)
        yield Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(body))})
        yield Body(body[:1000])
        if contents:
            yield Pause(gate)
        yield Body(body[1000:])

    origin.on("/film.mp4", answer)
    async with adapter.wire() as early, adapter.wire() as late:
        await early.request("GET", "/film.mp4")
        old = (await early.response_head()).fields["ETag"]
        response = await late.get("/film.mp4", Cache_Control="no-cache")
        new = response.fields["ETag"]
        assert response.body == b"new" * 5000
        assert old != new
        assert (await late.get("/film.mp4", Range="bytes=3000-3008", If_Range=old)).status == 200
        await stored(adapter)
        gate.open()
        assert await early.body(15_000) == b"old" * 5000
        await settled(adapter, origin)
        assert (await late.get("/film.mp4", Range="bytes=3000-3008", If_Range=new)).body == b"newnewnew"


async def test_a_passing_answer_has_the_origins_tag_or_none(adapter: Adapter, origin: ScriptedOrigin) -> None:
    for path, tag in (("/none", None), ("/weak", 'W/"x"'), ("/strong", '"x"')):
        headers = {"Cache-Control": "no-store"} | ({"ETag": tag} if tag else {})
        origin.serve(path, FILM, headers=headers)
        async with adapter.wire() as wire:
            assert (await wire.get(path)).fields.get("ETag") == tag
            if tag:
                assert (await wire.get(path, If_None_Match=tag)).status == 304
                status = 206 if tag == '"x"' else 200
                assert (await wire.get(path, Range="bytes=0-9", If_Range=tag)).status == status


async def test_an_object_of_unknown_length_is_not_waited_for_to_say_304(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    gate = Gate()
    head = Head(200, {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked", "ETag": '"x"'})
    origin.on("/film.mp4", [head, Chunk(b"x" * 1000), Pause(gate), Chunk(b"")])
    async with adapter.wire() as wire:
        async with asyncio.timeout(10):
            assert (await wire.get("/film.mp4", Range="bytes=0-9", If_None_Match='"x"')).status == 304
            assert (await wire.head("/film.mp4", If_None_Match='"x"')).status == 304
            assert (await wire.get("/film.mp4", Range="bytes=0-9", If_Match='"y"')).status == 412
        gate.open()
        assert (await wire.get("/film.mp4", Range="bytes=0-9", If_Range='"x"')).status == 206
