"""What the admin listener tells of the service, in one place."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import proxy
from proxy.admin.origins import OriginCollector, describe
from proxy.admin.sums import Figures, Workers
from proxy.cache.cache import Cache
from proxy.origin import Origin
from proxy.spool.condition import Trouble
from proxy.spool.scrub import Scrub


@dataclass(slots=True)
class State:
    """`started` is in seconds since the epoch.  `in_progress` gives how many requests are being answered;
    `connections`, what is known of those of clients: in this process, if it is one of several `workers`.
    """

    cache: Cache
    scrub: Scrub
    registry: CollectorRegistry
    started: float
    in_progress: Callable[[], int]
    origins: Collection[Origin]
    connections: Callable[[], dict[str, Any]]
    draining: Callable[[], bool]
    workers: Workers | None = None

    def __post_init__(self) -> None:
        self.registry.register(OriginCollector(self.origins))
        self.registry.register(_SpoolCollector(self.cache, self.scrub))

    async def figures(self) -> Figures:
        """Those of all workers."""
        return cast("Figures", self.registry) if self.workers is None else await self.workers.figures()

    def unready(self) -> str | None:
        """Why no new requests should come here, if they should not."""
        return "draining" if self.draining() else None

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
            "connections": self.connections(),
            "spool": {
                "path": str(spool.paths.root),
                "objects": objects,
                "stored_bytes": stored,
                "unfinished": len(spool.partials),
                "unfinished_bytes": sum(each.written for each in spool.partials),
                "partition_bytes": spool.room.partition_bytes(),
                "used_bytes": spool.room.used,
                "max_bytes": spool.room.max_size,
                "evictions": spool.evictions,
                "rotten": spool.rotten,
            },
            "scrub": {
                "enabled": self.scrub.runs,
                "read_bytes": self.scrub.read,
                "pass_begun": self.scrub.progress.begun,
                "last_whole_pass": self.scrub.progress.ended,
                "under_way": self.scrub.progress.after is not None,
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
            "origins": [describe(origin) for origin in self.origins],
        } | ({} if self.workers is None else {"workers": self.workers.report()})


class _SpoolCollector(Collector):
    """Figures that are read when somebody asks, instead of being counted."""

    def __init__(self, cache: Cache, scrub: Scrub) -> None:
        self._cache = cache
        self._scrub = scrub

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
        yield _gauge(
            "range_adapter_spool_unfinished_bytes",
            "Bytes of objects whose origin broke off, kept to be gone on with.",
            sum(each.written for each in spool.partials),
        )
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
        resumptions = self._cache.resumptions
        yield _counter(
            "range_adapter_fill_breaks", "Bodies that an origin did not end as it should.", resumptions.breaks
        )
        yield _counter(
            "range_adapter_fill_resumptions", "Broken bodies that went on after that.", resumptions.resumed
        )
        yield _counter(
            "range_adapter_fill_changes",
            "Broken bodies in whose place the origin had another one.",
            resumptions.changed,
        )
        yield _counter("range_adapter_evictions", "Objects dropped to make room.", spool.evictions)
        yield _counter("range_adapter_rotten_objects", "Objects dropped for bit rot.", spool.rotten)
        yield _counter("range_adapter_scrub_bytes", "Bytes read again to find bit rot.", self._scrub.read)
        yield _gauge(
            "range_adapter_scrub_last_pass_timestamp_seconds",
            "When the last whole search for bit rot ended; 0 if there was none.",
            self._scrub.progress.ended or 0,
        )
        yield _counter("range_adapter_fill_bytes", "Bytes fetched into the spool.", self._cache.filled_bytes)
        yield _counter(
            "range_adapter_fetches", "Requests sent to origins to store the answer.", self._cache.fetched
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value)
