"""What a cold object costs its clients, beside what physics allows."""

import asyncio
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.table import Table

from tests.bench.stage import Stage, set_stage

MiB = 1 << 20
GiB = 1 << 30
RATE = 8 * MiB
SIZE = 32 * MiB

Row = tuple[str, str, str, bool]
"""What was measured, the figure, what it should be, and whether it is."""

Scenario = Callable[[Stage], Awaitable[list[Row]]]


async def cold_seek(stage: Stage) -> list[Row]:
    target = stage.new_object(SIZE, RATE)
    middle, first = await asyncio.gather(
        stage.read(target, SIZE // 2, SIZE // 2 + 1000, size=SIZE), stage.read(target, 0, 1000, size=SIZE)
    )
    return [
        _late("cold, range at 16 MiB of 32 at 8 MiB/s: first byte", middle.first_byte, 2.0, middle.right),
        _late("the same moment, bytes=0-999: first byte", first.first_byte, 0.0, first.right),
    ]


async def ten_offsets(stage: Stage) -> list[Row]:
    target, before = stage.new_object(SIZE, RATE), stage.requests
    offsets = [SIZE * tenth // 10 for tenth in range(10)]
    readings = await asyncio.gather(*(stage.read(target, at, at + 1000, size=SIZE) for at in offsets))
    worst = max(reading.first_byte - at / RATE for reading, at in zip(readings, offsets, strict=True))
    right = all(reading.right for reading in readings)
    return [
        _late("ten cold clients at ten offsets: worst first byte, over offset/rate", worst, 0.0, right),
        _requests("... origin requests", stage, before),
    ]


async def two_hundred(stage: Stage) -> list[Row]:
    target, before = stage.new_object(SIZE, RATE), stage.requests
    readings = await asyncio.gather(*(stage.read(target, size=SIZE) for _ in range(200)))
    right = sum(reading.right for reading in readings)
    return [
        ("200 cold clients at once, whole object: right", f"{right}", "200", right == 200),
        _requests("... origin requests", stage, before),
    ]


async def late_joiner(stage: Stage) -> list[Row]:
    target = stage.new_object(SIZE, RATE)
    first = asyncio.create_task(stage.read(target, size=SIZE))
    middle = await stage.read(target, SIZE // 2, SIZE // 2 + 1, size=SIZE)
    second = await stage.read(target, 0, SIZE // 2, size=SIZE)
    right = middle.right and second.right and (await first).right
    return [
        _late("second client at 0 while the fill is at the middle: first byte", second.first_byte, 0.0, right)
    ]


async def thousand_readers(stage: Stage) -> list[Row]:
    size = 8 * MiB
    target, before, cpu = stage.new_object(size, size // 4), stage.requests, stage.cpu_seconds()
    readings = await asyncio.gather(*(stage.read(target, size=size) for _ in range(1000)))
    right = sum(reading.right for reading in readings)
    used = stage.cpu_seconds() - cpu
    return [
        ("1,000 readers of one growing object of 8 MiB: right", f"{right}", "1000", right == 1000),
        ("... processor time", f"{used:.1f} s for {size * 1000 / GiB:.1f} GiB", "", True),
        _requests("... origin requests", stage, before),
    ]


async def four_gigabytes(stage: Stage) -> list[Row]:
    size = 4 * GiB
    cpu = stage.cpu_seconds()
    reading = await stage.read(stage.new_object(size, 0), size=size)
    used, peak = stage.cpu_seconds() - cpu, stage.peak_memory()
    return [
        ("4 GiB cold, one client: right", str(reading.right), "True", reading.right),
        ("... resident memory at its peak", f"{peak / MiB:.0f} MiB", "< 95 MiB", peak < 100_000_000),
        ("... processor time for fetch, store and send", f"{used / 4:.2f} s/GiB", "", True),
    ]


def _late(what: str, seconds: float, expected: float, right: bool, *, within: float = 0.25) -> Row:
    figure = f"{seconds:.2f} s" if right else "wrong bytes"
    return what, figure, f"{expected:.2f} s", right and seconds <= expected + within


def _requests(what: str, stage: Stage, before: int) -> Row:
    count = stage.requests - before
    return what, str(count), "1", count == 1


async def main() -> int:
    """Measure and show; the exit status."""
    console = Console()
    table = Table("what", "figure", "should be", "", title="Cold objects")
    scenarios: list[tuple[str, Scenario]] = [
        ("memory", four_gigabytes),  # first: the peak is that of the whole process' life
        ("seek", cold_seek),
        ("offsets", ten_offsets),
        ("stampede", two_hundred),
        ("late joiner", late_joiner),
        ("readers", thousand_readers),
    ]
    good = True
    async with set_stage() as stage:
        for name, scenario in scenarios:
            with console.status(f"{name} ..."):
                rows = await scenario(stage)
            for what, figure, expected, holds in rows:
                good = good and holds
                table.add_row(what, figure, expected, "yes" if holds else "[red]no[/]")
    console.print(table)
    return 0 if good else 1
