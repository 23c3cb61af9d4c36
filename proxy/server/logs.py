"""Log lines: made on the loop, written by a thread of their own, so that a slow reader of them stops nobody."""

import fcntl
import logging
import queue
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proxy.server.lines import BATCH, Line, apache_quoted

Style = Literal["auto", "json", "console", "combined"]

MOST_WAITING = 10_000
"""Lines that wait to be written; where the reader of them is stuck, those that come then are lost."""

LAST_LINES = 2.0
"""Seconds that the last lines have to be written."""

_log = structlog.stdlib.get_logger("logs")


class _Handover(QueueHandler):
    """Its calls come one at a time: `handle` sees to that."""

    def __init__(self, lines: queue.SimpleQueue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self._lines = lines
        self._lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        lines = len(record.msg) if isinstance(record.msg, list) else 1
        # Most records are a batch, where there are many.
        if self._lines.qsize() >= (MOST_WAITING if lines == 1 else MOST_WAITING // BATCH):
            self._lost += lines
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            _log.warning("log lines were lost", count=lost)
        super().enqueue(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Hand the event over as it is: the other thread renders it."""
        return record


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Renders batches of the access log's lines itself."""

    def __init__(self, style: str, terminal: bool, worker: int | None, **settings: Any) -> None:
        super().__init__(**settings)
        more = {} if worker is None else {"worker": worker}
        last = "" if worker is None else f', "worker": {worker}}}'
        match style:
            case "console":
                console = structlog.dev.ConsoleRenderer(colors=terminal)
                self._line: Callable[[Line], str] = lambda line: str(
                    console(None, "info", line.event() | more)
                )
            case "combined":
                self._line = Line.combined
            case _:
                self._line = Line.json if worker is None else lambda line: line.json()[:-1] + last

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, list):
            return "\n".join(map(self._line, record.msg))
        return super().format(record)


class Writing(QueueListener):
    """The thread that writes.  `stuck` after `stop`: who reads the lines does not, and some are lost."""

    stuck = False

    def stop(self) -> None:
        thread = self._thread  # QueueListener.stop would wait for it without a limit
        if thread is None:
            return
        self.enqueue_sentinel()
        thread.join(LAST_LINES)
        self.stuck = thread.is_alive()
        self._thread = None


class _IfTaken(logging.StreamHandler[TextIO]):
    """Where nobody reads, the line is lost: there is no thread to wait with."""

    def emit(self, record: logging.LogRecord) -> None:
        _, writable, _ = select.select([], [self.stream], [], 0)
        if writable:
            super().emit(record)


class _InTurn(logging.StreamHandler[TextIO]):
    """For one of several processes: a pipe takes 4 KiB at a time in one piece, and lines are longer, all the more
    those of a batch.  The lock is the process', and ends with it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a system that locks files only, not pipes
            fcntl.lockf(self.stream, fcntl.LOCK_EX)
        try:
            super().emit(record)
        finally:
            with suppress(OSError):
                fcntl.lockf(self.stream, fcntl.LOCK_UN)


def configure(*, level: str, style: Style, worker: int | None = None) -> Writing:
    """Send all logging to standard error in one form.  Stop the listener at the end, to see the last lines."""
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    output = (logging.StreamHandler if worker is None else _InTurn)(sys.stderr)
    _send_all(_Handover(lines), output, level=level, style=style, worker=worker)
    listener = Writing(lines, output)
    listener.start()
    return listener


def configure_without_thread(*, level: str, style: Style) -> None:
    """The same for a process that is going to fork, and has little to say."""
    output = _IfTaken(sys.stderr)
    _send_all(output, output, level=level, style=style, worker=None)


def _send_all(
    first: logging.Handler, output: logging.Handler, *, level: str, style: Style, worker: int | None
) -> None:
    """All lines go to `first`, and are given their form by `output`."""
    terminal = sys.stderr.isatty()
    if style == "auto":
        style = "console" if terminal else "json"
    stamp: Processor = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[Processor] = [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name, stamp]
    if worker is not None:
        shared.append(partial(_with_worker, worker))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    output.setFormatter(
        _Formatter(
            style,
            terminal,
            worker,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_nothing,
                structlog.processors.format_exc_info,
                *_renderers(style, terminal),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [first]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _renderers(style: str, terminal: bool) -> list[Processor]:
    match style:
        case "console":
            return [structlog.dev.ConsoleRenderer(colors=terminal)]
        case "combined":
            return [_combined]
        case _:
            return [structlog.processors.JSONRenderer()]


def _without_nothing(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _with_worker(worker: int, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["worker"] = worker
    return event


def _combined(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """What stands between the lines of requests: `key=value`."""
    return " ".join(f"{key}={apache_quoted(str(value))}" for key, value in event.items())
