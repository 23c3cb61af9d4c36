"""The doors of purging: what a URL stands for, and the method PURGE of the main listener."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol, assert_never

from multidict import CIMultiDict
from prometheus_client import CollectorRegistry, Counter

from proxy.errors import ClientError, NothingStored, PurgeDenied, UnknownHost
from proxy.routes import Mode, Routed, RouteTable
from proxy.semantics.cache_status import CacheStatus
from proxy.semantics.fields import joined
from proxy.semantics.forward import Network, is_trusted
from proxy.semantics.key import primary_key
from proxy.semantics.normalization import authority, normalised
from proxy.semantics.purging import Everything, Purge, Tagged, Targets, Under
from proxy.semantics.request import ClientRequest
from proxy.server.access import Access, Visit
from proxy.server.exchange import Exchange

SCHEMES: Final = ("http", "https")
"""Part of the key; but whoever purges means the object, however clients came by it."""

_URL: Final = re.compile(r"(?:(?i:(https?))://([^/?]*))?(.*)")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")


class Cache(Protocol):
    """What is purged: `proxy.cache.cache`, or that of another worker."""

    async def purge(self, what: Purge, *, soft: bool) -> None: ...


class Purging:
    """Purges what is named as clients name it.  `allowed` are the peers whose PURGE is obeyed."""

    def __init__(
        self,
        routes: RouteTable,
        cache: Cache,
        access: Access,
        registry: CollectorRegistry,
        *,
        allowed: Sequence[Network],
    ) -> None:
        self._routes = routes
        self._cache = cache
        self._access = access
        self._allowed = allowed
        self._count = Counter(
            "range_adapter_purges", "Purges: URLs, prefixes, tags, all.", ("kind", "soft"), registry=registry
        )

    def meant_by(self, url: str) -> Targets | Under:
        """What a URL stands for: one object, in all its variants; with `*` at its end, all that begin so.

        Without a host, `/path` stands for that path of all hosts.  Raises ClientError, which names the URL.
        """
        try:
            asked, all_hosts = _asked(url)
            if asked.target.endswith("*"):
                return self._under(asked, all_hosts=all_hosts)
            if all_hosts:
                self._check_host_tells_nothing(asked)
            return _targets(asked, self._stored(asked))
        except ClientError as error:
            raise ClientError(f"{url}: {error}", reason=error.reason) from None

    async def purge(self, what: Purge, *, soft: bool) -> None:
        """Raises SpoolError, Overloaded."""
        await self._cache.purge(what, soft=soft)
        self._count.labels(_kind(what), str(soft).lower()).inc()

    def takes(self, request: ClientRequest) -> bool:
        """Is it a purge?  Where nobody is allowed to, PURGE is a method like all others."""
        return request.method == "PURGE" and bool(self._allowed)

    async def answer(self, exchange: Exchange, visit: Visit, request: ClientRequest) -> None:
        """Do what a PURGE says.  Raises AdapterError, ConnectionError, TimeoutError.

        Who may is judged by the socket's other end: a field of the request can say anything.
        """
        if not is_trusted(request.peer, self._allowed):
            raise PurgeDenied(f"{request.peer} is not in server.purge_from")
        soft = _is_soft(request)
        asked = replace(request, method="GET")
        if request.target.endswith("*"):
            what: Purge = self._under(asked)
        else:
            routed = self._stored(asked)
            visit.route = routed.route.name
            what = _targets(asked, routed)
        await self.purge(what, soft=soft)
        done = "made stale" if soft else "purged"
        body = f"{done} {request.host}{request.target}\n".encode("utf-8", "surrogateescape")
        fields = CIMultiDict(
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Cache-Control": "no-store",
                "Cache-Status": self._access.cache_status(CacheStatus(detail="purge")),
            }
        )
        await exchange.start(200, fields, length=len(body), now=int(time.time()))
        await exchange.write(body)
        await exchange.finish()

    def _under(self, asked: ClientRequest, *, all_hosts: bool = False) -> Under:
        """All that begins so, whichever routes take it; but some route must be for the host."""
        try:
            self._routes.match(asked)
        except UnknownHost:
            if not all_hosts:
                raise
        except ClientError:
            pass  # that is said of the prefix, not of all that begins so
        host = None if all_hosts else authority(asked.host, asked.scheme)
        return Under(host, normalised(asked.target.removesuffix("*")))

    def _stored(self, asked: ClientRequest) -> Routed:
        """The route that stores what a GET is answered with."""
        routed = self._routes.match(asked)
        if routed.route.mode is not Mode.ADAPT:
            raise NothingStored(f"route {routed.route.name} stores nothing (mode {routed.route.mode.value})")
        return routed

    def _check_host_tells_nothing(self, asked: ClientRequest) -> None:
        for rule, unmet in self._routes.trace(asked):
            keyed = unmet is None and rule.route is not None and "host" in rule.route.key.parts
            if unmet == "host" or keyed:
                raise ClientError(f"name the host: http://HOST{asked.target} (or write {asked.target}*)")


def _targets(asked: ClientRequest, routed: Routed) -> Targets:
    route = routed.route
    keys = (
        primary_key(route.origin, asked.host, routed.path, routed.query, route.key, scheme=scheme)
        for scheme in SCHEMES
    )
    return Targets(frozenset(key.digest for key in keys))


def _asked(url: str) -> tuple[ClientRequest, bool]:
    """The GET of a URL, and whether it names no host.  Raises ClientError."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ClientError("write it as requests carry it: percent-encoded, the host in ASCII")
    if "#" in url:
        raise ClientError("leave out # and what follows; no request carries it")
    parts = _URL.fullmatch(url)
    assert parts is not None, "it matches anything"
    scheme, host, target = parts.groups()
    if host is not None and not _HOST.fullmatch(host):
        raise ClientError("the host is malformed; /path* stands for all hosts")
    if host is not None and not target.startswith("/"):
        target = f"/{target}"
    if not target.startswith("/"):
        raise ClientError("write http://host/path, or /path")
    scheme = (scheme or "http").lower()
    path, mark, query = target.partition("?")
    request = ClientRequest(
        method="GET",
        target=target,
        path=path,
        query=query if mark else None,
        scheme=scheme,
        host=authority(host or "", scheme),  # as clients send it, that is without the scheme's own port
        fields=CIMultiDict(),
        peer="",
        client="",
    )
    return request, host is None


def _is_soft(request: ClientRequest) -> bool:
    match joined(request.fields, "Soft-Purge"):
        case None | "0":
            return False
        case "1":
            return True
        case _:
            raise ClientError("Soft-Purge is 1 or 0", reason="bad-soft-purge")


def _kind(what: Purge) -> str:
    match what:
        case Targets():
            return "url"
        case Under():
            return "prefix"
        case Tagged():
            return "tag"
        case Everything():
            return "all"
        case _:
            assert_never(what)
