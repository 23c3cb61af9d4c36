"""How others differ from us, where both others do: what we decide (README), and what both read their own way.

The sections are those of RFC 9111.
"""

from collections.abc import Callable
from dataclasses import replace

from tests.semantics.answers import NOW, date
from tests.semantics.cases import DATES, GOOD_TAGS, Case, Message
from tests.semantics.comparison import TTL, Difference, Said, Verdict

HEURISTIC_STATUSES = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
PAST = "Thu, 01 Jan 1970 00:00:00 GMT"


def unstored(case: Case) -> Case:
    return replace(case, answer=replace(case.answer, control=("no-store",)))


def elsewhere(case: Case) -> Case:
    return replace(case, elsewhere=True)


def answering(case: Case, answer: Message) -> Case:
    return replace(case, answer=answer)


def is_media(case: Case) -> bool:
    return case.status == 200 and case.answer.values("Content-Type") == ["video/mp4"]


def received_date(case: Case) -> int:
    """The Date of a reworded answer, else when it was received."""
    dates = case.answer.values("Date")
    return DATES[dates[0]] if dates else NOW


def explicit(case: Case) -> int | None:
    """The lifetime that the reworded answer gives itself."""
    for directive in ("s-maxage", "max-age"):
        if (seconds := case.answer.seconds(directive)) is not None:
            return seconds
    expires = case.answer.values("Expires")
    if not expires:
        return None
    return 0 if expires == [PAST] else max(0, DATES[expires[0]] - received_date(case))


