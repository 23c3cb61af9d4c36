"""What becomes of a request, and why: the data behind the command `explain`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Final

from multidict import CIMultiDict

from proxy.answers import Answer, Prospect, prospect
from proxy.config.model import Config
from proxy.config.scalars import Duration
from proxy.errors import ClientError, NothingStored, PurgeDenied, UnknownHost
from proxy.facts import span
from proxy.routes import Condition, Mode, Route, Routed, RouteTable
from proxy.semantics.key import key_fields, partition, primary_key
from proxy.semantics.normalization import authority, parameter_names
from proxy.semantics.policy import Authorize
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
    status and the reason of a refusal.  The rest is empty where there is nothing to say; `answer` is there if one
    was asked about.
    """

    tried: tuple[tuple[str, str], ...]
    outcome: str
    origin: str | None = None
    origin_url: str | None = None
    host: str | None = None
    cache_key: str | None = None
    policy: tuple[str, ...] = ()
    answer: Prospect | None = None


def explain(config: Config, request: ClientRequest, answer: Answer | None = None) -> Explanation:
    """What the routes of this config do with the request, and with what its origin answers."""
    explained = _explain(config, request, answer)
    if answer is None or explained.answer is not None:
        return explained
    if explained.origin is None:
        return replace(explained, answer=Prospect("none: no origin is asked"))
    why = "only what answers a GET or HEAD without a body is stored"
    if explained.outcome == Treatment.PASSTHROUGH.value:
        why = f"route {explained.tried[-1][0]} stores nothing (mode passthrough)"
    return replace(explained, answer=Prospect("passed on as it is, and not stored", (why,)))


def _explain(config: Config, request: ClientRequest, answer: Answer | None) -> Explanation:
    if request.method == "PURGE" and config.server.purge_from:
        return _explain_purge(config, request)
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
    key = primary_key(
        route.origin,
        request.host,
        routed.path,
        routed.query,
        route.key,
        scheme=request.scheme,
        fields=key_fields(request, route.key),
    )
    return replace(
        known,
        origin_url=f"{url.scheme}://{url.authority}{routed.fetch_target}",
        host=authority(request.host, request.scheme) if route.host is None else route.host,
        cache_key=key.text,
        policy=(*_key_in_words(routed, request), *_in_words(route, request)),
        answer=None
        if answer is None
        else prospect(answer, request, route.policy, config.spool.max_object_size),
    )


def lines(explanation: Explanation) -> Iterator[str]:
    """The explanation for a terminal, a title before each thing."""
    width = max((len(name) for name, _ in explanation.tried), default=0)
    for name, what in explanation.tried:
        yield f"route  {name:<{width}}  {what}"
    yield ""
    yield from _titled("outcome", explanation.outcome)
    yield from _titled("origin", explanation.origin)
    yield from _titled("asks for", explanation.origin_url)
    yield from _titled("with Host", explanation.host)
    yield from _titled("cache key", explanation.cache_key)
    yield from _titled("policy", *explanation.policy)
    if explanation.answer is not None:
        yield ""
        yield from _answer_lines(explanation.answer)


def _answer_lines(answer: Prospect) -> Iterator[str]:
    yield from _titled("answer", answer.outcome)
    yield from _titled("because", *answer.because)
    if answer.fresh_for is not None:
        yield from _titled("fresh for", span(answer.fresh_for))
        yield from _titled("then", _then(answer))
    yield from _titled("variant", *starmap(_selected_by, answer.variant))
    if answer.withheld:
        yield from _titled("withheld", f"{', '.join(answer.withheld)} (only who causes the fetch gets it)")
    yield from _titled("purge tags", ", ".join(answer.tags) or None)
    moments = (f"{f'after {span(each.after)}' if each.after else 'at once'}" for each in answer.next)
    said = (f"{each.cache_status}: {each.meaning}" for each in answer.next)
    yield from _titled(
        "next time", *(f"{moment}, {what}" for moment, what in zip(moments, said, strict=True))
    )


def _then(answer: Prospect) -> str:
    if answer.validate:
        return f"must be validated, and is never served stale ({', '.join(answer.validate)})"
    if not answer.if_error and not answer.while_revalidate:
        return "must be fetched anew, or validated"
    return (
        f"may be served for {span(answer.if_error)} while the origin fails, "
        f"for {span(answer.while_revalidate)} while it is fetched anew"
    )


