"""Generated cases: a request, its answer, and the request after them.

Fields and directives are kept as they are written, so that the rules about them need no parser.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from hypothesis import strategies as st

from tests.semantics.answers import NOW, date

T = TypeVar("T")
Pairs: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a request or an answer; `control` are the members of its Cache-Control, as written."""

    control: tuple[str, ...] = ()
    fields: Pairs = ()

    @property
    def lines(self) -> Pairs:
        return (*(("Cache-Control", member) for member in self.control), *self.fields)

    @property
    def joined(self) -> dict[str, str]:
        """One value for each field, by its name in lower case."""
        values: dict[str, list[str]] = {}
        for name, value in self.lines:
            values.setdefault(name.lower(), []).append(value)
        return {name: ", ".join(lines) for name, lines in values.items()}

    def values(self, name: str) -> list[str]:
        """The lines of a field."""
        return [value for field, value in self.fields if field == name]

    def arguments(self, directive: str) -> list[str | None]:
        """What stands behind the `=` of each such directive; None where there is no `=`."""
        split = [member.partition("=") for member in self.control]
        return [text if equals else None for name, equals, text in split if name.lower() == directive]

    def says(self, directive: str) -> bool:
        return bool(self.arguments(directive))

    def whole(self, directive: str) -> bool:
        """Whether this is said of the whole message, and not of some fields."""
        return any(argument in (None, "", '""') for argument in self.arguments(directive))

    def seconds(self, directive: str) -> int | None:
        """The argument of a directive that is there once, and well written."""
        given = self.arguments(directive)
        return int((given[0] or "").strip('"')) if given else None

    def without(self, *names: str) -> "Message":
        """Without these directives, and without these fields."""
        kept = tuple(member for member in self.control if member.partition("=")[0].lower() not in names)
        return Message(kept, tuple(pair for pair in self.fields if pair[0] not in names))

    def plus(self, *directives: str, **fields: str) -> "Message":
        return Message((*self.control, *directives), (*self.fields, *fields.items()))


@dataclass(frozen=True, slots=True)
class Case:
    """A GET with `asked`, answered with `answer`; `elapsed` seconds later comes a `method` with `again`.

    `elsewhere`: the second has another target.
    """

    asked: Message
    status: int
    answer: Message
    again: Message
    method: str = "GET"
    elapsed: int = 0
    elsewhere: bool = False

    def __str__(self) -> str:
        def lines(message: Message) -> str:
            return "".join(f"\n    {name}: {value}" for name, value in message.lines)

        target = "/elsewhere" if self.elsewhere else "/page"
        return (
            f"  GET /page{lines(self.asked)}\n  {self.status}{lines(self.answer)}\n"
            f"  {self.elapsed} s later: {self.method} {target}{lines(self.again)}"
        )


# --- The vocabulary ---------------------------------------------------------------------------------

DATES = {date(offset): NOW + offset for offset in (-40_000, -3600, -100, -10, 0, 10, 100, 3600)}
"""Its well-formed dates, and their seconds."""

GOOD_TAGS = ('"x"', 'W/"x"')

Piece: TypeAlias = str | tuple[str, str]
"""A directive, or a line of a field."""


def _lines(name: str, *values: str) -> list[Piece]:
    return [(name, value) for value in values]


def _directives(text: str) -> list[Piece]:
    return [*text.split()]


