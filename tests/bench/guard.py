"""The regression guard: how many instructions the adapter needs for a warm request, counted by callgrind.

Two counts differ by less than a hundredth whatever else the machine does, so a few per cent more show; seconds, and
the ratio to nginx's, vary by a fifth on a busy machine.  The kernel's half is not counted: `compare` sees that.
"""

import re
import subprocess
import sys
import time
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
    ("3.11", KiB): 142_000,
    ("3.11", 64 * KiB): 138_000,
}
"""For a version of Python and a length of slice: a quarter more than it takes on a busy machine, where log lines are
written in smaller batches.  To be lowered when it takes less.
"""
OF_TWO = 1.25
"""What two workers may take of what one process takes: 1.04 was found, and 1.16 with four programs on two cores."""

FILM = Thing("film.mp4", 4 * MiB)
COUNT = 150
ROUNDS = 3
MANY, CONNECTIONS = 1000, 16
"""Requests and connections where there are two workers, for each to have some."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On `what`.  It holds without a limit, as for a version of Python that has none yet."""

    what: str
    instructions: int
    limit: int | None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.instructions <= self.limit

    def __str__(self) -> str:
        found = f"{self.what}: {self.instructions:,} instructions"
        if self.limit is None:
            return f"{found}; no limit is known for Python {PYTHON}"
        return f"{found}, {'at most' if self.holds else 'but at most'} {self.limit:,} are allowed"


def why_not() -> str | None:
    """What is missing here, if anything."""
    missing = [name for name in ("valgrind", "callgrind_control") if program(name) is None]
    return f"{missing[0]} is not installed (Debian: apt install valgrind)" if missing else None


def verdicts(folder: Path) -> Iterator[Verdict]:
    """One for each length of slice, and one on two workers."""
    with Load(None) as load:
        with _counted(folder / "one", None) as counter:
            for length in (KiB, 64 * KiB):
                counts = [counter.each(load, length, COUNT, 1, seed) for seed in range(ROUNDS + 1)]
                # The first has to fetch, or to get warm.
                limit = LIMITS.get((PYTHON, length))
                yield Verdict(f"warm slice, {length // KiB} KiB", int(median(counts[1:])), limit)
            one = median(counter.each(load, KiB, MANY, CONNECTIONS, seed) for seed in range(ROUNDS))
        with _counted(folder / "two", 2) as counter:
            counts = [counter.each(load, KiB, MANY, CONNECTIONS, seed) for seed in range(2 * ROUNDS)]
            yield Verdict("the same by two workers", int(median(counts[ROUNDS:])), int(OF_TWO * one))


class _Counter:
    """Of the instructions of all that serve, callgrind's files in `folder`."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder
        self._counted = server.processes
        self._control("--instr=on")  # not before: its start would take a minute

    def each(self, load: Load, length: int, count: int, connections: int, seed: int) -> int:
        """Instructions of one request, without those that are needed in the same time anyway: callgrind is slow, and
        few requests share a second's.
        """
        server = self._server
        requests = [head(server.port, FILM, each) for each in slices(FILM, length, count, seed)]
        self._since()
        took = load.carry_out(
            Order(server.port, requests, 206, server.processes, connections, once=True)
        ).seconds
        needed = self._since()
        time.sleep(took)
        return (needed - self._since()) // count

    def _since(self) -> int:
        """Instructions since the last time."""
        self._control("--dump")
        return sum(map(self._newest, self._counted))

    def _newest(self, process: int) -> int:
        dumps = self._folder.glob(f"counts.{process}.*")
        newest = max(dumps, key=lambda path: int(path.suffix[1:]))
        found = re.search(r"^(?:summary|totals): (\d+)", newest.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def _control(self, order: str) -> None:
        for process in self._counted:
            subprocess.run(["callgrind_control", order, str(process)], check=True, capture_output=True)


@contextmanager
def _counted(folder: Path, workers: int | None) -> Iterator[_Counter]:
    folder.mkdir()
    counting = ["--tool=callgrind", "--trace-children=yes", "--instr-atstart=no"]
    counting.append(f"--callgrind-out-file={folder}/counts.%p")
    command = ["env", "PYTHONHASHSEED=0", "valgrind", *counting]
    with alone(folder, under=command, workers=workers) as server:
        yield _Counter(server, folder)
