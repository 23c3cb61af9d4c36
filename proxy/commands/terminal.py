"""What commands show."""

import click


def complain(message: str) -> None:
    """Say on standard error why it came to nothing."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
