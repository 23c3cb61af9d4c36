"""What to say about a key that is not one of ours: the key of ours that was probably meant."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel

from proxy.config.model import Config
from proxy.config.problems import Path, key_text

_PEERS: Final = {
    # nginx, Caddy, Traefik, Envoy, HAProxy, Varnish, Kubernetes, Docker: their words, then ours.
    "upstream": "origin",
    "upstreams": "origins",
    "backend": "origin",
    "backends": "origins",
    "proxy_pass": "origin",
    "reverse_proxy": "origin",
    "service": "origin",
    "services": "origins",
    "cluster": "origin",
    "clusters": "origins",
    "target": "url",
    "address": "url",
    "server_name": "host",
    "hosts": "host",
    "hostname": "host",
    "hostnames": "host",
    "host_header": "host",
    "bind": "listen",
    "port": "listen",
    "entrypoints": "listen",
    "ssl": "tls",
    "cert": "certificate",
    "crt": "certificate",
    "cert_file": "certificate",
    "ssl_certificate": "certificate",
    "ssl_certificate_key": "key",
    "key_file": "key",
    "private_key": "key",
    "location": "path_prefix",
    "locations": "routes",
    "path": "path_prefix",
    "prefix": "path_prefix",
    "path_beg": "path_prefix",
    "regex": "path_regex",
    "path_regexp": "path_regex",
    "method": "methods",
    "rules": "routes",
    "route": "routes",
    "max_age": "ttl",
    "proxy_cache_valid": "ttl",
    "default_ttl": "ttl",
    "proxy_cache_key": "key",
    "cache_key": "key",
    "proxy_cache_path": "path",
    "cache_path": "path",
    "cache_dir": "path",
    "directory": "path",
    "dir": "path",
    "total_max_size": "max_size",
    "max_file_size": "max_object_size",
    "large_client_header_buffers": "max_header_size",
    "set_real_ip_from": "trusted_proxies",
    "trusted_ips": "trusted_proxies",
    "proxy_connect_timeout": "connect",
    "connect_timeout": "connect",
    "dial_timeout": "connect",
    "proxy_read_timeout": "idle",
    "read_timeout": "idle",
    "response_header_timeout": "first_byte",
    "send_timeout": "send_idle",
    "write_timeout": "send_idle",
    "keepalive": "keep_alive",
    "keepalive_timeout": "keep_alive",
    "timeout": "timeouts",
    "max_ranges": "max",
    "proxy_max_ranges": "max",
    "allow_origin": "allow_origins",
    "allowed_origins": "allow_origins",
    "stripprefix": "strip_prefix",
    "addprefix": "add_prefix",
    "replace_prefix": "strip_prefix",
    "log": "logging",
    "access_log": "access",
    "log_format": "format",
    "log_level": "level",
    "cache": "spool",
    "caching": "cache",
}


def unknown_key(path: Path) -> str:
    """The message for a key that stands where it means nothing."""
    key = str(path[-1])
    section = section_at(path[:-1])
    known = list(section.model_fields) if section else []
    message = f"unknown key {key!r}"
    if meant := _meant(key, known):
        return f"{message}; did you mean {meant!r}?"
    if homes := _homes(key.lower().replace("-", "_")):
        return f"{message} here; it belongs to {' or '.join(homes)}"
    return f"{message}; known here: {', '.join(known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not among the known ones."""
    names = list(known)
    if close := get_close_matches(word.lower(), names, n=1, cutoff=0.6):
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"


def _meant(key: str, known: list[str]) -> str | None:
    plain = key.lower().replace("-", "_")
    for candidate in (plain, _PEERS.get(plain), f"{plain}s"):
        if candidate in known:
            return candidate
    close = get_close_matches(plain, known, n=1, cutoff=0.7)
    return close[0] if close else None


def section_at(path: Path) -> type[BaseModel] | None:
    """The model of the section at `path`."""
    annotation: Any = Config
    for step in path:
        section = _section(annotation)
        if section is not None and isinstance(step, str) and step in section.model_fields:
            annotation = section.model_fields[step].annotation
        elif section is None:
            annotation = get_args(annotation)[-1 if get_origin(annotation) is dict else 0]
        else:
            return None
    return _section(annotation)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model` or `Model | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if (
            get_origin(annotation) not in (dict, tuple)
            and isinstance(candidate, type)
            and issubclass(candidate, BaseModel)
        ):
            return candidate
    return None


def _homes(key: str) -> list[str]:
    return sorted({key_text(path[:-1]) or "the top level" for path in _keys(Config, ()) if path[-1] == key})


def _keys(annotation: Any, path: Path) -> Iterator[Path]:
    if section := _section(annotation):
        for name, field in section.model_fields.items():
            yield (*path, name)
            yield from _keys(field.annotation, (*path, name))
    elif get_origin(annotation) is dict:
        yield from _keys(get_args(annotation)[1], (*path, "NAME"))
    elif get_origin(annotation) is tuple:
        yield from _keys(get_args(annotation)[0], (*path, 0))
