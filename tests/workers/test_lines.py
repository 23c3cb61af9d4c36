"""The log of several workers, in one pipe."""

import json
import subprocess
import sys
from collections import Counter

_WORKER = """
import sys, structlog
from proxy.server import logs
listener = logs.configure(level="info", style="json", worker=int(sys.argv[1]))
log = structlog.stdlib.get_logger("server")
for number in range(400):
    log.info("line", number=number, weight="x" * 10_000)
while not listener.queue.empty():
    pass
listener.stop()
"""


def test_lines_of_several_workers_stay_whole_however_long_they_are() -> None:
    """A pipe takes 4 KiB at a time in one piece."""
    numbers = [str(number) for number in range(4)]
    script = f'for worker in {" ".join(numbers)}; do "$0" -c "$1" $worker & done; wait'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, _WORKER], capture_output=True, text=True, check=True, timeout=60
    )
    lines = Counter(json.loads(line)["worker"] for line in done.stderr.splitlines())
    assert lines == dict.fromkeys(range(4), 400)
