"""The command `range-adapter`.

Exit status: 0 for success, 1 for a service that could not start, refused or is not there, 2 for a wrong command line
or config.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import packages_distributions
from urllib.parse import urlsplit

import click
from multidict import CIMultiDict

from proxy.answers import Answer
from proxy.config import Config, ConfigError, Document, Problem, parse, read, with_flags
from proxy.config.door import admin_door
from proxy.config.ground import problems as ground_problems
from proxy.config.model import Route, schema
from proxy.explain import explain, lines
from proxy.semantics.request import ClientRequest

DISTRIBUTION = "range-adapter"
DEFAULT_FILE = "config.yaml"


class _Commands(click.Group):
    """Tells what is wrong with a config as a command-line error."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(str(error), err=True)
            count = len(error.problems)
            started = "; nothing was started" if ctx.invoked_subcommand == "serve" else ""
            _complain(f"{count} problem{'s' if count > 1 else ''}{started}")
            ctx.exit(2)


def _complain(message: str) -> None:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from proxy import __version__

        click.echo(f"{DISTRIBUTION} {__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def cli() -> None:
    """Correct byte ranges for an HTTP origin that answers everything with 200.

    \b
    Try it:              range-adapter demo
    Without a config:    range-adapter serve --origin http://127.0.0.1:8000
    With one:            range-adapter serve config.yaml
    """


@cli.command(short_help="Run the service.")
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
def serve(
    config: str | None, origin: str | None, listen: tuple[str, ...], admin: str | None, spool: str | None
) -> None:
    """Run the service.

    CONFIG is a YAML file; without it and without --origin, it is ./config.yaml.  Flags win over the file.
    SIGTERM and SIGINT let running answers finish (server.timeouts.drain); a second one ends at once.
    """
    document = Document("command line") if config is None and origin is not None else _read(config)
    document = with_flags(document, origin=origin, listen=listen, admin=admin, spool=spool)
    settings = parse(document, os.environ)
    _refuse(document, ground_problems(settings, document))
    from proxy.server.app import run

    sys.exit(run(settings))


@cli.command(short_help="Show it, with a film and a page.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Where the page is (default 8080).")
@click.option("--open/--no-open", "open_browser", default=True, help="Whether to open the page in a browser.")
def demo(port: int | None, open_browser: bool) -> None:
    """Show it: a legacy origin with a film, the adapter before it, and a page with both side by side."""
    from proxy.demo import run_demo

    sys.exit(run_demo(port, open_browser))


@cli.command(short_help="Tell all that is wrong with a config.")
@click.argument("config", required=False)
@click.option(
    "--no-probe",
    is_flag=True,
    help="Leave out whether the spool folder takes files and the addresses are free: for a config of another "
    "machine, or of a service that is running.",
)
def check(config: str | None, no_probe: bool) -> None:
    """Check a config, ./config.yaml unless named: all problems at once, each with its line and column.

    Exit status 2 if there are any.
    """
    document = _read(config)
    settings = parse(document, os.environ)
    if not no_probe:
        _refuse(document, ground_problems(settings, document))
    click.echo(f"{document.name}: {click.style('ok', fg='green')}")
    _summarize(settings)


@cli.command("explain", short_help="Tell what becomes of a request, and why.")
@click.argument("method")
@click.argument("url")
@click.argument("config", required=False)
@click.option(
    "-H", "--header", "headers", metavar="NAME: VALUE", multiple=True, help="A field of the request."
)
@click.option(
    "-A",
    "--answer",
    "answers",
    metavar="NAME: VALUE",
    multiple=True,
    help="A field that its origin answers with.",
)
@click.option("--status", type=click.IntRange(200, 599), help="The status it answers with (default 200).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain_command(
    method: str,
    url: str,
    config: str | None,
    headers: tuple[str, ...],
    answers: tuple[str, ...],
    status: int | None,
    as_json: bool,
) -> None:
    """Tell what becomes of a request, and of what its origin answers, and why.

    \b
    range-adapter explain GET http://media.example.com/films/a.mp4
    range-adapter explain GET /films/a.mp4 -H "Cookie: session=1"
    range-adapter explain GET /films/a.mp4 -A "Content-Type: video/mp4" -A "Cache-Control: max-age=600"
    """
    settings = parse(_read(config), os.environ)
    request = _request(method, url, headers)
    fields = _fields(answers, "--answer")
    asked = bool(answers) or status is not None
    explanation = explain(
        settings, request, Answer(status or 200, fields, int(time.time())) if asked else None
    )
    if as_json:
        click.echo(json.dumps({"method": method, "url": url, **asdict(explanation)}, indent=2))
    else:
        click.echo("\n".join(lines(explanation)))


@cli.command("purge", short_help="Have a running service forget what it has stored.")
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="All that its origin has tagged so.")
@click.option("--all", "everything", is_flag=True, help="All that is stored.")
@click.option("--soft", is_flag=True, help="Make it stale: the origin is asked before it is used again.")
@click.option(
    "-c", "--config", metavar="FILE", help="The config of the service (default ./config.yaml, if any)."
)
@click.option("--admin", metavar="HOST:PORT", help="Where its admin listener is; also unix:/path.")
@click.option("--token", envvar="RANGE_ADAPTER_TOKEN", show_envvar=True, help="The token that it wants.")
def purge_command(
    urls: tuple[str, ...],
    tags: tuple[str, ...],
    everything: bool,
    soft: bool,
    config: str | None,
    admin: str | None,
    token: str | None,
) -> None:
    """Have a running service forget what it has stored.

    \b
    range-adapter purge http://media.example.com/films/a.mp4
    range-adapter purge 'http://media.example.com/films/*'    all that begins so
    range-adapter purge '/films/*'                            the same, of all hosts
    range-adapter purge --tag news --soft

    URLs are those of clients.  Where the service is, and its token, stand in the config; without one, it is
    127.0.0.1:9090, and the token is in the spool's file admin-token: run this as the user of the service, or root.

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
    door = admin_door(_read(config) if is_read else None, os.environ, admin=admin, token=token)
    try:
        order = {"urls": urls, "tags": tags, "all": everything, "soft": soft}
        for thing in client.purge(door.address, door.token, door.spool, order):
            click.echo(f"{'made stale' if soft else 'purged'} {thing}")
    except client.Failed as error:
        _complain(str(error))
        sys.exit(1)


@cli.command("schema", short_help="Print the config's JSON Schema.")
def schema_command() -> None:
    """Print the JSON Schema of the config, for completion in editors.

    \b
    range-adapter schema > config.schema.json
    then, as the first line of config.yaml:
    # yaml-language-server: $schema=./config.schema.json
    """
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


def _read(config: str | None) -> Document:
    if config is None and not os.path.exists(DEFAULT_FILE):
        hint = f"name a file, or start without one: {DISTRIBUTION} serve --origin http://127.0.0.1:8000"
        raise ConfigError(DEFAULT_FILE, [Problem(0, 0, "", f"there is none in this folder; {hint}")])
    return read(config or DEFAULT_FILE, os.environ)


def _refuse(document: Document, problems: Iterable[Problem]) -> None:
    if found := list(problems):
        raise ConfigError(document.name, found)


def _fields(given: tuple[str, ...], option: str) -> CIMultiDict[str]:
    fields: CIMultiDict[str] = CIMultiDict()
    for each in given:
        name, colon, value = each.partition(":")
        if not colon:
            raise click.BadParameter(f"{each!r} has no colon; write 'Name: value'", param_hint=option)
        fields.add(name.strip(), value.strip())
    return fields


def _request(method: str, url: str, headers: tuple[str, ...]) -> ClientRequest:
    fields = _fields(headers, "--header")
    scheme, separator, rest = url.partition("#")[0].partition("://")
    if not separator:
        if not url.startswith("/"):
            raise click.BadParameter(f"{url!r} is no URL; write http://host/path or /path", param_hint="URL")
        scheme, rest = "http", fields.get("Host", "localhost") + scheme
    host = re.split("[/?]", rest, maxsplit=1)[0]
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError as error:
        raise click.BadParameter(f"{host!r} is no host: {error}", param_hint="URL") from None
    target = rest.removeprefix(host)
    path, question, query = target.partition("?")
    return ClientRequest(
        method=method,
        target=target or "/",
        path=path or "/",
        query=query if question else None,
        scheme=scheme.lower(),
        host=host.lower(),
        fields=fields,
        peer="127.0.0.1",
        client="127.0.0.1",
        has_body="Transfer-Encoding" in fields or fields.get("Content-Length", "0") != "0",
    )


def _summarize(config: Config) -> None:
    rows = [
        (route.name, _conditions(route), _destination(route, config), route.mode) for route in config.routes
    ]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(
            "route", "takes", "origin", "mode", title=f"listens on {_listens(config)}", title_justify="left"
        )
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    else:
        click.echo(f"listens on {_listens(config)}")
        for row in rows:
            click.echo("route " + "  ".join(row))


def _listens(config: Config) -> str:
    return ", ".join(map(str, config.server.listen))


def _conditions(route: Route) -> str:
    match = route.match
    said = [
        " ".join(match.methods),
        " ".join(match.host),
        match.path_prefix or "",
        match.path_regex.pattern if match.path_regex else "",
    ]
    return " ".join(filter(None, said)) or "everything"


def _destination(route: Route, config: Config) -> str:
    return "-" if route.mode == "deny" or route.origin is None else str(config.origins[route.origin].url)


def main() -> None:
    """The entry point of the command."""
    try:
        cli(prog_name=DISTRIBUTION)
    except ImportError as error:
        others = sorted(set(packages_distributions().get("proxy", [])) - {DISTRIBUTION})
        if not others:
            raise
        _complain(
            f"{error}: the package `proxy` also belongs to {', '.join(others)} in this environment; "
            f"install {DISTRIBUTION} into one of its own: pipx install {DISTRIBUTION}"
        )
        sys.exit(1)
