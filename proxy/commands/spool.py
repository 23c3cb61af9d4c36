"""`spool ls`, `spool stat` and `spool verify`: the folder, with or without a running service."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from proxy.commands.settings import spool_of
from proxy.commands.terminal import Reading, complain, size_text, span_text
from proxy.errors import SpoolError

F = TypeVar("F", bound=Callable[..., None])


def _of_a_spool(command: F) -> F:
    """The options that name one."""
    command = click.option("--spool", metavar="DIR", help="The folder; wins over the config.")(command)
    return click.option(
        "-c", "--config", metavar="FILE", help="The config of the service (default ./config.yaml, if any)."
    )(command)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("spool", short_help="Look at the folder that objects are kept in, and check it.")
def spool_command() -> None:
    """Look at the folder that objects are kept in, and check it: beside a running service, or without one.

    \b
    range-adapter spool ls
    range-adapter spool stat --spool /var/cache/range-adapter
    range-adapter spool verify

    Which folder stands in the config; without one it is $CACHE_DIRECTORY, else range-adapter in the user's cache
    folder.  What is stored may be private: run this as the user of the service, or root.
    """


@spool_command.command("ls", short_help="What is stored, the last used first.")
@click.option("--partial", is_flag=True, help="What is unfinished, instead.")
@_as_json
@_of_a_spool
def ls_command(partial: bool, as_json: bool, config: str | None, spool: str | None) -> None:
    """What is stored, the last used first: what stands last is evicted first.

    SIZE of its body, AGE since its origin gave or confirmed it, USED how long ago; LEFT is for how long it may be
    served without asking the origin, by the routes of the config: `stale` when that is over.

    With --partial, what is arriving, or was when its service ended: how much of it is there, of how much.
    """
    with _told():
        from proxy.commands.stored import objects, unfinished

        folder, settings = spool_of(config, spool)
        rows = unfinished(folder) if partial else objects(folder, settings)
        if as_json:
            _print_array(rows)
        elif partial:
            _print_table(rows, ("SIZE", "OF", "BEGUN", "LAST", "OBJECT"), _unfinished_line)
        else:
            _print_table(rows, ("SIZE", "AGE", "USED", "LEFT", "OBJECT"), _object_line)


@spool_command.command("stat", short_help="How much is stored, and what lies there besides.")
@_as_json
@_of_a_spool
def stat_command(as_json: bool, config: str | None, spool: str | None) -> None:
    """How much is stored, and what lies there besides.

    Partitions are what is kept for single credentials.  Unknown are objects that lie there and are in no index: what
    a crash has left is taken in or cleared away after the next start.
    """
    with _told():
        from proxy.commands.stored import totals

        folder, settings = spool_of(config, spool)
        report = totals(folder, settings)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    limit = f" of {size_text(report['max_bytes'])}" if report["max_bytes"] is not None else ""
    now = time.time()
    lines = [
        ("folder", report["path"]),
        ("objects", f"{report['objects']:,}, {size_text(report['bytes'])}{limit}"),
        ("partitions", f"{report['partitions']:,}, {size_text(report['partition_bytes'])}"),
        ("last used", _between(report["first_used"], report["last_used"], now)),
        ("unfinished", f"{report['unfinished']:,}, {size_text(report['unfinished_bytes'])}"),
        ("unknown", f"{report['unknown']:,}"),
        ("disk", f"{size_text(report['disk_free_bytes'])} free"),
    ]
    for name, value in lines:
        click.echo(f"{name:<12}{value}")


@spool_command.command("verify", short_help="Read everything, and remove what has rotted.")
@click.option("--keep", is_flag=True, help="Only tell; remove nothing.")
@_of_a_spool
def verify_command(keep: bool, config: str | None, spool: str | None) -> None:
    """Read all that is stored and hold it against its checksums; tell of each object that is not as it was stored.

    What is wrong is removed, so that it is fetched anew: a running service, too, serves nothing of it from then on,
    and cuts off who is just reading it.

    Exit status 0 if all is sound, 1 if something is wrong, or was, 2 if there is no spool to read.
    """
    with _told():
        folder = spool_of(config, None)[0] if spool is None else Path(spool).expanduser().absolute()
        wrong = _verify(folder, keep=keep)
    sys.exit(1 if wrong else 0)


def _verify(folder: Path, *, keep: bool) -> int:
    """How many flaws there were."""
    from proxy.spool.inspection import Inspection
    from proxy.spool.verification import Flaw, Verification

    verification, wrong, left = Verification(Inspection(folder)), 0, 0
    with Reading(verification.size()) as reading:
        for report in verification.reports():
            if not isinstance(report, Flaw):
                reading.advance(report)
                continue
            wrong += 1
            name = report.entry.label if report.entry is not None else f"object {report.generation}"
            reading.say(f"{name}: {report.why}")
            reading.say(f"  {verification.path(report)}")
            if not keep:
                try:
                    verification.remove(report)
                except OSError as error:
                    left += 1
                    reading.say(f"  it cannot be removed: {error.strerror}")
    objects = f"{verification.objects:,} object{'s' if verification.objects != 1 else ''}"
    seen = f"{objects}, {size_text(verification.read)} read: "
    if not wrong:
        click.echo(f"{seen}all sound")
    elif keep:
        click.echo(f"{seen}{wrong:,} not as stored; nothing was removed (--keep)")
    else:
        kept = f", {left:,} of them could not be removed" if left else ", removed: to be fetched anew"
        click.echo(f"{seen}{wrong:,} not as stored{kept}")
    return wrong


def _object_line(row: dict[str, Any]) -> tuple[str, ...]:
    if "status" not in row:
        return size_text(row["size_bytes"]), "?", "?", "?", f"{row['object']} {row['generation']}"
    used = time.time() - datetime.fromisoformat(row["last_used"]).timestamp()
    left = row["fresh_seconds_left"]
    freshness = "?" if left is None else span_text(left) if left > 0 else "stale"
    return (
        size_text(row["size_bytes"]),
        span_text(row["age_seconds"]),
        span_text(used),
        freshness,
        row["object"],
    )


def _unfinished_line(row: dict[str, Any]) -> tuple[str, ...]:
    now, length = time.time(), row["complete_length"]
    begun, written = (datetime.fromisoformat(row[key]).timestamp() for key in ("begun", "last_written"))
    return (
        size_text(row["size_bytes"]),
        "?" if length is None else size_text(length),
        span_text(now - begun),
        span_text(now - written),
        row["object"],
    )


def _between(first: str | None, last: str | None, now: float) -> str:
    if first is None or last is None:
        return "-"
    oldest, newest = (now - datetime.fromisoformat(each).timestamp() for each in (first, last))
    return f"{span_text(oldest)} ago the oldest, {span_text(newest)} ago the newest"


def _print_array(rows: Iterator[dict[str, Any]]) -> None:
    """As they come: there may be millions."""
    separator = "[\n"
    for row in rows:
        click.echo(f"{separator}  {json.dumps(row)}", nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def _print_table(
    rows: Iterator[dict[str, Any]], head: tuple[str, ...], line: Callable[[dict[str, Any]], tuple[str, ...]]
) -> None:
    """As they come."""
    lines = map(line, rows)
    first = next(lines, None)
    if first is None:
        click.echo("nothing")
        return
    for cells in (head, first):
        click.echo(_columns(cells))
    for cells in lines:
        click.echo(_columns(cells))


def _columns(cells: tuple[str, ...]) -> str:
    *figures, name = cells
    return "".join(f"{figure:>10}" for figure in figures) + f"  {name}"


@contextmanager
def _told() -> Iterator[None]:
    """A spool that cannot be read is an error of one line."""
    try:
        yield
    except SpoolError as error:
        complain(str(error))
        sys.exit(2)
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"cannot read the spool: {error}")
        sys.exit(2)
