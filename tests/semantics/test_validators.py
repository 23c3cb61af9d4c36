"""Entity tags, dates, and which of them we emit."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.validators import EntityTag, Validators, origin_validators, parse_entity_tags
from tests.semantics.exchanges import DATE, LAST_MODIFIED

A, WEAK_A, B = EntityTag("a"), EntityTag("a", weak=True), EntityTag("b")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('"a"', A),
        ('W/"a"', WEAK_A),
        (' "a"\t', A),
        ('""', EntityTag("")),
        ('W/""', EntityTag("", weak=True)),
        ('"a,b"', EntityTag("a,b")),
        ('"a\\"', EntityTag("a\\")),
        ('"a\'b!#$%&()*+-./:;<=>?@[]^_`{|}~"', EntityTag("a'b!#$%&()*+-./:;<=>?@[]^_`{|}~")),
        ('"caf\u00e9"', EntityTag("caf\u00e9")),
        ('"\udce9"', EntityTag("\udce9")),  # a byte that is no UTF-8
        ('"W/"', EntityTag("W/")),
        ('"*"', EntityTag("*")),
    ],
)
def test_entity_tags(text: str, tag: EntityTag) -> None:
    assert EntityTag.parse(text) == tag
    assert str(tag) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "'a'", '"', '"a', 'a"', '"a"b', '"a""b"', 'w/"a"', 'W"a"', 'W/a', 'W/ "a"', 'W /"a"',
        '"a b"', '"a\tb"',
        '"a\x7f"', '"a\x00"', '"a\n"', '"a"\n', '"a", "b"', "*", '"a";', "\u201ca\u201d",
    ],
)  # fmt: skip
def test_what_is_no_entity_tag(text: str) -> None:
    assert EntityTag.parse(text) is None


@pytest.mark.parametrize(
    ("one", "other", "strongly", "weakly"),
    [
        # The table of RFC 9110 section 8.8.3.2.
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"1"', '"2"', False, False),
        ('"A"', '"a"', False, False),
    ],
)
def test_comparison(one: str, other: str, strongly: bool, weakly: bool) -> None:
    left, right = EntityTag.parse(one), EntityTag.parse(other)
    assert left is not None
    assert right is not None
    assert left.strongly_matches(right) == right.strongly_matches(left) == strongly
    assert left.weakly_matches(right) == right.weakly_matches(left) == weakly


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("*", "*"),
        (" * ", "*"),
        ('"a"', (A,)),
        ('"a", W/"a","b"', (A, WEAK_A, B)),
        ('"a"\t,\t"b"', (A, B)),
        (',, "a" ,,"b" , ', (A, B)),
        ('"a,b", "\\", "c"', (EntityTag("a,b"), EntityTag("\\"), EntityTag("c"))),
        ("", None),
        (" ,", None),
        ('"a" "b"', None),
        ('"a""b"', None),
        ('"a", b', None),
        ('"a", *', None),
        ('*, "a"', None),
        ("**", None),
        ("a", None),
        ('"a', None),
        ('"a", "b', None),
        ('"a", w/"b"', None),
        ('"a"; "b"', None),
        ('"a"\n', None),
        ('"a b"', None),
    ],
)
def test_lists_of_entity_tags(value: str, tags: object) -> None:
    assert parse_entity_tags(value) == tags


tags = st.builds(
    EntityTag,
    st.text(st.characters(exclude_characters='"\x7f', min_codepoint=0x21, exclude_categories=())),
    weak=st.booleans(),
)


@given(st.lists(tags, min_size=1))
def test_lists_of_entity_tags_there_and_back(items: list[EntityTag]) -> None:
    assert parse_entity_tags(" , ".join(map(str, items))) == tuple(items)


@given(st.text())
def test_any_text_is_a_list_or_none(text: str) -> None:
    parse_entity_tags(text)
    tag = EntityTag.parse(text)
    assert tag is None or str(tag) == text.strip(" \t")


def test_long_lists_take_linear_time() -> None:
    def least(value: str) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            parse_entity_tags(value)
            times.append(time.process_time() - started)
        return min(times)

    for shape in ('"a",', ",", '"', " ", 'W/"a" '):
        assert least(shape * 64_000) / max(least(shape * 4_000), 1e-6) < 100


@pytest.mark.parametrize(
    ("last_modified", "date", "strong"),
    [
        (None, None, None),
        (None, 100, None),
        (100, None, None),
        (100, 99, None),
        (100, 100, None),
        (100, 101, 100),
        (100, 200, 100),
        (0, 1, 0),
    ],
)
def test_a_date_is_strong_a_second_later(
    last_modified: int | None, date: int | None, strong: int | None
) -> None:
    assert Validators(None, (), last_modified, date).strong_date() == strong


@pytest.mark.parametrize(
    ("lines", "etag", "known_as"),
    [
        ([], B, ()),
        (['"a"'], A, ()),
        (['W/"a"'], B, (WEAK_A,)),
        (["a"], B, ()),
        ([""], B, ()),
        (['"a b"'], B, ()),
        (['"a"', '"a"'], B, ()),
        (['"a", "c"'], B, ()),
        (['W/"a"', '"c"'], B, ()),
    ],
)
def test_a_stored_response_always_has_a_strong_tag(
    lines: list[str], etag: EntityTag, known_as: tuple[EntityTag, ...]
) -> None:
    validators = origin_validators(CIMultiDict([("ETag", line) for line in lines]), B)
    assert validators == Validators(etag, known_as)


@pytest.mark.parametrize(
    ("lines", "etag"),
    [([], None), (['"a"'], A), (['W/"a"'], WEAK_A), (["a"], None), (['"a"', '"c"'], None)],
)
def test_a_passing_response_keeps_its_own(lines: list[str], etag: EntityTag | None) -> None:
    validators = origin_validators(CIMultiDict([("ETag", line) for line in lines]), None)
    assert validators == Validators(etag, ())


@pytest.mark.parametrize("coding", ["gzip", "BR", "gzip, identity"])
def test_the_tag_of_a_stored_coded_response_is_weak_for_origins_that_give_it_to_every_coding(
    coding: str,
) -> None:
    fields = CIMultiDict({"ETag": '"a"', "Content-Encoding": coding})
    assert origin_validators(fields, B) == Validators(B, (WEAK_A,))
    assert origin_validators(fields, None) == Validators(A)
    fields["Content-Encoding"] = "Identity"
    assert origin_validators(fields, B) == origin_validators(fields, None) == Validators(A)


def test_dates_of_the_origin() -> None:
    fields = CIMultiDict({"Last-Modified": LAST_MODIFIED, "Date": DATE})
    assert origin_validators(fields, B) == Validators(B, (), 1403716338, 1403946000)
    fields.add("Last-Modified", DATE)
    fields.add("Date", DATE)
    assert origin_validators(fields, B) == Validators(B)
    assert origin_validators(CIMultiDict({"Last-Modified": "yesterday", "Date": "0"}), B) == Validators(B)
