"""`make torture`: injure the service, and see that nobody gets a wrong byte."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.torture.disk import disk
from tests.torture.faults import faults
from tests.torture.kill import kill
from tests.torture.report import Tally, print_report
from tests.torture.soak import soak

PARTS = ("kill", "faults", "disk", "soak")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs (default: 100)")
    parser.add_argument("--workers", type=int, default=1, help="of which each SIGKILL hits one (default: 1)")
    parser.add_argument("--faults", type=int, default=1000, help="faults of the origin (default: 1000)")
    parser.add_argument("--disk", type=int, default=100, help="episodes of a sick disk (default: 100)")
    parser.add_argument("--requests", type=int, default=10_000, help="of the soak (default: 10000)")
    parser.add_argument(
        "--seed", type=int, default=None, help="to see a run again, as far as it repeats itself"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end each part after so many")
    parser.add_argument("--folder", type=Path, help="for spools, configs and logs, which then stay")
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    return given


async def main() -> int:
    given, console = _arguments(), Console()
    seed = int(time.time()) if given.seed is None else given.seed
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="range-adapter-torture-") as temporary:
        root = given.folder or Path(temporary)
        for part in given.parts or PARTS:
            folder = root / part
            folder.mkdir(parents=True, exist_ok=True)
            match part:
                case "kill":
                    run = kill(
                        console,
                        folder,
                        kills=given.kills,
                        seed=seed,
                        seconds=given.seconds,
                        workers=given.workers,
                    )
                case "faults":
                    run = faults(console, folder, count=given.faults, seed=seed, seconds=given.seconds)
                case "disk":
                    run = disk(console, folder, episodes=given.disk, seed=seed, seconds=given.seconds)
                case "soak":
                    run = soak(console, folder, requests=given.requests, seed=seed, seconds=given.seconds)
            tallies.append(await run)
    print_report(console, tallies)
    return 0 if all(tally.good for tally in tallies) else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
