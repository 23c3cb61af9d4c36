"""Which route takes a request, what the origin is asked for, and under which policy.

Rules are tried in the order of the config; the first whose conditions all hold takes the request.  Conditions
look at a normal form of the path (`matching_path`), so that no spelling of a path slips past a `deny`; the
origin is asked for the path exactly as it came, but for the prefix that the route rewrites.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from proxy.config.addresses import split_port
from proxy.config.caching import Cache
from proxy.config.caching import Cors as CorsSection
from proxy.config.model import Config, Match
from proxy.config.model import Route as RouteSection
from proxy.errors import ClientError, Denied, NoRoute, UnknownHost
from proxy.semantics.cors import Cors
from proxy.semantics.forward import host_field
from proxy.semantics.key import KeyRules
from proxy.semantics.policy import Authorize, CachePolicy
from proxy.semantics.ranges import RangeLimits
from proxy.semantics.request import ClientRequest

_ENCODED: Final = re.compile("(?:%[0-9A-Fa-f]{2})+")
_ORDINARY: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9_~.-]*)*/?")
_IN_PATHS: Final = "/%:@!$&'()*+,;=~"

Condition: TypeAlias = Literal["host", "path_prefix", "path_regex", "methods"]


class Mode(Enum):
    """What a route does with what it takes; a third mode, `deny`, takes nothing on."""

    ADAPT = "adapt"
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True)
class Route:
    """The say of one route.

    `origin` is a name in the config; `host` is the `Host` for it, None to keep the client's;
    `unknown_length_wait` is in seconds; without `cors`, that business is the origin's.
    """

    name: str
    mode: Mode
    origin: str
    host: str | None
    policy: CachePolicy
    key: KeyRules
    limits: RangeLimits
    unknown_length_wait: float
    cors: Cors | None


@dataclass(frozen=True, slots=True)
class Routed:
    """A request's route, and the halves of the target to ask the origin for."""

    route: Route
    path: str
    query: str | None

    @property
    def target(self) -> str:
        """For the request line; a bare `?` stays."""
        return _target(self.path, self.query)

    @property
    def fetch_target(self) -> str:
        """The same for an object that is fetched for all who share its key: without what the key leaves out."""
        return _target(self.path, self.route.key.reduced(self.query))


def _target(path: str, query: str | None) -> str:
    return path if query is None else f"{path}?{query}"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What conditions look at."""

    host: str
    port: str
    path: str
    segments: tuple[str, ...]
    method: str


@dataclass(frozen=True, slots=True)
class _Conditions:
    hosts: tuple[tuple[str, str], ...]
    segments: tuple[str, ...]
    regex: re.Pattern[str] | None
    methods: frozenset[str]

    @classmethod
    def of(cls, match: Match, *, preflights: bool) -> "_Conditions":
        methods = set(match.methods)
        if "GET" in methods:
            methods.add("HEAD")
        if methods and preflights:
            methods.add("OPTIONS")
        hosts = tuple(split_port(pattern) for pattern in match.host)
        return cls(hosts, _segments(match.path_prefix), match.path_regex, frozenset(methods))

    def unmet(self, seen: _Seen) -> Condition | None:
        """The first condition that does not hold."""
        if self.hosts and not any(_host_matches(host, port, seen) for host, port in self.hosts):
            return "host"
        if seen.segments[: len(self.segments)] != self.segments:
            return "path_prefix"
        if self.regex and not self.regex.search(seen.path):
            return "path_regex"
        if self.methods and seen.method not in self.methods:
            return "methods"
        return None


def _host_matches(host: str, port: str, seen: _Seen) -> bool:
    if port and port != seen.port:
        return False
    return seen.host.endswith(host[1:]) if host.startswith("*.") else seen.host == host


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """`strip` are segments in their normal form; `add` is the origin's base path and the prefix to add."""

    strip: tuple[str, ...]
    add: str

    def __call__(self, path: str) -> str:
        return path if path == "*" else self.add + self._stripped(path)

    def _stripped(self, path: str) -> str:
        rest = path
        for wanted in self.strip:
            segment, slash, after = rest.lstrip("/").partition("/")
            if _segments(segment) != (wanted,):
                return path
            rest = slash + after
        return rest or "/"


@dataclass(frozen=True, slots=True)
class Rule:
    """One route of the config: its conditions, and its `Route`, None for `deny`."""

    name: str
    conditions: _Conditions
    rewrite: _Rewrite
    route: Route | None


