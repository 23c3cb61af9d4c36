"""What the admin listener tells of the service, in one place."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import proxy
from proxy.cache.cache import Cache
from proxy.spool.condition import Trouble


@dataclass(slots=True)
class State:
    """`started` is by the monotonic clock; `in_progress` gives how many requests are being answered."""

    cache: Cache
    registry: CollectorRegistry
    started: float
    in_progress: Callable[[], int]
    draining: bool = False

    def __post_init__(self) -> None:
        self.registry.register(_SpoolCollector(self.cache))

    def unready(self) -> str | None:
        """Why no new requests should come here, if they should not."""
        return "draining" if self.draining else None

    def degraded(self) -> str | None:
        """What does not work as it should, while requests are answered all the same."""
        return self.cache.spool.condition.sentence

    def report(self) -> dict[str, Any]:
        """Everything for a person or a program that looks at this one instance.  Sizes in bytes."""
        spool = self.cache.spool
        stored, objects = spool.usage()
        return {
            "version": proxy.__version__,
            "uptime_seconds": round(time.monotonic() - self.started, 3),
            "ready": self.unready() is None,
            "unready_because": self.unready(),
            "degraded_because": self.degraded(),
            "requests_in_progress": self.in_progress(),
            "spool": {
                "path": str(spool.paths.root),
                "objects": objects,
                "stored_bytes": stored,
                "partition_bytes": spool.room.partition_bytes(),
                "used_bytes": spool.room.used,
                "max_bytes": spool.room.max_size,
                "evictions": spool.evictions,
            },
            "fills": [
                {
                    "object": fill.entry.label,
                    "written_bytes": fill.written,
                    "complete_length": fill.complete_length,
                    "followers": fill.followers,
                    "partition": fill.entry.partition is not None,
                }
                for fill in self.cache.fills()
            ],
        }


class _SpoolCollector(Collector):
    """Figures that are read when somebody asks, instead of being counted."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        spool = self._cache.spool
        stored, objects = spool.usage()
        fills = list(self._cache.fills())
        yield _gauge("range_adapter_spool_bytes", "Bytes of complete objects.", stored)
        yield _gauge("range_adapter_spool_objects", "Complete objects.", objects)
        yield _gauge(
            "range_adapter_spool_partition_bytes",
            "Bytes of complete objects that are kept for single credentials.",
            spool.room.partition_bytes(),
        )
        yield _gauge("range_adapter_spool_used_bytes", "All that counts against max_size.", spool.room.used)
        yield _gauge("range_adapter_spool_max_bytes", "The limit, spool.max_size.", spool.room.max_size)
        degraded = GaugeMetricFamily(
            "range_adapter_spool_degraded", "1 while the disk fails in this way.", labels=["reason"]
        )
        for trouble in Trouble:
            degraded.add_metric([trouble.value], float(spool.condition.trouble is trouble))
        yield degraded
        yield _gauge("range_adapter_fills_in_progress", "Objects being fetched.", len(fills))
        yield _gauge(
            "range_adapter_fill_followers",
            "Clients reading objects that are being fetched.",
            sum(fill.followers for fill in fills),
        )
        yield _counter("range_adapter_evictions", "Objects dropped to make room.", spool.evictions)
        yield _counter("range_adapter_fill_bytes", "Bytes fetched into the spool.", self._cache.filled_bytes)
        yield _counter(
            "range_adapter_fetches", "Requests sent to origins to store the answer.", self._cache.fetched
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value)
