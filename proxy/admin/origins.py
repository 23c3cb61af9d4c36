"""What the admin listener tells of the origins."""

from collections.abc import Collection, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.origin import Origin


def describe(origin: Origin) -> dict[str, Any]:
    """For a person or a program that looks at this one instance."""
    health, slots = origin.health, origin.slots
    return {
        "name": origin.name,
        "url": str(origin.url),
        "up": health.is_up,
        "last_error": None if health.error is None else str(health.error),
        "fill_slots": slots.total,
        "fill_slots_in_use": slots.in_use,
        "waiting_for_fill_slots": slots.waiting,
        "waiting_for_connections": origin.connector.waiting,
        "connect_failures": health.failures,
        "probes": health.probes,
        "refused": dict(origin.refused),
    }


class OriginCollector(Collector):
    """Figures that are read when somebody asks."""

    def __init__(self, origins: Collection[Origin]) -> None:
        self._origins = origins

    def collect(self) -> Iterator[Metric]:
        up = _gauge("origin_up", "0 while it is held for down: it has taken no connection several times.")
        slots = _gauge("fill_slots", "Places for requests whose answers are stored.")
        in_use = _gauge("fill_slots_in_use", "Those that are taken.")
        slots_waiting = _gauge("fill_slots_waiting", "Requests that wait for one.")
        connections_waiting = _gauge("origin_connections_waiting", "Requests that wait for a connection.")
        failures = _counter("origin_connect_failures", "Connections that failed.")
        probes = _counter("origin_probes", "Connections tried while it was held for down.")
        refused = _counter("origin_refusals", "Requests that limits kept from it.", "reason")
        for origin in self._origins:
            name = [origin.name]
            up.add_metric(name, origin.health.is_up)
            slots.add_metric(name, origin.slots.total)
            in_use.add_metric(name, origin.slots.in_use)
            slots_waiting.add_metric(name, origin.slots.waiting)
            connections_waiting.add_metric(name, origin.connector.waiting)
            failures.add_metric(name, origin.health.failures)
            probes.add_metric(name, origin.health.probes)
            for reason, count in origin.refused.items():
                refused.add_metric([origin.name, reason], count)
        yield from (up, slots, in_use, slots_waiting, connections_waiting, failures, probes, refused)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"range_adapter_{name}", text, labels=["origin"])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"range_adapter_{name}", text, labels=["origin", *labels])
