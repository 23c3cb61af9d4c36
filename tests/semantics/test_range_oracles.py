"""Differential tests: independent implementations, asked only what they answer by the RFC.

httprange is strict throughout.  Werkzeug is right about single ranges (but for zero and over-long suffixes,
and spaces), about tags (but for the empty one) and about dates; range sets and If-Range dates it reads its own
way.
"""

from datetime import UTC, datetime

import httprange
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from werkzeug.http import http_date, parse_date, parse_etags, parse_range_header

from proxy.semantics.fields import format_http_date, parse_http_date
from proxy.semantics.multipart import frame
from proxy.semantics.plan import plan
from proxy.semantics.ranges import (
    DEFAULT_LIMITS,
    Ignored,
    RangeLimits,
    Slice,
    Unsatisfiable,
    parse_range,
    resolve,
)
from proxy.semantics.validators import parse_entity_tags
from tests.semantics.exchanges import BOUNDARY, DATE, LAST_MODIFIED, LATER, body, request, stored

GENEROUS = RangeLimits(max_ranges=200, max_overlaps=200)
EVERYTHING = httprange.RangePolicy(max_ranges=200, max_overlapping=200, coalesce=False)

digits = st.integers(0, 150).map(str) | st.sampled_from(["", "007", "99999999999999999999999"])
odd_digits = st.sampled_from(["+5", "1_0", " 5", "\u0665", "x", "5.0", "-5"])
specs = st.builds("{}-{}".format, digits, digits)
odd_specs = st.builds("{}-{}".format, digits | odd_digits, digits | odd_digits) | st.sampled_from(
    ["", "5", "-", "5--6"]
)
separators = st.sampled_from([",", ", ", "\t,", " , ", ",,"])
units = st.sampled_from(["bytes", "bytes", "bytes", "Bytes", "BYTES", "items", "byte"])
lengths = st.integers(0, 120)


