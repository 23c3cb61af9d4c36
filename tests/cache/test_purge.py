"""A purge is true for the next request, whatever is on its way while it comes."""

from typing import Any

import pytest

from proxy.semantics.purging import Everything, Purge, Tagged, Targets, Under
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Gate, Head, OriginRequest, Pause, Script, ScriptedOrigin
from tests.spool.objects import pattern
from tests.together import settled

HOST = ("Host", "films.example")
OLD, NEW = pattern(5000, 1), pattern(5000, 2)
FIELDS = {"Content-Type": "video/mp4", "Content-Length": "5000", "Surrogate-Key": "drama old", "ETag": '"x"'}
PATH = "/films/a.mp4"
KINDS = ["everything", "prefix", "host and prefix", "tag", "target"]


class Films:
    """The first answer is OLD, the next NEW; `head` and `body` stop the first one."""

    def __init__(self, **fields: str) -> None:
        self.head, self.body = Gate(), Gate()
        self._fields = FIELDS | fields
        self._count = 0

    def __call__(self, request: OriginRequest) -> Script:
        self._count += 1
        first = self._count == 1
        if first:
            yield Pause(self.head)
        data = OLD if first else NEW
        yield Head(200, self._fields | ({} if first else {"ETag": '"y"'}))
        yield Body(data[:1000])
        if first:
            yield Pause(self.body)
        yield Body(data[1000:])


async def purge(adapter: Adapter, kind: str, *, soft: bool = False) -> None:
    cache = adapter.service._cache
    target: bytes | None = None
    for fetch in cache._underway.fetches():
        target = fetch.wanted.target_key.digest
    for fill in cache.fills():
        target = fill.entry.target
    if target is None:
        target = cache.spool._catalogue._shelf._index.page("", 1)[0][1].target  # type: ignore[union-attr]
    whats: dict[str, Purge] = {
        "everything": Everything(),
        "prefix": Under(None, "/films/"),
        "host and prefix": Under("films.example", "/films/"),
        "tag": Tagged("drama"),
        "target": Targets(frozenset({target})),
    }
    await cache.purge(whats[kind], soft=soft)


async def get(adapter: Adapter, **fields: Any) -> bytes:
    async with adapter.wire() as wire:
        return (await wire.get(PATH, [HOST], **fields)).body


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", ["before the head", "in the body"])
async def test_nobody_new_has_what_is_purged_on_its_way(
    start_adapter: StartAdapter, origin: ScriptedOrigin, at: str, kind: str, soft: bool
) -> None:
    films = Films()
    origin.on(PATH, films)
    adapter = await start_adapter()
    async with adapter.wire() as early:
        await early.request("GET", PATH, [HOST])
        await films.head.reached()
        if at == "in the body":
            films.head.open()
            await films.body.reached()
            await early.response_head()
        await purge(adapter, kind, soft=soft)
        assert await get(adapter) == NEW, "asked for anew, while the old one stands at its gate"
        films.head.open()
        films.body.open()
        body = await early.response() if at == "before the head" else None
        assert body is None or body.body == OLD, "who asked before, has it to its end"
        await settled(adapter, origin)
    assert await get(adapter) == NEW
    await adapter.service.stop()
    again = await start_adapter()
    assert await get(again) == NEW
    assert origin.count(PATH) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_what_arrives_alone_after_its_purge_is_not_stored(
    start_adapter: StartAdapter, origin: ScriptedOrigin, kind: str
) -> None:
    """Nobody asks in between, so that there is nothing newer in its place; the sweep is over before it arrives."""
    films = Films()
    origin.on(PATH, films)
    adapter = await start_adapter()
    async with adapter.wire() as early:
        await early.request("GET", PATH, [HOST])
        await films.head.reached()
        spool = adapter.service._cache.spool
        await purge(adapter, kind)
        await spool.purged()
        films.head.open()
        films.body.open()
        assert (await early.response()).body == OLD
        await settled(adapter, origin, objects=0)
    await adapter.service.stop()
    again = await start_adapter()
    assert await get(again) == NEW


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_stored_is_gone_for_the_next_request(
    start_adapter: StartAdapter, origin: ScriptedOrigin, kind: str
) -> None:
    films = Films()
    films.head.open()
    films.body.open()
    origin.on(PATH, films)
    adapter = await start_adapter()
    assert await get(adapter) == OLD
    await settled(adapter, origin)
    await purge(adapter, kind)
    assert await get(adapter) == NEW
    await settled(adapter, origin)
    assert await get(adapter) == NEW
    assert origin.count(PATH) == 2


@pytest.mark.parametrize("kind", ["everything", "tag"])
async def test_a_304_that_a_hard_purge_has_overtaken_brings_nothing_back(
    start_adapter: StartAdapter, origin: ScriptedOrigin, kind: str
) -> None:
    gate = Gate()

    def script(request: OriginRequest) -> Script:
        if request.header("If-None-Match") == '"x"':
            yield Pause(gate)
            yield Head(304, {"ETag": '"x"'})
        else:
            data = OLD if origin.count(PATH) == 1 else NEW
            yield Head(200, FIELDS | {"ETag": '"x"' if data is OLD else '"y"'})
            yield Body(data)

    origin.on(PATH, script)
    adapter = await start_adapter()
    assert await get(adapter) == OLD
    await settled(adapter, origin)
    async with adapter.wire() as early:
        await early.request("GET", PATH, [HOST], Cache_Control="no-cache")
        await gate.reached()
        await purge(adapter, kind)
        assert await get(adapter) == NEW
        gate.open()
        assert (await early.response()).body in {OLD, NEW}
    await settled(adapter, origin)
    assert await get(adapter) == NEW
    await adapter.service.stop()
    assert await get(await start_adapter()) == NEW
