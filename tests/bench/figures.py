"""The arithmetic: what the samples of one run say about each server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure that was not measured, and why."""

    why: str


NOTHING = 0.05
"""In whatever unit: a ratio to less would say nothing either."""

Samples = Sequence[float]
"""One for each round, in the figure's unit."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured at several servers in turn: round i of one stands beside round i of another."""

    what: str
    unit: str
    servers: Mapping[str, Samples | Missing] = field(default_factory=dict)
    lane: float | None = None
    """The share of the adapter's requests that its warm lane answered; None where that is not known."""

    def median(self, server: str) -> float | None:
        samples = self.servers[server]
        return None if isinstance(samples, Missing) else median(samples)

    def ratio(self, server: str, other: str) -> "Ratio | None":
        """How many times `other`'s figure that of `server` is; None where one of them is missing, or that is next to
        nothing.
        """
        one, two = self.servers.get(server), self.servers.get(other)
        if one is None or two is None or isinstance(one, Missing) or isinstance(two, Missing):
            return None
        return ratio(one, two) if min(two) >= NOTHING else None

    def as_json(self, ours: str) -> dict[str, object]:
        """Medians and samples of all, and the ratio of `ours` to each other."""
        servers: dict[str, object] = {}
        for name, samples in self.servers.items():
            if isinstance(samples, Missing):
                servers[name] = {"not measured": samples.why}
                continue
            servers[name] = {"median": median(samples), "samples": list(samples)}
        ratios = {name: self.ratio(ours, name) for name in self.servers if name != ours}
        return {
            "what": self.what,
            "unit": self.unit,
            "servers": servers,
            "warm lane": self.lane,
            "ratios": {
                name: {"median": each.median, "lowest": each.lowest, "highest": each.highest}
                for name, each in ratios.items()
                if each is not None
            },
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median over the rounds; `lowest` and `highest` leave a quarter of them out at each end."""

    median: float
    lowest: float
    highest: float


def ratio(ours: Samples, others: Samples) -> Ratio:
    """The median of ratios, not the ratio of medians: what disturbs a round disturbs both of it."""
    quotients = sorted(one / other for one, other in zip(ours, others, strict=True))
    quarter = len(quotients) // 4
    return Ratio(median(quotients), quotients[quarter], quotients[-1 - quarter])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * share) - 1)]


def readable(value: float, unit: str) -> str:
    """With three digits or so: 4.12 us, 1,234 us."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