class RouteTable:
    """All routes of a config, in order."""

    def __init__(self, config: Config) -> None:
        self.rules = tuple(_rule(section, config) for section in config.routes)

    @property
    def policies(self) -> tuple[CachePolicy, ...]:
        """Of all routes, each once."""
        return tuple(dict.fromkeys(rule.route.policy for rule in self.rules if rule.route is not None))

    def match(self, request: ClientRequest) -> Routed:
        """The route that takes the request.

        Raises Denied, NoRoute, UnknownHost where no route would take any path of this host, and ClientError
        for a path that could mean another one than it says.
        """
        known_host = False
        for rule, unmet in self.trace(request):
            known_host = known_host or unmet != "host"
            if unmet is None:
                if rule.route is None:
                    raise Denied(f"route {rule.name} denies this")
                return Routed(rule.route, rule.rewrite(request.path or "/"), request.query)
        if known_host:
            raise NoRoute("no route takes this path and method")
        raise UnknownHost(f"no route is for the host {request.host!r}")

    def trace(self, request: ClientRequest) -> Iterator[tuple[Rule, Condition | None]]:
        """The rules up to the one that takes the request, each with the condition that does not hold."""
        host, port = split_port(request.host.lower())
        path = matching_path(request.path or "/")
        segments = tuple(path.strip("/").split("/")) if path.strip("/") else ()
        seen = _Seen(host.removesuffix("."), port, path, segments, request.method)
        for rule in self.rules:
            unmet = rule.conditions.unmet(seen)
            yield rule, unmet
            if unmet is None:
                return


def matching_path(path: str) -> str:
    """The normal form of a raw path that conditions look at; nothing else uses it.

    Percent-encoded text is decoded once (what cannot be printed stays encoded), `\\` is read as `/`, doubled
    slashes as one, and path parameters (`;v=1`) are left out: origins differ in these, and each reading of
    theirs must meet the same rules.  Raises ClientError for dot segments, in any spelling of the above: their
    origin would resolve them after we have decided.
    """
    if _ORDINARY.fullmatch(path) or path == "*":
        return path
    if not path.startswith("/"):
        raise ClientError("the path does not start with a slash")
    decoded = _ENCODED.sub(_decoded, path).replace("\\", "/")
    segments = [segment.partition(";")[0] for segment in decoded.split("/")]
    if "." in segments or ".." in segments:
        raise ClientError("the path has dot segments", reason="dot-segments")
    end = "/" if not segments[-1] else ""
    return "/".join(["", *filter(None, segments)]) + end


def _decoded(match: re.Match[str]) -> str:
    text = bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "surrogateescape")
    return "".join(
        character if character.isprintable() else quote(character, errors="surrogateescape")
        for character in text
    )


def _segments(prefix: str | None) -> tuple[str, ...]:
    return tuple(filter(None, matching_path("/" + (prefix or "")).split("/")))


def _rule(section: RouteSection, config: Config) -> Rule:
    cors = _cors(section, config.defaults.cors)
    conditions = _Conditions.of(section.match, preflights=cors is not None)
    if section.mode == "deny" or section.origin is None:  # all others have an origin: config sees to it
        return Rule(section.name, conditions, _Rewrite((), ""), None)
    origin = config.origins[section.origin]
    added = quote((section.rewrite.add_prefix or "").rstrip("/"), safe=_IN_PATHS)
    rewrite = _Rewrite(_segments(section.rewrite.strip_prefix), origin.url.path + added)
    cache = config.defaults.cache.overridden_by(section.cache)
    ranges = config.defaults.ranges.overridden_by(section.ranges)
    route = Route(
        name=section.name,
        mode=Mode(section.mode),
        origin=section.origin,
        host=host_field(origin.host, origin.url.authority),
        policy=_policy(cache),
        key=_key(cache),
        limits=RangeLimits(max_ranges=ranges.max, max_overlaps=ranges.max_overlaps),
        unknown_length_wait=ranges.unknown_length_wait,
        cors=cors,
    )
    return Rule(section.name, conditions, rewrite, route)


def _key(cache: Cache) -> KeyRules:
    query = cache.query
    return KeyRules(
        parts=cache.key,
        keep=None if query.keep is None else _parameter_globs(query.keep),
        drop=_parameter_globs(query.drop),
        sort=query.sort,
        fields=tuple(sorted({name.lower() for name in cache.key_fields})),
        guarded=cache.authorize is not None,
    )


def _parameter_globs(patterns: Iterable[str]) -> tuple[str, ...]:
    # Brackets are part of such names: `filter[size]`.
    return tuple(pattern.replace("[", "[[]") for pattern in patterns)


def _policy(cache: Cache) -> CachePolicy:
    ours = CachePolicy()
    return CachePolicy(
        ttl=int(cache.ttl),
        media_types=ours.media_types if cache.media_types is None else cache.media_types,
        shared=cache.shared,
        ignore_cookies=ours.ignore_cookies if cache.ignore_cookies is None else cache.ignore_cookies,
        respect_origin=cache.respect_origin,
        heuristic=cache.heuristic,
        stale_while_revalidate=int(cache.stale_while_revalidate),
        stale_if_error=int(cache.stale_if_error),
        targets=cache.targeted_fields,
        tag_fields=cache.tag_fields,
        query_in_key="query" in cache.key,
        authorize=Authorize(cache.authorize.method, cache.authorize.ttl) if cache.authorize else None,
    )


def _cors(section: RouteSection, default: CorsSection | None) -> Cors | None:
    cors = default
    if "cors" in section.model_fields_set:
        cors = default.overridden_by(section.cors) if default and section.cors else section.cors
    return Cors(frozenset(cors.allow_origins), int(cors.max_age)) if cors else None
