"""From a request and a representation to the whole answer: status, fields, and which bytes in which order.

A plan touches no byte of the body; delivery computes no field.  The plan does not add what belongs to the way
and not to the answer: `Age`, `Via`, `Cache-Status`, `Connection`, `Content-Length` (that is `length`).
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from multidict import CIMultiDict

from proxy.semantics.digests import repr_digest
from proxy.semantics.fields import joined
from proxy.semantics.multipart import frame
from proxy.semantics.preconditions import Verdict, evaluate
from proxy.semantics.ranges import Ignored, IntRange, RangeLimits, Slice, Unsatisfiable, parse_range, resolve
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest


@dataclass(frozen=True, slots=True)
class Rest:
    """The bytes from `start` to the end, wherever that will turn out to be."""

    start: int


Part: TypeAlias = bytes | Slice | Rest


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """One answer.

    `parts` are the body in order.  `length` is the value of Content-Length in bytes; None if the response has
    none (304, 204) or if it is not known yet.  `range_ignored` says why a Range was not honoured, if so.
    """

    status: int
    fields: CIMultiDict[str]
    parts: tuple[Part, ...]
    length: int | None
    range_ignored: str | None = None


_CONTENT_RANGE: Final = re.compile(r"[^ ]* *[0-9*]")

# What describes the content of a 200, and so not that of another response (names in lower case).  `Repr-Digest` is
# of the whole representation wherever it stands, and so right on a 206 (RFC 9530 section 3).
_WHOLE_BODY_DIGESTS: Final = frozenset({"content-digest", "content-md5", "digest"})
_CONTENT: Final = _WHOLE_BODY_DIGESTS | {
    "accept-ranges",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "repr-digest",
}
# An error of ours lies under the URL of a good object: no cache on the way may keep it.
_NOT_OF_AN_ERROR: Final = _CONTENT | {
    "cache-control",
    "content-location",
    "expires",
    "pragma",
    "surrogate-control",
}


def plan(
    request: ClientRequest,
    representation: Representation,
    *,
    limits: RangeLimits,
    boundary: str,
    available: int | None = None,
) -> ResponsePlan:
    """Plan the answer to a GET or HEAD from a selected representation.

    `boundary` separates the parts of a multipart answer (see `multipart.frame`).  `available` is how many
    bytes are there already, which counts only while `complete_length` is unknown.
    """
    response = _respond(request, representation, limits, boundary, available)
    if response.status in {200, 206} and (digest := repr_digest(request.fields, representation)):
        response.fields["Repr-Digest"] = digest
    if request.method == "HEAD":
        # Here it would have to be the digest of no content (RFC 9530 appendix B.2).
        response.fields.popall("Content-Digest", None)
        return ResponsePlan(response.status, response.fields, (), response.length, response.range_ignored)
    return response


def _respond(
    request: ClientRequest,
    representation: Representation,
    limits: RangeLimits,
    boundary: str,
    available: int | None,
) -> ResponsePlan:
    evaluation = evaluate(request, representation.validators, representation.status)
    match evaluation.verdict:
        case Verdict.NOT_MODIFIED:
            return ResponsePlan(304, _fields(representation, without=_CONTENT), (), None)
        case Verdict.PRECONDITION_FAILED:
            return _error(representation, 412, "The representation does not meet the request's precondition.")
        case Verdict.PROCEED:
            pass
        case _:
            assert_never(evaluation.verdict)
    if not evaluation.range_applies:
        return _whole(representation)
    complete_length = representation.complete_length
    selected = _select(request.fields["Range"], complete_length, limits, available)
    match selected:
        case Ignored(reason):
            return _whole(representation, range_ignored=reason)
        case Unsatisfiable():
            response = _error(representation, 416, f"The representation has {complete_length} bytes.")
            response.fields["Accept-Ranges"] = "bytes"
            response.fields["Content-Range"] = f"bytes */{complete_length}"
            return response
        case slices:
            return _partial(representation, slices, boundary)


def _select(
    value: str, complete_length: int | None, limits: RangeLimits, available: int | None
) -> tuple[Slice, ...] | Unsatisfiable | Ignored:
    specs = parse_range(value, limits)
    if isinstance(specs, Ignored):
        return specs
    if complete_length is not None:
        return resolve(specs, complete_length, limits)
    # Of an unknown length only a single closed range that is there already can be told (section 14.4).
    match specs:
        case (IntRange(first_pos, int() as last_pos),) if last_pos < (available or 0):
            return (Slice(first_pos, last_pos + 1),)
        case _:
            return Ignored("unknown-length")


def _whole(representation: Representation, range_ignored: str | None = None) -> ResponsePlan:
    length = representation.complete_length
    fields = _fields(representation)
    if representation.status == 200:
        fields["Accept-Ranges"] = "bytes"
    told = joined(representation.fields, "Content-Range")
    if told is not None and not _CONTENT_RANGE.match(told):  # just a field that nobody knows
        fields["Content-Range"] = told
    if representation.status == 204:
        return ResponsePlan(204, fields, (), None)
    if length is None:
        return ResponsePlan(representation.status, fields, (Rest(0),), None, range_ignored)
    parts = (Slice(0, length),) if length else ()
    return ResponsePlan(representation.status, fields, parts, length, range_ignored)


def _partial(representation: Representation, slices: tuple[Slice, ...], boundary: str) -> ResponsePlan:
    """A 206; several slices make it multipart, one must not (RFC 9110 section 15.3.7.2)."""
    complete_length = representation.complete_length
    fields = _fields(representation, without=_WHOLE_BODY_DIGESTS)
    fields["Accept-Ranges"] = "bytes"
    if len(slices) == 1:
        fields["Content-Range"] = slices[0].content_range(complete_length)
        return ResponsePlan(206, fields, slices, len(slices[0]))
    parts, length = frame(slices, complete_length, fields.get("Content-Type"), boundary)
    fields["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    return ResponsePlan(206, fields, parts, length)


def _error(representation: Representation, status: int, sentence: str) -> ResponsePlan:
    fields = _fields(representation, without=_NOT_OF_AN_ERROR)
    for name in {name for name in fields if name.lower().endswith("-cache-control")}:  # RFC 9213
        del fields[name]
    fields["Cache-Control"] = "no-store"
    fields["Content-Type"] = "text/plain; charset=utf-8"
    body = f"{sentence}\n".encode()
    return ResponsePlan(status, fields, (body,), len(body))


def _fields(representation: Representation, without: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """The representation's fields with the tag we emit, less its framing and the lower-case names `without`.

    Content-Range means nothing but in an answer of our own making (section 14.4).
    """
    dropped = without | {"content-length", "content-range", "etag"}
    fields = CIMultiDict(
        (name, value) for name, value in representation.fields.items() if name.lower() not in dropped
    )
    if representation.validators.etag is not None:
        fields["ETag"] = str(representation.validators.etag)
    return fields
