"""What a run found, as a table, as JSON and as a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from tests.bench import plot
from tests.bench.figures import Figure, Missing, Ratio, readable
from tests.bench.servers import NGINX, OURS, TUNED

COST = {"us", "s/GB"}
"""The units of figures that are processor time, and stand in the plot."""


@dataclass(frozen=True, slots=True)
class Report:
    """`run`: command, date, machine, versions and what else one must know about it, by name."""

    figures: Sequence[Figure]
    run: Mapping[str, str]
    notes: Sequence[str] = ()

    def table(self) -> Table:
        names = list(dict.fromkeys(name for figure in self.figures for name in figure.servers))
        table = Table(
            title="Processor time, and waits, beside others",
            caption="\n".join(self._small_print(self.figures)),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("", no_wrap=True)
        for name in names:
            table.add_column(name.replace(", ", ",\n"), justify="right")
        for name in (NGINX, TUNED):
            header = f"{OURS} / {name}".replace(" / ", " /\n").replace(", ", ",\n")
            table.add_column(header, justify="right")
        for figure in self.figures:
            cells = []
            for name in names:
                value = figure.median(name)
                cells.append("not measured" if value is None else readable(value, figure.unit))
            ratios = (_ratio(figure.ratio(OURS, other)) for other in (NGINX, TUNED))
            table.add_row(figure.what, *cells, *ratios)
        return table

    def json(self) -> str:
        content = {
            "run": dict(self.run),
            "notes": list(self.notes),
            "figures": [figure.as_json(OURS) for figure in self.figures],
        }
        return json.dumps(content, indent=2) + "\n"

    def svg(self) -> str:
        """Of the processor time only.  Without nginx there is nothing to compare with, and it says so."""
        costs = [figure for figure in self.figures if figure.unit in COST]
        return plot.svg(
            [figure for figure in costs if figure.ratio(OURS, NGINX)],
            beside=NGINX,
            title="Processor time of a request, and of a GB that is fetched: less is better",
            notes=self._small_print(costs),
        )

    def _small_print(self, figures: Sequence[Figure]) -> list[str]:
        """How the run was, and why something was not measured: each reason once."""
        reasons = [
            f"not measured: {name}: {each.why}"
            for figure in figures
            for name, each in figure.servers.items()
            if isinstance(each, Missing)
        ]
        run = [f"{name}: {value}" for name, value in self.run.items()]
        return [*run, *dict.fromkeys(reasons), *self.notes]


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    digits = 1 if ratio.median >= 10 else 2
    return f"{ratio.median:.{digits}f} ({ratio.lowest:.{digits}f} to {ratio.highest:.{digits}f})"
