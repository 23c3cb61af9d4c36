"""What there is to fetch.  Its bytes follow from path, generation and offset: each answer speaks for itself."""

import random
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum, auto

LARGEST = 20 << 20
"""Bytes of the largest item."""

_BLOCK = random.Random(9110).randbytes((1 << 20) + 7)  # no power of two: a shifted slice never looks right
_LONG = _BLOCK * (LARGEST // len(_BLOCK) + 3)
_BORN = 1_600_000_000
"""When the first generations were made, in seconds since the epoch."""


class Framing(Enum):
    """How the end of a body shows."""

    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


class Mark(Enum):
    """What tells two generations of an item apart."""

    STRONG = auto()
    WEAK = auto()
    DATE = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Item:
    """One target.  `control` is its Cache-Control; `stale_for` how many seconds that lets an old generation serve
    (None: for as long as anybody likes).

    A `fickle` one changes: every third generation has the same length, and the first `stem` bytes never change.
    `rate` is in bytes per second, 0 as fast as it goes.  `guises` is a field in which odd generations differ.
    """

    path: str
    size: int
    framing: Framing = Framing.LENGTH
    mark: Mark = Mark.NOTHING
    control: str | None = None
    stale_for: float | None = None
    fickle: bool = False
    stem: int = 0
    rate: int = 0
    guises: str | None = None

    def length(self, generation: int) -> int:
        """Bytes of a generation."""
        return self.size + (generation % 3 if self.fickle and self.size else 0)

    def bytes_of(self, generation: int, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of a generation; it does not matter how long that is."""
        if start < self.stem < stop:
            return self.bytes_of(generation, start, self.stem) + self.bytes_of(generation, self.stem, stop)
        told = f"{self.path} {generation if start >= self.stem else 'stem'}"
        first = zlib.crc32(told.encode()) % len(_BLOCK)
        return _LONG[first + start : first + stop]

    def fields(self, generation: int) -> dict[str, str]:
        """What a generation's representation says of itself, without its length."""
        fields = {"Content-Type": "video/mp4", **self.validators(generation)}
        if self.guises is not None and generation % 2:
            fields[self.guises] = "video/webm" if self.guises == "Content-Type" else "gzip"
        if self.control is not None:
            fields["Cache-Control"] = self.control
        return fields

    def validators(self, generation: int) -> dict[str, str]:
        """The fields that tell a generation."""
        match self.mark:
            case Mark.STRONG:
                return {"ETag": f'"{self.path}-{generation}"'}
            case Mark.WEAK:
                return {"ETag": f'W/"{self.path}-{generation}"'}
            case Mark.DATE:
                return {"Last-Modified": formatdate(_BORN + generation, usegmt=True)}
            case Mark.NOTHING:
                return {}


_SIZES = (0, 1, 2, 100, 1000, 4096, 65_535, 65_536, 65_537, 100_000, 262_145, 300_000, 1 << 20, (1 << 20) + 1)
_LARGE_SIZES = (1_500_000, 3_000_000, 5 << 20, 8 << 20, 12 << 20, LARGEST)
_CONTROLS: tuple[tuple[str | None, float | None], ...] = (
    (None, None),
    ("max-age=1", 1),
    ("no-cache", 0),
    ("max-age=3600", None),
    ("max-age=1, stale-if-error=60", 1),
    ("max-age=1, stale-while-revalidate=2", 3),
    ("max-age=2, must-revalidate", 2),
    ("no-store", 0),
)
FOLDERS = ("a", "b", "c")
"""Each item lies in one of them."""


def assortment(dice: random.Random) -> list[Item]:
    """Some thirty items of all kinds, from nothing to 20 MiB."""
    items = []
    for number, size in enumerate((*_SIZES, *_LARGE_SIZES, *dice.choices(_SIZES[4:], k=10))):
        control, stale_for = _CONTROLS[0] if number % 3 == 0 else dice.choice(_CONTROLS)
        fickle = dice.random() < 0.6
        framing = dice.choice((Framing.LENGTH, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE))
        # Whoever closes early with a strong tag gives one tag to two bodies: that would be the origin's lie.
        marks = [mark for mark in Mark if framing is not Framing.CLOSE or mark is not Mark.STRONG]
        items.append(
            Item(
                path=f"/{FOLDERS[number % 3]}/{number}-{size}.mp4",
                size=size,
                framing=framing,
                mark=dice.choice(marks),
                control=control,
                stale_for=stale_for,
                fickle=fickle,
                stem=size // 2 if fickle and dice.random() < 0.5 else 0,
                rate=dice.choice((0, 4 << 20, 16 << 20)) if size > 200_000 else 0,
            )
        )
    return items