def heuristic(case: Case) -> int | None:
    """A tenth of what has passed since Last-Modified, at most the ttl."""
    modified = case.answer.values("Last-Modified")
    if not modified or (case.status not in HEURISTIC_STATUSES and not case.answer.says("public")):
        return None
    return min(max(0, received_date(case) - DATES[modified[0]]) // 10, TTL)


def lasting(case: Case, seconds: int) -> Case:
    """With this lifetime instead of what the answer says."""
    name = "s-maxage" if case.answer.says("s-maxage") else "max-age"
    answer = case.answer.without("s-maxage", "max-age", "Expires")
    return answering(case, answer.plus(f"{name}={seconds}"))


def aged(case: Case, age: int) -> Case:
    """With a Date so long ago, and a lifetime as before."""
    if (granted := explicit(case)) is not None and case.answer.values("Expires"):
        case = lasting(case, granted)
    return answering(case, case.answer.without("Date").plus(Date=date(-age)))


def _names_it_as_whole(case: Case) -> Case:
    """`private="x-user"` says nothing of the message, and `private=""` all."""
    answer = case.answer
    for name in ("private", "no-cache"):
        if answer.says(name):
            is_whole, answer = answer.whole(name), answer.without(name)
            answer = answer.plus(name if is_whole else "no-transform")  # which is none of a cache's business
    return answering(case, answer)


FIELD_LIMITS = Difference(
    "FIELD_LIMITS",
    "private and no-cache limited to fields leave the rest free (5.2.2.4, 5.2.2.7); unlimited once is unlimited",
    _names_it_as_whole,
)


def _seconds(message: Message, choose: Callable[[list[str | None]], list[str]]) -> Message:
    for name in ("s-maxage", "max-age", "min-fresh", "max-stale"):
        given = message.arguments(name)
        if name == "max-stale" and set(given) == {None}:  # however stale
            message = message.without(name).plus(name)
        elif given:
            message = message.without(name).plus(*(f"{name}={text}" for text in choose(given)))
    return message


def _either(case: Case, change: Callable[[Message], Message]) -> Case:
    return replace(case, answer=change(case.answer), again=change(case.again))


def _digits(given: list[str | None]) -> list[str]:
    unquoted = [(text or "").strip('"') for text in given]
    return [text if text.isdigit() else "0" for text in unquoted]


MALFORMED_SECONDS = Difference(
    "MALFORMED_SECONDS",
    "a malformed delta-seconds counts as 0: a cache is encouraged to take the answer for stale (4.2.1)",
    lambda case: _either(case, lambda message: _seconds(message, _digits)),
)

DUPLICATE_SECONDS = Difference(
    "DUPLICATE_SECONDS",
    "of a directive that is there twice the shortest counts (4.2.1: either the first, or stale)",
    lambda case: _either(
        case, lambda message: _seconds(message, lambda given: [str(min(int(text or "0") for text in given))])
    ),
)


def _well_dated(case: Case) -> Case:
    answer = case.answer
    dates = answer.values("Date")
    if len(dates) > 1 or any(text not in DATES for text in dates):
        answer = answer.without("Date")
    expires = answer.values("Expires")
    if expires and (len(expires) > 1 or expires[0] not in DATES):
        answer = answer.without("Expires").plus(Expires=PAST)
    return answering(case, answer)


DATES_BY_THE_LETTER = Difference(
    "DATES_BY_THE_LETTER",
    "what is no HTTP-date, or is there twice, is past as Expires (5.3) and receipt as Date (RFC 9110, 6.6.1)",
    _well_dated,
)


def _well_validated(case: Case) -> Case:
    answer = case.answer
    for name, well_formed in (("ETag", GOOD_TAGS), ("Last-Modified", DATES)):
        values = answer.values(name)
        if len(values) > 1 or any(text not in well_formed for text in values):
            answer = answer.without(name)
    return answering(case, answer)


VALIDATORS_BY_THE_LETTER = Difference(
    "VALIDATORS_BY_THE_LETTER",
    "a malformed ETag or Last-Modified, or two of them, is none, and no origin is asked by it (RFC 9110, 8.8)",
    _well_validated,
)


def _answer_pragma(case: Case) -> Case:
    answer = case.answer.without("Pragma")
    says_it = "no-cache" in case.answer.values("Pragma") and not answer.control
    return answering(case, answer.plus("no-cache") if says_it else answer)


ANSWER_PRAGMA = Difference(
    "ANSWER_PRAGMA",
    "Pragma: no-cache, but no other Pragma, is no-cache in an answer without Cache-Control, too: 5.4 leaves it open",
    _answer_pragma,
)


def _request_pragma(case: Case) -> Case:
    asked = "no-cache" in case.again.values("Pragma") and not case.again.control
    again = case.again.without("Pragma")
    return replace(case, again=again.plus("no-cache") if asked else again)


REQUEST_PRAGMA = Difference(
    "REQUEST_PRAGMA",
    "Pragma: no-cache is Cache-Control: no-cache where a request has no Cache-Control, else nothing (5.4)",
    _request_pragma,
)


def _understood(case: Case) -> Case:
    if not case.answer.says("must-understand"):
        return case
    if case.status not in HEURISTIC_STATUSES | {302, 307}:
        return unstored(case)
    return answering(case, case.answer.without("must-understand", "no-store"))


MUST_UNDERSTAND = Difference(
    "MUST_UNDERSTAND",
    "must-understand overrides no-store for statuses we know, and forbids to store the others (5.2.2.3)",
    _understood,
)


def _set_cookie(case: Case) -> Case:
    if not case.answer.values("Set-Cookie"):
        return case
    limited = {*case.answer.arguments("no-cache"), *case.answer.arguments("private")}
    if '"set-cookie"' not in limited and not case.answer.says("public"):
        return unstored(case)
    return answering(case, case.answer.without("Set-Cookie"))


SET_COOKIE = Difference(
    "SET_COOKIE",
    "an answer that sets a cookie is not kept, unless it is public, or this is limited to the cookie (README)",
    _set_cookie,
)

VARY_STAR = Difference(
    "VARY_STAR",
    "an answer that varies on everything will match no request (4.1), so there is no use in storing it",
    lambda case: unstored(case) if "*" in ", ".join(case.answer.values("Vary")) else case,
)


def _without_freshness(case: Case) -> Case:
    says = explicit(case) is not None or case.answer.says("no-cache")
    return case if says or is_media(case) or heuristic(case) is not None else unstored(case)


SILENT_ORIGIN = Difference(
    "SILENT_ORIGIN",
    "what says nothing of its freshness, is no media and has no Last-Modified, is not kept (README)",
    _without_freshness,
)


def _never_reusable(case: Case) -> Case:
    granted = explicit(case)
    if granted is None:
        granted = TTL if is_media(case) else heuristic(case)
    if granted and not case.answer.says("no-cache"):
        return case
    has_validator = case.answer.values("ETag") or case.answer.values("Last-Modified")
    return case if has_validator else unstored(case)


STALE_WITHOUT_VALIDATOR = Difference(
    "STALE_WITHOUT_VALIDATOR",
    "what is stale at once is kept only with a validator to ask the origin by (README)",
    _never_reusable,
)


def _cookies(message: Message) -> list[str]:
    pairs = [pair.strip() for line in message.values("Cookie") for pair in line.split(";")]
    counting = (pair for pair in pairs if not pair.startswith("_ga="))
    return sorted(counting, key=lambda pair: pair.partition("=")[0])


def _for_all(case: Case, message: Message) -> bool:
    answer = case.answer
    if answer.says("public"):
        return True
    granted = explicit(case)
    opened = answer.says("s-maxage") or (answer.says("must-revalidate") and granted is not None)
    if message.values("Authorization") and not opened:
        return False
    return not _cookies(message) or (bool(granted) and not answer.says("no-cache"))


def _signed(case: Case) -> Case:
    is_signed = any(text.startswith("Digest") for text in case.asked.values("Authorization")[:1])
    return unstored(case) if is_signed and not _for_all(case, case.asked) else case


SIGNATURES = Difference(
    "SIGNATURES",
    "an answer to a Digest is kept for all or for nobody: the next request brings another (README)",
    _signed,
)


def _partitioned(case: Case) -> Case:
    """A partition is a cache of its own, in which nothing is shared: there, Authorization means nothing."""
    owners = [(message.values("Authorization"), _cookies(message)) for message in (case.asked, case.again)]
    if _for_all(case, case.asked):
        return case
    if owners[0] != owners[1]:
        case = elsewhere(case)
    return replace(case, asked=case.asked.without("Authorization"), again=case.again.without("Authorization"))


PARTITIONS = Difference(
    "PARTITIONS",
    "what Authorization (3.5) or a cookie (README) makes one's own is kept for that one",
    _partitioned,
)

STRANGERS = Difference(
    "STRANGERS",
    "what would not be shared, had this one asked first, does not answer this one either (README)",
    lambda case: case if _for_all(case, case.asked) <= _for_all(case, case.again) else elsewhere(case),
)


def _media(case: Case) -> Case:
    if not is_media(case) or explicit(case) is not None or case.answer.says("no-cache"):
        return case
    return lasting(answering(case, case.answer.without("Date")), TTL)


MEDIA_TTL = Difference(
    "MEDIA_TTL",
    "a media answer that says nothing of its freshness has the ttl, from receipt and not from its Date (README)",
    _media,
)


def _heuristic(case: Case) -> Case:
    granted = heuristic(case)
    if granted is None or explicit(case) is not None or case.answer.says("no-cache"):
        return case
    return lasting(case, granted)


HEURISTIC = Difference(
    "HEURISTIC",
    "a heuristic lifetime is a tenth of the time since Last-Modified at the answer's Date, at most the ttl (4.2.2)",
    _heuristic,
)

HEAD = Difference(
    "HEAD",
    "a stored GET answers a HEAD (RFC 9110, 9.3.2)",
    lambda case: replace(case, method="GET"),
)

REQUEST_NO_STORE = Difference(
    "REQUEST_NO_STORE",
    "who wants nothing stored (5.2.1.5) is answered by the origin: a choice",
    lambda case: elsewhere(case) if case.again.says("no-store") else case,
)


def _refused(case: Case, said: Said) -> Said:
    is_asked = case.again.says("only-if-cached") and said.verdict in (Verdict.VALIDATED, Verdict.FETCHED)
    return Said(Verdict.REFUSED) if is_asked else said


ONLY_IF_CACHED = Difference(
    "ONLY_IF_CACHED",
    "who wants what is stored, or nothing, is refused (5.2.1.7); these leave that to their callers",
    read=_refused,
)


# --- Variants ---------------------------------------------------------------------------------------


def _vary(case: Case) -> set[str]:
    return {name.strip().lower() for name in ", ".join(case.answer.values("Vary")).split(",")} - {""}


def _varying(case: Case, names: set[str]) -> Case:
    answer = case.answer.without("Vary")
    return answering(case, answer.plus(Vary=", ".join(sorted(names))) if names else answer)


def _coding(case: Case) -> Case:
    names, is_coded = _vary(case), bool(case.answer.values("Content-Encoding"))
    if is_coded:
        return case if "accept-encoding" in names else _varying(case, names | {"accept-encoding"})
    wants_plain = not _selecting("accept-encoding", case.again)
    return _varying(case, names - {"accept-encoding"}) if is_media(case) or wants_plain else case


CODINGS = Difference(
    "CODINGS",
    "a coded answer varies on Accept-Encoding, said or not; a plain one does for whoever takes a coding, but media",
    _coding,
)


def _selecting(name: str, message: Message) -> object:
    value = message.joined.get(name)
    match name:
        case "accept-encoding":
            members = (value or "").replace(" ", "").split(",")
            return {member for member in members if member in ("br", "gzip", "zstd")}
        case "accept-language":
            return value if value is None else [member.strip() for member in value.split(",")]
        case "cookie":
            return _cookies(message)
        case _:
            return value


def _mismatched(case: Case) -> set[str]:
    return {name for name in _vary(case) if _selecting(name, case.asked) != _selecting(name, case.again)}


NORMAL_FORMS = Difference(
    "NORMAL_FORMS",
    "nominated fields match if they do in a normal form: space, codings nobody uses, cookies of analytics (4.1)",
    lambda case: _varying(case, _mismatched(case)) if _vary(case) != _mismatched(case) else case,
)


def _other_variant(case: Case) -> Case:
    """A variant that may be what this request selects is validated by its tag alone."""
    if not (differing := _mismatched(case)):
        return case
    if not case.answer.values("Content-Encoding"):
        differing.discard("accept-encoding")
    is_strong = case.answer.values("ETag") and not case.answer.values("ETag")[0].startswith("W/")
    if not is_strong or not differing <= {
        "accept",
        "accept-charset",
        "accept-language",
        "origin",
        "user-agent",
    }:
        return elsewhere(case)
    return answering(
        case, case.answer.without("Vary", "Last-Modified", "no-cache").plus("no-cache", "must-revalidate")
    )


OTHER_VARIANT = Difference(
    "OTHER_VARIANT",
    "another variant is offered by its strong tag (4.3.1), where it differs in nothing that may be a credential",
    _other_variant,
)
