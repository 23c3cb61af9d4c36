"""What a run found, as a table, as JSON and as a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from tests.bench import plot
from tests.bench.figures import Figure, Missing, Ratio, readable
from tests.bench.servers import NGINX, OURS, TUNED, TWO_WORKERS

COST = {"us", "s/GB"}
"""The units of figures that are processor time, and stand in the plot."""


@dataclass(frozen=True, slots=True)
class Report:
    """`run`: command, date, machine, versions and what else one must know about it, by name.

    `workers`: figures of one process beside two.
    """

    figures: Sequence[Figure]
    run: Mapping[str, str]
    notes: Sequence[str] = ()
    workers: Sequence[Figure] = ()

    def table(self) -> Table:
        table = Table(
            title="Processor time beside others",
            caption="\n".join(self._small_print(self.figures)),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        names = self._names()
        table.add_column("", no_wrap=True)
        for name in names:
            table.add_column(name.replace(", ", ",\n"), justify="right")
        for name in (NGINX, TUNED):
            table.add_column(f"ours / {name}".replace(", ", ",\n"), justify="right", no_wrap=True)
        table.add_column("warm\nlane", justify="right")
        for figure in self.figures:
            ratios = (_ratio(figure.ratio(OURS, other)) for other in (NGINX, TUNED))
            table.add_row(figure.what, *(_cell(figure, name) for name in names), *ratios, _lane(figure))
        return table

    def json(self) -> str:
        content = {
            "run": dict(self.run),
            "notes": list(self.notes),
            "figures": [figure.as_json(OURS) for figure in self.figures],
            "two workers": [figure.as_json(TWO_WORKERS) for figure in self.workers],
        }
        return json.dumps(content, indent=2) + "\n"

    def svg(self) -> str:
        """Of the processor time only.  Without nginx there is nothing to compare with, and it says so."""
        costs = [figure for figure in self.figures if figure.unit in COST]
        return plot.svg(
            [figure for figure in costs if figure.ratio(OURS, NGINX)],
            beside=NGINX,
            title="Processor time of a request, and of a GB that is fetched: less is better",
            notes=self._conditions(costs),
        )

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for figure in self.figures for name in figure.servers))

    def _small_print(self, figures: Sequence[Figure]) -> list[str]:
        beside_one = (
            f"two workers / one, {figure.what}: {_ratio(figure.ratio(TWO_WORKERS, OURS))}"
            for figure in self.workers
        )
        return [*self._conditions(figures), *beside_one, *self.notes]

    def _conditions(self, figures: Sequence[Figure]) -> list[str]:
        """How the run was, and why something was not measured: each reason once."""
        reasons = [
            f"not measured: {name}: {each.why}"
            for figure in figures
            for name, each in figure.servers.items()
            if isinstance(each, Missing)
        ]
        run = [f"{name}: {value}" for name, value in self.run.items()]
        return [*run, *dict.fromkeys(reasons)]


def _cell(figure: Figure, name: str) -> str:
    value = figure.median(name) if name in figure.servers else None
    return "not measured" if value is None else readable(value, figure.unit)


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    digits = 1 if ratio.median >= 10 else 2
    return f"{ratio.median:.{digits}f} ({ratio.lowest:.{digits}f}-{ratio.highest:.{digits}f})"


def _lane(figure: Figure) -> str:
    return "-" if figure.lane is None else f"{figure.lane:.0%}"
