"""What a purge means: which stored answers it is about, whatever key they are stored under."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from proxy.semantics.fields import Fields

MAX_TAGS: Final = 1000
"""Of one answer; what it names beyond them is ignored."""
MAX_TAG_LENGTH: Final = 1024
"""Characters; a longer tag is ignored."""

_SEPARATORS: Final = re.compile(r"[,\s]+")


@dataclass(frozen=True, slots=True)
class Location:
    """Where clients find a stored answer.

    `host` is in lower case, None for an answer that is the same for all hosts.  `path` is path and query in the
    normal form of keys (RFC 3986 section 6.2.2).
    """

    host: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Everything:
    """All that is stored."""


@dataclass(frozen=True, slots=True)
class Under:
    """What clients find at `host` (None: at any) and at a path that begins with `prefix`, as `Location` has them.

    What is the same for all hosts is under each of them.
    """

    host: str | None
    prefix: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """What its origin has named so, to the letter."""

    tag: str


@dataclass(frozen=True, slots=True)
class Targets:
    """All answers of these targets, by the digests of their keys: every variant, for whichever credentials."""

    digests: frozenset[bytes]


Purge: TypeAlias = Everything | Under | Tagged | Targets


@dataclass(frozen=True, slots=True)
class Ban:
    """A purge that is in force: of what was asked for before the spool's `epoch` came to be this.

    A `soft` one makes stale, `since` then (seconds since the epoch of clocks); the other removes.
    """

    epoch: int
    what: Purge
    soft: bool
    since: int


def covers(what: Purge, target: bytes, location: Location, tags: Collection[str] | None) -> bool:
    """Is a purge about the answer of this target, found there and tagged so?  `tags` are None while nobody knows."""
    match what:
        case Everything():
            return True
        case Under(host, prefix):
            at_host = host is None or location.host is None or location.host == host
            return at_host and location.path.startswith(prefix)
        case Tagged(tag):
            return tags is None or tag in tags
        case Targets(digests):
            return target in digests
        case _:
            assert_never(what)


def includes(what: Purge, other: Purge) -> bool:
    """Is `what` sure to be about all that `other` is about?"""
    if isinstance(what, Under) and isinstance(other, Under):
        return what.host in {None, other.host} and other.prefix.startswith(what.prefix)
    if isinstance(what, Targets) and isinstance(other, Targets):
        return what.digests >= other.digests
    return isinstance(what, Everything) or what == other


def tags_of(fields: Fields, names: Iterable[str]) -> tuple[str, ...]:
    """The tags in the fields of these names, each once: `Cache-Tag: a, b` and `Surrogate-Key: a b` alike."""
    lines = (line for name in names for line in fields.getall(name, ()))
    tags = (tag for line in lines for tag in _SEPARATORS.split(line) if 0 < len(tag) <= MAX_TAG_LENGTH)
    return tuple(dict.fromkeys(tags))[:MAX_TAGS]
