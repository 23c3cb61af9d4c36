"""aiohttp's server, where its answer to a broken request would not be ours, and where it would wait for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, RequestPayloadError
from multidict import CIMultiDict
from yarl import URL

from proxy.exact import describe
from proxy.patience import TakesTooLittle, Watch, reset
from proxy.semantics.cache_status import CacheStatus, render
from proxy.server.exchange import Exchange
from proxy.server.limits import Place
from proxy.server.parsing import AnyMethodParser, HeadTooLarge, HeadTooSlow, Parser, RequestParser
from proxy.server.sending import Room, Sending, Way, way_of
from proxy.server.warm import Lane

REFUSAL_TIMEOUT = 5.0
"""Seconds that a client has to take a refusal."""
LINGER = 2.0
"""Seconds that it has then to close: what it still sends must not reset the connection, and the answer be lost."""
READ_SIZE = 64 << 10
"""Bytes read at a time; what a client may send ahead is a piece of that size and `AHEAD` requests."""
AHEAD = 2
WRITTEN_AHEAD = 16 << 10
"""Bytes of answers that wait here for the kernel; with more, the sender waits until none does."""

_NO_URL: Final = URL("/")

OnRefusal = Callable[[web.BaseRequest, int, str, str], None]
"""Told of each request that was no HTTP: status, reason, and why in the parser's words."""

OnTimeout = Callable[[str], None]
"""Told of each connection that ends by a limit of time, and which: head, keep_alive, send_idle, send_rate."""

_log = structlog.stdlib.get_logger("server")


