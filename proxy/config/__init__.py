"""The config file -> one frozen `Config`, or everything that is wrong with it, with line and column.

    scalars.py    sizes, durations, texts, numbers: each value reads and prints itself
    addresses.py  listen addresses, origin URLs, networks, hosts, paths
    model.py      the sections, their keys, defaults and descriptions; JSON Schema
    document.py   YAML -> plain values with their places; environment variables
    parse.py      document -> Config, or a ConfigError that holds every Problem
    hints.py      "did you mean"
    checks.py     what must agree between sections; shadow.py: routes that leave nothing for others
    flags.py      the command line over the file
    door.py       where a running service takes orders
    certificate.py  the TLS listeners' certificate and key
    ground.py     what only this machine can tell: the spool folder, the listen addresses, the certificate

Only `cli`, `routes` and `server/app.py` read a `Config`.
"""

import os
from collections.abc import Mapping

from proxy.config.document import Document, read
from proxy.config.flags import with_flags
from proxy.config.model import Config
from proxy.config.parse import parse
from proxy.config.problems import ConfigError, Problem

__all__ = [
    "Config",
    "ConfigError",
    "Document",
    "Problem",
    "from_flags",
    "load",
    "parse",
    "read",
    "with_flags",
]


def load(path: str, env: Mapping[str, str] = os.environ) -> Config:
    """The config in the file at `path`.  Raises `ConfigError`."""
    return parse(read(path, env), env)


def from_flags(
    origin: str,
    *,
    listen: tuple[str, ...] = (),
    admin: str | None = None,
    spool: str | None = None,
    env: Mapping[str, str] = os.environ,
) -> Config:
    """The config of `serve --origin URL`, without a file.  Raises `ConfigError`."""
    flags = with_flags(Document("command line"), origin=origin, listen=listen, admin=admin, spool=spool)
    return parse(flags, env)
