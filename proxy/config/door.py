"""Where a running service takes orders: what its config, or the command line, says to those who give them."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.config.addresses import read_address
from proxy.config.document import Document
from proxy.config.model import Admin, default_spool_path
from proxy.config.parse import parse
from proxy.config.problems import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class AdminDoor:
    """The admin listener's address (None: there is none), its token if one is said, and the spool folder."""

    address: str | None
    token: str | None
    spool: str


def admin_door(
    document: Document | None, env: Mapping[str, str], *, admin: str | None, token: str | None
) -> AdminDoor:
    """The door of the service with this config, or without any; flags win over it.  Raises `ConfigError`."""
    section, spool = Admin(), default_spool_path(env)
    if document is not None:
        config = parse(document, env)
        section, spool = config.admin, config.spool.path
    try:
        address = section.listen if admin is None else read_address(admin)
    except ValueError as error:
        why = str(error).replace("cannot listen on", "there is no service at")
        raise ConfigError("command line", [Problem(0, 0, "--admin", why)]) from None
    return AdminDoor(None if address is None else str(address), token or section.token, spool)
