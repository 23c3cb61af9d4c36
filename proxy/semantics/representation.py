"""The selected representation: what a stored or arriving 200 is, apart from its bytes."""

from dataclasses import dataclass

from proxy.semantics.fields import Fields
from proxy.semantics.validators import Validators


@dataclass(frozen=True, slots=True)
class Representation:
    """Status, fields and validators of one stored (or passing) response.

    `fields` are the origin's end-to-end fields as received (RFC 9110 section 7.6.1), with `Date` added where
    the origin sent none; `ETag` in them is the origin's, if any: the tag to emit is `validators.etag`.
    `complete_length` is in bytes, and None until it is known; so is `digest`, the SHA-256 of all its bytes.
    """

    status: int
    fields: Fields
    validators: Validators
    complete_length: int | None
    digest: bytes | None = None
