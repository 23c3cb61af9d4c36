"""How long clients wait for what is in memory, while another one reads what only the disk has."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench import machine
from tests.bench.compare import FILM, OTHER
from tests.bench.figures import Missing, percentile
from tests.bench.load import Load, Order
from tests.bench.origin import slice_of
from tests.bench.requests import KiB, MiB, film, head, segment, slices
from tests.bench.servers import Server, running

LENGTH = 64 * KiB
"""Of a slice that somebody waits for."""
COLD = 8 * MiB
"""Of one that the disk has."""
CLIENTS = 7
ROUNDS, QUICK_ROUNDS = 9, 2


@dataclass(slots=True)
class Waits:
    """Seconds from a request to the end of its answer: with all in memory, and while one client reads cold slices."""

    warm: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)


def measure(
    servers: Mapping[str, Server], load: Load, rounds: int, tell: Callable[[str], None]
) -> dict[str, Waits | Missing]:
    """Each round all servers in turn: the same load twice, and before the second the page cache is emptied."""
    found: dict[str, Waits | Missing] = {}
    for name, server in servers.items():
        right = all(server.get(each.target, segment())[2] == slice_of(0, each.size) for each in (FILM, OTHER))
        found[name] = Waits() if right else Missing("wrong answers")
        if not server.files:
            found[name] = Missing("it keeps its objects in memory")
    for number in range(rounds):
        for name, server in servers.items():
            waits = found[name]
            if isinstance(waits, Missing):
                continue
            tell(f"{name}, round {number + 1} of {rounds}")
            order = _order(server, number)
            warm = load.carry_out(order).latencies
            if not machine.forget(server.file_of(OTHER.size)):
                found[name] = Missing("the page cache keeps what it is told to drop (tmpfs?)")
                continue
            waits.warm += warm
            waits.cold += load.carry_out(
                replace(order, seconds=0.0)
            ).latencies  # one lap: the next would be warm
    return found


def _order(server: Server, seed: int) -> Order:
    """The slices of the other object are not asked for in their order, against reading ahead."""
    count = OTHER.size // COLD
    starts = [(5 * number + seed) % count * COLD for number in range(count)]
    beside = [head(server.port, OTHER, film(OTHER, start, start + COLD)) for start in starts]
    asked = [head(server.port, FILM, each) for each in slices(FILM, LENGTH, 1000, seed)]
    return Order(server.port, asked, 206, server.processes, CLIENTS, 0.5, beside=beside)


def table(found: Mapping[str, Waits | Missing]) -> Table:
    shown = Table(
        title=f"{CLIENTS} clients, warm slices of {LENGTH // KiB} KiB: how long each waits, in ms",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("", no_wrap=True)
    for when in ("all warm", "one reads cold"):
        for what in ("median", "99 %", "longest"):
            shown.add_column(f"{when}:\n{what}", justify="right")
    for name, waits in found.items():
        match waits:
            case Missing(why):
                shown.add_row(name, *["not measured"] * 6)
                shown.caption = f"{shown.caption or ''}not measured: {name}: {why}\n"
            case Waits(warm, cold):
                shown.add_row(name, *_cells(warm), *_cells(cold))
    return shown


def _cells(latencies: list[float]) -> list[str]:
    values = (median(latencies), percentile(latencies, 0.99), max(latencies))
    return [f"{1e3 * value:.2f}" for value in values]


def main(console: Console, *, quick: bool, folder: str | None) -> None:
    """Measure and show."""
    measured, core_of_load = machine.cores()
    if measured is None:
        console.print("stalls: not measured: the load would share the only core with what it measures")
        return
    with (
        tempfile.TemporaryDirectory(prefix="range-adapter-bench-", dir=folder) as own,
        running(measured, core_of_load, Path(own)) as (servers, missing),
        Load(core_of_load) as load,
        console.status("...") as status,
    ):
        rounds = QUICK_ROUNDS if quick else ROUNDS
        found = measure(servers, load, rounds, lambda what: status.update(f"{what} ..."))
    console.print(table(found | missing))