def headers(members: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    listed = st.builds(
        lambda items, separator: separator.join(items), st.lists(members, min_size=1, max_size=8), separators
    )
    return st.builds("{}={}{}".format, units, st.sampled_from(["", " "]), listed)


def ours(value: str, complete_length: int) -> list[tuple[int, int]] | int:
    """The slices, or 200, or 416."""
    specs = parse_range(value, GENEROUS)
    selected = specs if isinstance(specs, Ignored) else resolve(specs, complete_length, GENEROUS)
    match selected:
        case Ignored():
            return 200
        case Unsatisfiable():
            return 416
        case slices:
            return [(slice_.start, slice_.stop) for slice_ in slices]


def theirs(value: str, complete_length: int) -> list[tuple[int, int]] | int:
    try:
        selected = httprange.resolve_ranges(value, complete_length, policy=EVERYTHING)
    except (httprange.MalformedRange, httprange.UnsupportedRangeUnit):
        return 200
    except httprange.UnsatisfiableRange:
        return 416
    return [(each.first, each.last + 1) for each in selected]


@given(headers(specs) | headers(specs | odd_specs), lengths)
@example("bytes=0-0,-1", 10)
@example("bytes= 0-999, 4500-5499, -1000", 10000)
def test_httprange_selects_the_same(value: str, complete_length: int) -> None:
    expected = theirs(value, complete_length)
    if complete_length == 0:
        expected = 200  # our choice, where httprange has 416 or an empty selection
    elif isinstance(expected, list) and sum(stop - start for start, stop in expected) > complete_length:
        expected = 200
    assert ours(value, complete_length) == expected


@given(specs | odd_specs, lengths)
def test_werkzeug_selects_the_same_single_range(spec: str, complete_length: int) -> None:
    suffix = spec.removeprefix("-")
    assume(complete_length > 0 and spec != "" and " " not in spec)
    assume(suffix == spec or not suffix.isdigit() or 0 < int(suffix) <= complete_length)
    parsed = parse_range_header(f"bytes={spec}")
    expected: list[tuple[int, int]] | int
    if parsed is None:
        expected = 200
    else:
        selected = parsed.range_for_length(complete_length)
        expected = 416 if selected is None else [selected]
    assert ours(f"bytes={spec}", complete_length) == expected


bounds = st.tuples(st.integers(0, 99), st.integers(1, 100)).filter(lambda pair: pair[0] < pair[1])


@given(
    st.lists(bounds, min_size=1, max_size=6),
    st.sampled_from([None, "video/mp4", "text/plain; charset=utf-8"]),
)
def test_httprange_writes_the_same_ranges_and_reads_our_multipart(
    pairs: list[tuple[int, int]], content_type: str | None
) -> None:
    data = bytes(range(100))
    slices = [Slice(start, stop) for start, stop in pairs]
    for slice_ in slices:
        for length in (100, None):
            expected = httprange.build_content_range(slice_.start, slice_.stop - 1, length)
            assert slice_.content_range(length) == expected
    parts, length = frame(slices, 100, content_type, BOUNDARY)
    framed = b"".join(part if isinstance(part, bytes) else data[part.start : part.stop] for part in parts)
    read = httprange.parse_multipart_byteranges(framed, f"multipart/byteranges; boundary={BOUNDARY}")
    assert [(part.content_range.first, part.data) for part in read] == [
        (each.start, data[each.start : each.stop]) for each in slices
    ]
    assert {part.content_type for part in read} == {content_type}
    assert length == len(framed)


tags = st.sampled_from(['"a"', 'W/"a"', '"b"', 'W/"b"', '""'])
conditions = st.sampled_from(
    [
        '"a"', 'W/"a"', '"b"', '""', '"a', "a", "*", LAST_MODIFIED, LATER, DATE, "Wed Jun 25 17:12:18 2014",
        "Wednesday, 25-Jun-14 17:12:18 GMT", "Wed, 25 Jun 2014 17:12:18", "garbage",
    ]
)  # fmt: skip


@given(conditions | st.text(max_size=8), tags, st.sampled_from([LAST_MODIFIED, LATER, DATE]))
def test_httprange_agrees_about_if_range(condition: str, tag: str, date: str) -> None:
    representation = stored({"ETag": tag, "Last-Modified": LAST_MODIFIED, "Date": date}, 10, ours=None)
    expected = httprange.if_range_matches(
        condition, etag=tag, last_modified=LAST_MODIFIED, date_is_strong=date != LAST_MODIFIED
    )
    asked = request({"Range": "bytes=2-3", "If-Range": condition})
    response = plan(asked, representation, limits=DEFAULT_LIMITS, boundary=BOUNDARY)
    assert response.status == (206 if expected else 200)
    assert body(response, b"0123456789") == (b"23" if expected else b"0123456789")


@given(st.lists(tags.filter(lambda tag: tag != '""'), min_size=1, max_size=5))
def test_werkzeug_agrees_about_tags(written: list[str]) -> None:
    value = ", ".join(written)
    parsed = parse_entity_tags(value)
    assert isinstance(parsed, tuple)
    expected = parse_etags(value)
    for opaque in ("a", "b", "c"):
        assert any(tag.opaque == opaque for tag in parsed) == expected.contains_weak(opaque)
        assert any(tag.opaque == opaque and not tag.weak for tag in parsed) == expected.contains(opaque)


moments = st.integers(31536000, 3155759999).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)  # 1971 to 2069


@given(moments)
def test_all_agree_about_dates(moment: datetime) -> None:
    seconds = int(moment.timestamp())
    text = format_http_date(seconds)
    assert text == httprange.format_http_date(moment) == http_date(moment)
    assert parse_date(text) == httprange.parse_http_date(text) == moment
    obsolete = moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")
    now = datetime(
        2019, 12, 31, 23, 59, 59, tzinfo=UTC
    )  # two-digit years end in 2069 then, as ours always do
    assert httprange.parse_http_date(obsolete, now=now) == moment
    assert parse_http_date(text) == parse_http_date(obsolete) == seconds


@pytest.mark.parametrize(
    "text", ["0", "now", "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 EST", ""]
)
def test_httprange_refuses_the_same_dates(text: str) -> None:
    with pytest.raises(httprange.MalformedDate):
        httprange.parse_http_date(text)
    assert parse_http_date(text) is None
