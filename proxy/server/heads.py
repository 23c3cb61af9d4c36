"""Heads of requests that may be answered by the warm lane: recognised, not parsed.

Without its Range a head is one that came before, or else its first line and Host are a record's key, and the rest,
without the conditions, was read before.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from proxy.cache.warm import Record, Warm
from proxy.semantics.shape import MOST_CONDITIONS, Shape, read_shape
from proxy.server.lines import About

HEADS: Final = 1024
"""Heads without Range that are remembered, as of a player that asks for one slice after another; ..."""
SHAPES: Final = 1024
"""... and those without all that differs; ..."""
LONGEST: Final = 4096
"""... of heads of at most so many bytes."""


@dataclass(slots=True)
class Head:
    """Of requests, without Range: the first line and Host, all other fields, and the conditional ones.

    `record` is what answered them in that `second`, with 304 where the client `is_known` to have it.
    """

    key: bytes
    shape: Shape
    conditions: bytes
    record: Record | None = None
    second: int = -1
    is_known: bool = False
    range_applies: bool = True
    about: About | None = None


class Heads:
    """Those that came lately; `fields` is how many fields one may have."""

    def __init__(self, warm: Warm, fields: int) -> None:
        self._warm = warm
        self._fields = fields - MOST_CONDITIONS - 2
        self._heads: OrderedDict[bytes, Head] = OrderedDict()
        self._shapes: OrderedDict[bytes, Shape | None] = OrderedDict()
        self.find = self._heads.get

    def recognise(self, data: bytes) -> Head | None:
        """Take a head without its Range apart; None for one that the lane has nothing to do with just now."""
        end = data.find(b"\r\n", data.find(b"\r\nHost: ") + 8)
        key, lines, conditions = data[:end], data[end:], b""
        if self._warm.find(key) is None:
            return None
        at = lines.rfind(b"\r\nIf-")
        while at >= 0:
            end = lines.find(b"\r\n", at + 5)
            conditions += lines[at:end]
            lines = lines[:at] + lines[end:]
            at = lines.rfind(b"\r\nIf-", 0, at)
        shape = self._shapes.get(lines) or self._shape(lines)
        if shape is None:
            return None
        found = self._heads[data] = Head(key, shape, conditions)
        if len(self._heads) > HEADS:
            self._heads.popitem(last=False)
        return found

    def _shape(self, lines: bytes) -> Shape | None:
        if lines in self._shapes:
            return None
        shape = read_shape(lines)
        if shape is not None and shape.count > self._fields:
            shape = None
        self._shapes[lines] = shape
        if len(self._shapes) > SHAPES:
            self._shapes.popitem(last=False)
        return shape
