"""Routes where the origin says of each request who may have an object: what may be done without its yes."""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from proxy.semantics.cache_status import Forward
from proxy.semantics.fields import parse_directives
from proxy.semantics.freshness import Stored
from proxy.semantics.request import ClientRequest
from proxy.semantics.reuse import Ask, Decision, Refuse, Reuse
from proxy.semantics.validation import conditions


def asked_first(decision: Decision, request: ClientRequest, granted: Callable[[Stored], bool]) -> Decision:
    """`decision`, but for what nobody may know of before the origin has said yes to this request's credentials.

    `granted`: is its yes to them remembered?  Without that, nothing is reused, whether fresh or instead of a failure.
    Why the origin is asked is then said in one word, `miss`: the cache has nothing that could be used for this
    request, which is true of an empty one, too.  `request` stays for a request that wants nothing to do with a cache.
    """
    match decision:
        case Reuse(stored) if granted(stored):
            return decision
        case Reuse(stored):
            if "only-if-cached" in parse_directives(request.fields):
                return Refuse()
            return Ask(Forward.MISS, (stored,), conditions(stored))
        case Ask(Forward.REQUEST, ()):
            return decision
        case Ask(reason, candidates) if not candidates or reason is Forward.VARY_MISS:
            return Ask(Forward.MISS)  # other variants are none of this request's business
        case Ask():
            selected = decision.candidates[0]
            known = granted(selected)
            return replace(
                decision,
                reason=Forward.MISS,
                candidates=(selected,),
                conditions=conditions(selected),
                fallback=decision.fallback if known else None,
                strict=decision.strict and known,
            )
        case Refuse():
            return decision
        case _:
            assert_never(decision)
