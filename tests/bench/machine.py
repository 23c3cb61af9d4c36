"""What a figure depends on: cores, processor time, versions, the day."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def cores() -> tuple[int | None, int | None]:
    """A core for what is measured and one for the load; none where they would have to share."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[-1]) if len(ours) > 1 else (None, None)


def pin(process: int, core: int | None) -> None:
    """Keep a process, and those that it starts from now on, to one core."""
    if core is not None:
        os.sched_setaffinity(process, {core})


def tree(root: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield root
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def clocks(processes: Iterable[int]) -> dict[int, float]:
    """User and system seconds of all threads that each process has or had; without those that are gone.

    By each process' own clock (clock_getcpuclockid(3)): the sum that stands in /proc/PID/stat, but in nanoseconds
    instead of hundredths of a second.
    """
    found = {}
    for process in processes:
        with suppress(OSError):
            found[process] = time.clock_gettime(~process << 3 | 2)
    return found


def used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds from one reading of `clocks` to another, of the processes that saw both."""
    return sum(seconds - before[process] for process, seconds in after.items() if process in before)


PROBES = 16
"""Places of a file that are looked at, for whether it has left memory."""
ATTEMPTS = 20
"""What is on its way to a client stays, for as long as its socket's buffer holds it."""


def forget(path: Path) -> bool:
    """Have a file's bytes leave the page cache; whether they did (in a tmpfs they do not)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # what is dirty stays
        size = os.fstat(descriptor).st_size
        for _ in range(ATTEMPTS):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not any(_is_there(descriptor, size * place // PROBES) for place in range(PROBES)):
                return True
            time.sleep(0.05)
        return False
    finally:
        os.close(descriptor)


def _is_there(descriptor: int, offset: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # nobody can tell
        pass
    return True


def program(name: str) -> str | None:
    """Where it is; Debian keeps servers where not everybody looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def versions() -> dict[str, str]:
    """Of everything that has part in a figure; what is missing is not there."""
    found = {
        "range-adapter": version("range-adapter"),
        "aiohttp": version("aiohttp"),
        platform.python_implementation(): platform.python_version(),
        platform.system(): platform.release(),
    }
    for name, flag in (("nginx", "-v"), ("varnishd", "-V")):
        if path := program(name):
            said = subprocess.run([path, flag], capture_output=True, text=True, check=False)
            number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
            found[name] = number[0] if number else "?"
    return found


def processor() -> str:
    """Its name and how many cores of it we have."""
    try:
        name = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        name = None
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name[1] if name else platform.machine()}, {count} core{'' if count == 1 else 's'}"


def busy() -> str:
    """What else runs here, as far as the load average tells."""
    return f"load average {os.getloadavg()[0]:.1f} at the start"


def command() -> str:
    """What was typed."""
    return " ".join(["python -m tests.bench", *sys.argv[1:]])
