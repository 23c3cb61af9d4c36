"""What a route may say of its answers: what is kept, which ranges are answered, who may read them elsewhere."""

from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from proxy.config.addresses import MediaType, WebOrigin
from proxy.config.key_fields import KeyField
from proxy.config.scalars import Duration, DurationValue, Flag, Text, Token, fraction, whole_number
from proxy.config.section import OneOrMore, Section


class Query(Section):
    """Which parameters of a query matter.  The origin is not told of the others when an object is fetched."""

    keep: OneOrMore[Text] | None = None
    """Only these; `*` stands for any text.  Default: all."""
    drop: OneOrMore[Text] = ()
    """All but these: `utm_*`."""
    sort: Flag = False
    """Whether their order tells nothing: the origin gets them sorted by name."""


class Authorize(Section):
    """Whom the origin lets have an object that it keeps from others."""

    by: Literal["origin"] = "origin"
    """`origin`: each request asks it, with the client's credentials; the bytes come from the spool."""
    method: Literal["GET", "HEAD"] = "GET"
    """How it is asked; a GET is given up after the head.  Few legacy servers check a HEAD."""
    ttl: DurationValue = Duration(0)
    """How long a yes is remembered for the same credentials."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {"by": value} if isinstance(value, str) else value


class Cache(Section):
    """What is kept, for how long, and who may share it."""

    ttl: DurationValue = Duration(3600)
    """How long an object of `media_types` is fresh when its origin does not say."""
    heuristic: Annotated[float, PlainValidator(fraction, json_schema_input_type=float)] = 0.1
    """How long anything else is fresh that has only a `Last-Modified`: this share of its age then, at most `ttl`."""
    stale_if_error: DurationValue = Duration(86_400)
    """How long after its lifetime an object may be served while its origin fails, where that does not say."""
    stale_while_revalidate: DurationValue = Duration(0)
    """How long after its lifetime an object may be served while it is fetched anew, where its origin does not say."""
    respect_origin: Flag = True
    """Let the origin's `Cache-Control` and `Expires` win over `ttl`.  `no-store` and `private` always do."""
    key: OneOrMore[Literal["host", "path", "query"]] = Field(("host", "path", "query"), min_length=1)
    """What tells two objects apart.  Where an origin gets the client's host (`preserve`), `host` is among it.

    Without `query`, the origin still gets that of the request which fetches the object: it may be a signature.
    """
    query: Query = Field(default_factory=Query)
    """Which parameters of the query, where that is in `key`; the brackets of `a[]` are part of a name."""
    key_fields: OneOrMore[KeyField] = ()
    """Fields of a request that tell objects apart, too: `X-Tenant`."""
    authorize: Authorize | None = None
    """`origin`: for objects that it does not let everybody have, and that are the same for all it does."""
    shared: Flag = False
    """Whether what was fetched with a `Cookie` or `Authorization` may serve everybody."""
    ignore_cookies: OneOrMore[Text] | None = None
    """Cookies that do not make an answer personal; `*` stands for any text.  Default: common analytics."""
    media_types: OneOrMore[MediaType] | None = None
    """What `ttl` is for.  Default: video, audio, images, fonts, PDF, archives and other bulk data."""
    targeted_fields: OneOrMore[Token] = ("CDN-Cache-Control",)
    """Fields that win over `Cache-Control` (RFC 9213), the first that is there; add one of your own before it."""
    tag_fields: OneOrMore[Token] = ("Cache-Tag", "Surrogate-Key")
    """Fields of an answer that name the tags it can be purged by."""


_Limit = Annotated[int, PlainValidator(whole_number(0, 10_000), json_schema_input_type=int)]


class Ranges(Section):
    """Which range requests are answered as such; others get the whole object."""

    max: _Limit = 100
    """Ranges in one request."""
    max_overlaps: _Limit = 2
    """Ranges in one request that overlap an earlier one."""
    unknown_length_wait: DurationValue = Duration(30)
    """How long a range waits for the end of an object whose origin did not tell its length."""


class Cors(Section):
    """Which web pages of other sites may read the answers, `Content-Range` included."""

    allow_origins: OneOrMore[WebOrigin] = Field(("*",), min_length=1)
    """`*`, or a list of `https://app.example.com`."""
    max_age: DurationValue = Duration(3600)
    """How long browsers may remember the answer to a preflight request."""
