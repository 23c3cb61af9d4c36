"""What the origin has really given, and whether an answer is true to it."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.torture.items import Item, Mark
from tests.wire import Response

GRACE = 20.0
"""Seconds for which a fetch may run that a request joins: what it brings is as old as its beginning."""
LOOK = 64
"""Bytes that are compared before all are."""

Wish = tuple[int | None, int | None]
"""A range: first and last position, or None and a suffix's length, or a first position and None."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Wrong(Exception):
    """An answer that is not true."""


class Version(NamedTuple):
    """A body that the origin gave, or said that it would: the first `length` bytes of a generation."""

    generation: int
    length: int


@dataclass(slots=True)
class History:
    """Of one item.  What is older than `floor` is to be forgotten; what is older than `doubted` is stale, and the
    origin has to be asked first.  `replaced` says when each generation was.
    """

    item: Item
    generation: int = 0
    floor: int = 0
    doubted: int = 0
    replaced: list[float] = field(default_factory=list)
    given: set[Version] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)
    tags: dict[str, set[Version]] = field(default_factory=dict)

    def change(self, by: int = 1) -> None:
        """The origin has another generation from now on, if the item is of that kind."""
        if self.item.fickle:
            self.generation += by
            self.replaced += [time.monotonic()] * by

    def give(self, version: Version) -> None:
        """The origin is about to send this."""
        self.given.add(version)
        self.lengths.add(version.length)

    def forbid(self, before: int) -> None:
        """What is older may be served no more."""
        self.floor = max(self.floor, before)

    def doubt(self, before: int) -> None:
        """What is older may be served only with the origin's word, or while that fails."""
        self.doubted = max(self.doubted, before)

    def oldest(self, asked_at: float, *, fails: bool) -> int:
        """The oldest generation that the origin's word allows for a request begun then; `fails`: it does at times."""
        bound = self.item.stale_for
        if fails and "must" not in (self.item.control or ""):
            return self.floor
        if bound is None:
            return max(self.floor, self.doubted)
        limit = asked_at - bound - GRACE
        current = next((g for g, at in enumerate(self.replaced) if at >= limit), self.generation)
        return max(self.floor, self.doubted, current)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: `wishes` are its ranges.  `floor` and `oldest` are the oldest generations that may answer it at all,
    and without having been compared with what the origin has.
    """

    history: History
    floor: int
    oldest: int
    wishes: tuple[Wish, ...] = ()
    if_range: str | None = None
    if_none_match: str | None = None


def judge(asked: Asked, response: Response) -> str:
    """What a whole answer is, in a word.  Raises Wrong where it is not true."""
    match response.status:
        case 200:
            _judge_bytes(asked, response, [(0, response.body)], len(response.body))
            return "whole"
        case 206:
            return _judge_ranges(asked, response)
        case 304:
            known = asked.history.tags.get(asked.if_none_match or "", set())
            if not any(version.generation >= asked.oldest for version in known):
                raise Wrong(f"304 for {asked.if_none_match}, which is not older than {asked.oldest}")
            return "not modified"
        case 416:
            return _judge_unsatisfiable(asked, response)
        case 502 | 503 | 504:
            return "refused"
        case 500:
            return "failed"
        case _:
            raise Wrong(f"status {response.status}: {response.body[:200]!r}")


def judge_beginning(asked: Asked, response: Response) -> None:
    """As much as came of an answer that was cut off, or of which no more was wanted.  Raises Wrong."""
    start = 0
    if response.status == 206 and "Content-Range" in response.fields:
        found = _CONTENT_RANGE.fullmatch(response.fields["Content-Range"])
        if found is None:
            raise Wrong(f"206 with Content-Range {response.fields['Content-Range']!r}")
        start = int(found[1])
    elif response.status != 200:
        return
    stop = start + len(response.body)
    history = asked.history
    generations = {version.generation for version in history.given} | {history.generation}
    if not any(_is_of(history.item, each, start, response.body) for each in generations):
        raise Wrong(f"bytes {start}-{stop - 1} of an answer that was cut off are of no generation")


def _judge_ranges(asked: Asked, response: Response) -> str:
    if not asked.wishes:
        raise Wrong("206 for a request without a range")
    if asked.if_range is not None and response.fields.get("ETag") != asked.if_range:
        raise Wrong(f"206 with the tag {response.fields.get('ETag')} for If-Range {asked.if_range}")
    if "Content-Range" in response.fields:
        parts = [(response.fields["Content-Range"], response.body)]
    else:
        try:
            parts = response.parts()
        except AssertionError as error:
            raise Wrong("206 that is no multipart/byteranges") from error
    pieces, total = [], set()
    for value, data in parts:
        found = _CONTENT_RANGE.fullmatch(value)
        if found is None:
            raise Wrong(f"206 with Content-Range {value!r}")
        first, last = int(found[1]), int(found[2])
        if len(data) != last - first + 1:
            raise Wrong(f"{len(data)} bytes under Content-Range {value}")
        pieces.append((first, data))
        total.add(None if found[3] == "*" else int(found[3]))
    if len(total) != 1:
        raise Wrong(f"parts of bodies of {total} bytes")
    complete = total.pop()
    got = [(first, first + len(data) - 1) for first, data in pieces]
    if complete is not None and got != _resolved(asked.wishes, complete):
        raise Wrong(f"the ranges {got} of {complete} for {asked.wishes}")
    if complete is None and not {first for first, _ in got} <= {first for first, _ in asked.wishes}:
        raise Wrong(f"the ranges {got} of * for {asked.wishes}")
    _judge_bytes(asked, response, pieces, complete)
    return "ranges" if len(pieces) > 1 else "range"


def _judge_unsatisfiable(asked: Asked, response: Response) -> str:
    found = re.fullmatch(r"bytes \*/(\d+)", response.fields.get("Content-Range", ""))
    if found is None or int(found[1]) not in asked.history.lengths:
        raise Wrong(f"416 with {response.fields.get('Content-Range')}; it was {asked.history.lengths}")
    if _resolved(asked.wishes, int(found[1])):
        raise Wrong(f"416 of {found[1]} bytes for {asked.wishes}")
    return "unsatisfiable"


def _resolved(wishes: Iterable[Wish], complete: int) -> list[tuple[int, int]]:
    """The positions that ranges select in so many bytes."""
    found = []
    for first, last in wishes:
        if first is None:
            assert last is not None
            if last and complete:
                found.append((max(0, complete - last), complete - 1))
        elif first < complete:
            found.append((first, complete - 1 if last is None else min(last, complete - 1)))
    return found


def _judge_bytes(
    asked: Asked, response: Response, pieces: list[tuple[int, bytes]], complete: int | None
) -> None:
    """The pieces are of one version that may be served, and of the one that the tag names."""
    history = asked.history
    end = max((start + len(data) for start, data in pieces), default=0)
    found = {
        version
        for version in history.given
        if (version.length == complete or (complete is None and version.length >= end))
        and all(_is_of(history.item, version.generation, start, data) for start, data in pieces)
    }
    cached = response.cache_status
    if not found:
        raise Wrong(f"{_diagnosis(history, pieces, complete)} ({cached})")
    if not any(version.generation >= asked.oldest or _compared(asked, version, pieces) for version in found):
        generations = sorted({version.generation for version in found})
        raise Wrong(
            f"generation {generations}, but {asked.oldest} is the oldest that may be served ({cached})"
        )
    tag = response.fields.get("ETag")
    if tag is None or tag.startswith("W/"):
        return
    if history.item.mark is Mark.STRONG and tag.startswith('"/'):
        named = int(tag.strip('"').rpartition("-")[2])
        if all(version.generation != named for version in found):
            raise Wrong(f"the tag {tag} with bytes of {sorted(found)} ({cached})")
    known = history.tags.setdefault(tag, found)
    if not known & found:
        raise Wrong(f"the tag {tag} stood for {sorted(known)}, and now for {sorted(found)} ({cached})")
    history.tags[tag] = known & found


def _compared(asked: Asked, version: Version, pieces: list[tuple[int, bytes]]) -> bool:
    """Where no tag tells generations apart, an old one serves as far as the new one has been found the same."""
    history = asked.history
    return version.generation >= asked.floor and any(
        all(_is_of(history.item, each, start, data) for start, data in pieces)
        for each in range(asked.oldest, history.generation + 1)
    )


def _is_of(item: Item, generation: int, start: int, data: bytes) -> bool:
    stop = start + len(data)
    look = min(LOOK, len(data))
    return (
        item.bytes_of(generation, stop - look, stop) == data[len(data) - look :]
        and item.bytes_of(generation, start, start + look) == data[:look]
        and item.bytes_of(generation, start, stop) == data
    )


def _diagnosis(history: History, pieces: list[tuple[int, bytes]], complete: int | None) -> str:
    """What bytes are that are of no version."""
    start, data = pieces[0] if pieces else (0, b"")
    generations = range(history.generation + 1)
    same = [g for g in generations if _is_of(history.item, g, start, data)]
    if same:
        return f"right bytes of {same}, but no body of {complete} bytes was given: {sorted(history.given)}"
    begun = {g: _common(history.item.bytes_of(g, start, start + len(data)), data) for g in generations}
    best = max(begun, key=lambda g: begun[g])
    return f"wrong bytes: {start}-{start + len(data) - 1}/{complete}, of generation {best} for {begun[best]} bytes"


def _common(one: bytes, other: bytes) -> int:
    """How many bytes are the same at the beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
