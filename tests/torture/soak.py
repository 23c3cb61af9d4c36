"""Many requests of all kinds, an origin that fails now and then: what is left of them in the end is nothing."""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.torture.adapter import Adapter
from tests.torture.client import Client, change
from tests.torture.injuries import CUTS, LIES, Injury, Lie
from tests.torture.items import Item, assortment
from tests.torture.kill import settings, settle
from tests.torture.origin import Origin
from tests.torture.report import Show, Tally
from tests.torture.truth import History

CLIENTS: Final = 12
FAILS: Final = 0.15
"""Of the origin's responses, so many are injured."""
PATIENCE: Final = {"connect": "1s", "first_byte": "1s", "idle": "1s"}
HANG: Final = 40.0
MIB: Final = 1 << 20

# What may be more in the end than after the warm-up, and why.
POOLED: Final = 32
"""Sockets: connections to the origin are kept open for the next request."""
THREADS: Final = 8
"""Threads: those of an executor begin when they are needed, and stay."""
MEMORY: Final = 40 * MIB
"""Resident bytes: allocators keep what they had."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the process takes.  `deleted` are open files without a name; `bodies` those that are kept open."""

    sockets: int
    bodies: int
    deleted: int
    others: int
    threads: int
    resident: int

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        """As /proc shows it now."""
        targets = list(_descriptors(pid))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        sockets = sum(target.startswith("socket:") for target in targets)
        deleted = sum(target.endswith("(deleted)") for target in targets)
        bodies = sum(target.endswith(".body") for target in targets)
        others = len(targets) - sockets - deleted - bodies
        threads, resident = int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024
        return cls(sockets, bodies, deleted, others, threads, resident)

    def grown_to(self, end: "Footprint", stored: int) -> Iterator[str]:
        """What has become more than it may; `stored` is how many objects there are."""
        if end.sockets > self.sockets + POOLED:
            yield f"{self.sockets} sockets became {end.sockets}"
        if end.bodies > stored:
            yield f"{end.bodies} bodies are open, and {stored} objects are stored"
        if end.deleted:
            yield f"{end.deleted} files are open that have no name"
        if end.others > self.others:
            yield f"{self.others} other descriptors became {end.others}"
        if end.threads > self.threads + THREADS:
            yield f"{self.threads} threads became {end.threads}"
        if end.resident > self.resident + MEMORY:
            yield f"{self.resident / MIB:.0f} MiB became {end.resident / MIB:.0f}"

    def __str__(self) -> str:
        return (
            f"{self.sockets} sockets, {self.bodies} bodies, {self.others} others, {self.threads} threads, "
            f"{self.resident / MIB:.0f} MiB"
        )


def _descriptors(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            yield os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            pass  # closed just now


async def soak(
    console: Console,
    folder: Path,
    *,
    requests: int,
    seed: int,
    seconds: float = float("inf"),
    items: list[Item] | None = None,
) -> Tally:
    """So many answers; a fifth of them is the warm-up."""
    dice, tally = random.Random(seed), Tally("soak", seed)
    injuries: tuple[Injury, ...] = (*CUTS, *(lie for lie in LIES if lie is not Lie.NO_CONNECTION))

    def injure(history: History) -> Injury | None:
        return dice.choice(injuries) if dice.random() < FAILS else None

    async with Origin(assortment(dice) if items is None else items, dice, injure) as origin:
        adapter = Adapter(folder, **settings(folder, origin, timeouts=PATIENCE))
        await adapter.start()
        clients = [
            Client(adapter, origin, tally, random.Random(dice.random()), limit=HANG, fails=True)
            for _ in range(CLIENTS)
        ]
        try:
            with Show(console, "soak", requests) as show:
                await _ask(clients, adapter, origin, dice, tally, show, requests // 5, seconds)
                await settle(adapter, tally)
                before = Footprint.of(adapter.pid)
                await _ask(clients, adapter, origin, dice, tally, show, requests, seconds)
            await settle(adapter, tally)
            after, status = Footprint.of(adapter.pid), await adapter.status()
        finally:
            if await adapter.stop() != 0:
                tally.fault("exit", "the exit status is not 0")
        for text, count in adapter.complaints().items():
            tally.fault("log", f"{count} times: {text}")
        for text in before.grown_to(after, status["spool"]["objects"]):
            tally.fault("leak", text)
    tally.figures = {
        "answers": str(sum(tally.seen.values())),
        "faults of the origin": str(origin.injured),
        "evictions": str(status["spool"]["evictions"]),
        "after the warm-up": str(before),
        "in the end": str(after),
        "request, the longest": f"{max(client.longest for client in clients):.1f} s",
    }
    return tally


async def _ask(
    clients: list[Client],
    adapter: Adapter,
    origin: Origin,
    dice: random.Random,
    tally: Tally,
    show: Show,
    requests: int,
    seconds: float,
) -> None:
    """Until there were so many answers in all; then everybody leaves."""
    shown = sum(tally.seen.values())

    def more() -> bool:
        return sum(tally.seen.values()) < requests and time.monotonic() - tally.begun < seconds

    asking = [asyncio.create_task(client.run(more)) for client in clients]
    while more():
        await change(adapter, origin, dice, tally)
        await asyncio.sleep(dice.uniform(0.02, 0.2))
        count = min(sum(tally.seen.values()), requests)
        show.step(tally, count - shown)
        shown = count
    await asyncio.gather(*asking)
    show.step(tally, requests - shown)
