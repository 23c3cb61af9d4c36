"""Answers of an origin, as the tests of storing and reuse write them down, and what a cache makes of them."""

from dataclasses import replace

from multidict import CIMultiDict

from proxy.semantics.fields import format_http_date
from proxy.semantics.freshness import Stored
from proxy.semantics.policy import CachePolicy
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest
from proxy.semantics.storing import Store, judge
from proxy.semantics.validators import EntityTag, origin_validators
from tests.semantics.exchanges import Lines, request

NOW = 1_700_000_000
POLICY = CachePolicy()
VIDEO = {"Content-Type": "video/mp4"}
HTML = {"Content-Type": "text/html"}
TAG = {"ETag": '"x"'}
COOKIE = {"Cookie": "session=1"}
BASIC = {"Authorization": "Basic dTpw"}


def cc(directives: str) -> dict[str, str]:
    """A Cache-Control field."""
    return {"Cache-Control": directives}


def date(offset: int = 0) -> str:
    """The HTTP-date `offset` seconds after NOW."""
    return format_http_date(NOW + offset)


def page(lines: Lines | None = None) -> ClientRequest:
    """A request for something whose path does not look like media."""
    return replace(request(lines), target="/page", path="/page")


def fetched(
    lines: Lines,
    *,
    at: int = NOW,
    asked: ClientRequest | None = None,
    policy: CachePolicy = POLICY,
    status: int = 200,
) -> Stored:
    """What the cache holds after `asked` was answered with these lines."""
    judgement = judge(asked or request(), status, CIMultiDict(lines), policy, at)
    assert isinstance(judgement, Store)
    validators = origin_validators(judgement.fields, EntityTag("ours"))
    representation = Representation(status, judgement.fields, validators, 1000)
    return Stored(representation, at, at, judgement.vary, judgement.scope)
