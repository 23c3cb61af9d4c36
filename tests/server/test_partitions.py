"""What is kept for single credentials has its limits: who comes past them is answered all the same."""

import json
from typing import Any

import pytest

from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import settled
from tests.wire import Response, Wire

FILM = bytes(range(250)) * 4


async def ask(wire: Wire, session: str | int, path: str = "/mine.mp4", *fields: tuple[str, str]) -> Response:
    response = await wire.get(path, fields, Cookie=f"session={session}")
    assert (response.status, response.body) == (200, FILM)
    return response


async def ask_from(client: str, wire: Wire, session: str | int) -> Response:
    return await ask(wire, session, "/mine.mp4", ("X-Forwarded-For", client))


async def reported(adapter: Adapter) -> dict[str, Any]:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        return json.loads((await wire.get("/status.json")).body)["spool"]  # type: ignore[no-any-return]


# --- The count ------------------------------------------------------------------------------------


async def test_a_client_that_invents_cookies(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    """It gets all its answers, and pushes nothing out."""
    adapter = await start_adapter(spool={"partitions_per_client": 2})
    origin.serve("/mine.mp4", FILM)
    origin.serve("/all.mp4", FILM, headers={"Cache-Control": "public"})
    async with adapter.wire() as wire:
        await ask(wire, 0, "/all.mp4")
        for session in range(10):
            status = (await ask(wire, session)).cache_status
            assert status.endswith(";stored" if session < 2 else ";detail=partition-count")
            assert "fwd=uri-miss;fwd-status=200" in status
        await settled(adapter, origin, 3)
        for session in range(2):
            assert "hit" in (await ask(wire, session)).cache_status
            assert "hit" in (await ask(wire, session, "/all.mp4")).cache_status


async def test_who_is_counted_may_have_more(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(spool={"partitions_per_client": 1})
    async with adapter.wire() as wire:
        for path in ("/a.mp4", "/b.mp4", "/c.mp4"):
            origin.serve(path, FILM)
            assert (await ask(wire, "mine", path)).cache_status.endswith(";stored")
            assert (await ask(wire, "other", path)).cache_status.endswith(";detail=partition-count")


async def test_no_partitions_at_all(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(spool={"partitions_per_client": 0})
    origin.serve("/mine.mp4", FILM)
    async with adapter.wire() as wire:
        assert (await ask(wire, 1)).cache_status.endswith(";detail=partition-count")
        response = await wire.get("/mine.mp4", Cookie="session=1", Range="bytes=5-9")
        assert (response.status, response.body) == (206, FILM[5:10])
    await settled(adapter, origin, 0)


async def test_each_client_has_its_own(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(
        server={"trusted_proxies": "127.0.0.0/8"}, spool={"partitions_per_client": 1}
    )
    origin.serve("/mine.mp4", FILM)
    came_from = {
        "192.0.2.1": ";stored",
        "192.0.2.2": ";stored",
        "2001:db8:0:1::1": ";stored",
        "2001:db8:0:1::2": ";detail=partition-count",
        "2001:db8:0:2::2": ";stored",
    }
    async with adapter.wire() as wire:
        for session, (client, end) in enumerate(came_from.items()):
            assert (await ask_from(client, wire, session)).cache_status.endswith(end)
        assert (await ask_from("192.0.2.1", wire, "new")).cache_status.endswith(";detail=partition-count")


@pytest.mark.parametrize("ends", ["idle", "unsafe request"])
async def test_an_ended_partition_counts_no_more(
    start_adapter: StartAdapter, origin: ScriptedOrigin, ends: str
) -> None:
    ttl = "0s" if ends == "idle" else "5m"
    adapter = await start_adapter(spool={"partitions_per_client": 1, "partition_ttl": ttl})

    def answer(request: OriginRequest) -> Script:
        if request.method == "POST":
            return [Head(204)]
        return [Head(200, {"Content-Type": "video/mp4", "Content-Length": str(len(FILM))}), Body(FILM)]

    origin.on("/mine.mp4", answer)
    origin.on("/logout", answer)
    async with adapter.wire() as wire:
        await ask(wire, "one")
        await settled(adapter, origin)
        if ends == "unsafe request":
            assert "detail=partition-count" in (await ask(wire, "two")).cache_status
            await wire.request("POST", "/logout", Cookie="session=one")
            assert (await wire.response()).status == 204
        assert (await ask(wire, "two")).cache_status.endswith(";stored")


# --- The bytes ------------------------------------------------------------------------------------


async def test_what_is_stored_and_arriving_for_partitions_has_a_limit(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(spool={"partition_size": "2500B"})
    origin.serve("/mine.mp4", FILM)
    gate = origin.gate("/mine.mp4", 100)
    async with adapter.wire() as one, adapter.wire() as two, adapter.wire() as three, adapter.wire() as wire:
        for session, early in enumerate((one, two, three)):
            await early.request("GET", "/mine.mp4", Cookie=f"session={session}")
            await gate.reached(session + 1)
        head = await three.response_head()
        assert head.cache_status == "range-adapter;fwd=uri-miss;fwd-status=200;detail=partition-quota"
        origin.serve("/all.mp4", FILM, headers={"Cache-Control": "public"})
        assert (await ask(wire, 9, "/all.mp4")).cache_status.endswith(";stored")
        gate.open()
        assert await three.body(len(FILM)) == FILM
        for early in (one, two):
            assert (await early.response()).body == FILM
        await settled(adapter, origin, 3)
        assert (await reported(adapter))["partition_bytes"] == 2 * len(FILM)
        assert "detail=partition-quota" in (await ask(wire, 3)).cache_status
        for session in range(2):
            assert "hit" in (await ask(wire, session)).cache_status


async def test_a_restart_forgets_no_bytes(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    settings = {"partition_size": "1500B"}
    adapter = await start_adapter(spool=settings)
    host = ("Host", "media.example")  # the port is in the key otherwise
    origin.serve("/mine.mp4", FILM)
    async with adapter.wire() as wire:
        await ask(wire, 1, "/mine.mp4", host)
        await settled(adapter, origin)
    await adapter.service.stop()
    adapter = await start_adapter(spool=settings)
    assert (await reported(adapter))["partition_bytes"] == len(FILM)
    async with adapter.wire() as wire:
        assert "detail=partition-quota" in (await ask(wire, 2, "/mine.mp4", host)).cache_status
        # After the pause theirs is a new partition, whose old content goes first.
        assert (await ask(wire, 1, "/mine.mp4", host)).cache_status.endswith(";stored")
        await settled(adapter, origin)
        assert (await reported(adapter))["partition_bytes"] == len(FILM)


async def test_an_unknown_length_that_outgrows_the_limit_passes(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(spool={"partition_size": "999B"})
    origin.serve("/mine.mp4", FILM, chunked=True)
    async with adapter.wire() as wire:
        for _ in range(2):
            await ask(wire, 1)
            await settled(adapter, origin, 0)
    assert origin.count("/mine.mp4") == 2
    assert (await reported(adapter))["used_bytes"] == 0


async def test_the_metric(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/mine.mp4", FILM)
    async with adapter.wire() as wire:
        await ask(wire, 1)
        await settled(adapter, origin)
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        text = (await wire.get("/metrics")).body.decode()
    assert f"range_adapter_spool_partition_bytes {float(len(FILM))}" in text
