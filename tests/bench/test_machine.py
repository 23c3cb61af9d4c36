"""Processor time, of whole trees of processes."""

import subprocess
import sys

from tests.bench.machine import clocks, tree, used

BURN = "sum(range(3_000_000)); print(flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"


def test_processor_time_of_a_child_counts() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        root, child = tree(process.pid)
        now = clocks([root, child])
        assert root == process.pid
        assert now[child] > 0.01
        assert used({root: 0.0, child: 0.0}, now) == now[root] + now[child]
        process.communicate(b"\n")


def test_what_has_gone_or_come_meanwhile_does_not_count() -> None:
    assert used({1: 5.0, 2: 1.0}, {2: 1.5, 3: 9.0}) == 0.5


def test_a_process_that_is_not_there_has_no_clock() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert clocks([process.pid]) == {}
