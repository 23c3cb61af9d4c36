"""How long a stored response is fresh, how old it is, and what a 304 does to it (RFC 9111, 4.2 and 4.3)."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.semantics.fields import (
    Fields,
    end_to_end,
    format_http_date,
    joined,
    list_members,
    only,
    parse_digits,
    parse_directives,
    parse_http_date,
)
from proxy.semantics.policy import CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.validators import EntityTag


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
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A freshness lifetime in seconds, and why it is that long."""

    seconds: int
    basis: Basis


def lifetime(status: int, fields: Fields, policy: CachePolicy, response_time: int) -> Lifetime:
    """A response's freshness lifetime in a shared cache (section 4.2.1): the origin's word, else the route's.

    `no-cache` gives 0: such a response is validated before each reuse.  Only a media-like 200 gets the
    route's `ttl`; there is no other heuristic, and Last-Modified alone says nothing.
    """
    takes_ttl = status == 200 and policy.is_media(fields)
    if takes_ttl and not policy.respect_origin:
        return Lifetime(policy.ttl, Basis.POLICY)
    if demands_validation(fields):
        return Lifetime(0, Basis.NO_CACHE)
    if explicit := explicit_lifetime(fields, response_time):
        return explicit
    return Lifetime(policy.ttl, Basis.POLICY) if takes_ttl else Lifetime(0, Basis.NOTHING)


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


def _age(fields: Fields) -> int:
    # Section 5.1: the first member counts, and a malformed one is no Age at all.
    members = list_members(joined(fields, "Age") or "")
    return (parse_digits(members[0]) or 0) if members else 0


def _date(fields: Fields, response_time: int) -> int:
    date = parse_http_date(only(fields, "Date") or "")
    return response_time if date is None else date


# --- Validation -----------------------------------------------------------------------------------


def origin_conditions(fields: Fields) -> CIMultiDict[str]:
    """The fields that validate a response at its origin: by the origin's validators, not ours (4.3.1)."""
    conditions: CIMultiDict[str] = CIMultiDict()
    if tag := EntityTag.parse(only(fields, "ETag") or ""):
        conditions["If-None-Match"] = str(tag)
    modified = only(fields, "Last-Modified")
    if modified is not None and parse_http_date(modified) is not None:
        conditions["If-Modified-Since"] = modified
    return conditions


# These describe the bytes we hold, their generation or the variant they are; the 304 carries no bytes.
_OF_THE_STORED_BYTES: Final = frozenset(
    {
        "content-digest",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "content-type",
        "digest",
        "etag",
        "last-modified",
        "repr-digest",
        "vary",
    }
)
# Given to the one client whose request was validated, and not to those who come after.
_OF_ONE_CLIENT: Final = frozenset({"set-cookie", "set-cookie2"})


def confirms(stored: Stored, fields: Fields) -> bool:
    """Whether a 304 with these fields speaks of this stored response (section 4.3.4).

    A tag has to match the origin's (strongly, if the 304's is strong); without one, Last-Modified has to be
    equal.  What the 304 leaves out cannot contradict.
    """
    ours = stored.representation.fields
    if "ETag" in fields:
        tag, origin_tag = (
            EntityTag.parse(only(fields, "ETag") or ""),
            EntityTag.parse(only(ours, "ETag") or ""),
        )
        if tag is None or origin_tag is None:
            return False
        return tag.weakly_matches(origin_tag) if tag.weak else tag.strongly_matches(origin_tag)
    modified = only(fields, "Last-Modified")
    return modified is None or modified == only(ours, "Last-Modified")


def freshened(stored: Stored, fields: Fields, request_time: int, response_time: int) -> Stored:
    """The stored response after a 304 with these fields, sent for and received at these times (section 3.2).

    Validators stay as they are: they name a generation of bytes.  Judge the outcome again: the 304 may have
    brought a `no-store`.
    """
    news = end_to_end(fields)
    kept = _OF_THE_STORED_BYTES | _OF_ONE_CLIENT
    # An old Age or Date would count the time before this validation twice.
    replaced = ({name.lower() for name in news} | {"age", "date"}) - kept
    old = stored.representation.fields
    merged = CIMultiDict((name, value) for name, value in old.items() if name.lower() not in replaced)
    merged.extend((name, value) for name, value in news.items() if name.lower() in replaced)
    merged.setdefault("Date", format_http_date(response_time))
    return replace(
        stored,
        representation=replace(stored.representation, fields=CIMultiDictProxy(merged)),
        request_time=request_time,
        response_time=response_time,
    )
