"""Workers that are killed: whoever talks to another one notices nothing, and the dead are started again."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.server.process import serving
from tests.spool.objects import pattern, remove_folder
from tests.together import until
from tests.wire import Wire
from tests.workers.crew import Crew, crew

FILM = pattern(1_000_000)


async def begin(wires: dict[int, Wire], path: str, held: int) -> None:
    """Ask for it on each connection, and take the first `held` bytes."""
    for wire in wires.values():
        await wire.request("GET", path)
        assert (await wire.response_head()).status == 200
        assert await wire.body(held) == FILM[:held]


@pytest.mark.parametrize("first", ["keeper", "follower"])
async def test_clients_of_the_others_do_not_notice_that_the_keeper_is_killed_in_mid_fill(
    origin: ScriptedOrigin, tmp_path: Path, first: str
) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        keeper = await running.keeper()
        order = sorted(wires, key=lambda worker: (worker == keeper) == (first == "follower"))
        await begin({worker: wires[worker] for worker in order}, "/film.mp4", 500_000)
        await running.kill(keeper)
        assert await wires.pop(keeper).closed()
        await origin.requested("/film.mp4", 2)
        gate.open()
        for worker, wire in wires.items():
            assert await wire.body(500_000) == FILM[500_000:], worker
        assert origin.count("/film.mp4") == 2
        response = await wires.popitem()[1].get("/film.mp4", Range="bytes=-10")
        assert (response.status, response.body) == (206, FILM[-10:])
        assert origin.count("/film.mp4") == 2
        assert await running.keeper() != keeper or len(await running.pids()) == 3


async def test_nor_those_who_wait_for_the_head(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at=None)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        keeper = await running.keeper()
        for wire in wires.values():
            await wire.request("GET", "/film.mp4")
        await gate.reached()
        await running.kill(keeper)
        del wires[keeper]
        await origin.requested("/film.mp4", 2)
        gate.open()
        for wire in wires.values():
            assert (await wire.response()).body == FILM
        assert origin.count("/film.mp4") == 2


async def test_an_object_that_is_another_one_by_then_is_cut_off(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": '"old"'})
    gate = origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        keeper = await running.keeper()
        await begin(wires, "/film.mp4", 500_000)
        origin.serve("/film.mp4", FILM[::-1], headers={"ETag": '"new"'})
        await running.kill(keeper)
        del wires[keeper]
        await origin.requested("/film.mp4", 2)
        gate.open()
        for wire in wires.values():
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await wire.body(500_000)
        assert (await (await running.wire()).get("/film.mp4")).body == FILM[::-1]


async def test_what_passes_ends_with_the_keeper_and_looks_cut(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/live.mp4", FILM, headers={"Cache-Control": "no-store"})
    gate = origin.gate("/live.mp4", at=500_000)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        keeper = await running.keeper()
        await begin(wires, "/live.mp4", 500_000)
        await running.kill(keeper)
        for wire in wires.values():
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await wire.body(500_000)
        gate.open()
        assert (await (await running.wire()).get("/live.mp4")).body == FILM


async def test_nobody_notices_that_a_follower_is_killed(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        keeper = await running.keeper()
        dead = next(worker for worker in wires if worker != keeper)
        await begin(wires, "/film.mp4", 500_000)
        assert (await running.status())["fills"][0]["followers"] == 3
        await running.kill(dead)
        assert await wires.pop(dead).closed()
        while (await running.status())["fills"][0]["followers"] != 2:
            pass
        gate.open()
        for wire in wires.values():
            assert await wire.body(500_000) == FILM[500_000:]
        assert origin.count("/film.mp4") == 1


async def test_the_dead_are_started_again_and_counters_never_go_back(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film.mp4", FILM)
    async with crew(origin, tmp_path) as running:
        for _ in range(2):
            pids = await running.pids()
            keeper = await running.keeper()
            for wire in (await running.pinned()).values():
                assert (await wire.get("/film.mp4")).body == FILM
            await running.settled()
            names = ("requests_total", "response_bytes_total", "fetches_total", "request_seconds_count")
            before = [await running.figure(f"range_adapter_{name}") for name in names]
            await running.kill(keeper)
            while (await running.pids())[keeper] == pids[keeper]:
                pass
            after = [await running.figure(f"range_adapter_{name}") for name in names]
            assert all(map(int.__le__, map(int, before), map(int, after)))
            assert before[0] >= 6
        event = "a worker has ended, and is started again"
        await until(lambda: len(running.lines(event)) == 2)
        assert [line["status"] for line in running.lines(event)] == [-signal.SIGKILL] * 2
        assert origin.count("/film.mp4") == 1


async def test_a_keeper_that_dies_while_nothing_happens_is_missed_by_nobody(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film.mp4", FILM)
    async with crew(origin, tmp_path) as running:
        wires = await running.pinned()
        for wire in wires.values():
            assert (await wire.get("/film.mp4")).body == FILM
        await running.settled()
        keeper = await running.keeper()
        await running.kill(keeper)
        del wires[keeper]
        for wire in wires.values():
            response = await wire.get("/film.mp4", Range="bytes=5-9")
            assert (response.status, response.body) == (206, FILM[5:10])
            assert "hit" in response.cache_status
    assert origin.count("/film.mp4") == 1


async def test_all_die_and_no_connection_in_the_queue_is_lost(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    async with crew(origin, tmp_path) as running:
        for pid in (await running.pids()).values():
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert (await (await running.wire()).get("/film.mp4")).body == FILM


async def test_there_is_one_keeper_though_a_worker_starts_after_the_folder_has_been_removed(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """The lock in the folder has gone with it."""
    body = b"the first"

    def answer(request: OriginRequest) -> Script:
        return [Head(200, {"Content-Length": str(len(body)), "Cache-Control": "max-age=3600"}), Body(body)]

    origin.on("/film.mp4", answer)
    async with crew(origin, tmp_path, purge_from=["127.0.0.0/8"]) as running:
        keeper, before = await running.keeper(), await running.pids()
        remove_folder(tmp_path / "spool")
        dead = next(worker for worker in before if worker != keeper)
        await running.kill(dead)
        while (await running.pids())[dead] == before[dead]:
            pass
        wires = await running.pinned()
        for teller in wires:
            for wire in wires.values():
                assert (await wire.get("/film.mp4")).body == body
            body = b"what came after %d" % teller
            while True:  # 503, until the keeper has made a new folder
                await wires[teller].request("PURGE", "/film.mp4")
                if (await wires[teller].response()).status == 200:
                    break
            for worker, wire in wires.items():
                assert (await wire.get("/film.mp4")).body == body, f"{worker} after {teller}"


# The end


async def test_on_sigterm_running_answers_of_all_workers_end_whole(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path, drain="20s") as running:
        wires = await running.pinned()
        await begin(wires, "/film.mp4", 500_000)
        running.process.process.send_signal(signal.SIGTERM)
        assert await running.process.notice() == "STOPPING=1"
        await until(lambda: refuses(running))
        gate.open()
        for wire in wires.values():
            assert await wire.body(500_000) == FILM[500_000:]
            assert await wire.closed()
        status, log = await running.process.ended()
        assert status == 0
        assert origin.count("/film.mp4") == 1
        assert "Traceback" not in log
        assert "Warning" not in log
        assert (tmp_path / "spool" / "orderly").exists()


async def test_a_second_signal_ends_it_at_once(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    origin.gate("/film.mp4", at=500_000)
    async with crew(origin, tmp_path, drain="60s") as running:
        wires = await running.pinned()
        await begin(wires, "/film.mp4", 500_000)
        running.process.process.send_signal(signal.SIGTERM)
        assert await running.process.notice() == "STOPPING=1"
        running.process.process.send_signal(signal.SIGINT)
        for wire in wires.values():
            assert await wire.closed()
        await running.process.ended()


async def test_workers_end_with_their_supervisor(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with crew(origin, tmp_path) as running:
        os.kill(running.process.process.pid, signal.SIGKILL)
        await until(lambda: refuses(running))
        await running.process.ended()  # nobody holds its standard error any more


async def test_a_spool_that_another_service_has_is_told_once(origin: ScriptedOrigin, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with crew(origin, tmp_path) as running:
        spool = {"path": str(tmp_path / "spool")}
        async with serving(origin, tmp_path / "other", workers=3, spool=spool) as second:
            status, log = await second.ended()
        assert status == 1
        assert log.count("in use by another range-adapter") == 1
        assert len(await running.pids()) == 3


def refuses(running: Crew) -> bool:
    wire = Wire(running.url)
    with socket.socket() as sock:
        return sock.connect_ex((wire.host, wire.port)) != 0
