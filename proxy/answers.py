"""What becomes of an origin's answer, and why: the data behind `explain --answer`.

Nothing is decided here: all of it is what the functions that the service goes by say of such an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, assert_never

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import OriginMalformed
from proxy.facts import LONGEST, WHY_NOT_STORED, credentials_fact, governing_facts, lifetime_fact, span
from proxy.semantics.authorization import asked_first
from proxy.semantics.fields import Fields, joined, parse_digits, parse_directives
from proxy.semantics.freshness import Basis, Grace, Scope, Stored, current_age, forbids_stale, grace, lifetime
from proxy.semantics.own_tags import own_tag
from proxy.semantics.policy import CachePolicy
from proxy.semantics.purging import tags_of
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest
from proxy.semantics.reuse import Ask, Decision, Refuse, Reuse, decide
from proxy.semantics.storing import UNASKED, Pass, Store, judge
from proxy.semantics.targeted import governing
from proxy.semantics.validators import origin_validators

_SOME_GENERATION: Final = "0" * 32
# The cache answers 502 then: it sends no Range, and conditions only about what is stored.


@dataclass(frozen=True, slots=True)
class Answer:
    """What an origin answers with, to a GET; `arrived` in seconds since the epoch."""

    status: int
    fields: Fields
    arrived: int


@dataclass(frozen=True, slots=True)
class Next:
    """What an identical request gets, from `after` seconds on: the words of Cache-Status, and what they mean."""

    after: int
    cache_status: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Prospect:
    """What becomes of an answer.

    `outcome` says whether and for whom it is stored, `because` has a sentence for each fact; `detail` is the token
    of Cache-Status where it is not stored, and most of the rest is empty then.  `fresh_for` counts from its arrival,
    `while_revalidate` and `if_error` from there on, all in seconds.  `validate` are the directives that forbid to
    serve it stale; `variant` are the fields that select it, each with its normal form (None: absent, or not told
    to the origin).
    """

    outcome: str
    because: tuple[str, ...] = ()
    detail: str | None = None
    fresh_for: int | None = None
    basis: str | None = None
    while_revalidate: int = 0
    if_error: int = 0
    validate: tuple[str, ...] = ()
    variant: tuple[tuple[str, str | None], ...] = ()
    withheld: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    next: tuple[Next, ...] = ()


def prospect(answer: Answer, request: ClientRequest, policy: CachePolicy, max_object_size: int) -> Prospect:
    """What becomes of the answer to this request where nothing is stored yet; `max_object_size` in bytes."""
    status, fields, now = answer.status, answer.fields, answer.arrived
    if status in UNASKED:
        told = f"the client gets {OriginMalformed.status} {OriginMalformed.reason}"
        why = f"{status} is no answer to what the origin was asked: the whole, unconditionally"
        if status == 304:
            why += " (to the conditions of a validation it is: it confirms what is stored)"
        return Prospect(f"not used: {told}", (why,), OriginMalformed.reason)
    judgement = judge(request, status, fields, policy, now)
    governed = governing_facts(fields, policy)
    length = parse_digits(joined(fields, "Content-Length") or "")
    match judgement:
        case Pass(reason):
            return _passed(reason.value, (*governed, WHY_NOT_STORED[reason]), answer, request, policy)
        case Store() if length is not None and length > max_object_size and "Transfer-Encoding" not in fields:
            why = f"{length} bytes are more than spool.max_object_size, {max_object_size}"
            return _passed("too-large", (why,), answer, request, policy)
        case Store() as verdict:
            return _stored(verdict, governed, answer, request, policy)
        case _:
            assert_never(judgement)


def _passed(
    detail: str, because: tuple[str, ...], answer: Answer, request: ClientRequest, policy: CachePolicy
) -> Prospect:
    cache_status, meaning = _told(None, request, policy, answer.arrived, 0)
    if cache_status.startswith("fwd="):
        meaning = "each request asks the origin"
    return Prospect(f"not stored: {detail}", because, detail, next=(Next(0, cache_status, meaning),))


def _stored(
    verdict: Store, governed: tuple[str, ...], answer: Answer, request: ClientRequest, policy: CachePolicy
) -> Prospect:
    now, granted = answer.arrived, lifetime(answer.status, answer.fields, policy, answer.arrived)
    fields = CIMultiDictProxy(verdict.fields)
    stored = Stored(
        Representation(answer.status, fields, origin_validators(fields, own_tag(_SOME_GENERATION)), None),
        request_time=now,
        response_time=now,
        vary=verdict.vary,
        scope=verdict.scope,
    )
    age = current_age(stored, now, granted.basis)
    ttl = granted.seconds - age
    # Without the origin's yes nobody gets what is stored, and while it fails there is none.
    allowed = Grace() if policy.authorize is not None else grace(fields, policy, granted)
    remembered = 0.0 if policy.authorize is None else policy.authorize.ttl
    for_all = verdict.scope is Scope.SHARED
    because = [*governed, lifetime_fact(granted, answer.fields, policy)]
    if age:
        told = "Age" if granted.basis is Basis.POLICY else "Age and Date"
        because.append(f"it is {span(age)} old when it arrives, by its {told}")
    because += credentials_fact(verdict.scope, request, answer.fields, policy)
    if isinstance(decide(request, (), policy, now), Refuse):
        because.append("this request alone would not cause a fetch (only-if-cached): another one has")
    everyone = "everyone" if policy.authorize is None else "all whom the origin lets have it"
    return Prospect(
        f"stored, for {everyone if for_all else 'this credential alone'}",
        tuple(because),
        fresh_for=max(0, ttl),
        basis=granted.basis.value,
        while_revalidate=allowed.while_revalidate,
        if_error=allowed.if_error,
        validate=_forbidding(governing(fields, policy.targets)),
        variant=verdict.vary,
        withheld=tuple(dict.fromkeys(name.lower() for name in verdict.withheld)),
        tags=tags_of(answer.fields, policy.tag_fields),
        next=tuple(_later(stored, request, policy, _moments(request, age, ttl, allowed, remembered), now)),
    )


def _forbidding(fields: Fields) -> tuple[str, ...]:
    """The directives each of which alone forbids to serve the response stale."""
    if not forbids_stale(fields):
        return ()
    directives = parse_directives(fields).items()
    alone = ((name, name if argument is None else f'{name}="{argument}"') for name, argument in directives)
    named = (name for name, text in alone if forbids_stale(CIMultiDict({"Cache-Control": text})))
    return tuple(named) or ("no-cache",)  # as Pragma


# --- The next requests ----------------------------------------------------------------------------


def _moments(request: ClientRequest, age: int, ttl: int, allowed: Grace, remembered: float) -> list[int]:
    """Seconds from arrival at which the decision about an identical request may become another one."""
    wishes = parse_directives(request.fields)
    moments = {0, int(remembered), ttl, ttl + allowed.while_revalidate, ttl + allowed.if_error}
    if (max_age := wishes.seconds("max-age")) is not None:
        moments.add(max_age - age)
    if (min_fresh := wishes.seconds("min-fresh")) is not None:
        moments.add(ttl - min_fresh + 1)
    if (max_stale := wishes.seconds("max-stale")) is not None:
        moments.add(ttl + max_stale + 1)
    return sorted({max(0, moment) for moment in moments if moment <= LONGEST})


def _later(
    stored: Stored, request: ClientRequest, policy: CachePolicy, moments: list[int], now: int
) -> Iterator[Next]:
    decided = [(after, _told(stored, request, policy, now, after)) for after in moments]
    for words, group in groupby(decided, key=lambda each: each[1]):
        yield Next(next(group)[0], *words)


def _told(
    stored: Stored | None, request: ClientRequest, policy: CachePolicy, now: int, after: int
) -> tuple[str, str]:
    """What is decided `after` seconds, in words.  The origin's yes to the first request may be remembered then."""
    decision = decide(request, () if stored is None else (stored,), policy, now + after)
    if policy.authorize is None:
        return _in_words(decision)
    remembered = policy.authorize.ttl
    asked = asked_first(decision, request, lambda _: after < remembered)
    if isinstance(decision, Reuse) and isinstance(asked, Ask):
        return f"fwd={asked.reason.value}", "the origin is asked whether this request may have what is stored"
    return _in_words(asked)


def _in_words(decision: Decision) -> tuple[str, str]:
    """The words of Cache-Status, and what they mean."""
    match decision:
        case Reuse(_, _, ttl, refresh):
            if refresh is not None:
                meaning = f"from the spool, while the origin is asked {_how(refresh)}"
                return "hit;detail=stale-while-revalidate", meaning
            return "hit", "from the spool" if ttl > 0 else "from the spool, stale as the request allows"
        case Ask(reason):
            return f"fwd={reason.value}", f"the origin is asked {_how(decision)}{_if_it_fails(decision)}"
        case Refuse():
            return "detail=only-if-cached", "504: the request takes only what is stored and fresh"
        case _:
            assert_never(decision)


def _how(ask: Ask) -> str:
    if ask.conditions:
        return f"by {' and '.join(ask.conditions)}"
    if any(candidate.representation.status == 200 for candidate in ask.candidates):
        return "for the whole, to compare it with what is stored (no validator)"
    return "for the whole"


def _if_it_fails(ask: Ask) -> str:
    if ask.fallback is not None:
        return "; if it fails, this is served all the same (detail=stale-if-error)"
    return "; if it cannot be reached, the client gets 504" if ask.strict else ""
