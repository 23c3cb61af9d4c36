"""Entity tags and modification dates: what tells one representation from another (RFC 9110 section 8.8)."""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from proxy.semantics.fields import OWS, Fields, is_coded, only, parse_http_date

# etagc is any visible character but DQUOTE, and obs-text.  A backslash is an ordinary character in a tag,
# and a comma may stand in one: lists of tags are not lists of quoted-strings.
_TAG: Final = r'(?P<weak>W/)?"(?P<opaque>[^\x00-\x20"\x7f]*)"'
_ENTITY_TAG: Final = re.compile(_TAG)
_ENTITY_TAGS: Final = re.compile(rf"[ \t,]*+(?:{_TAG}[ \t]*+(?:,[ \t,]*+|\Z))++")


@dataclass(frozen=True, slots=True)
class EntityTag:
    """`"opaque"` or `W/"opaque"`; `opaque` is without its quotes."""

    opaque: str
    weak: bool = False

    @classmethod
    def parse(cls, text: str) -> "EntityTag | None":
        """One entity-tag, with nothing but space around it; None if malformed."""
        match = _ENTITY_TAG.fullmatch(text.strip(OWS))
        return cls._of(match) if match else None

    @classmethod
    def _of(cls, match: re.Match[str]) -> "EntityTag":
        return cls(match["opaque"], weak=match["weak"] is not None)

    def __str__(self) -> str:
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'

    def strongly_matches(self, other: "EntityTag") -> bool:
        """Strong comparison (section 8.8.3.2): equal, and neither is weak."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def weakly_matches(self, other: "EntityTag") -> bool:
        """Weak comparison (section 8.8.3.2): equal, weak or not."""
        return self.opaque == other.opaque


def parse_entity_tags(value: str) -> tuple[EntityTag, ...] | Literal["*"] | None:
    """The value of `If-Match` or `If-None-Match`: its tags, or "*"; None if malformed or without any."""
    if value.strip(OWS) == "*":
        return "*"
    if not _ENTITY_TAGS.fullmatch(value):
        return None
    return tuple(EntityTag._of(match) for match in _ENTITY_TAG.finditer(value))


@dataclass(frozen=True, slots=True)
class Validators:
    """What a representation is known by.

    `etag` is the tag we emit.  `known_as` are other tags that match by weak comparison only: the origin's
    weak tag, where we emit our own.  Dates are seconds since the epoch: the origin's `Last-Modified` and
    `Date`.
    """

    etag: EntityTag | None
    known_as: tuple[EntityTag, ...] = ()
    last_modified: int | None = None
    date: int | None = None

    def strong_date(self) -> int | None:
        """`last_modified`, where it is a strong validator: at least a second before `date` (8.8.2.2)."""
        if self.last_modified is None or self.date is None or self.date - self.last_modified < 1:
            return None
        return self.last_modified


def origin_validators(fields: Fields, ours: EntityTag | None) -> Validators:
    """The validators of an origin's response; `ours` is the strong tag of a stored one, None if not stored.

    A strong tag of the origin is emitted as it is.  In place of a weak one, or none, or several, or a
    malformed one, `ours` is emitted; without `ours` the origin's tag is, weak or strong.

    The tag of a stored coded response counts as weak, whatever the origin says: many give the same one to the
    coded and to the plain bytes, and `If-Range` by it would splice them (section 8.8.3.3).
    """
    tag = EntityTag.parse(only(fields, "ETag") or "")
    last_modified = parse_http_date(only(fields, "Last-Modified") or "")
    date = parse_http_date(only(fields, "Date") or "")
    if ours is None:
        return Validators(tag, (), last_modified, date)
    if tag is not None and is_coded(fields):
        tag = replace(tag, weak=True)
    if tag is not None and not tag.weak:
        return Validators(tag, (), last_modified, date)
    return Validators(ours, () if tag is None else (tag,), last_modified, date)
