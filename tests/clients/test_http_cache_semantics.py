"""Differential test: npm's http-cache-semantics, which most of Node's HTTP clients cache by, as a shared cache."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clients.programs import needs
from tests.semantics.answers import NOW
from tests.semantics.cases import Case, Message, many_cases
from tests.semantics.comparison import Difference, Oracle, Said, Tally, Verdict, compare
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
    answering,
    received_date,
)

# Where Debian's package puts it; NODE_PATH names another place.
MODULES = os.environ.get("NODE_PATH", "/usr/share/nodejs")
MISSING = not any(Path(place, "http-cache-semantics").is_dir() for place in MODULES.split(os.pathsep))

pytestmark = [
    pytest.mark.clients,
    needs("node"),
    pytest.mark.skipif(MISSING and not os.environ.get("CI"), reason="needs node-http-cache-semantics"),
]

# One line in, one line out.  Only the fields and the clock come from the case: the verdict is the package's.
PROGRAM = """
const Policy = require("http-cache-semantics");
let now;
class Timed extends Policy { now() { return now; } }
require("readline").createInterface({ input: process.stdin }).on("line", line => {
    const { asked, answer, again, received, elapsed } = JSON.parse(line);
    now = received * 1000;
    const policy = new Timed(asked, answer, { shared: true });
    now += elapsed * 1000;
    const verdict = policy.storable() && {
        satisfied: policy.satisfiesWithoutRevalidation(again),
        asking: policy.revalidationHeaders(again),
        age: policy.age(),
        timeToLive: policy.timeToLive(),
    };
    console.log(JSON.stringify(verdict));
});
"""


@pytest.fixture
def theirs() -> Iterator[Oracle]:
    node = shutil.which("node")
    assert node is not None
    with subprocess.Popen(
        [node, "--eval", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "NODE_PATH": MODULES},
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        asking, answers = program.stdin, program.stdout

        def says(case: Case) -> Said:
            asking.write(json.dumps(told(case)).encode() + b"\n")
            asking.flush()
            line = answers.readline()
            assert line, "node has ended; standard error says why"
            answer = json.loads(line)
            if answer is False:
                return Said(Verdict.NOT_STORED)
            if answer["satisfied"]:
                return Said(Verdict.REUSED, round(answer["age"]), round(answer["timeToLive"] / 1000))
            conditions = {"if-none-match", "if-modified-since"}
            return Said(Verdict.VALIDATED if conditions & {*answer["asking"]} else Verdict.FETCHED)

        yield says


def told(case: Case) -> dict[str, object]:
    """The case as the program reads it."""

    def request(method: str, url: str, message: Message) -> dict[str, object]:
        return {"method": method, "url": url, "headers": {"host": "example.com"} | message.joined}

    return {
        "asked": request("GET", "/page", case.asked),
        "answer": {"status": case.status, "headers": case.answer.joined},
        "again": request(case.method, "/elsewhere" if case.elsewhere else "/page", case.again),
        "received": NOW,
        "elapsed": case.elapsed,
    }


# --- What it does not read, or reads otherwise ------------------------------------------------------


def _lower(case: Case) -> Case:
    def lower(member: str) -> str:
        name, equals, text = member.partition("=")
        return name.lower() + equals + text

    return answering(case, Message(tuple(map(lower, case.answer.control)), case.answer.fields))


def _age_by_the_letter(case: Case) -> Case:
    if not (given := case.answer.joined.get("age")):
        return case
    first = given.partition(",")[0]
    answer = case.answer.without("Age")
    return answering(case, answer.plus(Age=first) if first.isdigit() else answer)


def _apparent_age(case: Case) -> Case:
    apparent = NOW - received_date(case)
    given = case.answer.values("Age")
    if apparent <= int(given[0] if given else 0):
        return case
    return answering(case, case.answer.without("Age").plus(Age=str(apparent)))


def _known_status(case: Case) -> Case:
    match case.status:
        case 308:
            return replace(case, status=301)
        case 201 | 403 | 500 if _speaks(case):
            return replace(case, status=203)
        case _:
            return case


def _speaks(case: Case) -> bool:
    answer = case.answer
    return any(map(answer.says, ("public", "s-maxage", "max-age"))) or bool(answer.values("Expires"))


def _stale_forbidden(case: Case) -> Case:
    forbids = any(map(case.answer.says, ("s-maxage", "proxy-revalidate", "no-cache")))
    return answering(case, case.answer.plus("must-revalidate")) if forbids else case


def _contradicting(case: Case) -> Case:
    """What is wanted fresh may still be at its end, but not beyond."""
    again = case.again
    if not (again.says("min-fresh") and again.says("max-stale")):
        return case
    at_its_end = ["max-stale=0"] if again.seconds("min-fresh") == 0 else []
    return replace(case, again=again.without("max-stale").plus(*at_its_end))


def _edges(case: Case) -> Case:
    """Their max-age is reached later than ours, their max-stale sooner, both by a second."""
    again = case.again
    if (most := again.seconds("max-age")) is not None:
        again = again.without("max-age").plus("no-cache" if most == 0 else f"max-age={most - 1}")
    if again.says("max-stale") and None not in again.arguments("max-stale"):
        seconds = again.seconds("max-stale")
        assert seconds is not None
        again = again.without("max-stale").plus(f"max-stale={seconds + 1}")
    return replace(case, again=again)


KNOWN_DIFFERENCES = (
    Difference("CASE_OF_NAMES", "the names of directives are case-insensitive (5.2)", _lower),
    ANSWER_PRAGMA,
    SET_COOKIE,
    FIELD_LIMITS,
    MALFORMED_SECONDS,
    DUPLICATE_SECONDS,
    DATES_BY_THE_LETTER,
    VALIDATORS_BY_THE_LETTER,
    Difference(
        "AGE_BY_THE_LETTER", "of Age the first member counts, if it is digits (5.1)", _age_by_the_letter
    ),
    REQUEST_PRAGMA,
    MUST_UNDERSTAND,
    VARY_STAR,
    SILENT_ORIGIN,
    STALE_WITHOUT_VALIDATOR,
    SIGNATURES,
    PARTITIONS,
    STRANGERS,
    Difference(
        "STALE_FORBIDDEN",
        "s-maxage, proxy-revalidate and no-cache forbid stale answers as must-revalidate does (4.2.4)",
        _stale_forbidden,
    ),
    Difference(
        "PROXY_REVALIDATE",
        "proxy-revalidate forbids stale answers, not fresh ones (5.2.2.8)",
        lambda case: answering(case, case.answer.without("proxy-revalidate")),
    ),
    Difference(
        "IMMUTABLE",
        "immutable gives no lifetime (RFC 8246, 2)",
        lambda case: answering(case, case.answer.without("immutable")),
    ),
    MEDIA_TTL,
    HEURISTIC,
    Difference(
        "STATUSES",
        "308 may be stored without a word (RFC 9110, 15.1), and any final status with one (RFC 9111, 3)",
        _known_status,
    ),
    Difference(
        "APPARENT_AGE",
        "an answer is at least as old as its Date says (4.2.3)",
        _apparent_age,
    ),
    Difference(
        "FRESH_AND_STALE",
        "who wants an answer fresh (5.2.1.3) and takes it stale (5.2.1.2) gets it fresh: a choice",
        _contradicting,
    ),
    Difference(
        "EDGES",
        "max-stale is reached where it is equal (5.2.1.2); with max-age we validate where it is equal, a choice",
        _edges,
    ),
    HEAD,
    CODINGS,
    NORMAL_FORMS,
    OTHER_VARIANT,
    REQUEST_NO_STORE,
    ONLY_IF_CACHED,
)


def test_every_difference_has_its_rule_and_every_rule_its_differences(theirs: Oracle) -> None:
    tally = Tally(KNOWN_DIFFERENCES)
    for case in many_cases(10_000):
        tally.add(compare(case, theirs, KNOWN_DIFFERENCES))
    assert tally.idle == [], "rules that explain nothing: take them out"
    assert tally.agreed > 5000
