"""The process that starts the workers, and starts the dead again.  It serves nobody, and decides nothing else.

After gunicorn's arbiter: signals only wake a loop, which looks at everything; a worker that cannot even start ends
all, instead of being started for ever; workers end with their supervisor.  They are forks, so that they have one
config and share the memory of what is imported; there is no thread and no loop of asyncio here, which a fork would
not survive.
"""

import gc
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from typing import Any, Final

import structlog

from proxy.spool.epochs import SIZE
from proxy.workers.seat import Board, Seat

FIRST_PAUSE: Final = 0.1
"""Seconds before a worker is started again; each further time that it could not start it is twice as many."""
LONGEST_PAUSE: Final = 30.0
GRACE: Final = 15.0
"""Seconds beyond the time to drain that workers have to end."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_log = structlog.stdlib.get_logger("supervisor")

Work = Callable[[Seat], int]
"""What a worker does, in its own process; its exit status."""
Tell = Callable[[dict[str, Any]], None]
"""Hears once that all are ready: what the first one said of itself."""


@dataclass(slots=True)
class _Worker:
    """`pid` is 0 while there is none; it is due to be started at `due`, then."""

    number: int
    pid: int = 0
    line: socket.socket | None = None
    ready: bool = False
    due: float = 0.0
    failures: int = 0
    """How often it has ended before it was ready, the last times."""


class Supervisor:
    """`public` and `admin` are sockets that listen, `public` for each address; they are taken over.  `drain` is in
    seconds.
    """

    def __init__(
        self,
        workers: int,
        work: Work,
        *,
        public: Sequence[Sequence[socket.socket]],
        admin: Sequence[socket.socket],
        drain: float,
        on_ready: Tell,
        on_stopping: Callable[[], None],
        on_hangup: Callable[[], None] | None,
    ) -> None:
        """Without `on_hangup`, a SIGHUP goes on to the workers."""
        self._workers = [_Worker(number) for number in range(workers)]
        self._work = work
        self._public = public
        self._admin = admin
        self._drain = drain
        self._on_ready = on_ready
        self._on_stopping = on_stopping
        self._on_hangup = on_hangup or partial(self._tell_workers, signal.SIGHUP)
        self._knock, self._knocks = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._board = Board(workers)
        self._counts = memoryview(mmap(-1, 8 * workers)).cast("q")
        self._epochs = memoryview(mmap(-1, SIZE))
        self._wakeup, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._said: dict[str, Any] = {}
        self._all_ready = False
        self._ends_by: float | None = None
        self._status = 0

    def run(self) -> int:
        """Until a signal ends it, or no worker can start; the exit status."""
        for sock in (self._wakeup, self._woken):
            sock.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _only_wake)
        self._selector.register(self._woken, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # what is here by now is shared with the workers for as long as nobody touches it
        while True:
            self._reap()
            self._start_those_due()
            if self._ends_by is not None and not any(worker.pid for worker in self._workers):
                break
            for key, _ in self._selector.select(self._pause()):
                if key.data is None:
                    self._take_signals()
                else:
                    self._listen_to(key.data)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for sock in (self._wakeup, self._woken, self._knock, self._knocks):
            sock.close()
        return self._status

    def _pause(self) -> float | None:
        """Seconds until something is to be done."""
        moments = [worker.due for worker in self._startable() if self._may_start(worker)]
        if self._ends_by is not None and time.monotonic() < self._ends_by:
            moments.append(self._ends_by)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    # Signals

    def _take_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self._woken.recv(64):
                match signal.Signals(number):
                    case signal.SIGTERM | signal.SIGINT:
                        self._stop()
                    case signal.SIGHUP:
                        self._on_hangup()

    def _stop(self) -> None:
        """Let the workers drain; the second time, end them."""
        if self._ends_by is None:
            self._on_stopping()
            self._end(signal.SIGTERM, self._drain + GRACE)
        else:
            self._end(signal.SIGKILL, 0)

    def _end(self, number: signal.Signals, within: float) -> None:
        self._ends_by = time.monotonic() + within
        for sock in (*(sock for socks in self._public for sock in socks), *self._admin):
            sock.close()
        self._tell_workers(number)

    def _tell_workers(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    # Workers

    def _startable(self) -> list[_Worker]:
        return [] if self._ends_by is not None else [worker for worker in self._workers if not worker.pid]

    def _may_start(self, worker: _Worker) -> bool:
        """The first one tries alone, whether it can: nobody needs to read why not once for each."""
        return bool(self._said) or worker.number == 0

    def _start_those_due(self) -> None:
        if self._ends_by is not None and time.monotonic() >= self._ends_by:
            self._end(signal.SIGKILL, LONGEST_PAUSE)
        for worker in self._startable():
            if self._may_start(worker) and worker.due <= time.monotonic():
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        # What is sent to the new process before it has handlers of its own must not come to ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            worker.pid = os.fork()
        except OSError as error:  # there may be too many processes, for a while
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _log.error("a worker cannot be started", worker=worker.number, why=str(error))
            ours.close()
            theirs.close()
            self._put_off(worker, 1)
            return
        if not worker.pid:
            os._exit(self._be(worker.number, ours, theirs))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        ours.setblocking(False)
        worker.line = ours
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _be(self, number: int, ours: socket.socket, theirs: socket.socket) -> int:
        """In the new process."""
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(each, signal.SIG_DFL)
        for each in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all: the supervisor will tell
            signal.signal(each, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._selector.close()
        lines = (worker.line for worker in self._workers if worker.line is not None)
        for sock in (ours, self._wakeup, self._woken, *lines):
            sock.close()
        seat = Seat(
            number,
            len(self._workers),
            not self._said,
            self._public,
            self._admin,
            self._knock,
            self._knocks,
            self._board,
            self._counts,
            self._epochs,
            theirs,
        )
        try:
            return self._work(seat)
        except BaseException:  # noqa: BLE001  # nothing of the supervisor's own is to run here
            _log.exception("a worker failed", worker=number)
            return 1

    def _listen_to(self, worker: _Worker) -> None:
        assert worker.line is not None
        try:
            said = worker.line.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._hang_up(worker)
            return
        worker.ready = True
        self._said = self._said or json.loads(said)
        if not self._all_ready and all(each.ready for each in self._workers):
            self._all_ready = True
            self._on_ready(self._said)

    def _hang_up(self, worker: _Worker) -> None:
        if worker.line is not None:
            self._selector.unregister(worker.line)
            worker.line.close()
            worker.line = None

    def _reap(self) -> None:
        while any(worker.pid for worker in self._workers):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for worker in self._workers:
                if worker.pid == pid:
                    self._bury(worker, os.waitstatus_to_exitcode(status))

    def _bury(self, worker: _Worker, status: int) -> None:
        pid, worker.pid = worker.pid, 0
        self._hang_up(worker)
        self._counts[worker.number] = 0
        if self._ends_by is not None:
            return
        if self._said:  # else it has said why
            _log.error(
                "a worker has ended, and is started again", worker=worker.number, pid=pid, status=status
            )
        self._put_off(worker, status)

    def _put_off(self, worker: _Worker, status: int) -> None:
        """Start it in a while; or, if it is the first that could not, end."""
        if not self._said:
            self._status = status if status > 0 else 1
            self._end(signal.SIGTERM, 0)
            return
        worker.failures = 0 if worker.ready else worker.failures + 1
        pause = min(FIRST_PAUSE * 2.0**worker.failures, LONGEST_PAUSE)
        worker.due, worker.ready = time.monotonic() + pause, False


def _only_wake(number: int, frame: object) -> None:
    """`select` returns."""
