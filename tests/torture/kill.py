"""SIGKILL at random instants, while clients fetch, objects change, and what is stored is evicted and purged."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.torture.adapter import HOST, RESUMES, Adapter
from tests.torture.client import Client, change
from tests.torture.items import Item, assortment
from tests.torture.origin import Origin
from tests.torture.report import Show, Tally
from tests.wire import Wire

CLIENTS = 12
HANG = 40.0
"""Seconds after which a request hangs: no time-out of the service is as long, and the origin is in good health."""
READY_WITHIN = 15.0
"""Seconds in which a killed service is back, on any machine."""
SETTLE_WITHIN = 30.0
"""Seconds in which the disk is in order again after the last start."""


def settings(folder: Path, origin: Origin, **origin_settings: Any) -> dict[str, Any]:
    """A spool too small for all that is asked for."""
    return {
        "spool": {
            "path": str(folder / "spool"),
            "max_size": "40MiB",
            "max_object_size": "16MiB",
            "min_free": "0B",
        },
        "origins": {"legacy": {"url": origin.url, **origin_settings}},
    }


async def kill(
    console: Console,
    folder: Path,
    *,
    kills: int,
    seed: int,
    seconds: float = float("inf"),
    items: list[Item] | None = None,
    longest: float = 2.0,
    workers: int = 1,
) -> Tally:
    """Kill it so many times, each time within `longest` seconds after it was ready; of several `workers`, one."""
    dice, tally = random.Random(seed), Tally("kill", seed)
    items = assortment(dice) if items is None else items
    async with Origin(items, dice) as origin:
        adapter = Adapter(folder, workers=workers, **settings(folder, origin))
        starts, hits = [await adapter.start()], list[float]()
        clients = [
            Client(adapter, origin, tally, random.Random(dice.random()), limit=HANG) for _ in range(CLIENTS)
        ]
        over = asyncio.Event()
        tasks = [asyncio.create_task(client.run(lambda: not over.is_set())) for client in clients]
        tasks.append(asyncio.create_task(change_things(adapter, origin, dice, tally, over)))
        try:
            with Show(console, "kill", kills) as show:
                while len(starts) <= kills and time.monotonic() - tally.begun < seconds:
                    await asyncio.sleep(dice.uniform(longest / 10, longest))
                    if workers > 1:
                        starts.append(await adapter.kill_worker(dice))
                    else:
                        await adapter.kill()
                        starts.append(await adapter.start())
                    hits += [hit async for hit in _first_hit(adapter, origin)]
                    show.step(tally)
            over.set()
            await asyncio.gather(*tasks)
            await settle(adapter, tally)
        finally:
            over.set()
            for task in tasks:
                task.cancel()
            status = await adapter.stop()
        if status != 0:
            tally.fault("exit", f"the exit status is {status}")
        for text, count in adapter.complaints().items():
            tally.fault("log", f"{count} times: {text}")
    if max(starts) > READY_WITHIN:
        tally.fault("hang", f"a start took {max(starts):.1f} s")
    tally.figures = {
        "SIGKILLs": str(len(starts) - 1),
        "restart, the longest": f"{max(starts):.2f} s",
        "first hit after a start, the longest": f"{max(hits, default=0) * 1000:.0f} ms of {len(hits)}",
        "request, the longest": f"{max(client.longest for client in clients):.1f} s",
        "requests to the origin": str(origin.requests),
    }
    return tally


async def change_things(
    adapter: Adapter, origin: Origin, dice: random.Random, tally: Tally, over: asyncio.Event
) -> None:
    while not over.is_set():
        await change(adapter, origin, dice, tally)
        await asyncio.sleep(dice.uniform(0.02, 0.2))


async def _first_hit(adapter: Adapter, origin: Origin) -> Any:
    """How long the first of some small items takes that is found to be stored."""
    small = [each.item for each in origin.histories.values() if each.item.size < 100_000]
    for item in small:
        if item.control is None:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(10), Wire(adapter.url) as wire:
                    fields = [("Host", HOST), ("Cache-Control", "only-if-cached")]
                    response = await wire.get(item.path, fields)
            except (OSError, EOFError, TimeoutError):
                return
            if "hit" in response.cache_status and response.status == 200:
                yield time.monotonic() - begun
                return


async def settle(adapter: Adapter, tally: Tally) -> None:
    """Wait until the disk is in order; say what is not."""
    until = time.monotonic() + SETTLE_WITHIN
    while faults := list(disorder(adapter.spool, await adapter.status())):
        if time.monotonic() > until:
            for text in faults:
                tally.fault("leak", text)
            return
        await asyncio.sleep(0.2)


def disorder(spool: Path, status: dict[str, Any]) -> Iterator[str]:
    """What on the disk does not agree with what the service says."""
    bodies = {path.stem: path.stat().st_size for path in (spool / "objects").glob("*/*.body")}
    heads = {path.stem for path in (spool / "objects").glob("*/*.head")}
    figures = status["spool"]
    if status["fills"] or status["requests_in_progress"]:
        yield f"it is still busy: {status['fills']}"
    if figures["stored_bytes"] != sum(bodies.values()) or figures["objects"] != len(bodies):
        yield (
            f"{figures['objects']} objects of {figures['stored_bytes']} bytes are known, "
            f"and {len(bodies)} of {sum(bodies.values())} are there"
        )
    if figures["used_bytes"] != figures["stored_bytes"] + figures["unfinished_bytes"]:
        yield f"{figures['used_bytes']} bytes are used for {figures['stored_bytes']} that are stored"
    if odd := set(bodies) ^ heads:
        yield f"bodies and heads without each other: {sorted(odd)}"
    if new := [str(path) for path in spool.rglob("*.new")]:
        yield f"left over: {new}"
    unfinished = {path.stem for path in (spool / "filling").glob("*.body")}
    if odd_ones := [path.name for path in (spool / "filling").iterdir() if path.stem not in unfinished]:
        yield f"in filling/ without a body: {odd_ones}"
    if unfinished and not RESUMES:
        yield f"in filling/, and nobody is at it: {sorted(unfinished)}"
