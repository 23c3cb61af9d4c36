"""How the costs of a spool grow with what is stored: 10 k, 100 k and 1 M objects."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from proxy.spool.folder import Paths
from tests.bench.figures import Missing
from tests.bench.inside import Reading
from tests.bench.load import Load, Order
from tests.bench.machine import clocks, forget
from tests.bench.origin import slice_of
from tests.bench.requests import head, segment
from tests.bench.servers import Server, Settings, alone
from tests.bench.stuffing import HOST, SIZE, made_after, only_entry, stuff, thing, write_files

SIZES = (10_000, 100_000, 1_000_000)
MEMORY = 150_000_000
"""Bytes that the adapter may be resident with, at its peak."""
GROWTH = 2.0
"""How many times as much something may cost with the most objects as with the fewest: the index' tree is deeper, and
less of it is in memory."""
ON_DISK = 12_000
"""Bytes that each object takes here: two blocks, and its rows."""
HITS = 2_000
BLOCKS = 12
QUIET: Settings = {"spool": {"scrub_rate": "0B"}}
"""The search for rot would count as well, and goes on for as long as we are here."""


@dataclass(frozen=True, slots=True)
class Start:
    """From the start of the process to the end of the first hit: seconds by the clock, and of processor time."""

    waited: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Row:
    """With so many objects: what is measured within one process, and of an adapter that is started twice."""

    stored: int
    inside: Reading
    start: Start
    """After an orderly end."""
    start_killed: Start
    """After SIGKILL."""
    hit: float
    """Processor seconds of a hit; each is of an object that was not asked for before."""
    sweep: float
    """Seconds from the start after SIGKILL until all that lies there had been found, the last of it too."""
    memory: int
    """Bytes that the adapter was resident with at its peak: start, hits and sweep."""
    forgotten: bool
    """Had the index left the page cache before the starts?"""


Tell = Callable[[int], None]
Show = Callable[[str, int], "_Shown"]


class _Shown:
    """A context with the bar of one task; gives what moves it."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress, self._what, self._total = progress, what, total

    def __enter__(self) -> Tell:
        self._task = self._progress.add_task(self._what, total=self._total)
        return lambda done: self._progress.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.remove_task(self._task)


