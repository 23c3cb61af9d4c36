"""What the command line says, put over what the file says."""

from proxy.config.document import Document
from proxy.config.problems import ConfigError, Path, Problem

_PATHS: dict[str, Path] = {
    "--listen": ("server", "listen"),
    "--admin": ("admin", "listen"),
    "--spool": ("spool", "path"),
    "--workers": ("server", "workers"),
}


def with_flags(
    document: Document,
    *,
    origin: str | None = None,
    listen: tuple[str, ...] = (),
    admin: str | None = None,
    spool: str | None = None,
    workers: int | None = None,
) -> Document:
    """The document with the flags that are given.  Raises `ConfigError` if `--origin` could mean several."""
    given = {"--listen": list(listen) or None, "--admin": admin, "--spool": spool, "--workers": workers}
    for flag, value in given.items():
        if value is not None:
            document = document.with_flag(flag, _PATHS[flag], value)
    if origin is None:
        return document
    origins = document.get("origins")
    names = list(origins) if isinstance(origins, dict) else []
    if len(names) > 1:
        message = f"{document.name} has {len(names)} origins ({', '.join(names)}); change the url there"
        raise ConfigError(document.name, [Problem(0, 0, "--origin", message)])
    return document.with_flag("--origin", ("origins", names[0] if names else "origin", "url"), origin)