class Connection(RequestHandler):
    """One client's connection, at this `place`.

    `max_line_size` and `max_field_size` are bytes, `max_headers` a number; what has more gets 414 and 431, and so has
    a head of more than `max_head` bytes.  One that is not there after `head` seconds gets 408.
    """

    _parser: Any  # a RequestParser, until the connection is lost

    def __init__(
        self,
        listener: "Listener",
        place: Place,
        *,
        head: float,
        max_head: int,
        max_line_size: int,
        max_field_size: int,
        max_headers: int,
        **settings: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        # The parser's complaint names only the limit: one byte tells fields from request lines.
        settings |= {"max_line_size": max_line_size, "max_field_size": max_field_size + 1}
        super().__init__(listener, loop=loop, max_headers=max_headers, **settings)
        self.name = listener.name
        self._place = place
        self._on_refusal = listener.on_refusal
        self._on_timeout = listener.on_timeout
        self._longest_line = max_line_size
        self._max_msg_queue_size = AHEAD
        self._msg_queue_resume_size = AHEAD // 2
        self._head = head
        self._head_due: asyncio.TimerHandle | None = None
        self._rest: Watch | None = None
        self._lane = listener.lane
        self.client = ""
        self.way: Way | None = None
        self.sending: Sending | Room | None = None
        self._lingering: asyncio.Future[None] | None = None

        # aiohttp drops it with the connection: whoever keeps another reference keeps both.
        self._parser = RequestParser(
            self._make_fast, self._make_slow, max_head=max_head, on_head=self._time_head
        )

    def _make_fast(self) -> Parser:
        return cast("Parser", HttpRequestParser(self, self._loop, self._read_bufsize, **self._parsing()))

    def _make_slow(self) -> Parser:
        # It counts the request line and the blank one, too.
        settings = {**self._parsing(), "max_headers": self.max_headers + 2}
        return AnyMethodParser(self, self._loop, self._read_bufsize, **settings)

    def _parsing(self) -> dict[str, Any]:
        return {
            "max_line_size": self.max_line_size,
            "max_headers": self.max_headers,
            "max_field_size": self.max_field_size,
            "payload_exception": RequestPayloadError,
            "auto_decompress": False,
            "max_msg_queue_size": MAX_MSG_QUEUE_SIZE,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.max_size = READ_SIZE  # type: ignore[attr-defined]  # asyncio's own; else four times that
        transport.set_write_buffer_limits(WRITTEN_AHEAD, 0)
        self._time_head(True)
        self.client = "" if self._lane is None else self._lane.address(transport) or ""
        if self.client:
            self.way = way_of(transport)
        else:
            self._lane = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._place.leave()
        self._time_head(False)
        if self.sending is not None:
            self.sending.end(exc or ConnectionResetError("the client is gone"))
        if self._rest is not None:
            self._rest.stop()
        super().connection_lost(exc)

    def close(self) -> None:
        """The service ends: an idle connection goes now (aiohttp would keep it), a busy one after its answer."""
        idle = self._waiter is not None and not self._waiter.done()
        super().close()
        if self._lingering is not None:
            self._lingering.cancel()
        if idle and self.transport is not None and self.sending is None:
            self.transport.close()

    # The warm lane

    def data_received(self, data: bytes) -> None:
        """The lane has it if aiohttp waits for a request, and nothing lies between here and the client."""
        lane, waiter, transport = self._lane, self._waiter, self.transport
        if (
            lane is None
            or waiter is None
            or waiter.done()
            or self._close
            or self._force_close
            or self._upgraded
            or transport is None
            or self.sending is not None
            or not self._parser.is_clean
            or transport.get_write_buffer_size()
            or not lane.take(self, data)
        ):
            super().data_received(data)

    def pass_on(self, data: bytes) -> None:
        """The lane has not answered it after all.  Nobody does, once the service ends."""
        if self._close and self.transport is not None:
            self.transport.close()
        super().data_received(data)

    def passed_by(self) -> None:
        """The lane has answered a request, or begun to."""
        self._parser.pass_by()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._close and self.sending is None and self.transport is not None:
            self.transport.close()

    # Limits of time

    def _time_head(self, begun: bool) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
        self._head_due = self._loop.call_later(self._head, self._end_head) if begun else None

    def _end_head(self) -> None:
        """It has taken too long: 408, behind the answers that are due before; nothing, if nothing has come."""
        self._head_due = None
        self._on_timeout("head")
        parser = self._parser
        if parser.head_bytes:
            parser.fail(HeadTooSlow("the head did not come in time"))
            self.data_received(b"")
        else:
            self.force_close()

    def _process_keepalive(self) -> None:
        if self.sending is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        was_open = not self._force_close
        super()._process_keepalive()
        if was_open and self._force_close:
            self._on_timeout("keep_alive")

    def watch_rest(self, send_idle: float, send_rate: float) -> None:
        """See to it that the client takes what is written already, although nobody waits for that."""
        transport = self.transport
        if self._rest is not None:
            self._rest.stop()

        def too_slow(error: TimeoutError) -> None:
            if self._request_in_progress or transport is None or not transport.get_write_buffer_size():
                return  # all is taken, or somebody waits again
            self.note_slow(error)
            reset(transport)

        self._rest = Watch(transport, send_idle, too_slow, rate=send_rate)

    def note_slow(self, error: TimeoutError) -> None:
        """The connection ends, because its client takes so little."""
        self._on_timeout("send_rate" if isinstance(error, TakesTooLittle) else "send_idle")

    # What is no request

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
        elif exc is not None:
            exc.__traceback__ = None  # a circle through aiohttp's frames, with all that was received in it
        if request.writer.output_size > 0:
            if request.transport is not None:
                request.transport.abort()  # the answer has begun; nobody shall take it for a whole one
            raise ConnectionError("an answer is half sent, an error cannot follow it")
        self._on_refusal(request, status, reason, describe(exc) if exc is not None else message or reason)
        return _Refusal(request, status, reason, self)  # type: ignore[return-value]  # all it needs

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """The rest of a body that was no HTTP is told as its request's failure, and is no fault of ours."""
        if not isinstance(kw.get("exc_info"), RequestPayloadError):
            super().log_exception(*args, **kw)

    def _fault(self, status: int, error: BaseException | None) -> tuple[int, str]:
        match error:
            case LineTooLong(args=(_, self._longest_line, *_)):
                return 414, "target-too-long"
            case LineTooLong():
                return 431, "header-too-large"
            case HeadTooLarge():
                return 431, "head-too-large"
            case HeadTooSlow():
                return 408, "head-timeout"
            case BadHttpMessage(message="Too many headers received"):
                return 431, "too-many-fields"
            case _ if status == 400:
                return 400, "malformed-request"
            case _:
                return status, "internal-error"

    async def linger(self) -> None:
        """Say that this was the last answer, and throw away what comes, until the client closes."""
        if self.transport is None or self.transport.is_closing() or not self.transport.can_write_eof():
            return
        self.transport.write_eof()
        self.transport.resume_reading()
        self._lingering = self._loop.create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await asyncio.wait({self._lingering})


class _Refusal:
    """To aiohttp, a handler's response."""

    keep_alive = False

    def __init__(self, request: web.BaseRequest, status: int, reason: str, connection: Connection) -> None:
        self._connection = connection
        self._exchange = Exchange(request, send_idle=REFUSAL_TIMEOUT)
        self._exchange.keep_alive = False
        self._status = status
        self._body = f"{status} {HTTPStatus(status).phrase}: {reason}\n".encode()
        self._fields = CIMultiDict(
            {
                "Content-Type": "text/plain; charset=utf-8",
                "Cache-Control": "no-store",
                "Cache-Status": render(connection.name, CacheStatus(detail=reason)),
            }
        )

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing to prepare."""

    async def write_eof(self) -> None:
        exchange = self._exchange
        try:
            await exchange.start(self._status, self._fields, length=len(self._body), now=int(time.time()))
            await exchange.write(self._body)
            await exchange.finish()
        except TimeoutError as error:
            exchange.end_slow(error)
        else:
            await self._connection.linger()


class Listener(web.Server):
    """Makes a `Connection` for each client.  `settings` are its own, and RequestHandler's."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[Any]],
        *,
        name: str,
        on_refusal: OnRefusal,
        on_timeout: OnTimeout,
        lane: Lane | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.name = name
        self.on_refusal = on_refusal
        self.on_timeout = on_timeout
        self.lane = lane
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

    def connection(self, place: Place) -> Connection:
        """For a client that has this place."""
        return Connection(self, place, access_log=None, **self._settings)
