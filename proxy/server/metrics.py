"""What is counted for each request; names and units follow Prometheus' conventions."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

LATENCIES = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
"""Upper bounds of the buckets, in seconds: from a hit in memory to a far seek in a cold object."""


Labels = tuple[str, str, int, str]
"""Of a request: route, method, status, what the cache did."""


class Metrics(Collector):
    """The request counters of one server.

    What each request is counted in is kept in dictionaries, and made into metrics when somebody asks: a lock and a
    look-up for each would cost more than a warm answer.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests: defaultdict[Labels, int] = defaultdict(int)
        self._routes: dict[str, list[float]] = {}  # requests in each bucket, all their seconds and bytes
        self.lane_requests = 0
        """Those of the requests that the warm lane has answered."""
        registry.register(self)
        self.failures = Counter(
            "range_adapter_failures",
            "Requests that failed, by reason.",
            ("route", "reason"),
            registry=registry,
        )
        self.in_progress = Gauge(
            "range_adapter_requests_in_progress", "Requests being answered now.", registry=registry
        )
        self.connections = Gauge(
            "range_adapter_connections", "Open connections of clients.", registry=registry
        )
        self.max_connections = Gauge(
            "range_adapter_max_connections",
            "The limit, server.limits.connections, or what the open files allow.",
            registry=registry,
        )
        self.refused_connections = Counter(
            "range_adapter_refused_connections",
            "Connections of clients that were refused, by the limit that they met.",
            ("limit",),
            registry=registry,
        )
        self.timed_out_connections = Counter(
            "range_adapter_timed_out_connections",
            "Connections of clients that were ended because they were too slow, or idle, by the limit.",
            ("limit",),
            registry=registry,
        )
        self.failed_handshakes = Counter(
            "range_adapter_failed_handshakes",
            "TLS connections of clients that came to nothing, by reason; those that took too long are under head in "
            "range_adapter_timed_out_connections.",
            ("reason",),
            registry=registry,
        )

    def count(self, labels: Labels, size: int, seconds: float) -> None:
        """A request is over: `size` body bytes were sent, and it took so long."""
        self._requests[labels] += 1
        counts = self._routes.get(labels[0])
        if counts is None:
            counts = self._routes[labels[0]] = [0] * (len(LATENCIES) + 3)
        counts[0 if seconds <= LATENCIES[0] else bisect_left(LATENCIES, seconds)] += 1
        counts[-2] += seconds
        counts[-1] += size

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "range_adapter_requests",
            "Requests answered, by what the cache did: hit, collapsed, fwd reasons, none.",
            labels=("route", "method", "status", "cache"),
        )
        for (route, method, status, cache), number in self._requests.items():
            requests.add_metric((route, method, str(status), cache), number)
        yield requests
        yield CounterMetricFamily(
            "range_adapter_warm_lane_requests",
            "Of these requests, the ones that were answered from a warm record, past the HTTP parser.",
            value=self.lane_requests,
        )
        sizes = CounterMetricFamily(
            "range_adapter_response_bytes", "Body bytes sent to clients.", labels=("route",)
        )
        for route, (*_, size) in self._routes.items():
            sizes.add_metric((route,), size)
        yield sizes
        seconds = HistogramMetricFamily(
            "range_adapter_request_seconds", "From the request's head to the answer's end.", labels=("route",)
        )
        bounds = [*map(floatToGoString, LATENCIES), "+Inf"]
        for route, (*buckets, total, _) in self._routes.items():
            seconds.add_metric((route,), list(zip(bounds, accumulate(buckets), strict=True)), total)
        yield seconds
