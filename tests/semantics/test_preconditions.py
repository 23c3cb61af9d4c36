"""Preconditions: each alone, and their order (RFC 9110 section 13.2.2)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.preconditions import Evaluation, Verdict, evaluate
from proxy.semantics.validators import EntityTag, Validators
from tests.semantics.exchanges import LAST_MODIFIED, LATER, Lines, request

EARLIER = "Wed, 25 Jun 2014 17:12:17 GMT"
MODIFIED = 1403716338  # LAST_MODIFIED

PROCEED, NOT_MODIFIED, FAILED = Verdict.PROCEED, Verdict.NOT_MODIFIED, Verdict.PRECONDITION_FAILED

STRONG = Validators(EntityTag("a"), (), MODIFIED, MODIFIED + 60)
TRANSLATED = Validators(EntityTag("ours"), (EntityTag("theirs", weak=True),), MODIFIED, MODIFIED + 60)
WEAK = Validators(EntityTag("a", weak=True), (), MODIFIED, MODIFIED + 60)
NONE = Validators(None)


def verdict(
    lines: Lines, validators: Validators = STRONG, *, method: str = "GET", status: int = 200
) -> Verdict:
    return evaluate(request(lines, method=method), validators, status).verdict


def range_applies(lines: Lines, validators: Validators = STRONG, *, method: str = "GET") -> bool:
    evaluation = evaluate(request(lines, method=method), validators)
    assert evaluation.verdict is PROCEED
    return evaluation.range_applies


def test_nothing_asked() -> None:
    assert evaluate(request(), STRONG) == Evaluation(PROCEED, range_applies=False)
    assert evaluate(request({"Range": "bytes=0-"}), STRONG) == Evaluation(PROCEED, range_applies=True)


# --- If-Match -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "validators", "expected"),
    [
        ('"a"', STRONG, PROCEED),
        ('"b", "a"', STRONG, PROCEED),
        ("*", STRONG, PROCEED),
        ("*", NONE, PROCEED),
        ('"b"', STRONG, FAILED),
        ('"A"', STRONG, FAILED),
        ('W/"a"', STRONG, FAILED),
        ('W/"a", "a"', STRONG, PROCEED),
        ('"a"', WEAK, FAILED),
        ('W/"a"', WEAK, FAILED),
        ('"a"', NONE, FAILED),
        ('"ours"', TRANSLATED, PROCEED),
        ('"theirs"', TRANSLATED, FAILED),
        ('W/"theirs"', TRANSLATED, FAILED),
        ("", STRONG, FAILED),
        ("a", STRONG, FAILED),
        ('"a", garbage', STRONG, FAILED),
        ('"a', STRONG, FAILED),
        (LAST_MODIFIED, STRONG, FAILED),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_if_match(value: str, validators: Validators, expected: Verdict, method: str) -> None:
    assert verdict({"If-Match": value}, validators, method=method) is expected


def test_if_match_on_several_lines() -> None:
    assert verdict([("If-Match", '"b"'), ("If-Match", '"a"')]) is PROCEED
    assert verdict([("If-Match", '"b"'), ("If-Match", '"c"')]) is FAILED


# --- If-Unmodified-Since --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (LAST_MODIFIED, PROCEED),
        (LATER, PROCEED),
        (EARLIER, FAILED),
        ("Wednesday, 25-Jun-14 17:12:17 GMT", FAILED),
        ("Wed Jun 25 17:12:17 2014", FAILED),
        ("Wed Jun 25 17:12:18 2014", PROCEED),
        ("garbage", PROCEED),
        ("", PROCEED),
        ("0", PROCEED),
        ("Wed, 25 Jun 2014 17:12:17 EST", PROCEED),
    ],
)
def test_if_unmodified_since(value: str, expected: Verdict) -> None:
    assert verdict({"If-Unmodified-Since": value}) is expected


def test_if_unmodified_since_is_ignored_without_a_date_or_with_two() -> None:
    assert verdict({"If-Unmodified-Since": EARLIER}, NONE) is PROCEED
    assert verdict({"If-Unmodified-Since": EARLIER}, Validators(None, (), None, MODIFIED)) is PROCEED
    assert verdict([("If-Unmodified-Since", EARLIER), ("If-Unmodified-Since", EARLIER)]) is PROCEED


# --- If-None-Match --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "validators", "matches"),
    [
        ('"a"', STRONG, True),
        ('W/"a"', STRONG, True),
        ('"b", W/"a"', STRONG, True),
        ("*", STRONG, True),
        ("*", NONE, True),
        ('"b"', STRONG, False),
        ('"a"', WEAK, True),
        ('W/"a"', WEAK, True),
        ('"a"', NONE, False),
        ('"ours"', TRANSLATED, True),
        ('W/"ours"', TRANSLATED, True),
        ('W/"theirs"', TRANSLATED, True),
        ('"theirs"', TRANSLATED, True),
        ('"a"', TRANSLATED, False),
        ("", STRONG, False),
        ("a", STRONG, False),
        ('"a" "b"', STRONG, False),
        ('"a", *', STRONG, False),
    ],
)
def test_if_none_match(value: str, validators: Validators, matches: bool) -> None:
    lines = {"If-None-Match": value}
    assert verdict(lines, validators) is (NOT_MODIFIED if matches else PROCEED)
    assert verdict(lines, validators, method="HEAD") is (NOT_MODIFIED if matches else PROCEED)
    assert verdict(lines, validators, method="PUT") is (FAILED if matches else PROCEED)


def test_if_none_match_on_several_lines() -> None:
    assert verdict([("If-None-Match", '"b"'), ("If-None-Match", 'W/"a"')]) is NOT_MODIFIED


# --- If-Modified-Since ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (LAST_MODIFIED, NOT_MODIFIED),
        (LATER, NOT_MODIFIED),
        (EARLIER, PROCEED),
        ("Wednesday, 25-Jun-14 17:12:18 GMT", NOT_MODIFIED),
        ("Wed Jun 25 17:12:18 2014", NOT_MODIFIED),
        ("Wed Jun 25 17:12:17 2014", PROCEED),
        ("garbage", PROCEED),
        ("", PROCEED),
        ("2014-06-25T17:12:18Z", PROCEED),
        ('"a"', PROCEED),
    ],
)
def test_if_modified_since(value: str, expected: Verdict) -> None:
    assert verdict({"If-Modified-Since": value}) is expected
    assert verdict({"If-Modified-Since": value}, method="HEAD") is expected
    assert verdict({"If-Modified-Since": value}, method="PUT") is PROCEED


def test_if_modified_since_without_last_modified_goes_by_the_date() -> None:
    undated = Validators(EntityTag("a"), (), None, MODIFIED)
    assert verdict({"If-Modified-Since": LAST_MODIFIED}, undated) is NOT_MODIFIED
    assert verdict({"If-Modified-Since": EARLIER}, undated) is PROCEED
    assert verdict({"If-Modified-Since": LATER}, NONE) is PROCEED


def test_if_modified_since_twice_is_ignored() -> None:
    assert verdict([("If-Modified-Since", LATER), ("If-Modified-Since", LATER)]) is PROCEED


# --- Range and If-Range ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("if_range", "validators", "applies"),
    [
        ('"a"', STRONG, True),
        (' "a" ', STRONG, True),
        ('"b"', STRONG, False),
        ('W/"a"', STRONG, False),
        ('"a"', WEAK, False),
        ('W/"a"', WEAK, False),
        ('"ours"', TRANSLATED, True),
        ('"theirs"', TRANSLATED, False),
        ('W/"theirs"', TRANSLATED, False),
        ('"a"', NONE, False),
        ("*", STRONG, False),
        ('"a", "b"', STRONG, False),
        ("a", STRONG, False),
        ("", STRONG, False),
        (LAST_MODIFIED, STRONG, True),
        ("Wednesday, 25-Jun-14 17:12:18 GMT", STRONG, True),
        ("Wed Jun 25 17:12:18 2014", STRONG, True),
        (EARLIER, STRONG, False),
        (LATER, STRONG, False),
        ("Wed, 25 Jun 2014 17:12:18", STRONG, False),
        ("Wed, 25 Jun 2014 17:12:18 +0000", STRONG, False),
        ("garbage", NONE, False),
        (LAST_MODIFIED, NONE, False),
        (LAST_MODIFIED, Validators(None, (), MODIFIED, None), False),
        (LAST_MODIFIED, Validators(None, (), MODIFIED, MODIFIED - 1), False),
        (LAST_MODIFIED, Validators(None, (), MODIFIED, MODIFIED), False),
        (LAST_MODIFIED, Validators(None, (), MODIFIED, MODIFIED + 1), True),
    ],
)
def test_if_range(if_range: str, validators: Validators, applies: bool) -> None:
    assert range_applies({"Range": "bytes=0-4", "If-Range": if_range}, validators) is applies


def test_two_lines_of_either_ignore_the_range() -> None:
    assert not range_applies([("Range", "bytes=0-1"), ("Range", "bytes=2-3")])
    assert not range_applies([("Range", "bytes=0-1"), ("Range", "bytes=0-1")])
    assert not range_applies([("Range", "bytes=0-1"), ("If-Range", '"a"'), ("If-Range", '"a"')])


def test_if_range_without_range_means_nothing() -> None:
    assert not range_applies({"If-Range": '"a"'})
    assert not range_applies({"If-Range": '"b"'})


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "get"])
def test_ranges_are_for_get(method: str) -> None:
    assert not range_applies({"Range": "bytes=0-4"}, method=method)


# --- Order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # If-Match makes If-Unmodified-Since void, whichever way it goes.
        ({"If-Match": '"a"', "If-Unmodified-Since": EARLIER}, PROCEED),
        ({"If-Match": '"b"', "If-Unmodified-Since": LATER}, FAILED),
        # 412 comes before 304.
        ({"If-Match": '"b"', "If-None-Match": '"a"'}, FAILED),
        ({"If-Unmodified-Since": EARLIER, "If-None-Match": '"a"'}, FAILED),
        ({"If-Unmodified-Since": EARLIER, "If-Modified-Since": LATER}, FAILED),
        ({"If-Match": '"a"', "If-None-Match": '"a"'}, NOT_MODIFIED),
        ({"If-Unmodified-Since": LATER, "If-Modified-Since": LATER}, NOT_MODIFIED),
        # If-None-Match makes If-Modified-Since void, even where it cannot be read.
        ({"If-None-Match": '"b"', "If-Modified-Since": LATER}, PROCEED),
        ({"If-None-Match": '"a"', "If-Modified-Since": EARLIER}, NOT_MODIFIED),
        ({"If-None-Match": "garbage", "If-Modified-Since": LATER}, PROCEED),
        # All of them come before Range and If-Range.
        ({"If-None-Match": '"a"', "Range": "bytes=5000-"}, NOT_MODIFIED),
        ({"If-Modified-Since": LATER, "Range": "bytes=0-4"}, NOT_MODIFIED),
        ({"If-Match": '"b"', "Range": "bytes=0-4"}, FAILED),
        ({"If-Match": '"b"', "If-Range": '"a"', "Range": "bytes=0-4"}, FAILED),
        ({"If-None-Match": '"a"', "If-Range": '"b"', "Range": "bytes=0-4"}, NOT_MODIFIED),
    ],
)
def test_order(lines: dict[str, str], expected: Verdict) -> None:
    for shuffled in itertools.permutations(lines.items()):
        evaluation = evaluate(request(list(shuffled)), STRONG)
        assert evaluation == Evaluation(expected, range_applies=False)


def test_what_passes_goes_on_to_the_range() -> None:
    passes = {"If-Match": '"a"', "If-None-Match": '"b"', "Range": "bytes=0-4"}
    assert range_applies(passes)
    assert range_applies({**passes, "If-Range": '"a"'})
    assert not range_applies({**passes, "If-Range": '"b"'})


@pytest.mark.parametrize("status", [200, 201, 203, 204, 206, 299])
def test_what_succeeds_has_preconditions(status: int) -> None:
    assert verdict({"If-Match": '"b"'}, status=status) is FAILED
    assert verdict({"If-None-Match": '"a"'}, status=status) is NOT_MODIFIED
    ranged = evaluate(request({"Range": "bytes=0-4"}), STRONG, status)
    assert ranged == Evaluation(PROCEED, range_applies=status == 200)


@pytest.mark.parametrize("status", [300, 301, 304, 404, 410, 500, 502])
def test_what_does_not_succeed_has_none(status: int) -> None:
    for lines in ({"If-Match": '"b"'}, {"If-None-Match": '"a"'}, {"Range": "bytes=0-4"}):
        assert evaluate(request(lines), STRONG, status) == Evaluation(PROCEED, range_applies=False)


names = st.sampled_from(
    ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"]
)
values = (
    st.sampled_from(['"a"', 'W/"a"', '"b"', "*", EARLIER, LAST_MODIFIED, LATER, "bytes=0-", ""]) | st.text()
)


@given(st.lists(st.tuples(names, values)), st.sampled_from(["GET", "HEAD", "PUT"]))
def test_any_fields_have_a_verdict(lines: list[tuple[str, str]], method: str) -> None:
    evaluation = evaluate(request(lines, method=method), STRONG)
    if evaluation.verdict is NOT_MODIFIED:
        assert method != "PUT"
    if evaluation.range_applies:
        assert evaluation.verdict is PROCEED
        assert method == "GET"
