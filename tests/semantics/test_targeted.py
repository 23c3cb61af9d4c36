"""Targeted fields and what they put in the place of Cache-Control (RFC 9213)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.fields import parse_directives
from proxy.semantics.targeted import governing

CDN = ("CDN-Cache-Control",)


def governed(value: str, **others: str) -> CIMultiDict[str]:
    fields = CIMultiDict({"CDN-Cache-Control": value, "Cache-Control": "max-age=5", "Expires": "0", "A": "b"})
    fields.update({name.replace("_", "-"): text for name, text in others.items()})
    return CIMultiDict(governing(fields, CDN))


@pytest.mark.parametrize(
    ("value", "directives"),
    [
        ("max-age=60", "max-age=60"),
        ("max-age=0", "max-age=0"),
        ("max-age=999999999999999", "max-age=999999999999999"),
        ("no-store", "no-store"),
        ("no-store=?1", "no-store"),
        ("private, max-age=7", "private, max-age=7"),
        ('no-cache="set-cookie"', 'no-cache="set-cookie"'),
        ('private="a\\"b"', 'private="a\\"b"'),
        ("max-age=60;foo=bar", "max-age=60"),
        ("foobar, max-age=60", "max-age=60"),
        ("max-age=60, foobar=(1 2)", "max-age=60"),
        ("max-age=1, max-age=60", "max-age=60"),  # a dictionary: the last counts
        ("s-maxage=9, stale-while-revalidate=3, stale-if-error=4, must-revalidate, public",) * 2,
        ("none", ""),
    ],
)
def test_a_valid_field_stands_in_the_place_of_the_general_ones(value: str, directives: str) -> None:
    fields = governed(value, Pragma="no-cache")
    assert list(fields.items()) == [("A", "b"), ("Cache-Control", directives)]


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "&&&&&",
        "max-age=10000, &&&&&",
        'max-age="10000"',
        "max-age=1.5",
        "max-age=-1",
        "max-age",
        "max-age=?1",
        "max-age =60",
        "max-age= 60",
        "MaX-aGe=60",  # keys are in lower case
        "no-store=?0",
        "no-store=1",
        "public=token",
        "private=token",
        "no-cache=?0",
        "no-cache=(a)",
        "max-age=(60)",
        "max-age=9999999999999999",  # more than an integer of structured fields holds
        "max-age=60,",
        "max-age=\udcff",
    ],
)
def test_an_invalid_field_is_ignored(value: str) -> None:
    assert governed(value)["Cache-Control"] == "max-age=5"
    assert "Expires" in governed(value)


def test_lines_are_joined() -> None:
    fields = CIMultiDict([("CDN-Cache-Control", "max-age=1"), ("cdn-cache-control", "no-store")])
    assert governing(fields, CDN)["Cache-Control"] == "max-age=1, no-store"


def test_the_first_that_is_there_and_valid_counts() -> None:
    fields = CIMultiDict({"CDN-Cache-Control": "max-age=1", "Own": "max-age=2"})
    assert governing(fields, ("Own", *CDN))["Cache-Control"] == "max-age=2"
    assert governing(fields, ("Other", *CDN))["Cache-Control"] == "max-age=1"
    fields["Own"] = "&"
    assert governing(fields, ("Own", *CDN))["Cache-Control"] == "max-age=1"
    assert governing(fields, ()) is fields


@given(st.text(max_size=40))
def test_whatever_it_says_is_taken_or_left_as_a_whole(value: str) -> None:
    fields = CIMultiDict({"CDN-Cache-Control": value, "Cache-Control": "private", "Expires": "0"})
    taken = governing(fields, CDN)
    assert taken is fields or ("Expires" not in taken and "CDN-Cache-Control" not in taken)
    assert all(parse_directives(taken))
