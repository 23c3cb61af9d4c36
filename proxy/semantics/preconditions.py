"""Conditional requests: what a request's preconditions make of a response (RFC 9110 section 13)."""

from dataclasses import dataclass
from enum import Enum, auto

from proxy.semantics.fields import joined, only, parse_http_date
from proxy.semantics.request import ClientRequest
from proxy.semantics.validators import EntityTag, Validators, parse_entity_tags


class Verdict(Enum):
    """What the preconditions decide."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    PRECONDITION_FAILED = auto()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The verdict and, where it is PROCEED, whether the request's Range is to be looked at."""

    verdict: Verdict
    range_applies: bool = False


def evaluate(request: ClientRequest, validators: Validators, status: int = 200) -> Evaluation:
    """Evaluate all preconditions in the order of section 13.2.2, for a response that would have `status`.

    They are for responses that succeed (section 13.2.1), and a Range for a 200.  We stand for the origin, so
    `If-Match` and `If-Unmodified-Since` count too.  A tag list that cannot be read matches nothing.
    """
    if not 200 <= status < 300:
        return Evaluation(Verdict.PROCEED)
    if _changed(request, validators):
        return Evaluation(Verdict.PRECONDITION_FAILED)
    reads = request.method in ("GET", "HEAD")
    if "If-None-Match" in request.fields:
        if not _none_match(request, validators):
            return Evaluation(Verdict.NOT_MODIFIED if reads else Verdict.PRECONDITION_FAILED)
    elif reads and not _modified_since(request, validators):
        return Evaluation(Verdict.NOT_MODIFIED)
    return Evaluation(Verdict.PROCEED, status == 200 and _range_applies(request, validators))


def _changed(request: ClientRequest, validators: Validators) -> bool:
    """Whether `If-Match` is false or, without it, `If-Unmodified-Since` (sections 13.1.1 and 13.1.4)."""
    if (value := joined(request.fields, "If-Match")) is not None:
        tags = parse_entity_tags(value)
        if tags == "*":
            return False
        etag = validators.etag
        return not any(etag and etag.strongly_matches(tag) for tag in tags or ())
    since = parse_http_date(only(request.fields, "If-Unmodified-Since") or "")
    return since is not None and validators.last_modified is not None and validators.last_modified > since


def _none_match(request: ClientRequest, validators: Validators) -> bool:
    """Whether `If-None-Match` is true (section 13.1.2)."""
    tags = parse_entity_tags(joined(request.fields, "If-None-Match") or "")
    if tags == "*":
        return False
    ours = (*validators.known_as, validators.etag)
    return not any(our and our.weakly_matches(tag) for tag in tags or () for our in ours)


def _modified_since(request: ClientRequest, validators: Validators) -> bool:
    """Whether `If-Modified-Since` is true or to be ignored (section 13.1.3).

    A stored response without `Last-Modified` is as old as its `Date` (RFC 9111 section 4.3.2).
    """
    since = parse_http_date(only(request.fields, "If-Modified-Since") or "")
    modified = validators.date if validators.last_modified is None else validators.last_modified
    return since is None or modified is None or modified > since


def _range_applies(request: ClientRequest, validators: Validators) -> bool:
    """Whether there is one Range, on a GET, and `If-Range` is absent or true (sections 13.1.5, 14.2)."""
    if request.method != "GET" or only(request.fields, "Range") is None:
        return False
    if "If-Range" not in request.fields:
        return True
    value = only(request.fields, "If-Range") or ""
    if tag := EntityTag.parse(value):
        return validators.etag is not None and validators.etag.strongly_matches(tag)
    date = parse_http_date(value)
    return date is not None and date == validators.strong_date()
