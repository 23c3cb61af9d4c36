"""The command `range-adapter`.

Exit status: 0 for success, 1 for a service that could not start, refused or is not there, 2 for a wrong command line
or config.
"""

import sys
from importlib.metadata import packages_distributions

import click

from proxy.commands.admin import purge_command, status_command
from proxy.commands.checking import check, explain_command, schema_command
from proxy.commands.service import demo, serve
from proxy.commands.settings import DISTRIBUTION
from proxy.commands.spool import spool_command
from proxy.commands.terminal import complain
from proxy.config import ConfigError


class _Commands(click.Group):
    """Tells what is wrong with a config as a command-line error."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(str(error), err=True)
            count = len(error.problems)
            started = "; nothing was started" if ctx.invoked_subcommand == "serve" else ""
            complain(f"{count} problem{'s' if count > 1 else ''}{started}")
            ctx.exit(2)


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


for command in (
    serve,
    demo,
    check,
    explain_command,
    status_command,
    purge_command,
    spool_command,
    schema_command,
):
    cli.add_command(command)


def main() -> None:
    """The entry point of the command."""
    try:
        cli(prog_name=DISTRIBUTION)
    except ImportError as error:
        others = sorted(set(packages_distributions().get("proxy", [])) - {DISTRIBUTION})
        if not others:
            raise
        complain(
            f"{error}: the package `proxy` also belongs to {', '.join(others)} in this environment; "
            f"install {DISTRIBUTION} into one of its own: pipx install {DISTRIBUTION}"
        )
        sys.exit(1)
