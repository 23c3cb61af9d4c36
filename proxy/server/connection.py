"""aiohttp's server, where its answer to a broken request would not be ours."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, RequestPayloadError
from multidict import CIMultiDict
from yarl import URL

from proxy.exact import describe
from proxy.semantics.cache_status import CacheStatus, render
from proxy.server.exchange import Exchange
from proxy.server.parsing import AnyMethodParser, RequestParser

REFUSAL_TIMEOUT = 5.0
"""Seconds that a client has to take a refusal."""

_NO_URL: Final = URL("/")

OnRefusal = Callable[[web.BaseRequest, int, str, str], None]
"""Told of each request that was no HTTP: status, reason, and why in the parser's words."""

_log = structlog.stdlib.get_logger("server")


class Connection(RequestHandler):
    """One client's connection.  `max_line_size` and `max_field_size` are bytes; longer ones get 414 and 431."""

    def __init__(
        self, listener: "Listener", *, max_line_size: int, max_field_size: int, **settings: Any
    ) -> None:
        loop = asyncio.get_running_loop()
        # The parser's complaint names only the limit: one byte tells fields from request lines.
        settings |= {"max_line_size": max_line_size, "max_field_size": max_field_size + 1}
        super().__init__(listener, loop=loop, **settings)
        self._name = listener.name
        self._on_refusal = listener.on_refusal
        self._longest_line = max_line_size

        def make_slow() -> AnyMethodParser:
            return AnyMethodParser(
                self,
                loop,
                self._read_bufsize,
                max_line_size=self.max_line_size,
                max_headers=self.max_headers,
                max_field_size=self.max_field_size,
                payload_exception=RequestPayloadError,
                auto_decompress=False,
                max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
            )

        assert self._parser is not None
        self._parser = RequestParser(self._parser, make_slow)  # type: ignore[assignment]  # all it needs

    def close(self) -> None:
        """The service ends: an idle connection goes now (aiohttp would keep it), a busy one after its answer."""
        idle = self._waiter is not None and not self._waiter.done()
        super().close()
        if idle and self.transport is not None:
            self.transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be parsed gets a short answer in our form, and the connection ends (RFC 9112 section 2.2)."""
        status, reason = self._fault(status, exc)
        if status >= 500:
            _log.error("a request failed", reason=reason, exc_info=exc)
        if request.writer.output_size > 0:
            if request.transport is not None:
                request.transport.abort()  # the answer has begun; nobody shall take it for a whole one
            raise ConnectionError("an answer is half sent, an error cannot follow it")
        self._on_refusal(request, status, reason, describe(exc) if exc is not None else message or reason)
        return _Refusal(request, status, reason, self._name)  # type: ignore[return-value]  # all it needs

    def _fault(self, status: int, error: BaseException | None) -> tuple[int, str]:
        match error:
            case LineTooLong(args=(_, self._longest_line, *_)):
                return 414, "target-too-long"
            case LineTooLong():
                return 431, "header-too-large"
            case BadHttpMessage(message="Too many headers received"):
                return 431, "too-many-fields"
            case _ if status == 400:
                return 400, "malformed-request"
            case _:
                return status, "internal-error"


class _Refusal:
    """To aiohttp, a handler's response."""

    keep_alive = False

    def __init__(self, request: web.BaseRequest, status: int, reason: str, name: str) -> None:
        self._exchange = Exchange(request, send_idle=REFUSAL_TIMEOUT)
        self._exchange.keep_alive = False
        self._status = status
        self._body = f"{status} {HTTPStatus(status).phrase}: {reason}\n".encode()
        self._fields = CIMultiDict(
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Cache-Control": "no-store",
                "Cache-Status": render(name, CacheStatus(detail=reason)),
            }
        )

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing to prepare."""

    async def write_eof(self) -> None:
        exchange = self._exchange
        await exchange.start(self._status, self._fields, length=len(self._body), now=int(time.time()))
        await exchange.write(self._body)
        await exchange.finish()


class Listener(web.Server):
    """Makes a `Connection` for each client.  `settings` are RequestHandler's."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[Any]],
        *,
        name: str,
        on_refusal: OnRefusal,
        **settings: Any,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.name = name
        self.on_refusal = on_refusal
        self._settings = settings

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """Without the URL that aiohttp makes of an absolute target: it cannot make one of every host, and fails then.

        `read_request` reads the target as it came.
        """
        if message.url.absolute:
            message = message._replace(url=_NO_URL)
        return super()._make_request(message, payload, protocol, writer, task)

    def __call__(self) -> Connection:
        return Connection(self, access_log=None, **self._settings)
