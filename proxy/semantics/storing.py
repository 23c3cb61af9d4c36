"""What a shared cache may store, and for whom (RFC 9111 section 3)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from multidict import CIMultiDict

from proxy.semantics.fields import (
    Directives,
    Fields,
    end_to_end,
    format_http_date,
    is_coded,
    joined,
    list_members,
    parse_directives,
)
from proxy.semantics.freshness import (
    HEURISTICALLY_CACHEABLE,
    Basis,
    Scope,
    demands_validation,
    explicit_lifetime,
    lifetime,
)
from proxy.semantics.key import counting_cookies, selecting
from proxy.semantics.policy import CachePolicy, is_endless
from proxy.semantics.request import ClientRequest
from proxy.semantics.targeted import governing
from proxy.semantics.validation import can_be_validated

UNDERSTOOD: Final = HEURISTICALLY_CACHEABLE | {302, 307}
"""Statuses whose caching we know all about, for `must-understand`."""

UNASKED: Final = frozenset({206, 304, 416})
"""Statuses that answer a Range or a condition: an origin that was told of neither has no reason for them."""

# These blame the one request that got them, not the resource: stored, one client's odd field would deny the
# object to all others.  428, 429, 431 and 511 are forbidden outright (RFC 6585).
_BLAMES_THE_REQUEST: Final = frozenset(
    {400, 401, 407, 408, 412, 413, 416, 417, 421, 425, 426, 428, 429, 431, 511}
)
# The same with each request, so that what is kept for it is found again; a signature is made anew.
_LASTING_SCHEMES: Final = frozenset({"basic", "bearer"})


class NoStore(StrEnum):
    """Why an answer is not stored."""

    REQUEST_NO_STORE = "request-no-store"
    STATUS = "status"
    PARTIAL = "partial"
    STREAM = "stream"
    NO_STORE = "no-store"
    PRIVATE = "private"
    VARY_STAR = "vary-star"
    SET_COOKIE = "set-cookie"
    NO_FRESHNESS = "no-freshness"
    NO_VALIDATOR = "no-validator"
    CREDENTIALS = "credentials"
    UNKEYED_QUERY = "unkeyed-query"


@dataclass(frozen=True, slots=True)
class Store:
    """Store it: for whom, with which fields (Date added), as which variant.

    The `withheld` ones are for the client whose request was answered, and are not kept.
    """

    scope: Scope
    fields: CIMultiDict[str]
    vary: tuple[tuple[str, str | None], ...]
    withheld: CIMultiDict[str]


@dataclass(frozen=True, slots=True)
class Pass:
    """Pass it on without storing it."""

    reason: NoStore


Judgement: TypeAlias = Store | Pass


def judge(request: ClientRequest, status: int, fields: Fields, policy: CachePolicy, now: int) -> Judgement:
    """Whether the origin's answer, arrived at `now`, to a GET for this request is stored (section 3)."""
    if "no-store" in parse_directives(request.fields):
        return Pass(NoStore.REQUEST_NO_STORE)
    if status >= 300 and request.query is not None and not policy.query_in_key:
        return Pass(NoStore.UNKEYED_QUERY)  # an error that one client's query made must not be everybody's
    refusal = _answer_refusal(status, fields, policy)
    if refusal is not None:
        return Pass(refusal)
    granted = lifetime(status, fields, policy, now)
    if granted.basis is Basis.NOTHING:
        return Pass(NoStore.NO_FRESHNESS)
    if granted.seconds == 0 and not can_be_validated(fields):  # it would never be reused
        return Pass(NoStore.NO_VALIDATOR)
    scope = Scope.SHARED if may_share(request, fields, policy, now) else Scope.PARTITION
    if scope is Scope.PARTITION and not _lasting_credentials(request):
        return Pass(NoStore.CREDENTIALS)
    is_media = status == 200 and policy.is_media(fields)
    variant = selecting(_vary_names(request, fields, is_media), request, ignore_cookies=policy.ignore_cookies)
    kept, withheld = divided(fields, policy)
    kept.setdefault("Date", format_http_date(now))
    return Store(scope, kept, variant, withheld)


