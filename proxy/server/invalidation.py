"""What an unsafe request that has succeeded makes invalid: its target, and what the answer names (RFC 9111, 4.4)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from yarl import URL

from proxy.errors import ClientError
from proxy.routes import Routed, RouteTable
from proxy.semantics.fields import Fields
from proxy.semantics.normalization import authority
from proxy.semantics.request import ClientRequest

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"})
"""Methods that change nothing, by the registry (RFC 9110 section 18.2); any other may have."""

_REFERENCE: Final = re.compile(  # RFC 3986 appendix B
    r"(?:(?P<scheme>[A-Za-z][^:/?#]*):)?(?://(?P<authority>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?"
)
_UNFIT: Final = re.compile(r"[^!-~]")


def changes(request: ClientRequest, status: int) -> bool:
    """Has `request`, answered with `status`, changed something?  Any but a safe one may have, unless it failed."""
    return request.method not in SAFE_METHODS and 200 <= status < 400


def changed(
    routes: RouteTable, request: ClientRequest, routed: Routed, answer: Fields, origin: URL
) -> Iterator[tuple[ClientRequest, Routed]]:
    """What holds no longer: GETs, by the route that each takes.

    These are of the target and of what Location and Content-Location of the `answer` name, if it is of the same
    origin: to the client, or to the server at the URL `origin` where both know it by the same path.
    """
    get = replace(request, method="GET")
    try:
        yield get, routes.match(get)
    except ClientError:
        yield get, routed  # nothing can be stored, but for the credentials elsewhere
    for name in ("Location", "Content-Location"):
        lines = answer.getall(name, ())
        resolved = _resolved(request, lines[0]) if len(lines) == 1 else None
        if resolved is None:
            continue
        site, path, query = resolved
        named = replace(get, target=path if query is None else f"{path}?{query}", path=path, query=query)
        try:
            found = routes.match(named)
        except ClientError:  # dot segments in disguise, or nothing of ours
            continue
        is_ours = site == _site(request.scheme, request.host)
        is_its_own = site == _site(origin.scheme, origin.authority)
        if is_ours or (is_its_own and found.route.origin == routed.route.origin and found.path == path):
            yield named, found


def _resolved(request: ClientRequest, reference: str) -> tuple[str, str, str | None] | None:
    """Site, path and query that `reference` names, seen from the request's target (RFC 3986 section 5.2.2).

    Not a character is re-encoded, and a bare `?` stays.  None for what is no URI reference.
    """
    parts = _REFERENCE.fullmatch(reference)
    if parts is None or _UNFIT.search(reference):
        return None
    scheme, host, path, query = parts.group("scheme", "authority", "path", "query")
    if scheme is not None and host is None:
        return None  # mailto:, and the like
    if host is not None:
        return _site(scheme or request.scheme, host), _without_dots(path or "/"), query
    site = _site(request.scheme, request.host)
    if not path:
        return site, request.path, request.query if query is None else query
    if not path.startswith("/"):
        path = request.path.rpartition("/")[0] + "/" + path
    return site, _without_dots(path), query


def _site(scheme: str, host: str) -> str:
    """What RFC 6454 calls an origin, in one form."""
    scheme = scheme.lower()
    return f"{scheme}://{authority(host, scheme)}"


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4."""
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)
