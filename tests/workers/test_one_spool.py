"""Several workers on one spool: one origin request for all, and one view of what is stored."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scripted_origin import Body, Cut, Head, OriginRequest, Script, ScriptedOrigin
from tests.spool.objects import pattern
from tests.together import until
from tests.wire import Wire
from tests.workers.crew import Crew, crew

FILM = pattern(1_000_000)


async def chunks(wire: Wire) -> AsyncIterator[bytes]:
    while data := await wire.chunk():
        yield data


async def test_a_stampede_on_a_cold_object_is_one_origin_request_and_all_stream_at_once(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film.mp4", FILM[:200_000])
    gate = origin.gate("/film.mp4", at=100_000)
    at_the_gate, all_there = 0, asyncio.Event()

    async with crew(origin, tmp_path, 4) as running:

        async def client() -> None:
            nonlocal at_the_gate
            async with Wire(running.url) as wire:
                await wire.request("GET", "/film.mp4")
                assert (await wire.response_head()).status == 200
                data = await wire.body(100_000)
                at_the_gate += 1
                if at_the_gate == 500:
                    all_there.set()
                assert data + await wire.body(100_000) == FILM[:200_000]

        clients = [asyncio.create_task(client()) for _ in range(500)]
        await asyncio.wait({asyncio.create_task(all_there.wait()), *clients}, return_when="FIRST_COMPLETED")
        assert at_the_gate == 500
        gate.open()
        await asyncio.gather(*clients)
        assert origin.count("/film.mp4") == 1
        await until(lambda: sum(running.answered().values()) >= 500)
        assert set(running.answered()) == {0, 1, 2, 3}
        while await running.figure("range_adapter_requests_total") != 500:
            pass  # a worker that has much to do is not waited for
        assert await running.figure("range_adapter_fetches_total") == 1


@pytest.mark.parametrize("how", ["PURGE", "DELETE"])
async def test_what_one_worker_is_told_all_know_at_the_next_request(
    origin: ScriptedOrigin, tmp_path: Path, how: str
) -> None:
    """Although each of them answers by its warm lane before."""
    body = b"the first"

    def answer(request: OriginRequest) -> Script:
        return [Head(200, {"Content-Length": str(len(body)), "Cache-Control": "max-age=3600"}), Body(body)]

    origin.on("/film.mp4", answer)
    async with crew(origin, tmp_path, purge_from=["127.0.0.0/8"]) as running:
        wires = await running.pinned()
        for teller in wires:
            for wire in wires.values():
                await warm(running, wire, "/film.mp4", body)
            body = b"what came after %d" % teller
            await wires[teller].request(how, "/film.mp4")
            assert (await wires[teller].response()).status == 200
            for worker, wire in wires.items():
                assert (await wire.get("/film.mp4")).body == body, f"{worker} after {teller}"


async def warm(running: Crew, wire: Wire, path: str, body: bytes) -> None:
    """Ask until the answer comes by the worker's warm lane."""
    before = after = await running.figure("range_adapter_warm_lane_requests_total")
    while after == before:
        assert (await wire.get(path)).body == body
        after = await running.figure("range_adapter_warm_lane_requests_total")


def bodies(folder: Path, size: int) -> list[Path]:
    """The files of this size of what is stored."""
    return [path for path in folder.rglob("*.body") if path.stat().st_size == size]


