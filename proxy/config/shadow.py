"""Whether one route leaves nothing for another."""

from proxy.config.addresses import split_port
from proxy.config.model import Match


def takes_all(earlier: Match, later: Match) -> bool:
    """Whether every request that `later` matches is matched by `earlier`.

    In doubt it says no: regular expressions are compared as text, and routes one by one, not together.
    """
    prefix = segments(earlier.path_prefix)
    return (
        segments(later.path_prefix)[: len(prefix)] == prefix
        and earlier.path_regex in (None, later.path_regex)
        and _covers_methods(earlier, later)
        and _covers_hosts(earlier, later)
    )


def segments(prefix: str | None) -> list[str]:
    return [segment for segment in (prefix or "").split("/") if segment]


def _covers_methods(earlier: Match, later: Match) -> bool:
    if not earlier.methods:
        return True
    taken = {*earlier.methods, *(("HEAD",) if "GET" in earlier.methods else ())}
    return bool(later.methods) and taken.issuperset(later.methods)


def _covers_hosts(earlier: Match, later: Match) -> bool:
    if not earlier.host:
        return True
    return bool(later.host) and all(any(_covers_host(a, b) for a in earlier.host) for b in later.host)


def _covers_host(wide: str, narrow: str) -> bool:
    """`*.example.com` covers `media.example.com:8080` and `*.eu.example.com`, but not `example.com`."""
    wide_host, wide_port = split_port(wide)
    narrow_host, narrow_port = split_port(narrow)
    if wide_port and wide_port != narrow_port:
        return False
    return wide_host == narrow_host or (wide_host.startswith("*.") and narrow_host.endswith(wide_host[1:]))
