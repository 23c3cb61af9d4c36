"""The entity tags that we make where an origin gives none, which mean nothing to it (RFC 9110 section 8.8.3).

A fill carries no conditions at all.  What is relayed does: there, a condition that names a tag of ours is decided
here.  The origin's representation has no such tag, so `If-Match` by it is false, and `If-None-Match` true.
"""

import re
from typing import Final

from multidict import CIMultiDict

from proxy.semantics.fields import Fields, joined
from proxy.semantics.validators import EntityTag, parse_entity_tags

_OURS: Final = re.compile(r"ra-[0-9a-f]{32}")


def own_tag(generation: str) -> EntityTag:
    """The strong tag of a generation, 32 hex digits: as immutable as the bytes it names."""
    return EntityTag(f"ra-{generation}")


def is_own(tag: EntityTag) -> bool:
    """Have we made this tag, or its weak twin?"""
    return _OURS.fullmatch(tag.opaque) is not None


def without_own_tags(fields: Fields) -> CIMultiDict[str] | None:
    """A request's fields for its origin; None if `If-Match` has only tags of ours, and so cannot be met there."""
    kept = CIMultiDict(fields)
    for name in ("If-Match", "If-None-Match"):
        tags = parse_entity_tags(joined(fields, name) or "")
        if not isinstance(tags, tuple) or not any(map(is_own, tags)):
            continue
        others = [str(tag) for tag in tags if not is_own(tag)]
        if others:
            kept[name] = ", ".join(others)
        elif name == "If-Match":
            return None
        else:
            del kept[name]
    if _OURS.search(joined(fields, "If-Range") or ""):  # false there, so that Range does not count
        del kept["If-Range"]
        kept.popall("Range", None)
    return kept
