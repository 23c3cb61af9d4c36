"""What is told of a request: its log line, its metrics, and to the client the error that ended it."""

import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from multidict import CIMultiDict

from proxy.errors import AdapterError, OnlyIfCached, OriginError, SpoolError
from proxy.incidents import Incidents
from proxy.semantics.cache_status import CacheStatus, render
from proxy.semantics.cors import Cors, add_cors
from proxy.semantics.fields import joined
from proxy.semantics.request import ClientRequest
from proxy.server.exchange import Exchange
from proxy.server.lines import NO_REMARKS, About, Line, Lines, Remarks
from proxy.server.metrics import Metrics

RETRY_AFTER = 5
"""Seconds after which a client may try again what we could not take on."""
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"})
"""Methods with a metric of their own; a client could invent any number of others."""


@dataclass(slots=True)
class Visit:
    """What becomes known of one request on its way."""

    begun: float = field(default_factory=time.monotonic)
    request: ClientRequest | None = None
    route: str = ""
    origin: str = ""
    cors: Cors | None = None
    status: CacheStatus | None = None
    key: str | None = None
    reason: str = ""
    range_ignored: str | None = None
    unreadable: str | None = None
    """Why the request was none; what aiohttp says of its method and target then is made up."""

    def forwarded(self, status: CacheStatus) -> None:
        """What is known before there is an answer: the request waits for the origin's."""
        self.status = status

    def cache_status(self) -> CacheStatus:
        """What Cache-Status tells of it."""
        status = self.status or CacheStatus()
        return status if self.key is None else replace(status, key=self.key)

    def ignored_range(self, reason: str | None) -> None:
        """The whole is the answer although a part was asked for: say why, unless there is more to say."""
        self.range_ignored = reason
        if reason is not None and self.status is not None and self.status.detail is None:
            self.status = replace(self.status, detail=reason)


class Access:
    """`name` is what we call ourselves in Cache-Status."""

    def __init__(self, metrics: Metrics, incidents: Incidents, *, name: str, log: bool) -> None:
        self._metrics = metrics
        self._incidents = incidents
        self._name = name
        self.lines = Lines()
        self._log = log and self.lines.wanted

    def cache_status(self, status: CacheStatus, upstream: str | None = None) -> str:
        """The Cache-Status field's value, behind that of a cache `upstream`."""
        return render(self._name, status, upstream)

    def failed(self, visit: Visit, error: AdapterError) -> None:
        """This ended the request."""
        visit.reason = error.reason
        if error.status < 500 or isinstance(error, OnlyIfCached):
            return  # that is what the client wanted
        event = "the origin failed" if isinstance(error, OriginError) else "a request failed"
        self._incidents.note(
            event, about=visit.origin, reason=error.reason, why=str(error), route=visit.route
        )

    async def refuse(self, exchange: Exchange, error: AdapterError, visit: Visit) -> None:
        """Answer with the error: its status, and a short body that names its reason and nothing of our inside."""
        status = replace(visit.cache_status(), hit=False, ttl=None, stored=False, detail=error.reason)
        body = f"{error.status} {HTTPStatus(error.status).phrase}: {error.reason}\n".encode()
        fields = CIMultiDict(
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Cache-Control": "no-store",
                "Cache-Status": self.cache_status(status),
            }
        )
        if error.status == 503:
            fields["Retry-After"] = str(RETRY_AFTER)
        if error.status in {400, 408}:
            exchange.keep_alive = False  # who knows where the next request begins?
        if visit.cors is not None and visit.request is not None:
            add_cors(fields, visit.cors, visit.request)
        await exchange.start(error.status, fields, length=len(body), now=int(time.time()))
        await exchange.write(body)
        await exchange.finish()

    def record(self, exchange: Exchange, visit: Visit) -> None:
        """The request is over: count it and write its line."""
        seconds = time.monotonic() - visit.begun
        raw, request = exchange.request, visit.request
        method = raw.method if raw.method in KNOWN_METHODS else "other"
        cache = _cache_word(visit.status)
        self._metrics.count((visit.route, method, exchange.status, cache), exchange.body_bytes, seconds)
        if visit.reason:
            self._metrics.failures.labels(visit.route, visit.reason).inc()
        if not self._log:
            return
        readable = visit.unreadable is None
        about = About(
            client=request.client if request else raw.remote,
            method=raw.method if readable else None,
            target=raw.raw_path if readable else None,
            protocol=f"HTTP/{raw.version.major}.{raw.version.minor}" if readable else None,
            host=request.host if request else raw.headers.get("Host"),
            route=visit.route,
            referer=raw.headers.get("Referer"),
            user_agent=raw.headers.get("User-Agent"),
        )
        self.lines.note(
            Line(
                when=time.time(),
                about=about,
                status=exchange.status,
                bytes=exchange.body_bytes,
                range=joined(raw.headers, "Range") if request else None,
                seconds=seconds,
                cache=cache,
                remarks=Remarks(
                    range_ignored=visit.range_ignored,
                    detail=visit.status.detail if visit.status else None,
                    reason=visit.reason or None,
                    why=visit.unreadable,
                    aborted=exchange.aborted or None,
                ),
            )
        )

    def record_warm(
        self,
        about: About,
        origin: str,
        asked: bytes | None,
        status: int,
        begun: float,
        size: int,
        error: BaseException | None = None,
    ) -> None:
        """The same for a GET that the warm lane has answered; `error` is what cut the answer short."""
        seconds = time.monotonic() - begun
        remarks = NO_REMARKS
        self._metrics.count((about.route, "GET", status, "hit"), size, seconds)
        self._metrics.lane_requests += 1
        if error is not None:
            reason = self._why_cut(about.route, origin, error)
            remarks = Remarks(reason=reason, aborted=True)
            self._metrics.failures.labels(about.route, reason).inc()
        if self._log:
            told = None if asked is None else "bytes=" + asked.decode()
            line = time.time(), about, status, size, told, seconds, "hit", remarks
            self.lines.note(tuple.__new__(Line, line))  # Line(...) takes three times as long

    def _why_cut(self, route: str, origin: str, error: BaseException) -> str:
        visit = Visit(route=route, origin=origin)
        match error:
            case AdapterError():
                self.failed(visit, error)
            case TimeoutError():
                visit.reason = "send-timeout"
            case ConnectionError():
                visit.reason = "client-gone"
            case OSError():
                self.failed(visit, SpoolError(f"cannot send from the spool: {error.strerror}"))
            case _:
                visit.reason = "stopped"
        return visit.reason


def _cache_word(status: CacheStatus | None) -> str:
    if status is None:
        return "none"
    if status.hit:
        return "hit"
    if status.collapsed:
        return "collapsed"
    return status.forward.value if status.forward else "none"
