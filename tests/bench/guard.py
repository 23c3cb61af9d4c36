"""The regression guard: how many instructions the adapter needs for a warm request, counted by callgrind.

Two counts differ by less than a hundredth whatever else the machine does, so a few per cent more show; seconds, and
the ratio to nginx's, vary by a fifth on a busy machine.  The kernel's half is not counted: `compare` sees that.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.load import Load, Order
from tests.bench.machine import program
from tests.bench.requests import KiB, MiB, Thing, head, slices
from tests.bench.servers import Server, alone

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIMITS = {
    ("3.11", KiB): 182_000,
    ("3.11", 64 * KiB): 194_000,
}
"""For a version of Python and a length of slice: a quarter more than it takes.  To be lowered when it takes less."""

FILM = Thing("film.mp4", 4 * MiB)
COUNT = 150
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """On slices of `length` bytes.  It holds without a limit, as for a version of Python that has none yet."""

    length: int
    instructions: int
    limit: int | None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.instructions <= self.limit

    def __str__(self) -> str:
        found = f"warm slice, {self.length // KiB} KiB: {self.instructions:,} instructions"
        if self.limit is None:
            return f"{found}; no limit is known for Python {PYTHON}"
        return f"{found}, {'at most' if self.holds else 'but at most'} {self.limit:,} are allowed"


def why_not() -> str | None:
    """What is missing here, if anything."""
    missing = [name for name in ("valgrind", "callgrind_control") if program(name) is None]
    return f"{missing[0]} is not installed (Debian: apt install valgrind)" if missing else None


def verdicts(folder: Path) -> Iterator[Verdict]:
    """One for each length of slice."""
    with _counted(folder) as server, Load(None) as load:
        for length in (KiB, 64 * KiB):
            counts = []
            for seed in range(ROUNDS + 1):
                requests = [head(server.port, FILM, each) for each in slices(FILM, length, COUNT, seed)]
                load.carry_out(Order(server.port, requests, 206, server.processes, 1, once=True))
                counts.append(_count(server, folder) // COUNT)
            # The first has to fetch, or to get warm.
            yield Verdict(length, int(median(counts[1:])), LIMITS.get((PYTHON, length)))


@contextmanager
def _counted(folder: Path) -> Iterator[Server]:
    """The adapter, its instructions counted from here on: its start would take a minute."""
    counting = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
    with alone(folder, under=["env", "PYTHONHASHSEED=0", "valgrind", *counting]) as server:
        _control(server, "--instr=on")
        yield server


def _count(server: Server, folder: Path) -> int:
    """Instructions since the last time."""
    _control(server, "--dump")
    newest = max(folder.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
    found = re.search(r"^(?:summary|totals): (\d+)", newest.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _control(server: Server, order: str) -> None:
    subprocess.run(["callgrind_control", order, str(server.roots[0])], check=True, capture_output=True)
