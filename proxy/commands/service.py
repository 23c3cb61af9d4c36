"""`serve` and `demo`."""

import os
import sys

import click

from proxy.commands.settings import read_config, refuse
from proxy.config import Document, parse, with_flags
from proxy.config.ground import problems as ground_problems


@click.command(short_help="Run the service.")
@click.argument("config", required=False)
@click.option("--origin", metavar="URL", help="The legacy server; enough to start without a config.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    multiple=True,
    help="Where clients connect (default 127.0.0.1:8080); may be repeated.",
)
@click.option("--admin", metavar="HOST:PORT", help="Where health and metrics are (default 127.0.0.1:9090).")
@click.option("--spool", metavar="DIR", help="The folder that objects are kept in.")
@click.option("--workers", metavar="N", type=int, help="How many processes answer clients (default 1).")
def serve(
    config: str | None,
    origin: str | None,
    listen: tuple[str, ...],
    admin: str | None,
    spool: str | None,
    workers: int | None,
) -> None:
    """Run the service.

    CONFIG is a YAML file; without it and without --origin, it is ./config.yaml.  Flags win over the file.
    SIGTERM and SIGINT let running answers finish (server.timeouts.drain); a second one ends at once.
    """
    document = Document("command line") if config is None and origin is not None else read_config(config)
    document = with_flags(document, origin=origin, listen=listen, admin=admin, spool=spool, workers=workers)
    settings = parse(document, os.environ)
    refuse(document, ground_problems(settings, document))
    from proxy.server.process import run

    sys.exit(run(settings))


@click.command(short_help="Show it, with a film and a page.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Where the page is (default 8080).")
@click.option("--open/--no-open", "open_browser", default=True, help="Whether to open the page in a browser.")
def demo(port: int | None, open_browser: bool) -> None:
    """Show it: a legacy origin with a film, the adapter before it, and a page with both side by side."""
    from proxy.demo import run_demo

    sys.exit(run_demo(port, open_browser))
