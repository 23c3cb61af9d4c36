"""What a client's request may be answered with (RFC 9111 section 4)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from multidict import CIMultiDict

from proxy.semantics.cache_status import Forward
from proxy.semantics.fields import (
    MAX_LENGTH,
    Fields,
    is_coded,
    joined,
    only,
    parse_directives,
    parse_http_date,
)
from proxy.semantics.freshness import (
    Scope,
    Stored,
    current_age,
    demands_validation,
    forbids_stale,
    grace,
    is_undated,
    lifetime,
)
from proxy.semantics.key import FieldValues, accept_encoding, selecting
from proxy.semantics.policy import CachePolicy
from proxy.semantics.request import ClientRequest
from proxy.semantics.storing import may_share
from proxy.semantics.targeted import governing
from proxy.semantics.validation import conditions, offer, origin_tag
from proxy.semantics.validators import parse_entity_tags


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the origin.

    `conditions` are the fields that validate what is stored (section 4.3.1), none to fetch the whole.  A 304 speaks
    of one of the `candidates`: the one that the request would get if it were fresh enough, or, for a variant that is
    missing, others that may be the answer too.
    `fallback` may be served if the origin fails (RFC 5861 section 4); `strict`: what is stored must not be then,
    and the client is told so (RFC 9111 section 5.2.2.2).
    """

    reason: Forward
    candidates: tuple[Stored, ...] = ()
    conditions: Fields = field(default_factory=CIMultiDict)
    fallback: "Reuse | None" = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Reuse:
    """Answer with the stored response; `age` and `ttl` in seconds, `ttl` negative if it is stale.

    With a `refresh`, that is to be asked meanwhile (RFC 5861 section 3).
    """

    stored: Stored
    age: int
    ttl: int
    refresh: Ask | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """The client wanted a stored answer only, and there is none to use: 504 (section 5.2.1.7)."""


Decision: TypeAlias = Reuse | Ask | Refuse


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
        stalenesses = directives.arguments("max-stale")
        return cls(
            no_cache="no-cache" in directives or demands_validation(request.fields),
            no_store="no-store" in directives,
            only_if_cached="only-if-cached" in directives,
            max_age=directives.seconds("max-age"),
            min_fresh=directives.seconds("min-fresh"),
            max_stale=MAX_LENGTH if set(stalenesses) == {None} else directives.seconds("max-stale"),
        )

    @property
    def fresh(self) -> bool:
        """Does the client want something fresher than most would take?"""
        return self.no_cache or self.max_age is not None or self.min_fresh is not None


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
        return Ask(Forward.REQUEST)
    if not candidates:
        return Ask(Forward.URI_MISS)
    usable = [stored for stored in candidates if usable_shared(stored, request, policy)]
    if not usable:
        return Ask(Forward.MISS)
    asked: dict[tuple[str, ...], FieldValues] = {}
    matching = [each for each in usable if matches(each, request, policy, asked)]
    matching.sort(key=_recency, reverse=True)
    if not matching:
        siblings = _siblings(usable, request, policy)
        return Ask(Forward.VARY_MISS, siblings, offer(siblings))
    newest = _judge_age(matching[0], request, wishes, policy, now)
    if isinstance(newest, Reuse) and newest.refresh is None:
        return newest
    # The newest that will do is used (section 4); where its Date is older, that is another.
    others = (_judge_age(each, request, wishes, policy, now) for each in matching[1:])
    return next((each for each in others if isinstance(each, Reuse) and each.ttl > 0), newest)


def _judge_age(
    selected: Stored, request: ClientRequest, wishes: _Wishes, policy: CachePolicy, now: int
) -> Decision:
    fields = governing(selected.representation.fields, policy.targets)
    granted = lifetime(selected.representation.status, fields, policy, selected.response_time)
    age = current_age(selected, now, granted.basis)
    ttl = granted.seconds - age
    if is_undated(selected, now):
        ttl = min(ttl, 0)
    if selected.stale_since is not None:
        ttl = min(ttl, selected.stale_since - now, 0)
    reuse = Reuse(selected, age, ttl)
    strict = forbids_stale(fields)
    reason = _hindrance(ttl, age, wishes, may_be_stale=not strict)
    if reason is None:
        return reuse
    allowed = grace(fields, policy, granted)
    bearable = reason is Forward.STALE and not wishes.fresh
    fallback = reuse if bearable and -ttl < allowed.if_error else None
    ask = Ask(reason, (selected,), conditions(selected), fallback, strict)
    if bearable and -ttl < allowed.while_revalidate:
        return reuse if wishes.only_if_cached else replace(reuse, refresh=ask)
    if not ask.conditions and reason is Forward.REQUEST and _continues(request, selected):
        return reuse
    return ask


def _continues(request: ClientRequest, stored: Stored) -> bool:
    """Whether the request wants the rest of what is stored: `If-Range` or `If-Match` names the tag we emit.

    Scripts that do so send `no-cache` with it, by the Fetch standard.  To ask an origin without validators again
    would make another generation, and so the condition false.
    """
    tag = stored.representation.validators.etag
    named = parse_entity_tags(joined(request.fields, "If-Range") or joined(request.fields, "If-Match") or "")
    return tag is not None and named != "*" and any(tag.strongly_matches(other) for other in named or ())


# Fields in which variants may differ that are offered to each other.  Whatever else a request is told apart by may be
# a credential, and many origins give one tag to all codings.
_OFFERABLE: Final = frozenset({"accept", "accept-charset", "accept-language", "user-agent"})


def _siblings(usable: Sequence[Stored], request: ClientRequest, policy: CachePolicy) -> tuple[Stored, ...]:
    """Other variants that the origin may find to be what this request selects, too (section 4.3.1).

    By strong tags, and only those that tell variants apart.
    """
    tagged = [(stored, tag) for stored in usable if (tag := origin_tag(stored)) is not None and not tag.weak]
    tags = Counter(tag for _, tag in tagged)
    return tuple(
        stored for stored, tag in tagged if tags[tag] == 1 and _may_be_offered(stored, request, policy)
    )


def _may_be_offered(stored: Stored, request: ClientRequest, policy: CachePolicy) -> bool:
    asked = dict(selecting((name for name, _ in stored.vary), request, ignore_cookies=policy.ignore_cookies))
    differing = {name for name, value in stored.vary if asked[name] != value}
    if not is_coded(stored.representation.fields):
        differing.discard("accept-encoding")
    return differing <= _OFFERABLE


def usable_shared(stored: Stored, request: ClientRequest, policy: CachePolicy) -> bool:
    """Whether this request may be answered from this stored response, if that is in the shared part.

    One in a partition is usable to whoever found it: its key is made of the credentials.
    """
    if stored.scope is Scope.PARTITION:
        return True
    return may_share(request, stored.representation.fields, policy, stored.response_time)


def matches(
    stored: Stored,
    request: ClientRequest,
    policy: CachePolicy,
    known: dict[tuple[str, ...], FieldValues] | None = None,
) -> bool:
    """Whether the request selects this variant: what `Vary` nominates is the same in both (section 4.1).

    `known` spares work where many variants are looked at, as most nominate the same fields.
    """
    names = tuple(name for name, _ in stored.vary)
    asked = None if known is None else known.get(names)
    if asked is None:
        asked = selecting(names, request, ignore_cookies=policy.ignore_cookies)
    if known is not None:
        known[names] = asked
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
    if not (wishes.no_cache or too_old or ends_too_soon):
        return None
    return Forward.REQUEST if ttl > 0 else Forward.STALE
