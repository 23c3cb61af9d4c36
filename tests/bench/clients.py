"""What a connection costs in memory, with ten thousand of them."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench.crowd import Crowd, room_for_descriptors
from tests.bench.figures import Missing
from tests.bench.load import anybody
from tests.bench.requests import KiB, MiB, Thing, film
from tests.bench.servers import Server, Settings, alone

MANY = 10_000
FEW = 1_000
TARGET = 20_000
"""Bytes that each connection may cost; with TLS, what OpenSSL keeps for it comes on top."""
BEFORE = 200
"""Connections that are there before: what the first ones cost is not what each costs."""
WATCHED = 16.0
"""Seconds for which they are watched."""
PAGE, RECORD = 4096, 32768
"""The least that clients have in their receive buffers, where the kernel reads in their place."""
RESERVE = 64
"""Files that we need for something else."""

FILM = Thing("film.mp4", 16 * MiB)
SLOW = Thing("slow.mp4", 64 * KiB)
SLOWLY = "&piece=512"
SLOW_RATE = 128
"""Bytes a second at which the second object grows; 512 of them every four seconds."""
PATIENT: Settings = {
    "server": {
        "limits": {"connections": 2 * MANY, "connections_per_client": 2 * MANY, "send_rate": "0B"},
        "timeouts": {"keep_alive": "10m", "send_idle": "10m"},
    }
}
"""Clients as slow as ours would be cut off, and so many of one address not be taken."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What each of the clients does: `request`, and take at most `a_second` bytes a second of the answer."""

    what: str
    target: str
    fields: dict[str, str]
    a_second: int
    streams: bool
    """Is there always more to come?"""
    tls: bool = False

    def request(self, port: int) -> str:
        lines = [f"GET {self.target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in self.fields.items()), "", ""])


SCENES = (
    Scene("idle, after 1 KiB", FILM.target, film(FILM, 0, KiB), 64 * KiB, False),
    Scene("reads 1 KiB/s of what is stored", FILM.target, film(FILM, 0, FILM.size), KiB, True),
    Scene(
        f"follows what grows by {SLOW_RATE} B/s",
        SLOW.target.replace("rate=0", f"rate={SLOW_RATE}") + SLOWLY,
        film(SLOW, 0, SLOW.size),
        64 * KiB,
        True,
    ),
    Scene("TLS: reads 4 KiB/s of what is stored", FILM.target, film(FILM, 0, FILM.size), 4 * KiB, True, True),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of `connections` at the same time: `each` in bytes of resident memory, all in all `resident`.

    `other`: seconds that one more client waited meanwhile for 1 KiB, at the worst of some attempts.
    """

    connections: int
    resident: int
    each: float
    other: float
    workers: int = 1


def measure(scene: Scene, count: int, progress: Progress, folder: Path) -> Cost | Missing:
    """Each scene has an adapter of its own: memory that was used once is not always given back.

    It has two workers where one process may not open so many files.

    RuntimeError, OSError: a connection was refused or ended, or brought something wrong or nothing.
    """
    for workers in (None, 2):
        own = folder / str(workers or 1)
        own.mkdir()
        with alone(own, settings=PATIENT, tls=scene.tls, workers=workers) as server:
            port, context = (server.tls, anybody()) if scene.tls else (server.port, None)
            if port is None:
                return Missing("this version has no TLS listener")
            room = int(server.metric("range_adapter_max_connections") or BEFORE + count) - BEFORE
            if room < count and workers is None:
                continue
            for _ in range(2):  # from the second request on, the object is known to the warm lane
                server.get(FILM.target, {}, tls=scene.tls)
            buffer = RECORD if scene.tls else PAGE  # a record is there when all of it is
            with Crowd(port, scene.request(port), 206, tls=context, buffer=buffer) as crowd:
                return replace(_cost(crowd, scene, min(room, count), server, progress), workers=workers or 1)
    raise AssertionError("two workers have been measured, however few connections they can have")


def _cost(crowd: Crowd, scene: Scene, most: int, server: Server, progress: Progress) -> Cost:
    with _task(progress, scene.what, most) as tell:
        crowd.grow(BEFORE, tell)
        crowd.answered(tell)
        crowd.drive(3.0, scene.a_second)
        before = server.resident()
        crowd.grow(BEFORE + most, tell)
        crowd.answered(tell)
    first, resident, other = crowd.progress(), server.resident(), 0.0
    with _task(progress, "... watched", int(WATCHED)) as tell:
        for second in range(int(WATCHED)):
            crowd.drive(1.0, scene.a_second)
            resident = max(resident, server.resident())
            begun = time.perf_counter()
            server.get(FILM.target, film(FILM, 4096, 4096 + KiB))
            other = max(other, time.perf_counter() - begun)
            tell(second)
    crowd.check()
    if scene.streams and (stuck := sum(a == b for a, b in zip(first, crowd.progress(), strict=True))):
        raise RuntimeError(f"{stuck} of {len(crowd)} connections got nothing in {WATCHED:.0f} s")
    return Cost(most, resident, (resident - before) / most, other)


@contextmanager
def _task(progress: Progress, what: str, total: int) -> Iterator[Callable[[int], None]]:
    task = progress.add_task(what, total=total)
    try:
        yield lambda done: progress.update(task, completed=done)
    finally:
        progress.remove_task(task)


def measure_all(console: Console, *, quick: bool, folder: str | None) -> tuple[Table, bool]:
    """What was found, and whether each connection costs less than it may, as far as that was measured."""
    wanted = FEW if quick else MANY
    count = min(wanted, room_for_descriptors() - RESERVE - BEFORE)
    table = Table(title="Memory for each connection", box=box.SIMPLE_HEAD, caption_justify="left")
    for column in ("each client", "connections", "resident", "each", "at most", "", "one more waits"):
        table.add_column(column, justify="left" if column == "each client" else "right")
    good, notes = True, list[str]()
    with Progress(console=console, transient=True) as progress:
        for scene in SCENES:
            with tempfile.TemporaryDirectory(prefix="range-adapter-bench-", dir=folder) as own:
                try:
                    cost = measure(scene, count, progress, Path(own))
                except (RuntimeError, OSError) as error:
                    table.add_row(scene.what, "", "", "", "", "[red]no[/]")
                    notes.append(f"{scene.what}: {error}")
                    good = False
                    continue
            if isinstance(cost, Missing):
                table.add_row(scene.what, "not measured")
                notes.append(f"not measured: {scene.what}: {cost.why}")
                continue
            holds = scene.tls or cost.each < TARGET
            good = good and holds
            table.add_row(
                scene.what,
                f"{cost.connections:,}",
                f"{cost.resident / MiB:.0f} MiB",
                f"{cost.each / 1000:.1f} kB",
                "" if scene.tls else f"{TARGET // 1000} kB",
                "" if scene.tls else "yes" if holds else "[red]no[/]",
                f"{1e3 * cost.other:.0f} ms",
            )
            if cost.workers > 1:
                notes.append(
                    f"{scene.what}: by {cost.workers} workers, as one process may not open so many files"
                )
            if cost.connections < wanted:
                notes.append(f"{scene.what}: no {wanted:,}: the limit of open files allows no more")
    table.caption = "\n".join(notes)
    return table, good
