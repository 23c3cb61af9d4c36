"""The process that starts the workers."""

import os
import signal
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from proxy.workers.seat import Seat
from proxy.workers.supervisor import Supervisor, Tell, Work


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A supervisor has the process for itself."""
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in handled]
    yield
    for number, handler in zip(handled, before, strict=True):
        signal.signal(number, handler)


def supervisor(work: Work, on_ready: Tell) -> Supervisor:
    return Supervisor(
        2,
        work,
        public=[],
        admin=[],
        drain=1.0,
        on_ready=on_ready,
        on_stopping=lambda: None,
        on_hangup=None,
    )


def refused() -> NoReturn:
    raise BlockingIOError("Resource temporarily unavailable")


def test_if_there_can_be_no_process_at_all_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", refused)
    assert supervisor(lambda seat: 0, lambda said: None).run() == 1


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded:DeprecationWarning"
)  # the tests' runner may have threads
def test_a_process_that_cannot_be_made_now_is_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are there serve on."""
    forked: list[int] = []
    fork = os.fork

    def fork_but_for_the_second_time() -> int:
        forked.append(0)
        return refused() if len(forked) == 2 else fork()

    def work(seat: Seat) -> int:
        seat.line.send(b'{"serving": true}')
        seat.line.recv(1)
        return 0

    def on_ready(said: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "fork", fork_but_for_the_second_time)
    assert supervisor(work, on_ready).run() == 0
    assert len(forked) == 3
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
