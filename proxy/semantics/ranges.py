"""Byte ranges: from the text of a `Range` field to slices of a representation (RFC 9110 sections 14.1, 14.2).

A range set is answered exactly as asked: every satisfiable range is a slice, in the order of the request,
clamped to the end, never merged.  A set that would cost more than it is worth is ignored, which makes the
answer a plain 200: more than `max_ranges` members, more than `max_overlaps` ranges that overlap another one,
or more bytes in total than the whole representation has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from proxy.semantics.fields import OWS, parse_digits


@dataclass(frozen=True, slots=True)
class IntRange:
    """`first-pos "-" [ last-pos ]`: positions count from 0, `last_pos` is inclusive, None is the end."""

    first_pos: int
    last_pos: int | None


@dataclass(frozen=True, slots=True)
class SuffixRange:
    """`"-" suffix-length`: the last so many bytes."""

    suffix_length: int


RangeSpec: TypeAlias = IntRange | SuffixRange


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes `start` to `stop - 1` of a representation: half-open, never empty."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"not a slice: {self.start}:{self.stop}")

    def __len__(self) -> int:
        return self.stop - self.start

    def content_range(self, complete_length: int | None) -> str:
        """The value of `Content-Range`; None is an unknown complete length (section 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{'*' if complete_length is None else complete_length}"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """No range of a valid set lies in the representation: 416."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """The answer is as if there were no Range; `reason` is a token for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class RangeLimits:
    """What a range set may ask before it is ignored.

    `max_ranges` counts members of the set, empty ones included; `max_overlaps` counts ranges that overlap an
    earlier one, by position.
    """

    max_ranges: int = 100
    max_overlaps: int = 2


DEFAULT_LIMITS: Final = RangeLimits()


def parse_range(value: str, limits: RangeLimits = DEFAULT_LIMITS) -> tuple[RangeSpec, ...] | Ignored:
    """The specs of a `Range` value, in order; at least one.

    Ignored are units other than bytes, malformed sets (one bad member spoils the set, section 14.1.1), and
    sets with too many members, which are counted before anything is built from them.
    """
    unit, equals, members = value.partition("=")
    if not equals or unit.lower() != "bytes":
        return Ignored("range-unit")
    if members.count(",") >= limits.max_ranges:
        return Ignored("too-many-ranges")
    specs = []
    for member in members.split(","):
        text = member.strip(OWS)
        if not text:
            continue
        spec = _parse_spec(text)
        if spec is None:
            return Ignored("malformed-range")
        specs.append(spec)
    return tuple(specs) or Ignored("malformed-range")


def _parse_spec(text: str) -> RangeSpec | None:
    first_text, dash, last_text = text.partition("-")
    if not dash:
        return None
    if not first_text:
        suffix_length = parse_digits(last_text)
        return None if suffix_length is None else SuffixRange(suffix_length)
    first_pos = parse_digits(first_text)
    if first_pos is None:
        return None
    if not last_text:
        return IntRange(first_pos, None)
    last_pos = parse_digits(last_text)
    if last_pos is None or last_pos < first_pos:
        return None
    return IntRange(first_pos, last_pos)


def resolve(
    specs: Iterable[RangeSpec], complete_length: int, limits: RangeLimits
) -> tuple[Slice, ...] | Unsatisfiable | Ignored:
    """The slices of a representation of `complete_length` bytes that `specs` select, in their order.

    An empty representation has no ranges to give: Ignored, so 200 rather than 416 (section 14.2 allows both).
    """
    if complete_length == 0:
        return Ignored("empty-representation")
    slices = tuple(slice_ for spec in specs if (slice_ := _slice(spec, complete_length)) is not None)
    if not slices:
        return Unsatisfiable()
    if sum(map(len, slices)) > complete_length or _overlaps(slices) > limits.max_overlaps:
        return Ignored("amplifying-ranges")
    return slices


def _slice(spec: RangeSpec, complete_length: int) -> Slice | None:
    match spec:
        case IntRange(first_pos, last_pos):
            if first_pos >= complete_length:
                return None
            stop = complete_length if last_pos is None else min(last_pos + 1, complete_length)
            return Slice(first_pos, stop)
        case SuffixRange(suffix_length):
            if suffix_length == 0:
                return None
            return Slice(max(complete_length - suffix_length, 0), complete_length)
        case _:
            assert_never(spec)


def _overlaps(slices: Sequence[Slice]) -> int:
    overlaps = stop = 0
    for each in sorted(slices, key=lambda slice_: slice_.start):
        overlaps += each.start < stop
        stop = max(stop, each.stop)
    return overlaps


def read_slice(spec: bytes, complete_length: int) -> tuple[int, int] | None:
    """Start and stop of the slice that one int-range or suffix-range selects, as `parse_range` and `resolve` have it.

    None for a set, for what is no range or selects nothing: those have their reasons there.
    """
    first, dash, last = spec.partition(b"-")
    if not dash or len(spec) > _SHORT:
        return None
    start, stop = 0, complete_length
    if first.isdigit():
        start = int(first)
        if last.isdigit():
            stop = int(last) + 1
            if stop > complete_length:  # min() would take half as long as all of this
                stop = complete_length
        elif last:
            return None
    elif not first and last.isdigit():
        start = max(complete_length - int(last), 0)
    else:
        return None
    return (start, stop) if start < stop else None


_SHORT: Final = 32
"""Bytes of two positions in any file, and of those that need no second look."""
