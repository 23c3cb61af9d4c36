"""What commands show, on a terminal and elsewhere."""

import sys
import time
from typing import TYPE_CHECKING, Final, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_INTERVAL: Final = 10.0
"""Seconds between two lines where there is no bar."""

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def complain(message: str) -> None:
    """Say on standard error why it came to nothing."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)


def size_text(size: float) -> str:
    """Bytes, in four digits at most: `512 B`, `1.5 MiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in _UNITS:
        size /= 1024
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
    raise AssertionError("the last unit takes all")


def span_text(seconds: float) -> str:
    """Seconds, in the two largest units: `3s`, `2h05m`, `40d`."""
    left = max(0, round(seconds))
    for at, (length, unit) in enumerate(_SPANS):
        if left >= length or length == 1:
            count, rest = divmod(left, length)
            if length == 1 or (count >= 10 and unit == "d"):
                return f"{count}{unit}"
            lesser, name = _SPANS[at + 1]
            return f"{count}{unit}{rest // lesser:02}{name}" if rest // lesser else f"{count}{unit}"
    raise AssertionError("a second is the least")


class Reading:
    """How far something has come that reads `total` bytes: a bar on a terminal, else a line now and then.

    `say` prints what is found meanwhile.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._begun = self._told = time.monotonic()
        self._bar = _bar(total) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """So many bytes more."""
        self._done += count
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)
        elif (now := time.monotonic()) - self._told > LINE_INTERVAL:
            self._told = now
            rate = self._done / (now - self._begun)
            left = span_text((self._total - self._done) / rate) if rate else "?"
            done = f"{size_text(self._done)} of {size_text(self._total)}"
            click.echo(f"{done}, {size_text(rate)}/s, {left} left", err=True)

    def say(self, line: str) -> None:
        """A line of output."""
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.out(line, highlight=False)
        else:
            click.echo(line)


def _bar(total: int) -> "Progress":
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    bar.add_task("", total=total)
    return bar
