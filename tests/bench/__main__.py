"""`make bench`: what the adapter costs, on this machine."""

import asyncio
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.bench import clients, cold, guard, machine, spool, stalls
from tests.bench.compare import FULL, QUICK, Comparison, Effort
from tests.bench.figures import Missing
from tests.bench.load import Load
from tests.bench.markdown import marks, put_into
from tests.bench.report import Report
from tests.bench.servers import OURS, TWO_WORKERS, VARNISH, Server, running

PARTS = ("cold", "compare", "stalls", "clients", "spool", "guard")
DISK = "/var/tmp"
NO_CORES = "the load would share the only core with what it measures"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 118})
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option(
    "--quick",
    is_flag=True,
    help="Three short rounds, fewer clients and objects: figures to look at, not to quote.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, writable=True), help="Every sample of compare."
)
@click.option(
    "--svg", "svg_file", type=click.Path(dir_okay=False, writable=True), help="A bar plot of compare."
)
@click.option(
    "--into",
    "text_file",
    type=click.Path(dir_okay=False, exists=True, writable=True),
    help=f"A text that gets the tables, each between two lines such as {' and '.join(marks('spool'))}.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, exists=True),
    default=DISK if Path(DISK).is_dir() else None,
    show_default=True,
    help="Where spools and caches are made: /tmp may be in memory, which is something else.",
)
def main(
    parts: tuple[str, ...],
    quick: bool,
    json_file: str | None,
    svg_file: str | None,
    text_file: str | None,
    folder: str | None,
) -> None:
    """What range-adapter costs on this machine; without a part, all but guard.

    \b
    cold     one adapter: what a cold object costs its clients, beside what physics allows
    compare  processor time beside nginx (as it comes, and with open_file_cache) and Varnish: warm slices, 304s,
             small objects, TLS, cold fills; and two workers beside one
    stalls   beside nginx: how long others wait while one client reads what only the disk has
    clients  memory for each of 10,000 connections (1,000 with --quick)
    spool    what 10 k, 100 k and 1 M stored objects cost (not 1 M with --quick: it takes 12 GB and some minutes)
    guard    for CI: fails if a warm slice takes more instructions than it may; a minute, needs valgrind

    The servers of compare are asked in turn, all in each round, and share one core; the load has another core
    for itself and asks over raw sockets, with the fields that Chromium sends.  All have the same origin, the same
    objects and access logs; the adapter its metrics, too.  A figure is the median over the rounds of what all
    processes of a server used, user and system; a ratio is the median of the rounds' ratios, in brackets without the
    lowest and the highest quarter.  What cannot be measured honestly says 'not measured', and why.

    \b
    Debian: apt install nginx-light varnish valgrind
    A quarter of an hour, 12 GB of disk and 3 GB of memory; --quick: some minutes.  Other work on the machine shows:
    look at the brackets.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # with all that was started
    console = Console()
    if not console.is_terminal:
        console.width = max(170, console.width)

    def show(part: str, table: Table) -> None:
        console.print(table)
        if text_file:
            text = Path(text_file).read_text(encoding="utf-8")
            Path(text_file).write_text(put_into(text, part, table), encoding="utf-8")

    good = True
    for part in parts or PARTS[:-1]:
        if part == "cold":
            good = asyncio.run(cold.main()) == 0 and good
        elif part == "compare":
            report = _compare(console, QUICK if quick else FULL, folder)
            show(part, report.table())
            if json_file:
                Path(json_file).write_text(report.json(), encoding="utf-8")
            if svg_file:
                Path(svg_file).write_text(report.svg(), encoding="utf-8")
        elif part == "stalls":
            stalls.main(console, quick=quick, folder=folder)
        elif part == "clients":
            table, holds = clients.measure_all(console, quick=quick, folder=folder)
            show(part, table)
            good = holds and good
        elif part == "spool":
            table, holds = spool.measure_all(console, quick=quick, folder=folder)
            show(part, table)
            good = holds and good
        else:
            good = _guard(folder) and good
    sys.exit(0 if good else 1)


@contextmanager
def _servers(folder: str | None) -> Iterator[tuple[dict[str, Server], dict[str, Missing], Load]]:
    measured, core_of_load = machine.cores()
    with (
        tempfile.TemporaryDirectory(prefix="range-adapter-bench-", dir=folder) as own,
        running(measured, core_of_load, Path(own)) as (servers, missing),
        Load(core_of_load) as load,
    ):
        yield servers, missing, load


def _compare(console: Console, effort: Effort, folder: str | None) -> Report:
    if platform.system() != "Linux":
        raise click.ClickException("compare: not measured: it needs Linux (epoll, /proc, cores to choose)")
    run = {
        "command": machine.command(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{machine.processor()}; {machine.busy()}",
        "versions": ", ".join(f"{name} {number}" for name, number in machine.versions().items()),
    }
    alone = machine.cores() != (None, None)
    with _servers(folder) as (servers, missing, load), console.status("...") as status:
        comparison = Comparison(servers, load, effort, lambda what: status.update(f"{what} ..."))
        missing |= comparison.prepare()
        if OURS in missing:
            raise click.ClickException(missing[OURS].why)
        measured = [
            *comparison.warm_slices(),
            *comparison.not_modified(),
            *comparison.small_objects(),
            *comparison.encrypted(),
            *comparison.cold_fills(),
        ]
        workers = list(comparison.two_workers())
        alone_in_it = missing.pop(TWO_WORKERS, None)
        figures = [replace(each, servers={**each.servers, **missing}) for each in measured]
    dearest = max(comparison.load_share.items(), key=lambda each: each[1])
    notes = [
        f"The load itself used at most {dearest[1]:.2f} times what the cheapest server used ({dearest[0]})."
    ]
    if dearest[1] > 1:
        notes.append(
            "Where that is more than 1, a server waits for the load, wakes up more often and costs more."
        )
    if all(each.lane is None for each in figures):
        notes.append("warm lane: this version has none.")
    if alone_in_it:
        notes.append(f"not measured: two workers: {alone_in_it.why}")
    notes.append("not measured: how much more two workers get done: our load is one process.")
    if VARNISH in servers:
        notes.append("Varnish keeps its objects in memory: its cold fills write no file.")
    if not alone:
        notes.append(f"One core only: {NO_CORES}; caches and turns are shared, and figures are too high.")
    return Report(figures, run, notes, workers)


def _guard(folder: str | None) -> bool:
    if why := guard.why_not():
        click.echo(f"guard: not measured: {why}")
        return not os.environ.get("CI")  # there, a missing program is a failure
    good = True
    with tempfile.TemporaryDirectory(prefix="range-adapter-bench-", dir=folder) as own:
        for verdict in guard.verdicts(Path(own)):
            click.echo(str(verdict))
            good = good and verdict.holds
    return good


if __name__ == "__main__":
    main()
