"""What a purge is about, and which tags an answer has."""

import pytest
from multidict import CIMultiDict

from proxy.semantics.purging import (
    MAX_TAG_LENGTH,
    MAX_TAGS,
    Everything,
    Location,
    Purge,
    Tagged,
    Targets,
    Under,
    covers,
    includes,
    tags_of,
)

FILM = Location("films.example", "/films/a.mp4?x=1")
ANYWHERE = Location(None, "/films/a.mp4")


@pytest.mark.parametrize(
    ("what", "location", "covered"),
    [
        (Everything(), FILM, True),
        (Under(None, "/films/"), FILM, True),
        (Under(None, "/films/a.mp4?x"), FILM, True),
        (Under(None, "/film"), FILM, True),
        (Under(None, "/films/A"), FILM, False),
        (Under(None, "films/"), FILM, False),
        (Under("films.example", "/"), FILM, True),
        (Under("other.example", "/"), FILM, False),
        (Under("other.example", "/"), ANYWHERE, True),
        (Under("other.example", "/x"), ANYWHERE, False),
        (Targets(frozenset({b"target"})), FILM, True),
        (Targets(frozenset({b"other"})), FILM, False),
        (Tagged("one"), FILM, True),
        (Tagged("One"), FILM, False),
        (Tagged("on"), FILM, False),
    ],
)
def test_what_is_covered(what: Purge, location: Location, covered: bool) -> None:
    assert covers(what, b"target", location, ("one", "two")) == covered


def test_what_nobody_knows_the_tags_of_may_have_any() -> None:
    assert covers(Tagged("one"), b"target", FILM, None)
    assert not covers(Tagged("one"), b"target", FILM, ())


@pytest.mark.parametrize(
    ("what", "other", "included"),
    [
        (Everything(), Tagged("a"), True),
        (Tagged("a"), Everything(), False),
        (Tagged("a"), Tagged("a"), True),
        (Tagged("a"), Tagged("b"), False),
        (Targets(frozenset({b"a"})), Targets(frozenset({b"a"})), True),
        (Under(None, "/a"), Under("host", "/ab"), True),
        (Under("host", "/a"), Under("host", "/ab"), True),
        (Under("host", "/a"), Under(None, "/ab"), False),
        (Under("host", "/a"), Under("other", "/a"), False),
        (Under("host", "/ab"), Under("host", "/a"), False),
        (Under(None, "/a"), Targets(frozenset({b"a"})), False),
    ],
)
def test_what_includes_what(what: Purge, other: Purge, included: bool) -> None:
    assert includes(what, other) == included


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ([], ()),
        ([("Cache-Tag", "a, b")], ("a", "b")),
        ([("cache-tag", "a,,b ,")], ("a", "b")),
        ([("Surrogate-Key", "  a\tb c ")], ("a", "b", "c")),
        ([("Surrogate-Key", "z a"), ("Cache-Tag", "a, y"), ("Cache-Tag", "z")], ("a", "y", "z")),
        ([("Cache-Tag", "a A")], ("a", "A")),
        ([("X-Tag", "a")], ()),
        (
            [("Cache-Tag", f"{'x' * MAX_TAG_LENGTH}, {'y' * (MAX_TAG_LENGTH + 1)}, z")],
            ("x" * MAX_TAG_LENGTH, "z"),
        ),
    ],
)
def test_tags(lines: list[tuple[str, str]], tags: tuple[str, ...]) -> None:
    assert tags_of(CIMultiDict(lines), ("Cache-Tag", "Surrogate-Key")) == tags


def test_tags_without_end_are_cut_off() -> None:
    fields = CIMultiDict({"Cache-Tag": ",".join(map(str, range(MAX_TAGS + 5)))})
    assert tags_of(fields, ("Cache-Tag",)) == tuple(map(str, range(MAX_TAGS)))
