"""What a client's request may be answered with (RFC 9111 section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from multidict import CIMultiDict

from proxy.semantics.cache_status import Forward
from proxy.semantics.fields import MAX_LENGTH, is_coded, joined, only, parse_directives, parse_http_date
from proxy.semantics.freshness import (
    Scope,
    Stored,
    current_age,
    demands_validation,
    forbids_stale,
    lifetime,
    origin_conditions,
)
from proxy.semantics.key import accept_encoding, selecting
from proxy.semantics.policy import CachePolicy
from proxy.semantics.request import ClientRequest
from proxy.semantics.storing import may_share
from proxy.semantics.validators import parse_entity_tags


@dataclass(frozen=True, slots=True)
class Reuse:
    """Answer with the stored response; `age` and `ttl` in seconds, `ttl` negative if it is stale."""

    stored: Stored
    age: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask the origin whether the stored response still holds, with these conditional fields (4.3.1)."""

    stored: Stored
    fields: CIMultiDict[str]
    reason: Forward


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the origin for the whole representation."""

    reason: Forward


@dataclass(frozen=True, slots=True)
class Refuse:
    """The client wanted a stored answer only, and there is none to use: 504 (section 5.2.1.7)."""


Decision: TypeAlias = Reuse | Validate | Fetch | Refuse


@dataclass(frozen=True, slots=True)
class _Wishes:
    """The request's directives (section 5.2.1), in seconds where they have an argument."""

    no_cache: bool
    no_store: bool
    only_if_cached: bool
    max_age: int | None
    min_fresh: int | None
    max_stale: int | None

    @classmethod
    def of(cls, request: ClientRequest) -> "_Wishes":
        directives = parse_directives(request.fields)
        any_staleness = None in directives.arguments("max-stale")
        return cls(
            no_cache="no-cache" in directives or demands_validation(request.fields),
            no_store="no-store" in directives,
            only_if_cached="only-if-cached" in directives,
            max_age=directives.seconds("max-age"),
            min_fresh=directives.seconds("min-fresh"),
            max_stale=MAX_LENGTH if any_staleness else directives.seconds("max-stale"),
        )


def decide(request: ClientRequest, candidates: Sequence[Stored], policy: CachePolicy, now: int) -> Decision:
    """How to answer a GET or HEAD, as if it had neither Range nor conditions: those come after (section 4).

    `candidates` are all stored variants under the keys this request may use: the shared one, and that of its
    own partition.
    """
    wishes = _Wishes.of(request)
    decision = _decide(request, candidates, wishes, policy, now)
    if wishes.only_if_cached and not isinstance(decision, Reuse):
        return Refuse()
    return decision


def _decide(
    request: ClientRequest, candidates: Sequence[Stored], wishes: _Wishes, policy: CachePolicy, now: int
) -> Decision:
    if wishes.no_store:
        return Fetch(Forward.REQUEST)
    selected = _select(request, candidates, policy)
    if isinstance(selected, Forward):
        return Fetch(selected)
    fields = selected.representation.fields
    granted = lifetime(selected.representation.status, fields, policy, selected.response_time)
    age = current_age(selected, now, granted.basis)
    reason = _hindrance(granted.seconds - age, age, wishes, may_be_stale=not forbids_stale(fields))
    if reason is None:
        return Reuse(selected, age, granted.seconds - age)
    conditions = origin_conditions(fields)
    if conditions:
        return Validate(selected, conditions, reason)
    if reason is Forward.REQUEST and _continues(request, selected):
        return Reuse(selected, age, granted.seconds - age)
    return Fetch(reason)


def _continues(request: ClientRequest, stored: Stored) -> bool:
    """Whether the request wants the rest of what is stored: `If-Range` or `If-Match` names the tag we emit.

    Scripts that do so send `no-cache` with it, by the Fetch standard.  To ask an origin without validators again
    would make another generation, and so the condition false.
    """
    tag = stored.representation.validators.etag
    named = parse_entity_tags(joined(request.fields, "If-Range") or joined(request.fields, "If-Match") or "")
    return tag is not None and named != "*" and any(tag.strongly_matches(other) for other in named or ())


def _select(request: ClientRequest, candidates: Sequence[Stored], policy: CachePolicy) -> Stored | Forward:
    """The most recent candidate that the request may use and that it selects, or why there is none (4.1)."""
    if not candidates:
        return Forward.URI_MISS
    usable = [stored for stored in candidates if usable_shared(stored, request, policy)]
    if not usable:
        return Forward.MISS
    matching = [stored for stored in usable if matches(stored, request, policy)]
    if not matching:
        return Forward.VARY_MISS
    return max(matching, key=_recency)


def usable_shared(stored: Stored, request: ClientRequest, policy: CachePolicy) -> bool:
    """Whether this request may be answered from this stored response, if that is in the shared part.

    One in a partition is usable to whoever found it: its key is made of the credentials.
    """
    if stored.scope is Scope.PARTITION:
        return True
    return may_share(request, stored.representation.fields, policy, stored.response_time)


def matches(stored: Stored, request: ClientRequest, policy: CachePolicy) -> bool:
    """Whether the request selects this variant: what `Vary` nominates is the same in both (section 4.1)."""
    asked = selecting((name for name, _ in stored.vary), request, ignore_cookies=policy.ignore_cookies)
    if not is_coded(stored.representation.fields) and accept_encoding(request) == "identity":
        # It has what the request wants, whatever codings the request that fetched it would have taken.
        return _without_coding(asked) == _without_coding(stored.vary)
    return asked == tuple(sorted(stored.vary))


def _without_coding(vary: tuple[tuple[str, str | None], ...]) -> dict[str, str | None]:
    return {name: value for name, value in vary if name != "accept-encoding"}


def _recency(stored: Stored) -> tuple[int, int]:
    date = parse_http_date(only(stored.representation.fields, "Date") or "")
    return stored.response_time if date is None else date, stored.response_time


def _hindrance(ttl: int, age: int, wishes: _Wishes, *, may_be_stale: bool) -> Forward | None:
    """What stands between a stored response and its reuse; a lifetime that age has reached is over (4.2)."""
    tolerated = wishes.max_stale is not None and may_be_stale and -ttl <= wishes.max_stale
    if ttl <= 0 and not tolerated:
        return Forward.STALE
    too_old = wishes.max_age is not None and age >= wishes.max_age
    ends_too_soon = wishes.min_fresh is not None and ttl < wishes.min_fresh
    return Forward.REQUEST if wishes.no_cache or too_old or ends_too_soon else None
