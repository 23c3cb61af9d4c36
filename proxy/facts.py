"""Why an answer is stored, for whom and for how long, or why not: a sentence for each fact that counts."""

from collections.abc import Iterator
from typing import Final, assert_never

from proxy.semantics.fields import Fields, parse_directives
from proxy.semantics.freshness import Basis, Lifetime, Scope
from proxy.semantics.key import counting_cookies
from proxy.semantics.policy import CachePolicy, media_type
from proxy.semantics.request import ClientRequest
from proxy.semantics.storing import NoStore
from proxy.semantics.targeted import governing

WHY_NOT_STORED: Final[dict[NoStore, str]] = {
    NoStore.REQUEST_NO_STORE: (
        "the request says no-store: its answer is for this client alone, whatever the origin says"
    ),
    NoStore.STATUS: (
        "this status is not stored: it blames the one request (400, 401, 429), or is kept only with a lifetime "
        "(let the origin send max-age, s-maxage or Expires), or must be understood (must-understand) and is not"
    ),
    NoStore.PARTIAL: "it is a part, and the origin is never asked for one: let it send the whole",
    NoStore.STREAM: "a body of this type goes on for as long as somebody listens; each client gets its own",
    NoStore.NO_STORE: "the origin says no-store, which is always obeyed; to have it kept, leave that out",
    NoStore.PRIVATE: (
        "the origin says private, which is always obeyed; to have it kept, leave that out, or limit it to the fields "
        'that are: private="set-cookie"'
    ),
    NoStore.VARY_STAR: (
        "Vary: * says that no other request selects it; let the origin name the fields that it looks at"
    ),
    NoStore.SET_COOKIE: (
        "the answer sets a cookie and is not public; let the origin set none here, or say public (the cookie itself "
        "is never kept), or lift it with cache.shared: true"
    ),
    NoStore.NO_FRESHNESS: (
        "nothing tells how long it is fresh; let the origin send max-age or Expires, or a Last-Modified (with which "
        "cache.heuristic counts), or add its type to cache.media_types, for which cache.ttl counts"
    ),
    NoStore.NO_VALIDATOR: (
        "it is stale at once, and has no ETag and no Last-Modified to ask the origin by: let the origin send one of "
        "them, or a lifetime"
    ),
    NoStore.CREDENTIALS: (
        "it is for this Authorization alone, whose scheme is neither Basic nor Bearer: the next request brings "
        "another, and would not find it; public, s-maxage or cache.shared: true would let all share it"
    ),
    NoStore.UNKEYED_QUERY: (
        "cache.key leaves the query out, and a redirect or an error that one query made must not be everybody's; put "
        "query into the key to have it stored"
    ),
}
"""What each reason means, and what to change, if anything."""

LONGEST: Final = 100 * 365 * 86_400
"""Seconds that nobody will wait for."""


def span(seconds: int) -> str:
    """Seconds as a config has them: `1h30m`."""
    if seconds > LONGEST:
        return "more than 100 years"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def governing_facts(fields: Fields, policy: CachePolicy) -> tuple[str, ...]:
    """Whether a targeted field stands in the place of Cache-Control (RFC 9213)."""
    ignored: list[str] = []
    for target in policy.targets:
        if target not in fields:
            continue
        if governing(fields, (target,)) is not fields:
            beaten = [name for name in ("Cache-Control", "Expires", "Pragma") if name in fields]
            silent = f", {' and '.join(beaten)} say{'' if len(beaten) > 1 else 's'} nothing" if beaten else ""
            return (*ignored, f"{target} governs{silent} (RFC 9213)")
        ignored.append(f"{target} is malformed, and so ignored (RFC 9213 section 2.1)")
    return tuple(ignored)


def lifetime_fact(granted: Lifetime, fields: Fields, policy: CachePolicy) -> str:
    """What the freshness lifetime rests on."""
    ttl = f"cache.ttl, {span(policy.ttl)}"
    match granted.basis:
        case Basis.S_MAXAGE | Basis.MAX_AGE:
            source = next(
                (each for each in policy.targets if governing(fields, (each,)) is not fields), "Cache-Control"
            )
            return f"its lifetime is {granted.basis.value} of {source}, {span(granted.seconds)}"
        case Basis.EXPIRES:
            return f"its lifetime ends at Expires, {span(granted.seconds)} after Date"
        case Basis.NO_CACHE:
            return "no-cache: the origin is asked before each reuse"
        case Basis.POLICY if not policy.respect_origin:
            return f"its lifetime is {ttl}, whatever the origin says (cache.respect_origin: false)"
        case Basis.POLICY:
            named = media_type(fields) if "Content-Type" in fields else "what has no Content-Type"
            return f"the origin gives no lifetime: for {named} it is {ttl}"
        case Basis.HEURISTIC:
            share = f"{policy.heuristic * 100:g} % of the time since Last-Modified"
            return f"the origin gives no lifetime: it is {share}, at most {ttl}"
        case Basis.NOTHING:
            return WHY_NOT_STORED[NoStore.NO_FRESHNESS]
        case _:
            assert_never(granted.basis)


def credentials_fact(
    scope: Scope, request: ClientRequest, fields: Fields, policy: CachePolicy
) -> Iterator[str]:
    """Why an answer to credentials is for everyone, or is not; nothing where the request has none."""
    names = [
        pair.partition("=")[0].strip() for pair in counting_cookies(request.fields, policy.ignore_cookies)
    ]
    sent = ["Authorization"] if "Authorization" in request.fields else []
    if names:
        sent.append(f"a cookie ({', '.join(dict.fromkeys(names))})")
    if not sent:
        return
    brought = f"the request has {' and '.join(sent)}"
    if scope is Scope.PARTITION:
        allowing = "public or s-maxage" if "Authorization" in request.fields else "public or a lifetime"
        yield f"{brought}, and the answer does not say that it is for all ({allowing}; or cache.shared: true)"
    elif policy.authorize is not None:
        yield f"{brought}, of which the origin is asked (cache.authorize): there is one copy"
    elif policy.shared:
        yield f"{brought}, which separates nothing here (cache.shared: true)"
    elif "public" in parse_directives(governing(fields, policy.targets)):
        yield f"{brought}, but the answer is public"
    elif "Authorization" in request.fields:
        yield f"{brought}, but s-maxage, or must-revalidate with a lifetime, allows to share it (RFC 9111, 3.5)"
    else:
        yield f"{brought}, but an answer with a lifetime of its own is for all"
