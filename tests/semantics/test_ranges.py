"""The grammar of Range, and what it selects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics import ranges
from proxy.semantics.fields import MAX_LENGTH
from proxy.semantics.ranges import (
    DEFAULT_LIMITS,
    Ignored,
    IntRange,
    RangeLimits,
    RangeSpec,
    Slice,
    SuffixRange,
    Unsatisfiable,
    parse_range,
    resolve,
)

# --- Grammar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        ("bytes=0-0", [IntRange(0, 0)]),
        ("bytes=0-", [IntRange(0, None)]),
        ("bytes=-1", [SuffixRange(1)]),
        ("bytes=-0", [SuffixRange(0)]),
        ("bytes=0-499", [IntRange(0, 499)]),
        ("bytes=000-0009", [IntRange(0, 9)]),
        ("Bytes=5-", [IntRange(5, None)]),
        ("BYTES=-5", [SuffixRange(5)]),
        ("bytes=0-0,-1", [IntRange(0, 0), SuffixRange(1)]),
        ("bytes= 0-999, 4500-5499, -1000", [IntRange(0, 999), IntRange(4500, 5499), SuffixRange(1000)]),
        ("bytes=\t0-1\t,\t 2-3 \t", [IntRange(0, 1), IntRange(2, 3)]),
        ("bytes=,0-1", [IntRange(0, 1)]),
        ("bytes=0-1,", [IntRange(0, 1)]),
        ("bytes=,, ,0-1,\t,-2,,", [IntRange(0, 1), SuffixRange(2)]),
        ("bytes=5-,1-1,5-", [IntRange(5, None), IntRange(1, 1), IntRange(5, None)]),
        ("bytes=0-18446744073709551615", [IntRange(0, MAX_LENGTH)]),
        ("bytes=18446744073709551615-", [IntRange(MAX_LENGTH, None)]),
        ("bytes=-18446744073709551616", [SuffixRange(MAX_LENGTH)]),
        ("bytes=9223372036854775807-9223372036854775807", [IntRange(MAX_LENGTH, MAX_LENGTH)]),
        (f"bytes=0-{'9' * 5000}", [IntRange(0, MAX_LENGTH)]),
        (f"bytes={'0' * 5000}1-2", [IntRange(1, 2)]),
    ],
)
def test_what_a_range_may_look_like(value: str, specs: list[RangeSpec]) -> None:
    assert parse_range(value) == tuple(specs)


@pytest.mark.parametrize(
    "value",
    [
        "", "bytes", "bytes 0-1", "0-1", "=0-1", "items=0-1", "bytesX=0-1", "Xbytes=0-1", "bytes =0-1",
        " bytes=0-1",
        "bytes:0-1", "none", "b\u0443tes=0-1", "byte\u017f=0-1", "octets=0-",
    ],
)  # fmt: skip
def test_other_units_are_ignored(value: str) -> None:
    assert parse_range(value) == Ignored("range-unit")


@pytest.mark.parametrize(
    "members",
    [
        "", " ", ",", " , ,", "-", "--", "--1", "-1-", "1", "123,456", "a", "alpha", "a-", "-a", "0-a",
        "10-alpha", "0-1x",
        "+1-", "+0-5", "0-+5", "-+5", "0--5", "-5-6", "1_0-2_0", "0-1_0", "0x0-0x5", "0-1.5", "0-1e3",
        "5-10/10", "0-*", "*",
        "0 -1", "0- 1", "0 - 1", "- 5", "0-\t1", "10-11 12-", "0-1;2-3", "0-1 2-3", "0-1&2-3",
        "5-2", "1-0", "456-455", "99999999999999999999-1", "=0-1", "bytes=0-1", "0-1,bytes=2-3",
        "0-1,x", "x,0-1", "0-1,-", "0-1,5-2", "100000-110000,2000-1000", "0-1,+2-3",
        "0-\u0665", "\u0660-\u0665", "-\u0665", "\uff10-\uff15", "\u00b2-", "0\u20131", "0\u22121",
        "-\U0001d7d3",
        "0-1\n", "0-1\r\n", "\n0-1", "\x0b0-1", "\u00a00-1", "0-1\x00", "\udcff-", '"0-1"',
    ],
)  # fmt: skip
def test_one_bad_member_spoils_the_set(members: str) -> None:
    assert parse_range(f"bytes={members}") == Ignored("malformed-range")


def test_the_cap_counts_members_empty_ones_too() -> None:
    limits = RangeLimits(max_ranges=3)
    assert parse_range("bytes=0-0,1-1,2-2", limits) == (IntRange(0, 0), IntRange(1, 1), IntRange(2, 2))
    assert parse_range("bytes=0-0,1-1,2-2,3-3", limits) == Ignored("too-many-ranges")
    assert parse_range("bytes=,,,0-0", limits) == Ignored("too-many-ranges")
    assert parse_range("bytes=0-0", RangeLimits(max_ranges=1)) == (IntRange(0, 0),)


@pytest.mark.parametrize(
    "members",
    [
        ",".join(["0-0"] * 25_000),
        "," * 100_000,
        ",".join(f"{n}-" for n in range(20_000)),
        ",".join(["x"] * 50_000),
    ],
    ids=["same", "empty", "open", "malformed"],
)
def test_a_huge_set_is_refused_before_anything_is_built(
    members: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(text: str) -> None:
        pytest.fail(f"looked at member {text!r}")

    monkeypatch.setattr(ranges, "_parse_spec", read)
    assert parse_range(f"bytes={members}") == Ignored("too-many-ranges")


int_ranges = st.builds(
    lambda first, more: IntRange(first, None if more is None else first + more),
    st.integers(0, 120),
    st.none() | st.integers(0, 120),
)
specs_of_all_kinds = st.lists(
    int_ranges | st.builds(SuffixRange, st.integers(0, 120)), min_size=1, max_size=12
)


def written(spec: RangeSpec) -> str:
    match spec:
        case IntRange(first_pos, last_pos):
            return f"{first_pos}-{'' if last_pos is None else last_pos}"
        case SuffixRange(suffix_length):
            return f"-{suffix_length}"


@given(specs_of_all_kinds, st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_specs_there_and_back(specs: list[RangeSpec], separator: str) -> None:
    assert parse_range("bytes=" + separator.join(map(written, specs))) == tuple(specs)


@given(st.text() | st.text("0123456789-, \t=+_bytes").map("bytes={}".format))
def test_any_text_is_read_or_ignored(value: str) -> None:
    match parse_range(value):
        case Ignored():
            pass
        case specs:
            assert specs
            resolve(specs, 100, DEFAULT_LIMITS)


# --- Slices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 5), (6, 5), (-1, 5), (-2, -1), (0, -1)])
def test_no_slice_is_empty_or_negative(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not a slice"):
        Slice(start, stop)


def test_a_slice_tells_its_content_range() -> None:
    assert Slice(0, 500).content_range(1234) == "bytes 0-499/1234"
    assert Slice(42, 43).content_range(None) == "bytes 42-42/*"
    assert len(Slice(42, 43)) == 1


# --- Resolution -----------------------------------------------------------------------------------


def select(members: str, complete_length: int, limits: RangeLimits = DEFAULT_LIMITS) -> object:
    specs = parse_range(f"bytes={members}", limits)
    assert not isinstance(specs, Ignored)
    match resolve(specs, complete_length, limits):
        case Unsatisfiable():
            return 416
        case Ignored(reason):
            return reason
        case slices:
            return [(slice_.start, slice_.stop) for slice_ in slices]


@pytest.mark.parametrize(
    ("members", "complete_length", "expected"),
    [
        ("0-499", 10000, [(0, 500)]),
        ("500-999", 10000, [(500, 1000)]),
        ("-500", 10000, [(9500, 10000)]),
        ("9500-", 10000, [(9500, 10000)]),
        ("0-0,-1", 10000, [(0, 1), (9999, 10000)]),
        ("0-", 1, [(0, 1)]),
        ("-1", 1, [(0, 1)]),
        ("0-9", 10, [(0, 10)]),
        ("0-10", 10, [(0, 10)]),
        ("9-", 10, [(9, 10)]),
        ("9-9", 10, [(9, 10)]),
        ("9-10", 10, [(9, 10)]),
        ("10-", 10, 416),
        ("10-10", 10, 416),
        ("-0", 10, 416),
        ("-10", 10, [(0, 10)]),
        ("-11", 10, [(0, 10)]),
        ("-0,10-,99-100", 10, 416),
        ("10-,0-4", 10, [(0, 5)]),
        ("-0,0-4", 10, [(0, 5)]),
        ("5-6,0-1,8-", 10, [(5, 7), (0, 2), (8, 10)]),
        ("0-1,2-3", 10, [(0, 2), (2, 4)]),
        ("0-0,0-0", 10, [(0, 1), (0, 1)]),
        ("0-99999999999999999999", 10, [(0, 10)]),
        ("99999999999999999999-", 10, 416),
        ("-99999999999999999999", 10, [(0, 10)]),
        ("9223372036854775806-", MAX_LENGTH, [(MAX_LENGTH - 1, MAX_LENGTH)]),
        ("9223372036854775807-", MAX_LENGTH, 416),
        ("0-9223372036854775807", MAX_LENGTH, [(0, MAX_LENGTH)]),
        ("0-", 0, "empty-representation"),
        ("-1", 0, "empty-representation"),
        ("-0", 0, "empty-representation"),
        ("5-9", 0, "empty-representation"),
    ],
)
def test_what_is_selected(members: str, complete_length: int, expected: object) -> None:
    assert select(members, complete_length) == expected


@pytest.mark.parametrize(
    ("members", "complete_length", "expected"),
    [
        # As much as the whole, in any order, is fine; one byte more is not.
        ("5-,0-4", 10, [(5, 10), (0, 5)]),
        ("5-,0-5", 10, "amplifying-ranges"),
        ("0-,0-", 10, "amplifying-ranges"),
        ("0-,1-,2-,3-,4-", 11, "amplifying-ranges"),
        ("-6,-6", 11, "amplifying-ranges"),
        # Two ranges that overlap another are fine; a third is not.
        ("0-1,1-2,2-3", 100, [(0, 2), (1, 3), (2, 4)]),
        ("0-1,1-2,2-3,3-4", 100, "amplifying-ranges"),
        ("3-4,0-1,2-3,1-2", 100, "amplifying-ranges"),
        ("0-0,0-0,0-0", 100, [(0, 1), (0, 1), (0, 1)]),
        ("0-0,0-0,0-0,0-0", 100, "amplifying-ranges"),
        ("0-9,1-1,3-3", 100, [(0, 10), (1, 2), (3, 4)]),
        ("0-9,1-1,3-3,5-5", 100, "amplifying-ranges"),
        ("0-0,0-0,50-50,50-50,99-,99-", 100, "amplifying-ranges"),
        # Neighbours do not overlap, and ranges past the end do not count.
        ("0-1,2-3,4-5,6-7,8-9", 10, [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]),
        ("0-4,10-,10-,10-,10-,10-", 10, [(0, 5)]),
    ],
)
def test_sets_that_amplify_are_ignored(members: str, complete_length: int, expected: object) -> None:
    assert select(members, complete_length) == expected


def test_overlaps_are_a_limit_of_their_own() -> None:
    assert select("0-0,0-0", 100, RangeLimits(max_overlaps=0)) == "amplifying-ranges"
    assert select("0-1,2-2", 100, RangeLimits(max_overlaps=0)) == [(0, 2), (2, 3)]


@given(specs_of_all_kinds, st.integers(0, 100))
def test_slices_are_what_the_specs_mean(specs: list[RangeSpec], complete_length: int) -> None:
    def positions(spec: RangeSpec) -> set[int]:
        match spec:
            case IntRange(first_pos, None):
                return {n for n in range(complete_length) if n >= first_pos}
            case IntRange(first_pos, int() as last_pos):
                return {n for n in range(complete_length) if first_pos <= n <= last_pos}
            case SuffixRange(suffix_length):
                return {n for n in range(complete_length) if n >= complete_length - suffix_length}
            case _:
                raise AssertionError(spec)

    wanted = [asked for asked in map(positions, specs) if asked]
    match resolve(specs, complete_length, RangeLimits(max_overlaps=100)):
        case Unsatisfiable():
            assert complete_length > 0
            assert not wanted
        case Ignored("empty-representation"):
            assert complete_length == 0
        case Ignored():
            assert sum(map(len, wanted)) > complete_length
        case slices:
            assert [set(range(slice_.start, slice_.stop)) for slice_ in slices] == wanted
            assert sum(map(len, slices)) <= complete_length
