"""Figures of several workers: added up, and none lost with its worker."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from proxy.admin import sums
from proxy.admin.sums import Own, Workers


class Board(dict[int, bytes]):
    def write(self, number: int, note: bytes) -> bool:
        self[number] = note
        return True

    def read(self, number: int) -> bytes:
        return self.get(number, b"")


class Worker:
    """Its registry, and what it counts."""

    def __init__(self, board: Board, number: int) -> None:
        self.registry = CollectorRegistry()
        self.counter = Counter("hits", "Hits.", ("route",), registry=self.registry)
        self.gauge = Gauge("open", "Open.", registry=self.registry)
        self.histogram = Histogram("seconds", "Seconds.", buckets=(1, 2), registry=self.registry)
        self.own = Own(board, number, self.registry)


async def noted() -> None:
    """They have."""


async def text(board: Board) -> str:
    figures: Any = await Workers(board, 3, 0, noted).figures()
    return generate_latest(figures).decode()


async def test_counters_gauges_and_histograms_are_added_up() -> None:
    board = Board()
    for number in (0, 2):
        worker = Worker(board, number)
        worker.counter.labels("a").inc(number + 1)
        worker.counter.labels(f"only {number}").inc()
        worker.gauge.set(10)
        worker.histogram.observe(1.5)
        worker.own.write()
    said = await text(board)
    for line in (
        'hits_total{route="a"} 4.0',
        'hits_total{route="only 2"} 1.0',
        "open 20.0",
        'seconds_bucket{le="1.0"} 0.0',
        'seconds_bucket{le="2.0"} 2.0',
        'seconds_bucket{le="+Inf"} 2.0',
        "seconds_count 2.0",
        "seconds_sum 3.0",
        "# TYPE seconds histogram",
        "# HELP hits_total Hits.",
    ):
        assert f"{line}\n" in said


async def test_the_dead_have_counted_but_have_nothing_open(monkeypatch: Any) -> None:
    board = Board()
    worker = Worker(board, 1)
    worker.counter.labels("a").inc(5)
    worker.gauge.set(10)
    worker.own.write()
    monkeypatch.setattr(sums, "_is_there", lambda pid: False)
    said = await text(board)
    assert 'hits_total{route="a"} 5.0\n' in said
    assert "open 1" not in said


async def test_who_takes_the_seat_of_the_dead_counts_on() -> None:
    board = Board()
    for hits in (5, 6, 7):
        worker = Worker(board, 1)
        worker.counter.labels("a").inc(hits)
        worker.gauge.set(10)
        worker.histogram.observe(0.5)
        worker.own.write()
        worker.own.write()
    said = await text(board)
    assert 'hits_total{route="a"} 18.0\n' in said
    assert "seconds_count 3.0\n" in said
    assert "open 10.0\n" in said
