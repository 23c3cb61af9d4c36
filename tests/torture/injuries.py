"""The faults of one response: what is cut off its wire form, where and how, or what is wrong in it."""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.torture.items import Framing, Item

PIECE: Final = 64 << 10
"""Bytes of a chunk, and of what is sent at once."""


class End(Enum):
    """What becomes of the connection at the place of a cut."""

    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"


class Place(Enum):
    """Where a cut is."""

    BEFORE_HEAD = "before the head"
    IN_HEAD = "in the head"
    IN_BODY = "in the body"
    IN_FRAMING = "in a chunk's framing"


class Lie(Enum):
    """What is wrong in a response that is sent to its end."""

    SHORT_LENGTH = "Content-Length too small"
    LONG_LENGTH = "Content-Length too large"
    SURPLUS = "bytes after the end"
    NO_CHUNK = "no chunk size where one is due"
    ERROR = "503"
    NO_CONNECTION = "connections refused"


@dataclass(frozen=True, slots=True)
class Cut:
    """The response ends at a place, of which `dice` choose one."""

    place: Place
    end: End

    def __str__(self) -> str:
        return f"{self.end.value} {self.place.value}"


Injury = Cut | Lie

CUTS: Final = tuple(Cut(place, end) for place in Place for end in End)
LIES: Final = tuple(Lie)


def fits(injury: Injury, item: Item) -> bool:
    """Can it happen to a response of this item?"""
    match injury:
        case Cut(Place.IN_FRAMING) | Lie.NO_CHUNK:
            return item.framing is Framing.CHUNKED
        case Cut(Place.IN_BODY):
            return item.size > 0
        case Lie.SHORT_LENGTH | Lie.LONG_LENGTH:
            return item.framing is Framing.LENGTH and item.size > 0
        case Lie.SURPLUS:
            return item.framing is not Framing.CLOSE
        case _:
            return True


def offset(cut: Cut, framing: Framing, head: int, length: int, dice: random.Random) -> int:
    """After how many bytes on the wire a response with a head and a body of so many bytes ends."""
    match cut.place:
        case Place.BEFORE_HEAD:
            return 0
        case Place.IN_HEAD:
            return dice.randrange(1, head)
        case Place.IN_BODY:
            return head + on_wire(framing, dice.choice((0, 1, length - 1, length, dice.randint(0, length))))
        case Place.IN_FRAMING:
            starts = range(0, length, PIECE)
            place = dice.choice([*starts[:2], *starts[-2:], length])
            size = min(PIECE, length - place)
            # In the size, between its CR and LF, behind it, before the data's CRLF and in it; the last chunk's too.
            size_line = len(b"%x\r\n" % size)
            at = head + on_wire(framing, place)
            if size == 0:
                return at + dice.randrange(len(b"0\r\n\r\n"))
            return at + dice.choice((0, 1, size_line - 1, size_line, size_line + size, size_line + size + 1))


def on_wire(framing: Framing, count: int) -> int:
    """Bytes of the wire form before body byte `count` (before its chunk's size line, where it begins one)."""
    if framing is not Framing.CHUNKED:
        return count
    whole, rest = divmod(count, PIECE)
    framed = whole * (PIECE + len(b"%x\r\n\r\n" % PIECE))
    return framed + (rest + len(b"%x\r\n" % PIECE) if rest else 0)
