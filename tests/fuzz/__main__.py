"""`make fuzz`: each target for a while under atheris, and a table of what was found."""

import argparse
import asyncio
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(".artifacts") / "fuzz"
"""Where inputs go that taught the fuzzer something, and those that broke something."""
LONGEST = 4096
"""Bytes of an input."""
SLOW = 10
"""Seconds after which one input hangs."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one target."""

    target: str
    executions: int
    broken: tuple[Path, ...]
    said: str


async def fuzz(target: str, seconds: int) -> Run:
    """Run one target in a process of its own: it ends with the first thing that it finds."""
    learned = FOUND / target / "corpus"
    learned.mkdir(parents=True, exist_ok=True)
    before = set((FOUND / target).glob("*-*"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fuzz.run", target, str(learned), str(CORPUS / target)),
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOW}"),
        *(f"-artifact_prefix={FOUND / target}/", "-print_final_stats=1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode("utf-8", "replace")
    counted = re.findall(r"number_of_executed_units: (\d+)", said)
    broken = tuple(sorted(set((FOUND / target).glob("*-*")) - before))
    return Run(target, int(counted[-1]) if counted else 0, broken, said if process.returncode else "")


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time (default: 2)")
    given = parser.parse_args()
    if unknown := [target for target in given.targets if target not in TARGETS]:
        parser.error(f"there is no target {unknown[0]!r}")
    console = Console()
    if importlib.util.find_spec("atheris") is None:
        console.print("Skipped: there is no atheris here; its wheels are for Linux and CPython 3.11 to 3.13.")
        return 0
    places = asyncio.Semaphore(given.jobs)

    async def run(target: str) -> Run:
        async with places:
            done = await fuzz(target, given.seconds)
        console.print(f"{target}: {done.executions:,} executions", "[red]broken[/]" if done.said else "")
        return done

    runs = await asyncio.gather(*(run(target) for target in given.targets or TARGETS))
    table = Table("target", "executions", "broken by", title=f"Fuzzed for {given.seconds} s each")
    for each in runs:
        table.add_row(each.target, f"{each.executions:,}", "\n".join(map(str, each.broken)))
    console.print(table)
    for each in runs:
        if each.said:
            console.print(f"{each.target}:\n{each.said[-3000:]}", markup=False, highlight=False)
    return 1 if any(each.said for each in runs) else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
