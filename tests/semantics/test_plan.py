"""Whole answers: status, fields, parts and length."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.fields import MAX_LENGTH
from proxy.semantics.plan import ResponsePlan, Rest, plan
from proxy.semantics.ranges import DEFAULT_LIMITS, RangeLimits, Slice
from proxy.semantics.representation import Representation
from proxy.semantics.validators import EntityTag
from tests.semantics.exchanges import (
    BOUNDARY,
    DATE,
    LAST_MODIFIED,
    LATER,
    OURS,
    Lines,
    body,
    parse_byteranges,
    request,
    stored,
)

FULL = {
    "Content-Type": "video/mp4",
    "Content-Length": "1000",
    "Content-Language": "en",
    "Content-Location": "/v.en.mp4",
    "Content-Disposition": "inline",
    "Cache-Control": "max-age=60",
    "Expires": DATE,
    "Date": DATE,
    "Last-Modified": LAST_MODIFIED,
    "ETag": 'W/"theirs"',
    "Vary": "Accept-Language",
    "Accept-Ranges": "none",
    "Content-Range": "bytes 0-999/1000",
    "Repr-Digest": "sha-256=:AAAA:",
    "Content-Digest": "sha-256=:BBBB:",
    "Digest": "sha-256=BBBB",
    "Content-MD5": "BBBB",
    "Access-Control-Allow-Origin": "*",
    "X-Legacy": "1",
}
MP4 = stored(FULL, 1000)


def answer(
    lines: Lines | None = None,
    representation: Representation = MP4,
    *,
    method: str = "GET",
    available: int | None = None,
    limits: RangeLimits = DEFAULT_LIMITS,
) -> ResponsePlan:
    asked = request(lines, method=method)
    return plan(asked, representation, limits=limits, boundary=BOUNDARY, available=available)


def check(response: ResponsePlan, expected: Mapping[str, str]) -> None:
    assert dict(response.fields) == dict(expected)
    assert len(response.fields) == len(expected)


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in FULL.items() if name not in names}


# --- 200 ------------------------------------------------------------------------------------------


def test_the_whole() -> None:
    response = answer()
    assert (response.status, response.parts, response.length) == (200, (Slice(0, 1000),), 1000)
    expected = without("Content-Length", "Content-Range") | {"ETag": '"ours-1"', "Accept-Ranges": "bytes"}
    check(response, expected)
    assert response.range_ignored is None


def test_the_representation_is_left_as_it_is() -> None:
    before = list(MP4.fields.items())
    for lines in (
        {},
        {"Range": "bytes=0-1"},
        {"Range": "bytes=5000-"},
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
    ):
        response = answer(lines)
        response.fields["X-More"] = "1"
    assert list(MP4.fields.items()) == before


def test_repeated_fields_stay_repeated_and_in_order() -> None:
    lines = [("Set-Cookie", "a"), ("Link", "1"), ("Set-Cookie", "b"), ("ETag", '"1"'), ("etag", '"2"')]
    response = answer({"Range": "bytes=0-1"}, stored(lines, 10))
    assert response.fields.getall("Set-Cookie") == ["a", "b"]
    assert response.fields.getall("ETag") == ['"ours-1"']


def test_an_empty_representation() -> None:
    empty = stored({"Content-Type": "text/plain"}, 0)
    for lines in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=-1"}, {"Range": "bytes=0-0,-1"}):
        response = answer(lines, empty)
        assert (response.status, response.parts, response.length) == (200, (), 0)
        assert response.fields["Accept-Ranges"] == "bytes"
        assert "Content-Range" not in response.fields


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("items=0-1", "range-unit"),
        ("bytes=1-0", "malformed-range"),
        ("bytes=0-,0-", "amplifying-ranges"),
        (f"bytes={','.join(['0-0'] * 101)}", "too-many-ranges"),
    ],
)
def test_an_ignored_range_is_named(value: str, reason: str) -> None:
    response = answer({"Range": value})
    assert (response.status, response.parts, response.range_ignored) == (200, (Slice(0, 1000),), reason)


def test_limits_are_the_callers() -> None:
    value = {"Range": "bytes=0-0,5-5"}
    assert answer(value).status == 206
    assert answer(value, limits=RangeLimits(max_ranges=1)).range_ignored == "too-many-ranges"


# --- 206 ------------------------------------------------------------------------------------------


def test_one_range() -> None:
    response = answer({"Range": "bytes=100-199"})
    assert (response.status, response.parts, response.length) == (206, (Slice(100, 200),), 100)
    expected = without("Content-Length", "Content-Digest", "Digest", "Content-MD5") | {
        "ETag": '"ours-1"',
        "Accept-Ranges": "bytes",
        "Content-Range": "bytes 100-199/1000",
    }
    check(response, expected)


def test_the_whole_as_a_range_is_206() -> None:
    response = answer({"Range": "bytes=0-"})
    assert (response.status, response.length) == (206, 1000)
    assert response.fields["Content-Range"] == "bytes 0-999/1000"


def test_several_ranges() -> None:
    response = answer({"Range": "bytes=-1, 0-0"})
    assert response.status == 206
    expected = without("Content-Length", "Content-Range", "Content-Digest", "Digest", "Content-MD5") | {
        "ETag": '"ours-1"',
        "Accept-Ranges": "bytes",
        "Content-Type": f"multipart/byteranges; boundary={BOUNDARY}",
    }
    check(response, expected)
    data = bytes(n % 256 for n in range(1000))
    sent = body(response, data)
    assert response.length == len(sent)
    parts = parse_byteranges(sent, BOUNDARY)
    assert [(part.first, part.last, part.complete_length, part.content_type) for part in parts] == [
        (999, 999, "1000", "video/mp4"),
        (0, 0, "1000", "video/mp4"),
    ]


def test_several_ranges_of_which_one_is_there_are_no_multipart() -> None:
    response = answer({"Range": "bytes=0-9,1000-,-0"})
    assert response.fields["Content-Range"] == "bytes 0-9/1000"
    assert response.fields["Content-Type"] == "video/mp4"
    assert response.parts == (Slice(0, 10),)


def test_parts_without_a_type() -> None:
    response = answer({"Range": "bytes=0-0,5-5"}, stored({}, 10))
    assert response.fields.getall("Content-Type") == [f"multipart/byteranges; boundary={BOUNDARY}"]
    assert [part.content_type for part in parse_byteranges(body(response, bytes(10)), BOUNDARY)] == [
        None,
        None,
    ]


def test_if_range() -> None:
    for matching in ('"ours-1"', LAST_MODIFIED):
        response = answer({"Range": "bytes=0-9", "If-Range": matching})
        assert response.status == 206
        assert response.fields["Last-Modified"] == LAST_MODIFIED
    for other in ('W/"theirs"', '"theirs"', LATER, "x"):
        for members in ("0-9", "5000-"):
            response = answer({"Range": f"bytes={members}", "If-Range": other})
            assert (response.status, response.length) == (200, 1000)
            assert "Content-Range" not in response.fields


# --- 416, 412, 304 --------------------------------------------------------------------------------

KEPT_IN_ERRORS = {
    "Date": DATE,
    "Last-Modified": LAST_MODIFIED,
    "ETag": '"ours-1"',
    "Vary": "Accept-Language",
    "Access-Control-Allow-Origin": "*",
    "X-Legacy": "1",
    "Cache-Control": "no-store",
    "Content-Type": "text/plain; charset=utf-8",
}


def test_unsatisfiable() -> None:
    response = answer({"Range": "bytes=1000-"})
    assert response.status == 416
    check(response, KEPT_IN_ERRORS | {"Content-Range": "bytes */1000", "Accept-Ranges": "bytes"})
    assert response.parts == (b"The representation has 1000 bytes.\n",)
    assert response.length == len(body(response, b""))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_precondition_failed(method: str) -> None:
    response = answer({"If-Match": '"other"', "Range": "bytes=0-9"}, method=method)
    assert response.status == 412
    check(response, KEPT_IN_ERRORS)
    text = b"The representation does not meet the request's precondition.\n"
    assert response.parts == (() if method == "HEAD" else (text,))
    assert response.length == len(text)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "lines",
    [
        {"If-None-Match": '"ours-1"'},
        {"If-None-Match": 'W/"theirs"'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": LAST_MODIFIED},
        {"If-None-Match": '"ours-1"', "Range": "bytes=5000-"},
    ],
)
def test_not_modified(lines: dict[str, str], method: str) -> None:
    response = answer(lines, method=method)
    assert (response.status, response.parts, response.length) == (304, (), None)
    kept = ("Content-Location", "Cache-Control", "Expires", "Date", "Last-Modified", "Vary")
    expected = {name: FULL[name] for name in (*kept, "Access-Control-Allow-Origin", "X-Legacy")}
    check(response, expected | {"ETag": '"ours-1"'})


def test_a_coded_representation_keeps_its_coding_only_with_its_bytes() -> None:
    coded = stored({"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}, 10)
    assert answer({}, coded).fields["Content-Encoding"] == "gzip"
    assert answer({"Range": "bytes=0-1"}, coded).fields["Content-Encoding"] == "gzip"
    for lines in ({"Range": "bytes=10-"}, {"If-None-Match": "*"}, {"If-Match": '"x"'}):
        assert "Content-Encoding" not in answer(lines, coded).fields


# --- HEAD -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        {},
        {"Range": "bytes=0-4"},
        {"Range": "bytes=5000-"},
        {"Range": "bytes=0-0,-1"},
        {"Range": "bytes=0-4", "If-Range": '"ours-1"'},
        {"Range": "bytes=0-4", "If-Range": '"other"'},
    ],
)
def test_head_is_get_without_range(lines: dict[str, str]) -> None:
    response = answer(lines, method="HEAD")
    assert (response.status, response.parts, response.length) == (200, (), 1000)
    # A digest of the content is one of no content here (RFC 9530 appendix B.2).
    of_get = [(name, value) for name, value in answer().fields.items() if name != "Content-Digest"]
    assert list(response.fields.items()) == of_get


def test_head_of_a_length_unknown() -> None:
    response = answer({}, stored({}, None), method="HEAD", available=10)
    assert (response.status, response.parts, response.length) == (200, (), None)


# --- Digests --------------------------------------------------------------------------------------

TOLD = "sha-256=:3q2+7w==:"
KNOWN = replace(
    stored({name: value for name, value in FULL.items() if "Digest" not in name}, 1000),
    digest=b"\xde\xad\xbe\xef",
)
OF_THE_CONTENT = {"Content-Digest", "Content-MD5", "Digest"}
FORMS: list[tuple[Lines, int, set[str]]] = [
    # What a GET asks for, the status, and which of the origin's digests are true of that answer.
    ({}, 200, OF_THE_CONTENT | {"Repr-Digest"}),
    ({"Range": "bytes=x"}, 200, OF_THE_CONTENT | {"Repr-Digest"}),
    ({"Range": "bytes=0-9", "If-Range": '"other"'}, 200, OF_THE_CONTENT | {"Repr-Digest"}),
    ({"Range": "bytes=0-9"}, 206, {"Repr-Digest"}),
    ({"Range": "bytes=0-"}, 206, {"Repr-Digest"}),
    ({"Range": "bytes=0-9,20-29"}, 206, {"Repr-Digest"}),
    ({"Range": "bytes=1000-"}, 416, set()),
    ({"If-Match": '"other"'}, 412, set()),
    ({"If-None-Match": "*"}, 304, set()),
    ({"If-None-Match": "*", "Range": "bytes=0-9"}, 304, set()),
]


@pytest.mark.parametrize(("lines", "status", "kept"), FORMS)
@pytest.mark.parametrize("digest", [None, b"\xde\xad\xbe\xef"])
def test_digests_of_the_origin_stand_where_they_are_true(
    lines: Lines, status: int, kept: set[str], digest: bytes | None
) -> None:
    response = answer(lines, replace(MP4, digest=digest))
    assert response.status == status
    digests = OF_THE_CONTENT | {"Repr-Digest"}
    assert {name: response.fields.getall(name) for name in digests & set(response.fields)} == {
        name: [FULL[name]] for name in kept
    }
    for part in response.parts:  # those of a multipart answer have heads of their own
        assert not isinstance(part, bytes) or not any(name.encode() in part for name in digests)


@pytest.mark.parametrize(("lines", "status", "kept"), FORMS)
def test_a_digest_of_ours_is_of_the_whole(lines: Lines, status: int, kept: set[str]) -> None:
    expected = [TOLD] if "Repr-Digest" in kept else []
    assert answer(lines, KNOWN).fields.getall("Repr-Digest", []) == expected
    refusing = answer(dict(lines) | {"Want-Repr-Digest": "sha-256=0"}, KNOWN)
    assert (refusing.status, "Repr-Digest" in refusing.fields) == (status, False)


@pytest.mark.parametrize("lines", [{}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}, {"If-Match": '"x"'}])
def test_digests_of_a_head(lines: dict[str, str]) -> None:
    ours, origins = answer(lines, KNOWN, method="HEAD"), answer(lines, method="HEAD")
    whole = ours.status == 200
    assert ours.fields.get("Repr-Digest") == (TOLD if whole else None)
    assert origins.fields.get("Repr-Digest") == (FULL["Repr-Digest"] if whole else None)
    assert ("Digest" in origins.fields, "Content-MD5" in origins.fields) == (whole, whole)
    assert "Content-Digest" not in origins.fields


def test_an_empty_representation_has_a_digest() -> None:
    assert answer({}, replace(stored({}, 0), digest=b"\xde\xad\xbe\xef")).fields["Repr-Digest"] == TOLD


@pytest.mark.parametrize("status", [203, 204, 301, 404])
def test_other_statuses_have_only_the_origins_digests(status: int) -> None:
    assert "Repr-Digest" not in answer({}, replace(KNOWN, status=status)).fields
    assert answer({}, stored(FULL, 1000, status=status)).fields["Repr-Digest"] == FULL["Repr-Digest"]


# --- Other statuses, other origins ----------------------------------------------------------------


def test_another_success_has_conditions_but_no_ranges() -> None:
    other = stored(FULL, 1000, status=203)
    ranged = answer({"Range": "bytes=0-4"}, other)
    assert (ranged.status, ranged.length) == (203, 1000)
    assert answer({"If-None-Match": "*"}, other).status == 304
    assert answer({"If-Match": '"x"'}, other).status == 412


@pytest.mark.parametrize("status", [301, 404, 410, 500])
def test_other_statuses_are_whole_and_unconditional(status: int) -> None:
    other = stored(FULL | {"Location": "/w.mp4"}, 1000, status=status)
    for lines in (
        {},
        {"Range": "bytes=0-4"},
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
        {"Range": "bytes=5000-"},
    ):
        response = answer(lines, other)
        assert (response.status, response.parts, response.length) == (status, (Slice(0, 1000),), 1000)
        assert response.fields["Location"] == "/w.mp4"
        assert "Content-Range" not in response.fields
        assert response.fields["Accept-Ranges"] == "none"


def test_no_content_has_no_length() -> None:
    response = answer({}, stored({}, 0, status=204))
    assert (response.status, response.parts, response.length) == (204, (), None)


def test_the_origins_strong_tag_is_kept() -> None:
    strong = stored({"ETag": '"theirs"'}, 10)
    assert answer({}, strong).fields.getall("ETag") == ['"theirs"']
    assert answer({"If-None-Match": '"theirs"'}, strong).status == 304
    assert answer({"If-Match": '"theirs"'}, strong).status == 200


@pytest.mark.parametrize(
    ("tag", "emitted"), [('"s"', '"s"'), ('W/"w"', 'W/"w"'), ("bad", None), (None, None)]
)
def test_a_passing_response_has_no_tag_of_ours(tag: str | None, emitted: str | None) -> None:
    passing = stored({} if tag is None else {"ETag": tag}, 10, ours=None)
    assert answer({}, passing).fields.get("ETag") == emitted
    assert answer({"Range": "bytes=0-1"}, passing).status == 206


# --- Length unknown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "slice_", "content_range"),
    [
        ("0-0", Slice(0, 1), "bytes 0-0/*"),
        ("0-99", Slice(0, 100), "bytes 0-99/*"),
        ("99-99", Slice(99, 100), "bytes 99-99/*"),
        (", 10-19 ,", Slice(10, 20), "bytes 10-19/*"),
    ],
)
def test_a_closed_range_that_is_there(members: str, slice_: Slice, content_range: str) -> None:
    growing = stored(without("Content-Length"), None)
    response = answer({"Range": f"bytes={members}"}, growing, available=100)
    assert (response.status, response.parts, response.length) == (206, (slice_,), len(slice_))
    assert response.fields["Content-Range"] == content_range
    assert response.fields["Accept-Ranges"] == "bytes"
    assert "Content-Digest" not in response.fields


@pytest.mark.parametrize(
    ("members", "available"),
    [
        ("0-100", 100),
        ("100-100", 100),
        ("0-", 100),
        ("-1", 100),
        ("-0", 100),
        ("0-0,5-5", 100),
        ("0-99999999999999999999", 100),
        ("0-0", 0),
        ("0-0", None),
    ],
)
def test_what_cannot_be_told_yet_is_the_whole(members: str, available: int | None) -> None:
    response = answer({"Range": f"bytes={members}"}, stored(FULL, None), available=available)
    assert (response.status, response.parts, response.length) == (200, (Rest(0),), None)
    assert response.range_ignored == "unknown-length"
    assert "Content-Range" not in response.fields
    assert "Content-Length" not in response.fields


def test_of_a_length_unknown_conditions_hold_all_the_same() -> None:
    growing = stored(FULL, None)
    assert answer({"If-None-Match": '"ours-1"'}, growing).status == 304
    assert answer({"If-Match": '"x"'}, growing).status == 412
    assert answer({"Range": "bytes=0-0", "If-Range": '"x"'}, growing, available=10).status == 200
    assert answer({"Range": "bytes=1-0"}, growing, available=10).range_ignored == "malformed-range"


def test_available_does_not_matter_once_the_length_is_known() -> None:
    assert answer({"Range": "bytes=900-"}, available=10).parts == (Slice(900, 1000),)


def test_the_largest_object() -> None:
    largest = stored({}, MAX_LENGTH)
    response = answer({"Range": "bytes=9223372036854775806-99999999999999999999"}, largest)
    assert (
        response.fields["Content-Range"]
        == "bytes 9223372036854775806-9223372036854775806/9223372036854775807"
    )
    assert answer({"Range": "bytes=9223372036854775807-"}, largest).status == 416


# --- Properties -----------------------------------------------------------------------------------

positions = st.integers(0, 40).map(str) | st.sampled_from(["", "", "99999999999999999999"])
range_values = (
    st.lists(st.builds("{}-{}".format, positions, positions), min_size=1, max_size=5)
    .map(", ".join)
    .map("bytes={}".format)
    | st.text("0123456789-, =bytes", max_size=12).map("bytes={}".format)
    | st.text(max_size=12)
)
conditions = st.dictionaries(
    st.sampled_from(["If-Match", "If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since"]),
    st.sampled_from(['"ours-1"', 'W/"theirs"', '"x"', "*", LAST_MODIFIED, LATER, DATE]) | st.text(max_size=5),
    max_size=1,
)


@given(st.binary(max_size=40), range_values, conditions, st.sampled_from(["GET", "HEAD"]))
def test_what_is_sent_is_what_the_fields_say(
    data: bytes, value: str, conditions: dict[str, str], method: str
) -> None:
    lines = {"Content-Type": "video/mp4", "ETag": 'W/"theirs"', "Last-Modified": LAST_MODIFIED}
    response = answer({"Range": value, **conditions}, stored(lines, len(data)), method=method)
    sent = body(response, data)
    assert response.fields.getall("ETag") == [str(OURS)]
    if method == "HEAD":
        assert sent == b""
        assert response.status in {200, 304, 412}
        return
    assert len(sent) == (response.length or 0)
    match response.status:
        case 200:
            assert sent == data
        case 206 if "Content-Range" in response.fields:
            content_range = response.fields["Content-Range"]
            slice_ = response.parts[0]
            assert isinstance(slice_, Slice)
            assert sent == data[slice_.start : slice_.stop]
            assert content_range == f"bytes {slice_.start}-{slice_.stop - 1}/{len(data)}"
        case 206:
            parts = parse_byteranges(sent, BOUNDARY)
            assert len(parts) > 1
            for part in parts:
                assert part.content == data[part.first : part.last + 1]
                assert part.complete_length == str(len(data))
            assert sum(len(part.content) for part in parts) <= len(data)
        case 416:
            assert response.fields["Content-Range"] == f"bytes */{len(data)}"
        case status:
            assert status in {304, 412}


@given(st.binary(max_size=40), range_values, st.integers(0, 40))
def test_while_the_length_is_unknown_only_what_is_there_is_promised(
    data: bytes, value: str, available: int
) -> None:
    there = data[:available]
    response = answer({"Range": value}, stored({}, None), available=len(there))
    match response.parts:
        case (Slice() as slice_,):
            assert response.status == 206
            assert slice_.stop <= len(there)
            assert len(body(response, there)) == response.length
            assert response.fields["Content-Range"].endswith("/*")
        case parts:
            assert (response.status, parts) == (200, (Rest(0),))


def test_tags_of_ours_are_strong() -> None:
    assert stored({}, 1).validators.etag == EntityTag("ours-1", weak=False)


@pytest.mark.parametrize(
    ("told", "passes"),
    [
        ("bytes 0-9/10", False),
        ("bytes */10", False),
        ("bytes=0-9/10", False),
        ("BYTES  0-9/*", False),
        ("items 5-9/10", False),
        ("0-9/10", False),
        ("odd", True),
        ("bytes", True),
        ("whatever it means", True),
    ],
)
def test_what_could_be_taken_for_a_content_range_is_dropped(told: str, passes: bool) -> None:
    representation = stored({"Content-Range": told}, 10)
    assert ("Content-Range" in answer({}, representation).fields) is passes
    partial = answer({"Range": "bytes=0-1"}, representation)
    assert partial.fields.getall("Content-Range") == ["bytes 0-1/10"]
    assert "Content-Range" not in answer({"If-Match": '"x"'}, representation).fields


@pytest.mark.parametrize("lines", [{"If-Match": '"other"'}, {"Range": "bytes=5000-"}])
def test_no_cache_may_keep_an_error_of_ours_by_any_targeted_field(lines: dict[str, str]) -> None:
    told = {
        "Cache-Control": "max-age=60",
        "CDN-Cache-Control": "max-age=60",
        "Own-Cache-Control": "max-age=60",
    }
    response = answer(lines, stored(told, 1000))
    assert response.status in {412, 416}
    named = [(name, value) for name, value in response.fields.items() if "cache-control" in name.lower()]
    assert named == [("Cache-Control", "no-store")]
