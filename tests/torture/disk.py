"""A disk that fills and is freed, takes no new names, or loses the spool's folder, while clients fetch and purge.

The disk is a small tmpfs, so that this needs the right to mount one.
"""

import array
import asyncio
import fcntl
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.torture.adapter import HOST, Adapter
from tests.torture.client import Client
from tests.torture.items import Item, assortment
from tests.torture.kill import HANG, change_things, settle
from tests.torture.origin import Origin
from tests.torture.report import Show, Tally
from tests.wire import Wire

CLIENTS: Final = 8
SIZE: Final = 48 << 20
"""Bytes of the disk: less than all items together."""
KILLED: Final = 0.2
"""How often it is killed behind that: what the disk refused to remove must not come back."""
RECOVERS_WITHIN: Final = 15.0
"""Seconds in which something is stored again, once the disk is well."""

_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # linux/fs.h


class Trouble(Enum):
    """What the disk does."""

    FULL = "full"
    FILLING_UP = "filling up"
    NO_NAMES = "no new names, as on a read-only disk"
    GONE = "the spool's folder is removed"


async def disk(
    console: Console, folder: Path, *, episodes: int, seed: int, seconds: float = float("inf")
) -> Tally:
    """So many times trouble with the disk."""
    dice, tally = random.Random(seed), Tally("disk", seed)
    mounted = folder / "disk"
    mounted.mkdir(exist_ok=True)
    try:
        with _mounted(mounted):
            await _run(console, folder, mounted, dice, tally, episodes, seconds)
    except (PermissionError, subprocess.CalledProcessError, FileNotFoundError) as error:
        tally.skipped = f"a tmpfs cannot be mounted here: {error}; run it as root"
    return tally


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "torture", str(folder)],
        check=True,
        capture_output=True,
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _run(
    console: Console,
    folder: Path,
    mounted: Path,
    dice: random.Random,
    tally: Tally,
    episodes: int,
    seconds: float,
) -> None:
    spool = mounted / "spool"
    async with Origin(assortment(dice), dice) as origin:
        adapter = Adapter(
            folder,
            spool={"path": str(spool), "max_size": "1GiB", "max_object_size": "16MiB", "min_free": "0B"},
            origins={"legacy": {"url": origin.url}},
        )
        await adapter.start()
        over = asyncio.Event()
        clients = [
            Client(adapter, origin, tally, random.Random(dice.random()), limit=HANG, fails=True)
            for _ in range(CLIENTS)
        ]
        tasks = [asyncio.create_task(client.run(lambda: not over.is_set())) for client in clients]
        tasks.append(asyncio.create_task(change_things(adapter, origin, dice, tally, over)))
        recoveries: list[float] = []
        try:
            with Show(console, "disk", episodes) as show:
                for number in range(episodes):
                    if time.monotonic() - tally.begun > seconds:
                        break
                    trouble = dice.choices(tuple(Trouble), (5, 3, 3, 1))[0]
                    tally.seen_faults[trouble.value] += 1
                    await _TROUBLES[trouble](mounted, spool, dice)
                    if dice.random() < KILLED:
                        await adapter.kill()
                        await adapter.start()
                    recoveries.append(await _recover(adapter, origin, tally, number, trouble))
                    show.step(tally)
            over.set()
            await asyncio.gather(*tasks)
            await settle(adapter, tally)
        finally:
            over.set()
            for task in tasks:
                task.cancel()
            if await adapter.stop() != 0:
                tally.fault("exit", "the exit status is not 0")
        for text, count in adapter.complaints(errors=False).items():
            tally.fault("log", f"{count} times: {text}")
    tally.figures = {
        "episodes": ", ".join(f"{count} {what}" for what, count in tally.seen_faults.items()),
        "stored again after, the longest": f"{max(recoveries, default=0):.1f} s",
        "request, the longest": f"{max(client.longest for client in clients):.1f} s",
    }


# Troubles


async def _full(mounted: Path, spool: Path, dice: random.Random) -> None:
    ballast = mounted / "ballast"
    _fill(ballast, _free(mounted) - dice.choice((0, 4096, 65_536, 1 << 20)))
    await asyncio.sleep(dice.uniform(0.1, 1))
    ballast.unlink()


async def _filling_up(mounted: Path, spool: Path, dice: random.Random) -> None:
    ballast = mounted / "ballast"
    for _ in range(10):
        _fill(ballast, _free(mounted) // 2)
        await asyncio.sleep(dice.uniform(0, 0.1))
    ballast.unlink()


async def _no_names(mounted: Path, spool: Path, dice: random.Random) -> None:
    folders = [name for name, _, _ in os.walk(spool)]
    for each in folders:
        _set_immutable(each, True)
    await asyncio.sleep(dice.uniform(0.1, 1))
    for each in folders:
        _set_immutable(each, False)


async def _gone(mounted: Path, spool: Path, dice: random.Random) -> None:
    await asyncio.to_thread(shutil.rmtree, spool, ignore_errors=True)


_TROUBLES: Final = {
    Trouble.FULL: _full,
    Trouble.FILLING_UP: _filling_up,
    Trouble.NO_NAMES: _no_names,
    Trouble.GONE: _gone,
}


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _fill(ballast: Path, size: int) -> None:
    """Take so many bytes more; fewer where somebody else was faster."""
    fd = os.open(ballast, os.O_RDWR | os.O_CREAT)
    try:
        if size > 0:
            os.posix_fallocate(fd, os.fstat(fd).st_size, size)
    except OSError:
        pass  # it is full already
    finally:
        os.close(fd)


def _set_immutable(folder: str, immutable: bool) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _GET_FLAGS, flags, True)
        flags[0] = flags[0] | _IMMUTABLE if immutable else flags[0] & ~_IMMUTABLE
        fcntl.ioctl(fd, _SET_FLAGS, flags)
    finally:
        os.close(fd)


# Recovery


async def _recover(adapter: Adapter, origin: Origin, tally: Tally, number: int, trouble: Trouble) -> float:
    """How long it takes until something new is stored and found again; it is started anew where it never is."""
    begun = time.monotonic()
    item = Item(path=f"/a/new-{number}.mp4", size=10_000)
    origin.add([item])
    while time.monotonic() - begun < RECOVERS_WITHIN:
        try:
            async with asyncio.timeout(HANG), Wire(adapter.url) as wire:
                await wire.get(item.path, [("Host", HOST)])
                again = await wire.get(item.path, [("Host", HOST), ("Cache-Control", "only-if-cached")])
                if again.status == 200 and "hit" in again.cache_status:
                    return time.monotonic() - begun
        except (OSError, EOFError, TimeoutError):
            pass
        await asyncio.sleep(0.1)
    tally.fault("not recovered", f"nothing is stored any more after: {trouble.value}")
    await adapter.stop()
    await adapter.start()
    return RECOVERS_WITHIN
