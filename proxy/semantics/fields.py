"""Lexing of field values: lists, digits, dates and directives; and which fields end at this hop.

Field values are `str` as aiohttp hands them over: UTF-8, with bytes that are not UTF-8 as lone surrogates.
Every function here takes time linear in its input, whatever a peer sends.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final, TypeAlias

from multidict import CIMultiDict, MultiMapping

Fields: TypeAlias = MultiMapping[str]
"""A message's fields: case-insensitive names, in order, repeatable (`CIMultiDict` or its proxy)."""

MAX_LENGTH: Final = 2**63 - 1
"""The largest number of bytes or seconds we count with: what a file offset can hold."""

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that mean this connection only, in lower case (RFC 9110 section 7.6.1, RFC 9111 section 3.1)."""

OWS: Final = " \t"

# Possessive quantifiers: these never backtrack, so that no value takes more than linear time.
_WELL_QUOTED: Final = re.compile(r'(?:[^"]|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
_MEMBER: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+")++', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def joined(fields: Fields, name: str) -> str | None:
    """All lines of a field as one value, joined by ", " (RFC 9110 section 5.3); None if there is none."""
    lines = fields.getall(name, None)
    return None if lines is None else ", ".join(lines)


def only(fields: Fields, name: str) -> str | None:
    """The value of a field that has exactly one line; None if it has none or several."""
    lines = fields.getall(name, ())
    return lines[0] if len(lines) == 1 else None


def list_members(value: str) -> list[str]:
    """The members of a `#rule` list, without the space around them and without empty ones (section 5.6.1).

    Commas inside a quoted-string do not separate.  A value with an open quote is split at every comma: what
    follows a stray quote (`no-store`, say) must not vanish in it.
    """
    members = _MEMBER.findall(value) if _WELL_QUOTED.fullmatch(value) else value.split(",")
    return [stripped for member in members if (stripped := member.strip(OWS))]


def parse_digits(text: str) -> int | None:
    """`1*DIGIT` as a number, at most `MAX_LENGTH`; None for anything else.

    `int()` alone would take signs, underscores, spaces and other scripts' digits, and time for long numerals.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    significant = text.lstrip("0")
    return MAX_LENGTH if len(significant) > 19 else min(int(significant or "0"), MAX_LENGTH)


# --- Dates (RFC 9110 section 5.6.7) ---------------------------------------------------------------

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY_NAME: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY_NAME_LONG: Final = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_HTTP_DATES: Final = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)  # section 4.2 of RFC 9111 asks caches to ignore case
    for pattern in (
        f"{_DAY_NAME}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
        f"{_DAY_NAME_LONG}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",
        f"{_DAY_NAME} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)
_LONGEST_DATE: Final = len("Wednesday, 31-Dec-99 23:59:60 GMT")


def parse_http_date(text: str) -> int | None:
    """An HTTP-date (IMF-fixdate, RFC 850 or asctime) as seconds since the epoch; None if malformed.

    The name of the day is not checked against the date.  Two-digit years are 1970 to 2069.
    """
    date = text.strip(OWS)
    return _epoch_seconds(date) if len(date) <= _LONGEST_DATE else None


@lru_cache(maxsize=1024)
def _epoch_seconds(date: str) -> int | None:
    match = next((match for form in _HTTP_DATES if (match := form.fullmatch(date))), None)
    if match is None:
        return None
    year, second = int(match["year"]), int(match["second"])
    if len(match["year"]) == 2:
        year += 2000 if year < 70 else 1900
    if second > 60:
        return None
    leap = second // 60
    month = _MONTHS.index(match["month"].lower()) + 1
    try:
        moment = datetime(
            year,
            month,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            second - leap,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp()) + leap


def format_http_date(seconds: int) -> str:
    """Seconds since the epoch as an IMF-fixdate."""
    return formatdate(seconds, usegmt=True)


# --- Directives (RFC 9111 section 5.2) ------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Directives(Mapping[str, str | None]):
    """Cache directives: lower-case name -> argument, unquoted, or None where it stands without one.

    As a mapping it shows the first occurrence of each directive.  `arguments` has them all, and `seconds` and
    `names` read them so that duplicates and garbage never make a response more reusable.
    """

    _occurrences: Mapping[str, Sequence[str | None]]

    def __getitem__(self, name: str) -> str | None:
        return self._occurrences[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._occurrences)

    def __len__(self) -> int:
        return len(self._occurrences)

    def arguments(self, name: str) -> tuple[str | None, ...]:
        """The arguments of every occurrence, in order; empty if the directive is absent."""
        return tuple(self._occurrences.get(name, ()))

    def seconds(self, name: str) -> int | None:
        """The smallest delta-seconds given; None if the directive is absent, 0 for a malformed argument."""
        return min((parse_digits(argument or "") or 0 for argument in self.arguments(name)), default=None)

    def names(self, name: str) -> tuple[str, ...]:
        """The field names, in lower case, to which `no-cache` or `private` is limited.

        Empty if the directive is absent, or if any occurrence is not limited and so means the whole response.
        """
        limits = [tuple(list_members((argument or "").lower())) for argument in self.arguments(name)]
        return tuple(dict.fromkeys(field for limit in limits for field in limit)) if all(limits) else ()


def parse_directives(fields: Fields, name: str = "Cache-Control") -> Directives:
    """The directives of all lines of a field, unknown ones too; arguments may be tokens or quoted-strings."""
    value = joined(fields, name)
    if value is None:
        return _NO_DIRECTIVES
    return _remembered(value) if len(value) <= _WORTH_REMEMBERING else _directives(value)


def _directives(value: str) -> Directives:
    occurrences: dict[str, list[str | None]] = {}
    for member in list_members(value):
        directive, equals, text = member.partition("=")
        name = directive.rstrip(OWS)
        # No space may stand before the `=`; the directive counts all the same, its argument does not.
        argument = _unquoted(text) if name == directive else ""
        occurrences.setdefault(name.lower(), []).append(argument if equals else None)
    return Directives(occurrences)


# Every decision asks for the same few values again and again.  Long ones are nobody's but an attacker's.
_WORTH_REMEMBERING: Final = 256
_remembered = lru_cache(maxsize=256)(_directives)
_NO_DIRECTIVES: Final = Directives({})


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return text


def end_to_end(fields: Fields) -> CIMultiDict[str]:
    """A copy without hop-by-hop fields and those that `Connection` nominates (RFC 9110 section 7.6.1)."""
    nominated = {option.lower() for option in list_members(joined(fields, "Connection") or "")}
    dropped = HOP_BY_HOP | nominated
    return CIMultiDict((name, value) for name, value in fields.items() if name.lower() not in dropped)


def is_coded(fields: Fields) -> bool:
    """Whether the representation has a content coding (RFC 9110 section 8.4)."""
    return (joined(fields, "Content-Encoding") or "identity").strip(OWS).lower() != "identity"


def serialize_head(first_line: str, fields: Fields) -> bytes:
    """A message head.  Bytes that were not UTF-8 when they came (surrogates, in Python) go out as they came."""
    lines = [first_line, *(f"{name}: {value}" for name, value in fields.items()), "\r\n"]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")
