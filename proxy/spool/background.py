"""A thread for work that nobody waits for: it gives way to everything else."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

NICENESS: Final = 10


def background_thread(name: str) -> ThreadPoolExecutor:
    """One thread, of a lower priority than all others."""
    return ThreadPoolExecutor(1, name, initializer=_give_way)


def _give_way() -> None:
    """Only Linux has priorities of threads; elsewhere, and where a sandbox forbids it, this one is like any other."""
    if sys.platform == "linux":
        me = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + NICENESS)
