"""Spellings that mean the same, and what is left of a query."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics import normalization
from proxy.semantics.normalization import any_of, authority, normalised, parameter_names, reduced
from tests.semantics.spellings import queries, respellings

# --- Hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("Example.com", "http", "example.com"),
        ("example.com:80", "http", "example.com"),
        ("example.com:443", "https", "example.com"),
        ("example.com:443", "http", "example.com:443"),
        ("example.com:80", "https", "example.com:80"),
        ("example.com:", "http", "example.com"),
        ("example.com.", "http", "example.com"),
        ("example.com.:80", "http", "example.com"),
        ("example.com.:8080", "http", "example.com:8080"),
        ("example.com..", "http", "example.com.."),
        ("example.com:080", "http", "example.com:080"),
        ("[2001:DB8::1]", "http", "[2001:db8::1]"),
        ("[::80]", "http", "[::80]"),
        ("[::1]:80", "http", "[::1]"),
        ("[::1]:", "http", "[::1]"),
        ("ex%61mple.com", "http", "ex%61mple.com"),
        ("", "http", ""),
        (":80", "http", ""),
    ],
)
def test_hosts(host: str, scheme: str, expected: str) -> None:
    assert authority(host, scheme) == expected
    assert authority(expected, scheme) == expected


@given(st.text("aA.:80[]"), st.sampled_from(["http", "https"]))
def test_a_normal_host_stays_as_it_is(host: str, scheme: str) -> None:
    if host.count(":") <= 1:
        normal = authority(host, scheme)
        assert authority(normal, scheme) == normal


# --- Paths and queries ----------------------------------------------------------------------------


@given(st.data(), queries)
def test_all_spellings_have_one_normal_form(data: st.DataObject, query: str) -> None:
    assert normalised(data.draw(respellings(query))) == normalised(query) == query


@given(st.text("%2fFeE41+/?;~a"))
def test_a_normal_form_stays_as_it_is_unless_it_would_be_decoded_twice(text: str) -> None:
    once = normalised(text)
    if "%25" not in once and not re.search("%[^0-9A-Fa-f]|%.?$|%.[^0-9A-Fa-f]", text):
        assert normalised(once) == once


# --- Parameters -----------------------------------------------------------------------------------


def left(
    query: str, keep: Sequence[str] | None = None, drop: Sequence[str] = (), *, sort: bool = False
) -> str | None:
    return reduced(query, keep, drop, sort=sort)


@pytest.mark.parametrize(
    ("query", "keep", "drop", "expected"),
    [
        ("a=1&b=2", None, (), "a=1&b=2"),
        ("a=1&b=2", ("a",), (), "a=1"),
        ("a=1&b=2", None, ("a",), "b=2"),
        ("a=1&b=2&c=3", ("a", "b"), ("b",), "a=1"),
        ("a=1&b=2", (), (), None),
        ("utm_source=x&utm_medium=y", None, ("utm_*",), None),
        # A name is what it says, however it is written.
        ("%75tm%5fsource=x&id=%31", None, ("utm_*",), "id=%31"),
        ("%C3%A4=1&ä=2&b", ("ä",), (), "%C3%A4=1&ä=2"),
        ("%FF=1&b", None, ("\udcff",), "b"),
        ("%zz=1&%=2", ("%zz", "%"), (), "%zz=1&%=2"),
        # Only whole names, in their own case, and only the first `=` ends them.
        ("id=1&ID=2&idx=3", ("id",), (), "id=1"),
        ("a=b=c&b=a", None, ("b",), "a=b=c"),
        # Bare names, empty ones, and nothing at all.
        ("a&b=&&c", None, ("c",), "a&b=&"),
        ("a&&b&", None, ("x",), "a&&b&"),
        ("", None, ("x",), ""),
        ("", ("x",), (), None),
        ("&&&a", ("a",), (), "a"),
        # `;` separates nothing: what another server makes of it goes where the parameter goes.
        ("utm_a=1;id=2", None, ("utm_*",), None),
        ("id=1;utm_a=2", None, ("utm_*",), "id=1;utm_a=2"),
        ("id=1;evil=2&evil=3", ("id",), (), "id=1;evil=2"),
        # `+` is a plus until somebody reads a form.
        ("a+b=1&a%20b=2", None, ("a b",), "a+b=1"),
    ],
)
def test_what_is_kept_stays_as_it_was_written(
    query: str, keep: Sequence[str] | None, drop: Sequence[str], expected: str | None
) -> None:
    assert left(query, keep, drop) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("b=1&a=2", "a=2&b=1"),
        ("b=2&a=9&b=1&a=0", "a=9&a=0&b=2&b=1"),
        ("b=1&%61=2&a=3", "%61=2&a=3&b=1"),
        ("a&A&", "&A&a"),
        ("a=2&a=1", "a=2&a=1"),
        ("a10&a9", "a10&a9"),
    ],
)
def test_sorting_is_by_name_and_keeps_the_order_of_equal_names(query: str, expected: str) -> None:
    assert left(query, sort=True) == expected


globs = st.none() | st.lists(st.sampled_from(["a", "b*", "*", "?", "a[[][]]", "ä"]), max_size=2)


@given(queries, globs, globs, st.booleans())
def test_what_is_reduced_stays_as_it_is(
    query: str, keep: list[str] | None, drop: list[str] | None, sort: bool
) -> None:
    once = left(query, keep, drop or (), sort=sort)
    if once is not None:
        assert left(once, keep, drop or (), sort=sort) == once
        pieces = query.split("&")
        assert all(pieces.count(piece) >= once.split("&").count(piece) for piece in once.split("&"))


@given(st.data(), queries, globs, globs, st.booleans())
def test_another_spelling_has_the_same_parameters_left(
    data: st.DataObject, query: str, keep: list[str] | None, drop: list[str] | None, sort: bool
) -> None:
    other = left(data.draw(respellings(query)), keep, drop or (), sort=sort)
    assert (None if other is None else normalised(other)) == left(query, keep, drop or (), sort=sort)


def test_names_are_shown_decoded_and_once() -> None:
    assert list(parameter_names("b=1&%61&b&c%5B%5D=&")) == ["b", "a", "c[]", ""]


@given(st.text("ab*?", max_size=4), st.text("ab", max_size=6))
def test_globs_are_those_of_fnmatch(glob: str, name: str) -> None:
    assert bool(any_of((glob, "x")).match(name)) is (fnmatchcase(name, glob) or name == "x")


# --- However long they are ------------------------------------------------------------------------


def test_no_pattern_can_backtrack() -> None:
    """Each consumes a fixed number of characters: there is nothing to take back."""
    patterns = [value for value in vars(normalization).values() if isinstance(value, re.Pattern)]
    assert {pattern.pattern for pattern in patterns} == {r"%([0-9A-Fa-f]{2})", rb"%([0-9A-Fa-f]{2})"}
    many = any_of(("*a*a*a*b", "*aa*")).pattern
    assert many.count("(?>") + many.count("(?P=") >= 3  # what a star has found first, it keeps


def test_a_head_full_of_parameters_is_decided_at_once() -> None:
    """Were it exponential in the stars or quadratic in the names, this would not end."""
    query = "&".join(["a" * 200_000, *["%61" * 3] * 100_000, "a=" + "&" * 200_000])
    assert left(query, ("*a*a*a*a*a*b",), ("*c*c*",), sort=True) is None
