"""Digests of whole representations (RFC 9530): whether a client wants one, and how it is told.  SHA-256 is ours.

On a 304 there is none: it sends no metadata but what guides a cache (RFC 9110 section 15.4.5), and the tag does
that.  Our errors have content of their own.
"""

from typing import Any

import http_sf

from proxy.semantics.fields import Fields, joined
from proxy.semantics.representation import Representation


def sha256_weight(fields: Fields) -> int | None:
    """A request's preference for SHA-256 in `Want-Repr-Digest` (section 4): 1 to 10 wanted, 0 not acceptable.

    None if it has none: a malformed field says nothing, nor does a weight that is no integer from 0 to 10.
    """
    value = joined(fields, "Want-Repr-Digest")
    if value is None:
        return None
    try:
        wanted: Any = http_sf.parse(value.encode(), tltype="dictionary")
    except (http_sf.StructuredFieldError, UnicodeEncodeError):
        return None
    match wanted:
        case {"sha-256": (int(weight), _)} if not isinstance(weight, bool) and 0 <= weight <= 10:
            return weight
        case _:
            return None


def wants_digest(fields: Fields, representation: Representation) -> bool:
    """Whether a request with these fields wants a digest of this from us."""
    return _may_tell(representation) and bool(sha256_weight(fields))


def repr_digest(fields: Fields, representation: Representation) -> str | None:
    """The value of `Repr-Digest` (section 3) in a 200 or 206 to a request with these fields; None for no such field.

    Unasked, too, where the digest is known.
    """
    digest = representation.digest
    if digest is None or not _may_tell(representation) or sha256_weight(fields) == 0:
        return None
    return http_sf.ser({"sha-256": digest})


def _may_tell(representation: Representation) -> bool:
    """Is it a 200 whose digest the origin has not given?  What it gave stays as it is, whichever the algorithms."""
    return representation.status == 200 and "Repr-Digest" not in representation.fields