def measure(folder: Path, sizes: Sequence[int], show: Show) -> Iterator[Row | Missing]:
    """One spool, which grows."""
    with alone(folder) as server:
        server.get(thing(0).target, {"Host": HOST})
    root, stored = folder / "spool", 1
    template = only_entry(root)
    for size in sizes:
        if why := _no_room(root, size - stored):
            yield Missing(f"{size:,} objects: {why}")
            return
        with show(f"{size:,}: objects", size) as tell:
            stuff(root, template, range(stored, size), tell)
        stored = size
        with show(f"{size:,}: spool", 1):
            command = [sys.executable, "-m", "tests.bench.inside", str(root), str(size), str(BLOCKS)]
            inside = Reading(**json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        with show(f"{size:,}: adapter", 2) as tell:
            forgotten = forget(Paths(root).index)
            with _started(folder) as (server, start):
                hit = _hits(server, size)
                objects, memory = server.metric("range_adapter_spool_objects"), _peak(server)
                os.kill(server.roots[0], signal.SIGKILL)
            tell(1)
            # What the index does not know, in the folder that the sweep comes to last.
            write_files(Paths(root), made_after(template, -size, f"{'f' * 20}{size:012x}"), slice_of(0, SIZE))
            forgotten = forget(Paths(root).index) and forgotten
            begun = time.perf_counter()
            with _started(folder) as (server, killed):
                assert objects is not None
                while (server.metric("range_adapter_spool_objects") or 0) <= objects:
                    time.sleep(0.1)
                sweep = time.perf_counter() - begun
                memory = max(memory, _peak(server))
        yield Row(size, inside, start, killed, hit, sweep, memory, forgotten)


@contextmanager
def _started(folder: Path) -> Iterator[tuple[Server, Start]]:
    """The adapter, once it has answered."""
    begun = time.perf_counter()
    with alone(folder, settings=QUIET) as server:
        status, fields, _ = server.get(thing(5_000).target, {"Host": HOST, **segment()})
        start = Start(time.perf_counter() - begun, sum(clocks(server.processes).values()))
        assert (status, ";hit" in fields["cache-status"]) == (200, True), fields
        yield server, start


def _hits(server: Server, stored: int) -> float:
    """Processor seconds of each."""
    numbers = random.Random(stored).sample(range(stored // 10, stored), HITS)
    requests = [head(server.port, thing(each), segment(), host=HOST) for each in numbers]
    with Load(None) as load:
        outcome = load.carry_out(Order(server.port, requests, 200, server.processes, once=True))
    return outcome.cpu / outcome.requests


def _peak(server: Server) -> int:
    status = Path(f"/proc/{server.roots[0]}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _no_room(root: Path, more: int) -> str | None:
    """Why so many more objects cannot lie there."""
    disk, room = os.statvfs(root), shutil.disk_usage(root).free
    if disk.f_files > 0 and disk.f_favail < 2 * more + 10_000:
        return f"they need {2 * more:,} files, and the disk has room for {disk.f_favail:,}"
    if room < ON_DISK * more + (1 << 30):
        return f"they need {ON_DISK * more / 1e9:.0f} GB of disk, and {room / 1e9:.0f} GB are free (--folder)"
    return None


def table(rows: Sequence[Row]) -> tuple[Table, bool]:
    """What was found, and whether it is as it should be."""
    shown = Table(title="What a spool costs as it grows", box=box.SIMPLE_HEAD)
    shown.add_column("")
    for row in rows:
        shown.add_column(f"{row.stored:,} objects", justify="right")
    shown.add_column("should be", justify="right")
    shown.add_column("")
    good = True
    for what, unit, of, most in LINES:
        figures = [of(row) for row in rows]
        least = figures[0] if figures else 0.0
        limit, text = (most, f"at most {most:.0f} {unit}") if most else (GROWTH * least, "constant")
        holds = all(figure <= limit for figure in figures)
        good = good and holds
        cells = (f"{figure:,.1f} {unit}" if figure < 10 else f"{figure:,.0f} {unit}" for figure in figures)
        shown.add_row(what, *cells, text, "yes" if holds else "[red]no[/]")
    for what, seconds in CLOCKED:
        shown.add_row(what, *(f"{seconds(row):,.1f} s" for row in rows), "", "")
    return shown, good


LINES: tuple[tuple[str, str, Callable[[Row], float], float | None], ...] = (
    ("start to first hit", "ms", lambda row: 1e3 * row.start.cpu, None),
    ("... after SIGKILL", "ms", lambda row: 1e3 * row.start_killed.cpu, None),
    ("the spool alone: open", "ms", lambda row: 1e3 * row.inside.opened, None),
    ("... lookup", "us", lambda row: 1e6 * row.inside.lookup, None),
    ("... admission", "us", lambda row: 1e6 * row.inside.admission, None),
    ("... admission and eviction of another", "us", lambda row: 1e6 * row.inside.eviction, None),
    ("hit over HTTP, each on another object", "us", lambda row: 1e6 * row.hit, None),
    ("memory at its peak, the sweep included", "MB", lambda row: row.memory / 1e6, MEMORY / 1e6),
)
"""What, in which unit, of a row, at most (None: about the same for all)."""

CLOCKED: tuple[tuple[str, Callable[[Row], float]], ...] = (
    ("by the clock: start to first hit", lambda row: row.start.waited),
    ("... after SIGKILL", lambda row: row.start_killed.waited),
    ("... until all is found, in the background", lambda row: row.sweep),
)
"""What, of a row; for the reader to judge: this depends on what else the machine does."""


def measure_all(console: Console, *, quick: bool, folder: str | None) -> tuple[Table, bool]:
    """What was found, and whether nothing grows that should not."""
    sizes = SIZES[:-1] if quick else SIZES
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows, notes = list[Row](), list[str]()
    with (
        tempfile.TemporaryDirectory(prefix="range-adapter-bench-", dir=folder) as own,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        for found in measure(Path(own), sizes, lambda what, total: _Shown(progress, what, total)):
            if isinstance(found, Missing):
                notes.append(f"not measured: {found.why}")
            else:
                rows.append(found)
        progress.add_task("cleaning up", total=None)
    shown, good = table(rows)
    was = "not in the page cache" if all(row.forgotten for row in rows) else "in memory all the time (tmpfs?)"
    notes.append(f"Processor time, but for the last three; at each start the index was {was}.")
    shown.caption, shown.caption_justify = "\n".join(notes), "left"
    return shown, good
