"""What becomes of a request, and why: the data behind the command `explain`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from proxy.config.model import Config
from proxy.config.scalars import Duration
from proxy.errors import ClientError
from proxy.routes import Condition, Mode, Route, RouteTable
from proxy.semantics.key import partition, primary_key
from proxy.semantics.request import ClientRequest
from proxy.semantics.treatment import Treatment, treatment

_WHY_NOT: Final[dict[Condition, str]] = {
    "host": "is for another host",
    "path_prefix": "is for another path_prefix",
    "path_regex": "has a path_regex that finds nothing",
    "methods": "is for other methods",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a request.

    `tried` are the names of the rules in order, each with what came of it; `outcome` is a treatment, or the
    status and the reason of a refusal.  The rest is empty where there is nothing to say.
    """

    tried: tuple[tuple[str, str], ...]
    outcome: str
    origin: str | None = None
    origin_url: str | None = None
    host: str | None = None
    cache_key: str | None = None
    policy: tuple[str, ...] = ()


def explain(config: Config, request: ClientRequest) -> Explanation:
    """What the routes of this config do with the request."""
    table = RouteTable(config)
    tried: list[tuple[str, str]] = []
    try:
        for rule, unmet in table.trace(request):
            tried.append((rule.name, _WHY_NOT[unmet] if unmet else "takes the request"))
        routed = table.match(request)
    except ClientError as error:
        return Explanation(tuple(tried), f"{error.status} {error.reason}: {error}")
    route = routed.route
    treated = treatment(request, adapts=route.mode is Mode.ADAPT, cors=route.cors is not None)
    if treated in {Treatment.PREFLIGHT, Treatment.LAST_HOP}:
        return Explanation(tuple(tried), treated.value)
    url = config.origins[route.origin].url
    known = Explanation(
        tuple(tried),
        treated.value,
        origin=route.origin,
        origin_url=f"{url.scheme}://{url.authority}{routed.target}",
        host=request.host if route.host is None else route.host,
    )
    if treated is not Treatment.ADAPT:
        return known
    key = primary_key(route.origin, request.host, routed.path, routed.query, route.key, scheme=request.scheme)
    return replace(known, cache_key=key.text, policy=tuple(_in_words(route, request)))


def _in_words(route: Route, request: ClientRequest) -> Iterator[str]:
    policy, limits = route.policy, route.limits
    ttl = Duration(policy.ttl)
    if policy.respect_origin:
        yield f"kept as long as the origin says; media for {ttl} where it says nothing"
    else:
        yield f"media is kept for {ttl}, unless the origin says no-store or private"
    if policy.shared:
        yield "one copy for everybody, with credentials or without (cache.shared)"
    elif partition(request, policy, b"") is not None:
        yield "this request has credentials: kept for them alone, unless the origin says it is for all"
        yield "cache.shared: true would keep one copy for everybody"
    yield f"up to {limits.max_ranges} ranges, {limits.max_overlaps} of them overlapping"
    yield f"a range waits up to {Duration(route.unknown_length_wait)} for an object of unknown length"
    if route.cors:
        yield f"web pages of {', '.join(sorted(route.cors.allow_origins))} may read it"
