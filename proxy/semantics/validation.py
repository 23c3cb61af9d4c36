"""Asking the origin whether a stored response still holds, and what its answer does to it (RFC 9111 section 4.3)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.semantics.fields import (
    Fields,
    end_to_end,
    format_http_date,
    joined,
    only,
    parse_directives,
    parse_http_date,
)
from proxy.semantics.freshness import Stored
from proxy.semantics.validators import EntityTag

MOST_OFFERED: Final = 16
"""Tags in one If-None-Match: an origin need not read more."""


def conditions(stored: Stored) -> CIMultiDict[str]:
    """The fields that ask an origin whether a response still holds: by its validators, not ours (4.3.1)."""
    asked: CIMultiDict[str] = CIMultiDict()
    if (tag := origin_tag(stored)) is not None:
        asked["If-None-Match"] = str(tag)
    if (modified := _last_modified(stored.representation.fields)) is not None:
        asked["If-Modified-Since"] = modified
    return asked


def offer(siblings: Sequence[Stored]) -> CIMultiDict[str]:
    """The field that asks whether one of these, which other requests select, answers this one too.

    By their tags alone: a date speaks of what the request selects.
    """
    tags = [str(tag) for each in siblings if (tag := origin_tag(each)) is not None]
    return CIMultiDict({"If-None-Match": ", ".join(tags[:MOST_OFFERED])} if tags else {})


def origin_tag(stored: Stored) -> EntityTag | None:
    """The tag that the origin gave it."""
    return EntityTag.parse(only(stored.representation.fields, "ETag") or "")


def can_be_validated(fields: Fields) -> bool:
    """Has a response a validator that its origin can be asked by?"""
    return EntityTag.parse(only(fields, "ETag") or "") is not None or _last_modified(fields) is not None


def _last_modified(fields: Fields) -> str | None:
    modified = only(fields, "Last-Modified")
    return modified if modified is not None and parse_http_date(modified) is not None else None


# These describe the bytes we hold, their generation or the variant they are; the 304 carries no bytes.
_OF_THE_STORED_BYTES: Final = frozenset(
    {
        "content-digest",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "content-type",
        "digest",
        "etag",
        "last-modified",
        "repr-digest",
        "vary",
    }
)


def confirms(stored: Stored, fields: Fields) -> bool:
    """Whether a 304 with these fields speaks of this stored response (section 4.3.4).

    A tag has to match the origin's (strongly, if the 304's is strong); without one, Last-Modified has to be
    equal.  What the 304 leaves out cannot contradict.
    """
    if "ETag" in fields:
        tag, ours = EntityTag.parse(only(fields, "ETag") or ""), origin_tag(stored)
        if tag is None or ours is None:
            return False
        return tag.weakly_matches(ours) if tag.weak else tag.strongly_matches(ours)
    modified = only(fields, "Last-Modified")
    return modified is None or modified == only(stored.representation.fields, "Last-Modified")


def is_meant(stored: Stored, fields: Fields) -> bool:
    """Whether a 304 with these fields says that this response, which another request selected, is the answer here.

    It has to name the tag, and nothing that differs: an origin whose tags do not tell its variants apart is found out
    by that, if it is found out at all.
    """
    told = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Location")
    same = all(
        name not in fields or joined(fields, name) == joined(stored.representation.fields, name)
        for name in told
    )
    return "ETag" in fields and same and confirms(stored, fields)


def is_personal(stored: Stored, fields: Fields) -> bool:
    """Whether a 304 with these fields speaks to one client: it sets a cookie, and nothing says `public`."""
    said = (parse_directives(each) for each in (fields, stored.representation.fields))
    return "Set-Cookie" in fields and not any("public" in directives for directives in said)


def news(fields: Fields) -> CIMultiDict[str]:
    """What a 304 tells of the answer that it stands for, and not of the stored bytes."""
    told = end_to_end(fields).items()
    return CIMultiDict((name, value) for name, value in told if name.lower() not in _OF_THE_STORED_BYTES)


def _is_of_freshness(name: str) -> bool:
    return name in {"age", "date", "expires", "pragma"} or name.endswith("cache-control")


def freshened(stored: Stored, fields: Fields, request_time: int, response_time: int) -> Stored:
    """The stored response after a 304 with these fields, sent for and received at these times (section 3.2).

    Validators stay as they are: they name a generation of bytes.  Judge the outcome again: the 304 may have
    brought a `no-store`.  One that `is_personal` renews no more than how long the response is fresh.
    """
    told = news(fields)
    told.popall("Set-Cookie", None)  # for the one client whose request was validated
    if is_personal(stored, fields):
        told = CIMultiDict((name, value) for name, value in told.items() if _is_of_freshness(name.lower()))
    # An old Age or Date would count the time before this validation twice.
    replaced = {name.lower() for name in told} | {"age", "date"}
    old = stored.representation.fields
    merged = CIMultiDict((name, value) for name, value in old.items() if name.lower() not in replaced)
    merged.extend(told)
    merged.setdefault("Date", format_http_date(response_time))
    return replace(
        stored,
        representation=replace(stored.representation, fields=CIMultiDictProxy(merged)),
        request_time=request_time,
        response_time=response_time,
        stale_since=None,
    )


def describes(stored: Stored, status: int, fields: Fields, length: int | None) -> bool:
    """Whether a head without its body, its Content-Length `length` if it has one, speaks of what is stored.

    It has to name the same type, coding, length and validators, and there must be something to tell by.
    """
    representation = stored.representation
    ours = representation.fields
    told = ("Content-Type", "Content-Encoding", "ETag", "Last-Modified")
    return (
        status == representation.status
        and all(joined(fields, name) == joined(ours, name) for name in told)
        and length in {None, representation.complete_length}
        and (length is not None or can_be_validated(fields))
    )
