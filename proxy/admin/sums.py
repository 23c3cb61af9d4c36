"""The figures of several workers, as those of one service.

Each worker writes all of its own down, in memory that outlives it: once in a second, and whenever somebody asks.
Whoever takes its seat after its death counts on from there, so that no counter ever goes back; what it counted in its
last second may be lost.
"""

import asyncio
import os
import pickle
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

INTERVAL: Final = 1.0
"""Seconds between two notes."""
IN_PROGRESS: Final = "range_adapter_requests_in_progress"
CONNECTIONS: Final = "range_adapter_connections"


class Figures(Protocol):
    """What Prometheus' encoders ask of a registry."""

    def collect(self) -> Iterator[Metric]: ...


class Board(Protocol):
    """A place for each worker's notes."""

    def write(self, number: int, note: bytes) -> bool: ...
    def read(self, number: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Note:
    """What one worker has written down, and by which process."""

    pid: int
    metrics: Sequence[Metric]


class Own:
    """This worker's figures, and those of the dead whose seat it has."""

    def __init__(self, board: Board, number: int, registry: CollectorRegistry) -> None:
        self._board = board
        self._number = number
        self._registry = registry
        before = read_note(board, number)
        self._before = () if before is None else counters(before.metrics)

    def write(self) -> None:
        """Write them down."""
        note = Note(os.getpid(), summed([self._before, tuple(self._registry.collect())]))
        self._board.write(self._number, pickle.dumps(note, pickle.HIGHEST_PROTOCOL))

    async def keep_writing(self) -> None:
        """Until it is cancelled."""
        while True:
            self.write()
            await asyncio.sleep(INTERVAL)


class Workers:
    """All of them: `noted` has those who are there write, and tells their numbers."""

    def __init__(self, board: Board, count: int, keeper: int, noted: Callable[[], Awaitable[None]]) -> None:
        self._board = board
        self._count = count
        self._keeper = keeper
        self._noted = noted

    async def figures(self) -> Figures:
        """The sum of what they have written down by now."""
        await self._noted()
        notes = [
            note for number in range(self._count) if (note := read_note(self._board, number)) is not None
        ]
        alive = [note.metrics if _is_there(note.pid) else counters(note.metrics) for note in notes]
        return _Summed(summed(alive))

    def report(self) -> list[dict[str, Any]]:
        """For a person or a program that looks; a second old."""
        notes = ((number, read_note(self._board, number)) for number in range(self._count))
        return [
            {
                "worker": number,
                "pid": note.pid,
                "keeper": number == self._keeper,
                "requests_in_progress": _value(note, IN_PROGRESS),
                "connections": _value(note, CONNECTIONS),
            }
            for number, note in notes
            if note is not None and _is_there(note.pid)
        ]


@dataclass(frozen=True, slots=True)
class _Summed:
    metrics: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.metrics


def read_note(board: Board, number: int) -> Note | None:
    """What the worker of this number has written; None: nothing yet."""
    text = board.read(number)
    note: Note | None = pickle.loads(text) if text else None  # noqa: S301  # our own
    return note


def counters(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """What is left when a worker has ended."""
    return tuple(metric for metric in metrics if metric.type in {"counter", "histogram"})


def summed(parts: Iterable[Iterable[Metric]]) -> tuple[Metric, ...]:
    """Series of the same name and labels, added up."""
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part in parts:
        for metric in part:
            metrics.setdefault(metric.name, metric)
            of_it = values.setdefault(metric.name, {})
            for sample in metric.samples:
                series = sample.name, tuple(sorted(sample.labels.items()))
                if sample.name.endswith("_created"):  # when it began to be counted
                    of_it[series] = min(of_it.get(series, sample.value), sample.value)
                else:
                    of_it[series] = of_it.get(series, 0) + sample.value
    return tuple(_with(metric, values[name]) for name, metric in metrics.items())


def _with(metric: Metric, values: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> Metric:
    new = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    new.samples = [Sample(name, dict(labels), value, None, None) for (name, labels), value in values.items()]
    return new


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _value(note: Note, name: str) -> int:
    return int(
        sum(sample.value for metric in note.metrics if metric.name == name for sample in metric.samples)
    )
