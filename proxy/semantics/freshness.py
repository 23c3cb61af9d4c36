"""How long a stored response is fresh, and how old it is (RFC 9111 section 4.2)."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.semantics.fields import (
    Fields,
    joined,
    list_members,
    only,
    parse_digits,
    parse_directives,
    parse_http_date,
)
from proxy.semantics.policy import CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.targeted import governing

HEURISTICALLY_CACHEABLE: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be stored though nothing says so (RFC 9110 section 15.1), but for 206."""


CLOCK_TOLERANCE: Final = 2
"""Seconds by which a clock may be corrected without doubt in what is stored."""
FAILURES: Final = frozenset({500, 502, 503, 504})
"""Statuses by which an origin says that it fails (RFC 5861 section 4)."""


class Scope(Enum):
    """Who shares a stored response: everyone, or those who send the same credentials."""

    SHARED = "shared"
    PARTITION = "partition"


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored response, as reuse sees it.

    Times are seconds since the epoch: when its request was sent, and when its head arrived (or those of the
    last validation).  `vary` holds each nominated request field, in lower case, with its normalised value at
    the time (`key.selecting`).  `stale_since` is when somebody has declared it stale, before its time perhaps.
    """

    representation: Representation
    request_time: int
    response_time: int
    vary: tuple[tuple[str, str | None], ...] = ()
    scope: Scope = Scope.SHARED
    stale_since: int | None = None


class Basis(Enum):
    """What a freshness lifetime rests on."""

    S_MAXAGE = "s-maxage"
    MAX_AGE = "max-age"
    EXPIRES = "expires"
    NO_CACHE = "no-cache"
    POLICY = "ttl"
    HEURISTIC = "heuristic"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A freshness lifetime in seconds, and why it is that long."""

    seconds: int
    basis: Basis


def lifetime(status: int, fields: Fields, policy: CachePolicy, response_time: int) -> Lifetime:
    """A response's freshness lifetime in a shared cache (section 4.2.1): the origin's word, else the route's.

    `no-cache` gives 0: such a response is validated before each reuse.  Where the origin says nothing, a media-like
    200 gets the route's `ttl`, and what has a Last-Modified a share of its age then, at most that `ttl` (4.2.2).
    """
    fields = governing(fields, policy.targets)
    takes_ttl = status == 200 and policy.is_media(fields)
    if takes_ttl and not policy.respect_origin:
        return Lifetime(policy.ttl, Basis.POLICY)
    if demands_validation(fields):
        return Lifetime(0, Basis.NO_CACHE)
    if explicit := explicit_lifetime(fields, response_time):
        return explicit
    if takes_ttl:
        return Lifetime(policy.ttl, Basis.POLICY)
    if status in HEURISTICALLY_CACHEABLE or "public" in parse_directives(fields):
        return _heuristic(fields, policy, response_time)
    return Lifetime(0, Basis.NOTHING)


def _heuristic(fields: Fields, policy: CachePolicy, response_time: int) -> Lifetime:
    modified = parse_http_date(only(fields, "Last-Modified") or "")
    if modified is None or not policy.heuristic:
        return Lifetime(0, Basis.NOTHING)
    unchanged_for = max(0, _date(fields, response_time) - modified)
    return Lifetime(min(int(unchanged_for * policy.heuristic), policy.ttl), Basis.HEURISTIC)


def explicit_lifetime(fields: Fields, response_time: int) -> Lifetime | None:
    """What `s-maxage`, `max-age` or `Expires`, in this order, say; None if there is none of them.

    Malformed and contradicting values count as the shortest lifetime (section 4.2.1).
    """
    directives = parse_directives(fields)
    for basis in (Basis.S_MAXAGE, Basis.MAX_AGE):
        if (seconds := directives.seconds(basis.value)) is not None:
            return Lifetime(seconds, basis)
    if "Expires" not in fields:
        return None
    expires = parse_http_date(only(fields, "Expires") or "")
    return Lifetime(0 if expires is None else max(0, expires - _date(fields, response_time)), Basis.EXPIRES)


def demands_validation(fields: Fields) -> bool:
    """`no-cache` for the whole message, or its forerunner `Pragma: no-cache` without any Cache-Control."""
    if "Cache-Control" not in fields:
        return "no-cache" in parse_directives(fields, "Pragma")
    directives = parse_directives(fields)
    return "no-cache" in directives and not directives.names("no-cache")


def forbids_stale(fields: Fields) -> bool:
    """Whether the response must not be served stale, come what may (section 4.2.4)."""
    directives = parse_directives(fields)
    return demands_validation(fields) or any(
        name in directives for name in ("must-revalidate", "proxy-revalidate", "s-maxage")
    )


@dataclass(frozen=True, slots=True)
class Grace:
    """For how many seconds after its lifetime a response may be served: while it is asked for anew, and while its
    origin fails (RFC 5861)."""

    while_revalidate: int = 0
    if_error: int = 0


def grace(fields: Fields, policy: CachePolicy, granted: Lifetime) -> Grace:
    """The origin's word, else the route's; nothing where staleness is forbidden.

    What the origin calls stale from the beginning has to be granted a grace by the origin itself.
    """
    fields = governing(fields, policy.targets)
    if forbids_stale(fields):
        return Grace()
    directives = parse_directives(fields)
    while_revalidate = directives.seconds("stale-while-revalidate")
    if_error = directives.seconds("stale-if-error")
    is_granted = granted.seconds > 0
    return Grace(
        policy.stale_while_revalidate * is_granted if while_revalidate is None else while_revalidate,
        policy.stale_if_error * is_granted if if_error is None else if_error,
    )


def current_age(stored: Stored, now: int, basis: Basis | None = None) -> int:
    """Seconds since the response was made or validated at the origin (section 4.2.3).

    A `basis` of the route's counts from receipt, and not by the origin's clock: where that is slow, or tells
    local time, nothing would ever be younger than the route's `ttl`.
    """
    fields = stored.representation.fields
    apparent_age = max(0, stored.response_time - _date(fields, stored.response_time))
    response_delay = max(0, stored.response_time - stored.request_time)
    resident_time = max(0, now - stored.response_time)
    corrected_age = _age(fields) + response_delay
    initial_age = corrected_age if basis is Basis.POLICY else max(apparent_age, corrected_age)
    return initial_age + resident_time


def is_fresh(stored: Stored, policy: CachePolicy, now: int) -> bool:
    """By itself, without the origin's word, whatever a request wishes for."""
    representation = stored.representation
    granted = lifetime(representation.status, representation.fields, policy, stored.response_time)
    known = stored.stale_since is None and not is_undated(stored, now)
    return known and granted.seconds > current_age(stored, now, granted.basis)


def is_undated(stored: Stored, now: int) -> bool:
    """Did it come later than `now`?  Then the clock was set back, and nobody knows how old it is."""
    return stored.response_time > now + CLOCK_TOLERANCE


def _age(fields: Fields) -> int:
    # Section 5.1: the first member counts, and a malformed one is no Age at all.
    members = list_members(joined(fields, "Age") or "")
    return (parse_digits(members[0]) or 0) if members else 0


def _date(fields: Fields, response_time: int) -> int:
    date = parse_http_date(only(fields, "Date") or "")
    return response_time if date is None else date
