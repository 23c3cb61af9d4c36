"""`check`, `explain` and `schema`: what the service would do, without it."""

import json
import os
import re
import sys
import time
from dataclasses import asdict
from urllib.parse import urlsplit

import click
from multidict import CIMultiDict

from proxy.answers import Answer
from proxy.commands.settings import read_config, refuse
from proxy.config import Config, parse
from proxy.config.ground import problems as ground_problems
from proxy.config.model import Route, schema
from proxy.explain import explain, lines
from proxy.semantics.request import ClientRequest


@click.command(short_help="Tell all that is wrong with a config.")
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
    document = read_config(config)
    settings = parse(document, os.environ)
    if not no_probe:
        refuse(document, ground_problems(settings, document))
    click.echo(f"{document.name}: {click.style('ok', fg='green')}")
    _summarize(settings)


@click.command("explain", short_help="Tell what becomes of a request, and why.")
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
    settings = parse(read_config(config), os.environ)
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


@click.command("schema", short_help="Print the config's JSON Schema.")
def schema_command() -> None:
    """Print the JSON Schema of the config, for completion in editors.

    \b
    range-adapter schema > config.schema.json
    then, as the first line of config.yaml:
    # yaml-language-server: $schema=./config.schema.json
    """
    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))


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