_USUAL: Sequence[Piece] = [
    *_directives("max-age=60 max-age=60 max-age=600 s-maxage=300 public must-revalidate"),
    *_lines("ETag", *GOOD_TAGS),
    *_lines("Last-Modified", date(-3600), date(-40_000)),
    *_lines("Date", date(), date(-10)),
    *_lines("Expires", date(100)),
    *_lines("Vary", "Accept-Language", "Accept-Encoding, X-Tenant"),
    *_lines("Content-Encoding", "gzip"),
]
_ODD: Sequence[Piece] = [
    *_directives('max-age=0 max-age max-age= max-age=abc max-age=-1 max-age=1.5 max-age=70s max-age="70"'),
    *_directives("max-age=10 MAX-AGE=100 S-Maxage=90 s-maxage=0 s-maxage=30 s-maxage=x Public No-Store"),
    *_directives("no-store=1 unknown=1 no-cache private proxy-revalidate no-transform"),
    *_directives("must-understand no-store immutable must-understand no-store immutable"),
    *_directives('no-cache="x-user" private="x-user" no-cache="set-cookie" private="set-cookie"'),
    *_directives('private="" no-cache='),
    *_lines("Date", date(-100), date(100), date(3600), "yesterday"),
    *_lines("Expires", date(-10), date(3600), "0", "-1", "", "2023-11-15T22:13:20Z"),
    *_lines("Expires", "Wed, 15 Nov 2023 22:13:20 EST"),
    *_lines("Last-Modified", date(), date(10), "yesterday", "Tue, 14 Nov 2023 20:13:20 EST"),
    *_lines("ETag", "x", '"x', ""),
    *_lines("Age", "0", "20", "50", "100", "10000", "abc", "-50", "50s"),
    *_lines("Vary", "accept-encoding", "X-Tenant, ACCEPT-LANGUAGE", "Cookie", "*"),
    *_lines("Set-Cookie", "session=1"),
    *_lines("Pragma", "no-cache", "no-cache", "x-no-cache"),
]
_WISHES: Sequence[Piece] = [
    *_directives("no-cache no-store only-if-cached no-transform max-stale max-stale=30 max-stale=1000"),
    *_directives("max-age=0 max-age=20 max-age=600 max-age=abc max-age min-fresh=30 min-fresh=x"),
    *_lines("Pragma", "no-cache", "x-no-cache"),
]
_WHO: Sequence[Piece] = [
    *_lines("Authorization", "Basic dTpw", "Bearer t", 'Digest username="u"'),
    *_lines("Cookie", "session=1", "session=2", "_ga=3", "session=1; _ga=4"),
    *_lines("Accept-Encoding", "gzip", "br, gzip", "br,gzip", "identity"),
    *_lines("Accept-Language", "en", "en, de", "en,de"),
    *_lines("X-Tenant", "1", "2"),
]
_STATUSES = (*[200] * 30, 203, 201, 301, 302, 303, 307, 308, 400, 403, 404, 410, 416, 500, 206)
_ELAPSED = (0, 0, 1, 19, 20, 40, 59, 60, 61, 90, 300, 601, 3700)


class Choose(Protocol):
    """One of the options: hypothesis', which makes a failing case smaller, or a random one."""

    def __call__(self, options: Sequence[T], /) -> T: ...


def a_case(choose: Choose) -> Case:
    """Mostly what is usual, with few oddities; mostly the same client asks again.  What comes twice is two lines."""

    def some(pieces: Sequence[Piece], *counts: int) -> list[Piece]:
        return [choose(pieces) for _ in range(choose(counts))]

    asked = some(_WHO, 0, 0, 1, 2)
    again = asked if choose((True, False)) else some(_WHO, 0, 1, 2)
    if choose((False,) * 29 + (True,)):
        asked = [*asked, "no-store"]
    kind = ("Content-Type", choose(("text/html", "text/html", "video/mp4")))
    return Case(
        _message(asked),
        choose(_STATUSES),
        _message([kind, *some(_USUAL, 1, 2, 3, 4, 5), *some(_ODD, 0, 0, 1, 1, 2)]),
        _message([*again, *some(_WISHES, 0, 0, 0, 1, 1, 2)]),
        choose((*["GET"] * 14, "HEAD")),
        choose(_ELAPSED),
    )


def _message(pieces: Sequence[Piece]) -> Message:
    control = tuple(piece for piece in pieces if isinstance(piece, str))
    return Message(control, tuple(piece for piece in pieces if not isinstance(piece, str)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Cases that hypothesis makes small where they fail."""
    return a_case(lambda options: draw(st.sampled_from(options)))


def many_cases(number: int) -> Iterator[Case]:
    """The same ones at every run."""
    choose = random.Random(9111).choice
    return (a_case(choose) for _ in range(number))