def _answer_refusal(status: int, fields: Fields, policy: CachePolicy) -> NoStore | None:
    fields = governing(fields, policy.targets)
    directives = parse_directives(fields)
    if refusal := _status_refusal(status, fields, directives):
        return refusal
    if is_endless(fields):
        return NoStore.STREAM
    if "no-store" in directives and "must-understand" not in directives:
        return NoStore.NO_STORE
    if "private" in directives and not directives.names("private"):
        return NoStore.PRIVATE
    if "*" in list_members(joined(fields, "Vary") or ""):
        return NoStore.VARY_STAR
    sets_cookie = "Set-Cookie" in fields and "set-cookie" not in _limited_fields(directives)
    if sets_cookie and "public" not in directives and not policy.one_copy:
        return NoStore.SET_COOKIE
    return None


def _status_refusal(status: int, fields: Fields, directives: Directives) -> NoStore | None:
    if status == 206:
        return NoStore.PARTIAL
    if status < 200 or status == 304 or status in _BLAMES_THE_REQUEST:
        return NoStore.STATUS
    if "must-understand" in directives and status not in UNDERSTOOD:
        return NoStore.STATUS
    asked_for = "public" in directives or "s-maxage" in directives or "max-age" in directives
    if status not in HEURISTICALLY_CACHEABLE and not asked_for and "Expires" not in fields:
        return NoStore.STATUS
    return None


def _limited_fields(directives: Directives) -> frozenset[str]:
    return frozenset((*directives.names("private"), *directives.names("no-cache")))


def divided(fields: Fields, policy: CachePolicy) -> tuple[CIMultiDict[str], CIMultiDict[str]]:
    """The end-to-end fields that are kept, and those for the one client who asked: a cookie always is."""
    withheld = _limited_fields(parse_directives(governing(fields, policy.targets))) | {"set-cookie"}
    ours: CIMultiDict[str] = CIMultiDict()
    theirs: CIMultiDict[str] = CIMultiDict()
    for name, value in end_to_end(fields).items():
        (theirs if name.lower() in withheld else ours).add(name, value)
    return ours, theirs


def _vary_names(request: ClientRequest, fields: Fields, is_media: bool) -> list[str]:
    """What an answer varies on; its coding too, which legacy origins forget, or name where there is none.

    And the site that may read it, where the answer only repeats who asks.
    """
    names = [name.lower() for name in list_members(joined(fields, "Vary") or "")]
    reader = joined(fields, "Access-Control-Allow-Origin")
    if reader is not None and reader == joined(request.fields, "Origin"):
        names.append("origin")
    if is_coded(fields):
        return [*names, "accept-encoding"]
    return [name for name in names if name != "accept-encoding"] if is_media else names


# --- Who may have it? -----------------------------------------------------------------------------


def may_share(request: ClientRequest, fields: Fields, policy: CachePolicy, response_time: int) -> bool:
    """Whether an answer is the same for everyone, as far as this request's credentials go.

    The same test says who may fill the shared part and who may use what is in it.  Authorization: section 3.5
    (where `must-revalidate` also needs a lifetime of the origin's: ours opens nothing to others).  Cookie: a
    choice of ours; an origin that gives its answer a lifetime, or calls it `public`, means it for all.
    """
    fields = governing(fields, policy.targets)
    directives = parse_directives(fields)
    if policy.one_copy or "public" in directives:
        return True
    explicit = explicit_lifetime(fields, response_time)
    if "Authorization" in request.fields:
        revalidated = "must-revalidate" in directives and explicit is not None
        if "s-maxage" not in directives and not revalidated:
            return False
    if not counting_cookies(request.fields, policy.ignore_cookies):
        return True
    return explicit is not None and explicit.seconds > 0 and not demands_validation(fields)


def _lasting_credentials(request: ClientRequest) -> bool:
    """Whether the next request of the same client will have the same Authorization, if any."""
    authorization = joined(request.fields, "Authorization")
    return authorization is None or authorization.partition(" ")[0].lower() in _LASTING_SCHEMES
