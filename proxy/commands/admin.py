"""`purge` and `status`: orders for a running service, and what it tells of itself."""

import json
import os
import sys
import time
from typing import Any

import click

from proxy.commands.settings import DEFAULT_FILE, read_config
from proxy.commands.terminal import complain, size_text, span_text
from proxy.config.door import admin_door


@click.command("purge", short_help="Have a running service forget what it has stored.")
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="All that its origin has tagged so.")
@click.option("--all", "everything", is_flag=True, help="All that is stored.")
@click.option("--soft", is_flag=True, help="Make it stale: the origin is asked before it is used again.")
@click.option(
    "-c", "--config", metavar="FILE", help="The config of the service (default ./config.yaml, if any)."
)
@click.option("--admin", metavar="HOST:PORT", help="Where its admin listener is; also unix:/path.")
@click.option("--spool", metavar="DIR", help="Its spool, where its token is; wins over the config.")
@click.option("--token", envvar="RANGE_ADAPTER_TOKEN", show_envvar=True, help="The token that it wants.")
def purge_command(
    urls: tuple[str, ...],
    tags: tuple[str, ...],
    everything: bool,
    soft: bool,
    config: str | None,
    admin: str | None,
    spool: str | None,
    token: str | None,
) -> None:
    """Have a running service forget what it has stored.

    \b
    range-adapter purge http://media.example.com/films/a.mp4
    range-adapter purge 'http://media.example.com/films/*'    all that begins so
    range-adapter purge '/films/*'                            the same, of all hosts
    range-adapter purge --tag news --soft

    URLs are those of clients.  Where the service is, and its token, stand in the config; without one, it is
    127.0.0.1:9090, and the token is in the spool's file admin-token (--spool, for a service that was started so):
    run this as the user of the service, or root.

    Exit status 1 if the service refuses or is not there; the error says if anything is purged all the same.
    """
    if everything == bool(urls or tags):
        wrong = "--all is everything; leave out the rest" if everything else "name a URL, --tag TAG or --all"
        raise click.UsageError(wrong)
    if not all((*urls, *tags)):
        raise click.UsageError("a URL or a tag is empty; quote it, and look at what your shell makes of it")
    from proxy.admin import client

    known = admin is not None and token is not None
    is_read = config is not None or (os.path.exists(DEFAULT_FILE) and not known)
    door = admin_door(read_config(config) if is_read else None, os.environ, admin=admin, token=token)
    try:
        order = {"urls": urls, "tags": tags, "all": everything, "soft": soft}
        for thing in client.purge(door.address, door.token, spool or door.spool, order):
            click.echo(f"{'made stale' if soft else 'purged'} {thing}")
    except client.Failed as error:
        complain(str(error))
        sys.exit(1)


@click.command("status", short_help="What a running service is doing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all that /status.json tells.")
@click.option(
    "-c", "--config", metavar="FILE", help="The config of the service (default ./config.yaml, if any)."
)
@click.option("--admin", metavar="HOST:PORT", help="Where its admin listener is; also unix:/path.")
def status_command(as_json: bool, config: str | None, admin: str | None) -> None:
    """What a running service is doing: whether it is ready, how full its spool is, what is being fetched.

    \b
    range-adapter status
    range-adapter status --admin 127.0.0.1:9090

    Exit status 1 if it is not ready, or not there.
    """
    from proxy.admin import client

    is_read = config is not None or (os.path.exists(DEFAULT_FILE) and admin is None)
    door = admin_door(read_config(config) if is_read else None, os.environ, admin=admin, token=None)
    try:
        report = client.status(door.address)
    except client.Failed as error:
        complain(str(error))
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        for name, value in _lines(report):
            click.echo(f"{name:<10}{value}".rstrip())
    sys.exit(0 if report["ready"] else 1)


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    spool, scrub, fills = report["spool"], report["scrub"], report["fills"]
    used = f"{size_text(spool['used_bytes'])} of {size_text(spool['max_bytes'])}"
    lines = [
        ("version", report["version"]),
        ("up", span_text(report["uptime_seconds"])),
        ("ready", "yes" if report["ready"] else f"no: {report['unready_because']}"),
        ("requests", f"{report['requests_in_progress']:,} being answered"),
        ("spool", spool["path"]),
        (
            "",
            f"{spool['objects']:,} objects, {used}; {spool['evictions']:,} evicted, {spool['rotten']:,} rotten",
        ),
        ("scrub", _scrubbing(scrub)),
        ("fills", f"{len(fills):,} being fetched"),
    ]
    for fill in fills:
        length = fill["complete_length"]
        done = f"{size_text(fill['written_bytes'])} of {'?' if length is None else size_text(length)}"
        share = f" ({fill['written_bytes'] / length:.0%})" if length else ""
        lines.append(("", f"{fill['object']}: {done}{share}, {fill['followers']:,} following"))
    return lines


def _scrubbing(scrub: dict[str, Any]) -> str:
    if not scrub["enabled"]:
        return "off"
    last = scrub["last_whole_pass"]
    done = "no whole pass yet" if last is None else f"last whole pass {span_text(time.time() - last)} ago"
    return f"{done}; {'one is under way' if scrub['under_way'] else 'waiting for the next'}"