async def test_what_the_lane_of_a_follower_sends_is_the_keepers_last_to_go(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """Its uses count when room has to be made."""
    for name in "abc":
        origin.serve(f"/{name}.mp4", FILM, headers={"Cache-Control": "max-age=3600"})
    origin.serve("/gone.mp4", FILM[:1000], headers={"Cache-Control": "max-age=3600"})
    spool = {"max_size": "2500kB"}
    async with crew(origin, tmp_path, spool=spool, purge_from=["127.0.0.0/8"]) as running:
        wires = await running.pinned()
        del wires[await running.keeper()]
        worker, wire = wires.popitem()
        for name in ("a", "b", "gone"):
            await wire.get(f"/{name}.mp4")
            await running.settled()
        await wire.get("/gone.mp4")
        await warm(running, wire, "/a.mp4", FILM)
        # It tells of what it has used whenever it looks for objects that it need not hold open any more.
        [gone] = bodies(tmp_path, 1000)
        await wire.request("PURGE", "/gone.mp4")
        assert (await wire.response()).status == 200
        await until(lambda: not gone.exists())
        pid = (await running.pids())[worker]
        await until(lambda: not running.holds_deleted(pid))
        assert (await wire.get("/c.mp4")).body == FILM
        await running.settled()
        assert (await wire.get("/a.mp4")).body == FILM
        assert origin.count("/a.mp4") == 1


async def test_what_replaces_an_object_replaces_it_for_all(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """By a client that wants it fresh."""
    body = b"old" * 100

    def answer(request: OriginRequest) -> Script:
        head = {
            "Content-Length": str(len(body)),
            "Cache-Control": "max-age=3600",
            "ETag": f'"{body[:3].decode()}"',
        }
        return [Head(200, head), Body(body)]

    origin.on("/film.mp4", answer)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        for wire in wires.values():
            assert (await wire.get("/film.mp4")).body == body
        body = b"new" * 100
        assert (await wires[1].get("/film.mp4", Cache_Control="no-cache")).body == body
        await running.settled()
        for wire in wires.values():
            response = await wire.get("/film.mp4", Range="bytes=0-2")
            assert (response.status, response.body) == (206, b"new")


@pytest.mark.parametrize("policy", [{}, {"cache": {"authorize": "origin"}}])
async def test_who_has_something_compared_gets_what_has_come_instead(
    origin: ScriptedOrigin, tmp_path: Path, policy: dict[str, object]
) -> None:
    """It is stale, so that nobody else does: the origin is asked once for each client, whoever keeps the spool."""
    stale = {"Cache-Control": "max-age=60", "Age": "60"}
    films = [FILM[:700_000] + bytes([number]) + FILM[700_001:] for number in range(3)]
    async with crew(origin, tmp_path, defaults=policy) as running:
        wires = await running.pinned()
        tag = '"none"'
        for number, film in enumerate(films):
            origin.serve("/film.mp4", film, headers=stale)
            response = await wires[number % 2].get("/film.mp4", If_None_Match=tag)
            assert (response.status, response.body) == (200, film)
            assert origin.count("/film.mp4") == 1 + number
            tag = response.fields["ETag"]
            await running.settled()


async def test_what_is_not_stored_passes_through_the_keeper(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/live.mp4", FILM, headers={"Cache-Control": "no-store"})
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        for wire in wires.values():
            assert (await wire.get("/live.mp4")).body == FILM
            part = await wire.get("/live.mp4", Range="bytes=900000-900009")
            assert (part.status, part.body) == (206, FILM[900_000:900_010])
            assert "detail=no-store" in part.cache_status
    assert origin.count("/live.mp4") == 6


async def test_a_body_without_a_length_grows_for_all(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM, chunked=True)
    gate = origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        for wire in wires.values():
            await wire.request("GET", "/film.mp4")
            assert (await wire.response_head()).fields["Transfer-Encoding"] == "chunked"
        gate.open()
        for wire in wires.values():
            assert b"".join([piece async for piece in chunks(wire)]) == FILM
    assert origin.count("/film.mp4") == 1


async def test_an_object_that_is_too_large_to_store_slides_past_a_follower(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    film = pattern(12_000_000)
    origin.serve("/film.mp4", film, chunked=True)
    async with crew(origin, tmp_path, spool={"max_object_size": "1MB"}) as running:
        wires = await running.pinned()
        del wires[await running.keeper()]
        for wire in wires.values():
            assert (await wire.get("/film.mp4")).body == film
        assert (await running.status())["spool"]["objects"] == 0


async def test_interim_responses_reach_clients_of_all_workers(origin: ScriptedOrigin, tmp_path: Path) -> None:
    hints = {"Link": "</style.css>; rel=preload"}
    head = Head(200, {"Content-Length": "3", "Cache-Control": "no-store"})
    origin.on("/page", lambda request: [Head(103, hints), head, Body(b"abc")])
    async with crew(origin, tmp_path) as running:
        for wire in (await running.pinned()).values():
            response = await wire.get("/page")
            assert [each.status for each in response.interim] == [103]
            assert response.interim[0].fields["Link"] == hints["Link"]
            assert response.body == b"abc"


async def test_the_origins_failures_are_told_by_all_in_the_same_words(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/broken", lambda request: [Cut()])
    async with crew(origin, tmp_path) as running:
        for wire in (await running.pinned()).values():
            response = await wire.get("/broken")
            assert response.status == 502
            assert "detail=origin-unreachable" in response.cache_status
            assert b"origin-unreachable" in response.body


async def test_whoever_leaves_before_the_head_is_forgotten_by_the_keeper(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """What comes then is not stored, and nobody takes it."""
    much = memoryview(bytes(64 << 20))
    async with crew(origin, tmp_path) as running:
        for worker, wire in (await running.pinned()).items():
            path = f"/live/{worker}.mp4"
            origin.serve(path, much, headers={"Cache-Control": "no-store"})
            gate = origin.gate(path, at=None)
            await wire.request("GET", path)
            await gate.reached()
            wire.writer.transport.abort()
            gate.open()
            async with asyncio.timeout(20):  # less than an origin may be silent
                await origin.disconnected(path)


async def test_a_range_of_a_body_without_a_length_waits_for_its_end_on_all(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film.mp4", FILM, chunked=True)
    gate = origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        for wire in wires.values():
            await wire.request("GET", "/film.mp4", Range="bytes=-10")
        await gate.reached()
        gate.open()
        for wire in wires.values():
            response = await wire.response()
            assert (response.status, response.body) == (206, FILM[-10:])
            assert response.fields["Content-Range"] == "bytes 999990-999999/1000000"
    assert origin.count("/film.mp4") == 1
