"""One object is fetched once, whoever comes and goes; and what is stale is asked about, not thrown away."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Cut, Gate, Head, OriginRequest, Pause, Script, ScriptedOrigin
from tests.together import busy, settled, until, wires
from tests.wire import Response

FILM = bytes(range(256)) * 4096
STALE_AT_ONCE = {"defaults": {"cache": {"ttl": "0s"}}}


# --- Collapsing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [None, 0, 1000])
async def test_many_clients_share_one_fetch(adapter: Adapter, origin: ScriptedOrigin, at: int | None) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at)

    async def whole() -> Response:
        async with adapter.wire() as wire:
            return await wire.get("/film.mp4")

    async def part(first: int) -> Response:
        async with adapter.wire() as wire:
            return await wire.get("/film.mp4", Range=f"bytes={first}-{first + 99}")

    async def head() -> Response:
        async with adapter.wire() as wire:
            return await wire.head("/film.mp4")

    wholes = [asyncio.create_task(whole()) for _ in range(20)]
    parts = [asyncio.create_task(part(first)) for first in range(0, len(FILM), 50_000)]
    heads = [asyncio.create_task(head()) for _ in range(5)]
    await gate.reached()
    if at is None:
        await busy(adapter, len(wholes + parts + heads))
    gate.open()
    for response in await asyncio.gather(*wholes):
        assert response.body == FILM
    for first, task in zip(range(0, len(FILM), 50_000), parts, strict=True):
        response = await task
        assert (response.status, response.body) == (206, FILM[first : first + 100])
    for response in await asyncio.gather(*heads):
        assert response.fields["Content-Length"] == str(len(FILM))
    tags = {task.result().fields["ETag"] for task in [*wholes, *parts, *heads]}
    assert len(tags) == 1
    assert origin.count("/film.mp4") == 1


@pytest.mark.parametrize("leaves", ["before the head", "at the head", "in the body"])
async def test_the_one_who_asked_may_leave(adapter: Adapter, origin: ScriptedOrigin, leaves: str) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000 if leaves == "in the body" else None)
    async with adapter.wire() as second:
        async with adapter.wire() as first:
            await first.request("GET", "/film.mp4")
            await gate.reached()
            if leaves == "in the body":
                await first.response_head()
            await second.request("GET", "/film.mp4")
            await busy(adapter, 2)
            if leaves == "at the head":
                gate.open()
        if leaves == "before the head":
            await busy(adapter, 1)
        gate.open()
        assert (await second.response()).body == FILM
    assert origin.count("/film.mp4") == 1


async def test_all_may_leave_and_it_is_stored(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", None)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4")
        await gate.reached()
    await busy(adapter, 0)
    gate.open()
    await settled(adapter, origin)
    async with adapter.wire() as wire:
        assert "hit" in (await wire.get("/film.mp4")).cache_status


@pytest.mark.parametrize("leaves", ["before the head", "in the body"])
async def test_an_endless_body_is_not_fetched_for_nobody(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    monkeypatch.setattr("proxy.fill.fill.ABANDON_AFTER", 0.01)

    def endless(request: OriginRequest) -> Script:
        yield Pause(gate)
        yield Head(200, {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"})
        while True:
            yield Chunk(b"x" * 1000, rate=100_000)

    gate = Gate()
    origin.on("/live", endless)
    async with adapter.wire() as wire:
        await wire.request("GET", "/live")
        await gate.reached()
        if leaves == "in the body":
            gate.open()
            await wire.response_head()
    await busy(adapter, 0)
    gate.open()
    await origin.disconnected("/live")


@pytest.mark.parametrize("status", [502, 504])
async def test_an_error_of_the_origin_is_for_all_who_waited(
    start_adapter: StartAdapter, origin: ScriptedOrigin, status: int
) -> None:
    url = {"url": origin.url, "timeouts": {"first_byte": "300ms"}}
    adapter = await start_adapter(origins={"legacy": url})
    gate = Gate()
    origin.on("/film.mp4", [Pause(gate), Cut()])
    async with wires(adapter, 10) as clients:
        for wire in clients:
            await wire.request("GET", "/film.mp4")
        await busy(adapter, 10)
        if status == 502:
            gate.open()
        for wire in clients:
            assert (await wire.response()).status == status
        assert origin.count("/film.mp4") == (3 if status == 502 else 1), "whoever waits, and however many"


@pytest.mark.usefixtures("heads_wait")
async def test_a_body_that_breaks_off_at_once_is_asked_for_once(
    impatient: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/film.mp4", [Head(200, {"Content-Type": "video/mp4", "Content-Length": "1000"}), Cut()])
    async with impatient.wire() as wire:
        assert (await wire.get("/film.mp4")).status == 502
    assert origin.count("/film.mp4") == 1


async def test_after_a_broken_fill_the_next_request_begins_anew(
    impatient: Adapter, origin: ScriptedOrigin
) -> None:
    gate = Gate()
    head = Head(200, {"Content-Type": "video/mp4", "Content-Length": "1000"})
    origin.once("/film.mp4", [head, Body(b"x" * 500), Pause(gate), Cut()])
    origin.on("/film.mp4", [head, Body(b"y" * 1000)])
    async with impatient.wire() as wire:
        await wire.request("GET", "/film.mp4")
        await wire.response_head()
        assert await wire.body(500) == b"x" * 500
        gate.open()
        assert await wire.closed()
    async with impatient.wire() as wire:
        assert (await wire.get("/film.mp4")).body == b"y" * 1000


async def test_clients_of_what_is_never_stored_do_not_queue_up(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """All wait for one head, then all go at once."""
    adapter = await start_adapter(origins={"legacy": {"url": origin.url, "fills_per_client": 24}})
    gates = {"first": Gate(), "rest": Gate()}

    def answer(request: OriginRequest) -> Script:
        yield Pause(gates.pop("first", gates["rest"]))
        yield Head(200, {"Content-Type": "text/html", "Content-Length": "2"})
        yield Body(b"ok")

    first, rest = gates["first"], gates["rest"]
    origin.on("/page", answer)
    async with wires(adapter, 20) as clients:
        for wire in clients:
            await wire.request("GET", "/page")
        await busy(adapter, 20)
        await first.reached()
        assert origin.count("/page") == 1
        first.open()
        await rest.reached(19)
        async with adapter.wire() as late:
            await late.request("GET", "/page")
            await rest.reached(20)  # and who comes later does not wait at all
            rest.open()
            assert (await late.response()).body == b"ok"
        for wire in clients:
            assert (await wire.response()).body == b"ok"


async def test_a_client_that_wants_nothing_stored_holds_up_nobody(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM)
    gate = Gate()
    origin.once("/film.mp4", [Pause(gate), Head(200, {"Content-Length": "2"}), Body(b"ok")])
    async with adapter.wire() as private, adapter.wire() as wire:
        await private.request("GET", "/film.mp4", Cache_Control="no-store")
        await gate.reached()
        assert (await wire.get("/film.mp4")).body == FILM
        gate.open()
        assert (await private.response()).body == b"ok"
        assert (
            "detail=request-no-store" in (await wire.get("/film.mp4", Cache_Control="no-store")).cache_status
        )
        assert "hit" in (await wire.get("/film.mp4")).cache_status


# --- Stale ----------------------------------------------------------------------------------------


class Versions:
    """An origin with validators, whose object changes when `body` is set."""

    def __init__(self, body: bytes, **fields: str) -> None:
        self.body = body
        self.fields = {"Content-Type": "video/mp4"} | {k.replace("_", "-"): v for k, v in fields.items()}
        self.tag_of_304: str | None = None
        self.fields_of_304: dict[str, str] = {}
        self.in_body: Gate | None = None

    @property
    def tag(self) -> str:
        return f'"{hash(self.body)}"'

    def __call__(self, request: OriginRequest) -> Script:
        asked = request.header("If-None-Match")
        if asked is not None and (asked == self.tag or self.tag_of_304 is not None):
            return [Head(304, {"ETag": self.tag_of_304 or self.tag, **self.fields_of_304})]
        return [
            Head(200, {**self.fields, "ETag": self.tag, "Content-Length": str(len(self.body))}),
            Body(self.body[:1000]),
            *([Pause(self.in_body)] if self.in_body else []),
            Body(self.body[1000:]),
        ]


async def test_a_304_freshens_what_is_stored(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter()
    versions = Versions(FILM, Cache_Control="max-age=0", X_Count="1")
    origin.on("/film.mp4", versions)
    async with adapter.wire() as wire:
        first = await wire.get("/film.mp4")
        await settled(adapter, origin)
        versions.fields_of_304 = {"X-Count": "2", "Cache-Control": "max-age=60"}
        second = await wire.get("/film.mp4", Range="bytes=5-9")
        assert (second.status, second.body) == (206, FILM[5:10])
        assert second.fields["ETag"] == first.fields["ETag"]
        assert second.fields["X-Count"] == "2"
        assert "fwd=stale" in second.cache_status
        assert "fwd-status=304" in second.cache_status
        third = await wire.get("/film.mp4")
        assert third.fields["X-Count"] == "2"
        assert "hit" in third.cache_status
    assert origin.count("/film.mp4") == 2


async def test_a_304_outlives_a_restart(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter()
    versions = Versions(FILM, Cache_Control="max-age=0")
    origin.on("/film.mp4", versions)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4", Host="media.example")
        await settled(adapter, origin)
        versions.fields_of_304 = {"Cache-Control": "max-age=60"}
        await wire.get("/film.mp4", Host="media.example")
    await adapter.service.stop()
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        assert "hit" in (await wire.get("/film.mp4", Host="media.example")).cache_status


async def test_a_200_replaces_and_old_readers_keep_their_bytes(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter()
    old, new = FILM * 8, FILM[::-1] * 8
    versions = Versions(old, Cache_Control="max-age=0")
    origin.on("/film.mp4", versions)
    async with adapter.wire() as slow, adapter.wire() as wire:
        assert (await wire.get("/film.mp4")).body == old
        await settled(adapter, origin)
        await slow.request("GET", "/film.mp4")
        head = await slow.response_head()
        versions.body = new
        response = await wire.get("/film.mp4")
        assert response.body == new
        assert response.fields["ETag"] != head.fields["ETag"]
        await settled(adapter, origin)
        assert await slow.body(len(old)) == old


@pytest.mark.parametrize("tag", ['"another"', 'W/"another"', "garbage"])
async def test_a_304_that_names_another_tag_confirms_nothing(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tag: str
) -> None:
    adapter = await start_adapter()
    versions = Versions(FILM, Cache_Control="max-age=0")
    origin.on("/film.mp4", versions)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
        versions.tag_of_304, versions.body = tag, FILM[::-1]
        response = await wire.get("/film.mp4")
        assert (response.status, response.body) == (200, FILM[::-1])


@pytest.mark.parametrize("word", ["no-store", "private"])
async def test_a_304_may_end_the_storing(
    start_adapter: StartAdapter, origin: ScriptedOrigin, word: str
) -> None:
    adapter = await start_adapter()
    versions = Versions(FILM, Cache_Control="max-age=0")
    origin.on("/film.mp4", versions)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
        versions.fields_of_304 = {"Cache-Control": word, "X-Secret": "1"}
        versions.fields["Cache-Control"] = word
        assert (await wire.get("/film.mp4")).body == FILM
        await settled(adapter, origin, objects=0)
        response = await wire.get("/film.mp4")
        assert f"detail={word}" in response.cache_status


async def test_those_who_wait_share_one_validation(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(**STALE_AT_ONCE)
    origin.on("/film.mp4", Versions(FILM))
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
    gate = origin.gate("/film.mp4", None)
    async with wires(adapter, 10) as clients:
        for wire in clients:
            await wire.request("GET", "/film.mp4")
        await busy(adapter, 10)
        gate.open()
        for wire in clients:
            assert (await wire.response()).body == FILM
        assert origin.count("/film.mp4") == 2


@pytest.mark.parametrize("cache_control", ["no-cache", "max-age=0", "max-age=60"])
async def test_what_is_still_arriving_can_be_validated(
    start_adapter: StartAdapter, origin: ScriptedOrigin, cache_control: str
) -> None:
    adapter = await start_adapter()
    versions = Versions(FILM, Cache_Control=cache_control)
    gate = versions.in_body = Gate()
    origin.on("/film.mp4", versions)
    async with adapter.wire() as first, adapter.wire() as second:
        await first.request("GET", "/film.mp4")
        await first.response_head()
        response = await second.get("/film.mp4", Range="bytes=10-19", Cache_Control="no-cache")
        assert (response.status, response.body) == (206, FILM[10:20])
        assert "fwd-status=304" in response.cache_status
        gate.open()
        assert await first.body(len(FILM)) == FILM
        await settled(adapter, origin)
        assert (await second.get("/film.mp4")).body == FILM
    assert gate.arrivals == 1


async def test_without_validators_a_stale_object_is_fetched_anew(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter()
    origin.serve("/film.mp4", FILM, headers={"Cache-Control": "max-age=60", "Age": "100"})
    async with adapter.wire() as wire:
        first = await wire.get("/film.mp4")
        await settled(adapter, origin)
        second = await wire.get("/film.mp4")
        assert second.body == FILM
        assert "fwd=stale" in second.cache_status
        assert second.fields["ETag"] == first.fields["ETag"], "and found to be the same"
        assert origin.requests[-1].header("If-None-Match") is None


# --- Lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gone", "shorter", "longer"])
async def test_what_was_lost_on_the_disk_is_fetched_again(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path, how: str
) -> None:
    origin.serve("/film.mp4", FILM)
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        await wire.get("/film.mp4", Host="media.example")
        await settled(adapter, origin)
    await adapter.service.stop()
    [body] = (tmp_path / "spool" / "objects").glob("*/*.body")
    match how:
        case "gone":
            body.unlink()
        case "shorter":
            body.write_bytes(FILM[:-1])
        case _:
            body.write_bytes(FILM + b"x")
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4", Host="media.example", Range="bytes=0-9")).body == FILM[:10]
        await settled(adapter, origin)
        assert "hit" in (await wire.get("/film.mp4", Host="media.example")).cache_status
    assert origin.count("/film.mp4") == 2


async def test_a_full_spool_passes_what_it_cannot_store(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(spool={"max_size": "1536KiB", "max_object_size": "1536KiB"})
    origin.serve("/film.mp4", FILM)
    origin.serve("/other.mp4", FILM[::-1])
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as first, adapter.wire() as wire:
        await first.request("GET", "/film.mp4")
        await first.response_head()  # there is room for one at a time
        response = await wire.get("/other.mp4", Range="bytes=1000-1009")
        assert (response.status, response.body) == (206, FILM[::-1][1000:1010])
        assert "detail=spool-full" in response.cache_status
        gate.open()
        assert await first.body(len(FILM)) == FILM


async def test_a_stop_leaves_no_task_and_no_half_object(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "0s"}})
    origin.serve("/film.mp4", FILM)
    origin.serve("/other.mp4", FILM)
    gates = [origin.gate("/film.mp4", None), origin.gate("/other.mp4", 1000)]
    async with adapter.wire() as first, adapter.wire() as second:
        await first.request("GET", "/film.mp4")
        await second.request("GET", "/other.mp4")
        for gate in gates:
            await gate.reached()
        begun = time.monotonic()
        await adapter.service.stop()
        assert time.monotonic() - begun < 5
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not any(name.startswith("fetch") for name in names)
    assert not list((tmp_path / "spool" / "filling").iterdir())


async def test_a_fault_of_ours_is_told_at_once_and_leaves_nothing(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it comes about: nobody waits for a head that will not come, and the next request is answered."""
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at=None)

    async def broken(*_: object) -> None:
        raise LookupError("a fault of ours")

    class Log:
        """To show a traceback takes looking at files, which no test may do on the loop."""

        def exception(self, event: str, *, exc_info: Exception, **_: object) -> None:
            told.append(exc_info)

    told: list[Exception] = []
    cache = adapter.service._cache
    async with adapter.wire() as wire, adapter.wire() as other:
        with monkeypatch.context() as patch:
            patch.setattr("proxy.cache.asking.Asking.receive", broken)
            patch.setattr("proxy.server.handler._log", Log())
            await wire.request("GET", "/film.mp4")
            await gate.reached()
            await other.request("GET", "/film.mp4")
            await busy(adapter, 2)
            gate.open()
            for each in (wire, other):
                assert (await each.response()).status == 500
            assert [type(error) for error in told] == [LookupError, LookupError]
        await until(lambda: cache.idle)
        assert (await wire.get("/film.mp4")).body == FILM
