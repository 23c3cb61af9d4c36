"""Cross-origin access for range clients in browsers (the Fetch standard's CORS protocol).

PMTiles, GeoTIFF or PDF viewers on another site send `Range` and must read `Content-Range`; both need a word from us.
"""

from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict

from proxy.semantics.fields import Fields, joined, list_members
from proxy.semantics.request import ClientRequest

ALLOWED_METHODS: Final = "GET, HEAD"
ALLOWED_FIELDS: Final = (
    "Range, If-Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, Want-Repr-Digest"
)
_OF_THE_ORIGIN: Final = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
)
EXPOSED_FIELDS: Final = "Content-Range, Accept-Ranges, ETag, Content-Length, Repr-Digest"


@dataclass(frozen=True, slots=True)
class Cors:
    """Who may read: web origins, or `*` for any.  Browsers remember a preflight for `max_age` seconds."""

    allow_origins: frozenset[str]
    max_age: int

    def allowed(self, request: ClientRequest) -> str | None:
        """The value of Access-Control-Allow-Origin for this request, None if its site may not read."""
        if "*" in self.allow_origins:
            return "*"
        origin = joined(request.fields, "Origin")
        return origin if origin in self.allow_origins else None


def is_preflight(request: ClientRequest) -> bool:
    """Whether a browser asks beforehand what it may send."""
    return (
        request.method == "OPTIONS"
        and "Origin" in request.fields
        and "Access-Control-Request-Method" in request.fields
    )


def preflight_fields(cors: Cors, request: ClientRequest) -> CIMultiDict[str]:
    """The fields of the answer to a preflight: a 204."""
    fields: CIMultiDict[str] = CIMultiDict({"Vary": "Origin"})
    allowed = cors.allowed(request)
    if allowed is not None:
        fields["Access-Control-Allow-Origin"] = allowed
        fields["Access-Control-Allow-Methods"] = ALLOWED_METHODS
        fields["Access-Control-Allow-Headers"] = ALLOWED_FIELDS
        fields["Access-Control-Max-Age"] = str(cors.max_age)
    return fields


def add_cors(fields: CIMultiDict[str], cors: Cors, request: ClientRequest) -> None:
    """Let the request's site read the answer; the route's word replaces the origin's."""
    allowed = cors.allowed(request)
    for name in _OF_THE_ORIGIN:
        fields.popall(name, None)
    if allowed is not None:
        fields["Access-Control-Allow-Origin"] = allowed
        fields["Access-Control-Expose-Headers"] = EXPOSED_FIELDS
    if "*" not in cors.allow_origins:
        _vary_on_origin(fields)


def _vary_on_origin(fields: CIMultiDict[str]) -> None:
    varies: Fields = fields
    named = list_members(joined(varies, "Vary") or "")
    if not {"origin", "*"} & {name.lower() for name in named}:
        fields["Vary"] = ", ".join([*named, "Origin"])
