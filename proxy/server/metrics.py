"""What is counted for each request; names and units follow Prometheus' conventions."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCIES = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
"""Upper bounds of the buckets, in seconds: from a hit in memory to a far seek in a cold object."""


class Metrics:
    """The request counters of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "range_adapter_requests",
            "Requests answered, by what the cache did: hit, collapsed, fwd reasons, none.",
            ("route", "method", "status", "cache"),
            registry=registry,
        )
        self.response_bytes = Counter(
            "range_adapter_response_bytes", "Body bytes sent to clients.", ("route",), registry=registry
        )
        self.seconds = Histogram(
            "range_adapter_request_seconds",
            "From the request's head to the answer's end.",
            ("route",),
            buckets=LATENCIES,
            registry=registry,
        )
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
