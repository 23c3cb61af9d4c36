"""What was counted and what was wrong, a bar while it goes on, and the table at the end."""

import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

MOST_SHOWN = 20
"""Faults of one kind that are written out."""


@dataclass(slots=True)
class Tally:
    """Of one part.  `figures` are rows of the table; `wrong` says what must not be, kind by kind."""

    name: str
    seed: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    seen_faults: Counter[str] = field(default_factory=Counter)
    figures: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    skipped: str = ""
    begun: float = field(default_factory=time.monotonic)

    def fault(self, kind: str, text: str) -> None:
        """Something that must not be: `wrong bytes`, `hang`, `leak`, `log` ..."""
        self.wrong.setdefault(kind, []).append(f"at {time.monotonic() - self.begun:.1f} s: {text}")

    @property
    def good(self) -> bool:
        return not self.wrong


class Show:
    """A bar on a terminal, else a line now and then."""

    def __init__(self, console: Console, name: str, total: int) -> None:
        self._console = console
        self._name = name
        self._total = total
        self._done = 0
        self._told = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[news]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(name, total=total, news="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, tally: Tally, count: int = 1) -> None:
        """One more is done."""
        self._done += count
        wrong = sum(map(len, tally.wrong.values()))
        news = f"{sum(tally.seen.values())} answers, {wrong} wrong"
        self._progress.update(self._task, advance=count, news=news)
        if not self._console.is_terminal and (
            time.monotonic() - self._told > 10 or self._done >= self._total
        ):
            self._told = time.monotonic()
            self._console.print(f"{self._name}: {self._done} of {self._total}; {news}")


def quiet() -> Console:
    """For tests: nothing is shown."""
    return Console(quiet=True)


def print_report(console: Console, tallies: list[Tally]) -> None:
    """The table, and below it each thing that was wrong."""
    table = Table("part", "what", "figure", title="Torture")
    for tally in tallies:
        if tally.skipped:
            table.add_row(tally.name, "skipped", tally.skipped)
            continue
        for what, figure in tally.figures.items():
            table.add_row(tally.name, what, figure)
        answers = ", ".join(f"{count} {what}" for what, count in tally.seen.most_common())
        table.add_row(tally.name, "answers", answers)
        for kind in dict.fromkeys(("wrong bytes", "hang", "leak", *sorted(tally.wrong))):
            count = len(tally.wrong.get(kind, ()))
            if count or kind in {"wrong bytes", "hang", "leak"}:
                table.add_row(tally.name, kind, f"[red]{count}[/]" if count else "0")
        table.add_row(tally.name, "seed, seconds", f"{tally.seed}, {time.monotonic() - tally.begun:.0f}")
        table.add_section()
    console.print(table)
    for tally in tallies:
        for kind, texts in tally.wrong.items():
            for text in texts[:MOST_SHOWN]:
                console.print(f"{tally.name}: {kind}: {text}", markup=False, soft_wrap=True)
            if len(texts) > MOST_SHOWN:
                console.print(f"{tally.name}: {kind}: ... {len(texts) - MOST_SHOWN} more")
