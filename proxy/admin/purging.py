"""`POST /purge`: read as a whole, understood as a whole, and only then carried out."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiohttp import web
from multidict import CIMultiDict

from proxy.admin.token import Token
from proxy.errors import AdapterError, ClientError
from proxy.semantics.purging import MAX_TAG_LENGTH, Everything, Purge, Tagged, Targets, Under, tags_of

MAX_BODY: Final = 1 << 20
"""Bytes of a request."""
MAX_THINGS: Final = 1000
"""URLs and tags in one request."""

_KEYS: Final = ("urls", "tags", "all", "soft")
_log = structlog.stdlib.get_logger("admin")


class Purger(Protocol):
    """Knows what URLs stand for, and does it."""

    def meant_by(self, url: str) -> Targets | Under: ...
    async def purge(self, what: Purge, *, soft: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a request wants; `soft`: made stale, not removed."""

    urls: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    everything: bool = False
    soft: bool = False


def purge_door(purger: Purger, token: Token) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of `/purge`, whatever the method."""

    async def purge(request: web.Request) -> web.Response:
        if request.method != "POST":
            return _refusal(405, "send a POST", Allow="POST")
        if not token.is_in(request.headers):
            wanted = f"bring the token: Authorization: Bearer TOKEN; it is {token.place}"
            return _refusal(401, wanted, **{"WWW-Authenticate": "Bearer"})
        if request.content_type != "application/json":
            return _refusal(415, "send JSON, with Content-Type: application/json")
        try:
            order = read_order(await _body(request))
            purges = _purges(order, purger)
        except ClientError as error:
            return _refusal(400, str(error))
        purged: list[str] = []
        for what, names in purges.items():
            try:
                await purger.purge(what, soft=order.soft)
            except AdapterError as error:
                total = sum(map(len, purges.values()))
                return _refusal(error.status, f"{names[0]}: {error} ({len(purged)} of {total} are purged)")
            purged += names
            for name in names:
                _log.info("purged", what=name, soft=order.soft, client=request.remote)
        return web.json_response({"purged": purged, "soft": order.soft})

    return purge


def read_order(body: bytes) -> Order:
    """The order in a request's body.  Raises ClientError, in words for the sender."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ClientError(f"this is no JSON: {error}") from None
    if not isinstance(sent, dict):
        raise ClientError('send an object, such as {"urls": ["http://host/path"]}')
    if unknown := [key for key in sent if key not in _KEYS]:
        raise ClientError(f"there is no key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    order = Order(_texts(sent, "urls"), _texts(sent, "tags"), _flag(sent, "all"), _flag(sent, "soft"))
    count = len(order.urls) + len(order.tags)
    if count > MAX_THINGS:
        raise ClientError(f"these are {count} URLs and tags; send at most {MAX_THINGS} at once")
    if order.everything and count:
        raise ClientError("all purges everything; leave urls and tags out")
    if not order.everything and not count:
        raise ClientError('there is nothing to purge; name urls or tags, or send {"all": true}')
    for tag in order.tags:
        if tags_of(CIMultiDict({"tags": tag}), ("tags",)) != (tag,):
            what = f"spaces, commas or more than {MAX_TAG_LENGTH} characters"
            raise ClientError(f"no answer has the tag {tag[:100]!r}: tags have no {what}")
    return order


def _purges(order: Order, purger: Purger) -> dict[Purge, list[str]]:
    """What the order means, each with the names that the answer calls it by.

    All URLs of single objects are one purge: each is made durable by itself.
    """
    digests: set[bytes] = set()
    objects: list[str] = []
    purges: dict[Purge, list[str]] = {Everything(): ["everything"]} if order.everything else {}
    for url in order.urls:
        what = purger.meant_by(url)
        if isinstance(what, Targets):
            digests |= what.digests
            objects.append(url)
        else:
            purges.setdefault(what, []).append(url)
    for tag in order.tags:
        purges.setdefault(Tagged(tag), []).append(f"tag {tag}")
    return ({Targets(frozenset(digests)): objects} if objects else {}) | purges


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ClientError(f"the body is larger than {MAX_BODY >> 20} MiB") from None
    except web.RequestPayloadError as error:
        raise ClientError(f"the body cannot be read: {error}") from None


def _texts(sent: dict[str, Any], key: str) -> tuple[str, ...]:
    value = sent.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ClientError(f"{key} must be a list of texts, none of them empty")
    return tuple(value)


def _flag(sent: dict[str, Any], key: str) -> bool:
    value = sent.get(key, False)
    if not isinstance(value, bool):
        raise ClientError(f"{key} must be true or false")
    return value


def _refusal(status: int, why: str, **fields: str) -> web.Response:
    return web.json_response({"error": why}, status=status, headers=fields)
