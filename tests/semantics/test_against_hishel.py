"""Differential test: hishel's core, as a shared cache, beside `storing` and `reuse`.

It is asked by its own states; its clock is ours.
"""

import uuid
from types import SimpleNamespace

import hishel
import pytest
from hishel._core import _spec
from hypothesis import HealthCheck, given, settings

from tests.semantics.answers import NOW, date
from tests.semantics.cases import Case, Message, cases, many_cases
from tests.semantics.comparison import Difference, Said, Tally, Verdict, compare
from tests.semantics.differences import (
    ANSWER_PRAGMA,
    CODINGS,
    DATES_BY_THE_LETTER,
    DUPLICATE_SECONDS,
    FIELD_LIMITS,
    HEAD,
    HEURISTIC,
    MALFORMED_SECONDS,
    MEDIA_TTL,
    MUST_UNDERSTAND,
    NORMAL_FORMS,
    ONLY_IF_CACHED,
    OTHER_VARIANT,
    PARTITIONS,
    REQUEST_NO_STORE,
    REQUEST_PRAGMA,
    SET_COOKIE,
    SIGNATURES,
    SILENT_ORIGIN,
    STALE_WITHOUT_VALIDATOR,
    STRANGERS,
    VALIDATORS_BY_THE_LETTER,
    VARY_STAR,
    aged,
    answering,
    explicit,
    lasting,
    received_date,
    unstored,
)

OPTIONS = hishel.CacheOptions(shared=True)


def headers(message: Message) -> hishel.Headers:
    return hishel.Headers(message.joined)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=NOW)
    monkeypatch.setattr(_spec, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def hishels(case: Case, clock: SimpleNamespace) -> Said:
    """What hishel says.  Date is added on receipt, which it leaves to its callers (RFC 9110, 6.6.1)."""
    clock.now = NOW
    asked = hishel.Request("GET", "http://example.com/page", headers(case.asked))
    answer = case.answer if case.answer.values("Date") else case.answer.plus(Date=date())
    received = hishel.CacheMiss(options=OPTIONS, request=asked).next(
        hishel.Response(case.status, headers(answer))
    )
    if not isinstance(received, hishel.StoreAndUse):
        return Said(Verdict.NOT_STORED)
    entry = hishel.Entry(uuid.UUID(int=0), asked, received.response)
    clock.now = NOW + case.elapsed
    url = "http://example.com/elsewhere" if case.elsewhere else asked.url
    again = hishel.Request(case.method, url, headers(case.again))
    decision = hishel.IdleClient(options=OPTIONS).next(again, [entry])
    match decision:
        case hishel.FromCache(entry=reused):
            return Said(Verdict.REUSED, int(reused.response.headers["Age"]))
        case hishel.NeedRevalidation(request=conditional):
            conditions = {"if-none-match", "if-modified-since"}
            return Said(Verdict.VALIDATED if conditions & {*conditional.headers} else Verdict.FETCHED)
        case _:
            return Said(Verdict.FETCHED)


# --- What it does not read, or reads otherwise ------------------------------------------------------


def _without_argument(case: Case) -> Case:
    control = tuple("no-store" if member == "no-store=1" else member for member in case.answer.control)
    return answering(case, Message(control, case.answer.fields))


def _date_ahead(case: Case) -> Case:
    return aged(case, 0) if received_date(case) > NOW else case


def _age(case: Case) -> Case:
    given = case.answer.joined.get("age", "").partition(",")[0]
    age = int(given) if given.isdigit() else 0
    return aged(case, age) if age > NOW - received_date(case) else case


def _wished(case: Case) -> Case:
    """The request's wishes, as a lifetime that is so much shorter or longer."""
    granted, again, answer = explicit(case), case.again, case.answer
    if granted is None or answer.says("no-cache"):
        return case
    lifetime = granted
    forbidden = any(map(answer.says, ("must-revalidate", "proxy-revalidate", "s-maxage")))
    if again.says("max-stale") and not forbidden:
        lifetime += 10**9 if None in again.arguments("max-stale") else (again.seconds("max-stale") or 0) + 1
    if (most := again.seconds("max-age")) is not None:
        lifetime = min(lifetime, most)
    if (least := again.seconds("min-fresh")) is not None:
        lifetime = min(lifetime, granted - least + 1)
    return case if lifetime == granted else lasting(case, max(0, lifetime))


KNOWN_DIFFERENCES = (
    Difference(
        "NAME_OF_NO_STORE",
        "no-store with an argument is no-store still (5.2: a directive is known by its name)",
        _without_argument,
    ),
    ANSWER_PRAGMA,
    SET_COOKIE,
    FIELD_LIMITS,
    MALFORMED_SECONDS,
    DUPLICATE_SECONDS,
    DATES_BY_THE_LETTER,
    VALIDATORS_BY_THE_LETTER,
    REQUEST_PRAGMA,
    Difference(
        "STORE_NOTHING_FOR_ME",
        "the answer to a request with no-store is not stored (5.2.1.5)",
        lambda case: unstored(case) if case.asked.says("no-store") else case,
    ),
    Difference(
        "BLAMES_THE_REQUEST",
        "400, 416 and their like blame one request: stored, they would deny the object to all (a choice)",
        lambda case: unstored(case) if case.status in (400, 416) else case,
    ),
    MUST_UNDERSTAND,
    VARY_STAR,
    SILENT_ORIGIN,
    STALE_WITHOUT_VALIDATOR,
    SIGNATURES,
    PARTITIONS,
    STRANGERS,
    MEDIA_TTL,
    HEURISTIC,
    Difference(
        "DATE_AHEAD",
        "a Date in the future does not make the answer younger than its time in the cache (4.2.3)",
        _date_ahead,
    ),
    Difference("AGE", "the Age of an answer counts (4.2.3)", _age),
    Difference(
        "WISHES",
        "a request's max-age, min-fresh and max-stale count (5.2.1); no stale answer where 4.2.4 forbids it",
        _wished,
    ),
    HEAD,
    CODINGS,
    NORMAL_FORMS,
    OTHER_VARIANT,
    REQUEST_NO_STORE,
    ONLY_IF_CACHED,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(case=cases())
def test_every_difference_has_its_rule(clock: SimpleNamespace, case: Case) -> None:
    Tally(KNOWN_DIFFERENCES).add(compare(case, lambda asked: hishels(asked, clock), KNOWN_DIFFERENCES))


def test_every_rule_has_its_differences_and_most_cases_none(clock: SimpleNamespace) -> None:
    tally = Tally(KNOWN_DIFFERENCES)
    for case in many_cases(6000):
        tally.add(compare(case, lambda asked: hishels(asked, clock), KNOWN_DIFFERENCES))
    assert tally.idle == [], "rules that explain nothing: take them out"
    assert tally.agreed > 3000
