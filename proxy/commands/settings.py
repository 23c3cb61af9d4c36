"""The config that a command is about."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from proxy.config import Config, ConfigError, Document, Problem, parse, read
from proxy.config.model import default_spool_path

DISTRIBUTION: Final = "range-adapter"
DEFAULT_FILE: Final = "config.yaml"


def read_config(config: str | None) -> Document:
    """The config of that name, or ./config.yaml.  Raises ConfigError."""
    if config is None and not os.path.exists(DEFAULT_FILE):
        hint = f"name a file, or start without one: {DISTRIBUTION} serve --origin http://127.0.0.1:8000"
        raise ConfigError(DEFAULT_FILE, [Problem(0, 0, "", f"there is none in this folder; {hint}")])
    return read(config or DEFAULT_FILE, os.environ)


def refuse(document: Document, problems: Iterable[Problem]) -> None:
    """Raises ConfigError if there are any."""
    if found := list(problems):
        raise ConfigError(document.name, found)


def spool_of(config: str | None, spool: str | None) -> tuple[Path, Config | None]:
    """The spool folder that is meant, and the config it is of, if there is one; --spool wins.

    Raises ConfigError, and UsageError if nobody said which and there is none.
    """
    settings = None
    if config is not None or os.path.exists(DEFAULT_FILE):
        settings = parse(read_config(config), os.environ)
    folder = spool or (settings.spool.path if settings is not None else default_spool_path(os.environ))
    path = Path(folder).expanduser().absolute()
    if spool is None and settings is None and not path.exists():
        raise click.UsageError(
            f"there is no {path}; name the spool (--spool), or the config of its service (-c)"
        )
    return path, settings