def _selected_by(name: str, value: str | None) -> str:
    if value is None:
        return f"by {name}: none"
    hashed = value.startswith(" ") or name in {"authorization", "cookie"}
    return f"by {name}: as in this request (a hash is kept)" if hashed else f'by {name}: "{value}"'


def _titled(title: str, *texts: str | None) -> Iterator[str]:
    said = [text for text in texts if text is not None]
    for name, text in zip([title, *[""] * len(said)], said, strict=False):
        yield f"{name:<10} {text}"


def _key_in_words(routed: Routed, request: ClientRequest) -> Iterator[str]:
    rules = routed.route.key
    if "query" not in rules.parts:
        yield "one object for all queries; the origin gets that of whoever comes first"
    elif routed.query is not None:
        left = rules.reduced(routed.query)
        kept = list(parameter_names(left)) if left is not None else []
        dropped = [name for name in parameter_names(routed.query) if name not in kept]
        if dropped:
            yield f"parameters left out of the key, and of what the origin is asked for: {_listed(dropped)}"
            yield f"parameters in the key: {_listed(kept) if kept else 'none'}"
        if rules.sort and kept:
            yield "their order tells nothing: the origin gets them sorted by name"
    for name, value in key_fields(request, rules):
        if value is None:
            yield f"requests without {name} have an object of their own"
        else:
            said = value.strip() or "an empty value"
            yield f"requests with this {name} have an object of their own: {said}"


def _authorize_in_words(authorize: Authorize) -> Iterator[str]:
    how = (
        "a GET, given up after its head"
        if authorize.method == "GET"
        else "a HEAD, and a GET if that is no yes"
    )
    yield f"each request asks the origin with its own credentials, by {how} (cache.authorize)"
    yield "a 304, or a 200 like the stored one, is a yes: one copy for all who get it, from the spool"
    yield "anything else is relayed as it is"
    if authorize.ttl:
        yield f"a yes is remembered for {Duration(authorize.ttl)} for the same Cookie and Authorization"


def _listed(names: list[str]) -> str:
    return ", ".join(name if name.isprintable() and name.strip() else repr(name) for name in names)


def _explain_purge(config: Config, request: ClientRequest) -> Explanation:
    """A purge is of what a GET is answered with."""
    peers = ", ".join(map(str, config.server.purge_from))
    who = f"obeyed from {peers} (server.purge_from); others get {PurgeDenied.status} {PurgeDenied.reason}"
    asked = replace(request, method="GET", fields=CIMultiDict(), has_body=False)
    explained = explain(config, asked)
    known = Explanation(explained.tried, "answered here: purge", policy=(who,))
    if request.target.endswith("*") and not explained.outcome.startswith(str(UnknownHost.status)):
        return replace(known, tried=(), policy=(f"all under {request.host}{request.target[:-1]}", who))
    if explained.outcome == Treatment.PASSTHROUGH.value:
        why = f"{NothingStored.status} {NothingStored.reason}: route {explained.tried[-1][0]} stores nothing"
        return Explanation(explained.tried, why)
    if explained.cache_key is None:  # refused
        return explained
    return replace(
        known, cache_key=explained.cache_key, policy=("in all variants, http and https alike", who)
    )


def _in_words(route: Route, request: ClientRequest) -> Iterator[str]:
    policy, limits = route.policy, route.limits
    ttl = span(policy.ttl)
    if policy.respect_origin:
        yield f"kept as long as the origin says; media for {ttl} where it says nothing"
    else:
        yield f"media is kept for {ttl}, unless the origin says no-store or private"
    if policy.shared:
        yield "one copy for everybody, with credentials or without (cache.shared)"
    elif policy.authorize is not None:
        yield from _authorize_in_words(policy.authorize)
    elif partition(request, policy, b"") is not None:
        yield "this request has credentials: kept for them alone, unless the origin says it is for all"
        yield "cache.shared: true would keep one copy for everybody"
    yield f"up to {limits.max_ranges} ranges, {limits.max_overlaps} of them overlapping"
    yield f"a range waits up to {Duration(route.unknown_length_wait)} for an object of unknown length"
    if route.cors:
        yield f"web pages of {', '.join(sorted(route.cors.allow_origins))} may read it"
