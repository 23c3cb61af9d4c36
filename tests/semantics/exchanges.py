"""Requests and representations for the tests of `semantics`, and what a plan looks like on the wire."""

from typing import NamedTuple

from multidict import CIMultiDict

from proxy.semantics.fields import end_to_end
from proxy.semantics.plan import ResponsePlan, Rest
from proxy.semantics.ranges import Slice
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest
from proxy.semantics.validators import EntityTag, origin_validators

LAST_MODIFIED = "Wed, 25 Jun 2014 17:12:18 GMT"
LATER = "Wed, 25 Jun 2014 17:12:19 GMT"
DATE = "Sat, 28 Jun 2014 09:00:00 GMT"
BOUNDARY = "THIS_STRING_SEPARATES"
OURS = EntityTag("ours-1")

Lines = dict[str, str] | list[tuple[str, str]]


def request(lines: Lines | None = None, *, method: str = "GET") -> ClientRequest:
    """A request for one object, with these fields."""
    return ClientRequest(
        method=method,
        target="/v.mp4",
        path="/v.mp4",
        query=None,
        scheme="http",
        host="example.com",
        fields=CIMultiDict(lines or {}),
        peer="192.0.2.1",
        client="192.0.2.1",
    )


def stored(
    lines: Lines, length: int | None, *, status: int = 200, ours: EntityTag | None = OURS
) -> Representation:
    """A representation as the cache makes it from the origin's fields; `Date` is added if absent."""
    fields = end_to_end(CIMultiDict(lines))
    fields.setdefault("Date", DATE)
    return Representation(status, fields, origin_validators(fields, ours), length)


def body(plan: ResponsePlan, data: bytes) -> bytes:
    """The bytes that a delivery of `plan` over `data` sends."""
    chunks = []
    for part in plan.parts:
        match part:
            case Slice(start, stop):
                assert stop <= len(data)
                chunks.append(data[start:stop])
            case Rest(start):
                chunks.append(data[start:])
            case _:
                chunks.append(part)
    return b"".join(chunks)


class BodyPart(NamedTuple):
    """One part of a multipart/byteranges body: `first` and `last` are inclusive positions."""

    first: int
    last: int
    complete_length: str
    content_type: str | None
    content: bytes


def parse_byteranges(content: bytes, boundary: str) -> list[BodyPart]:
    """Take a multipart/byteranges body apart, by the letter of RFC 2046 and the lengths in Content-Range."""
    delimiter = b"--" + boundary.encode()
    parts: list[BodyPart] = []
    position = len(b"\r\n")
    assert content.startswith(b"\r\n" + delimiter), "the preamble is empty, and ends with its line"
    while True:
        position += len(delimiter)
        if content[position:] == b"--\r\n":
            return parts
        assert content[position : position + 2] == b"\r\n"
        end_of_head = content.index(b"\r\n\r\n", position)
        head = dict(line.split(b": ", 1) for line in content[position + 2 : end_of_head].split(b"\r\n"))
        unit, _, positions = head.pop(b"Content-Range").decode().partition(" ")
        first, last, complete_length = positions.replace("/", "-").split("-")
        content_type = head.pop(b"Content-Type", None)
        assert unit == "bytes"
        assert not head
        start = end_of_head + 4
        stop = start + int(last) - int(first) + 1
        text = None if content_type is None else content_type.decode()
        parts.append(BodyPart(int(first), int(last), complete_length, text, content[start:stop]))
        assert content[stop : stop + 2] == b"\r\n"
        position = stop + 2
        assert content.startswith(delimiter, position)
