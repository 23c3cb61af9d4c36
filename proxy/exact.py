"""aiohttp's client, made to send exactly what it is told, and to tell all that comes back.

What aiohttp would change on the way is overridden here and nowhere else: the request goes out with its exact
method, target and field bytes; interim responses are reported instead of dropped; a broken connection is never
taken for the end of a body; and each wait has its limit.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage, StreamWriter
from multidict import CIMultiDict

from proxy.errors import OriginMalformed
from proxy.patience import Patience
from proxy.semantics.fields import Fields, joined, parse_digits, serialize_head

_END_OF_HEAD = re.compile(rb"\n\r?\n")  # the parser takes a bare LF from an origin (RFC 9112 section 2.2)

READ_SIZE = 2 << 20
"""Bytes read at once of what is to be stored: with 1 MiB a fill costs a sixth more, with 64 KiB three times more."""

InterimHandler = Callable[[int, str, Fields], None]
"""Told of each 1xx but 101: status, reason, fields."""


@dataclass(frozen=True, slots=True)
class OriginRequest:
    """What to send, to the byte.  `fields` are complete (`Host` included) but for the body's framing.

    At most `read_size` bytes of the response are read at once, and half as many more held before somebody takes them.
    """

    method: str
    target: str
    fields: Fields
    body: AsyncIterator[bytes] | None = None
    interim: InterimHandler | None = None
    read_size: int = READ_SIZE


@dataclass(frozen=True, slots=True)
class Sending:
    """What a connection is used for; `idle` is how many seconds the origin may take no byte of the body."""

    request: OriginRequest
    idle: float


sending_now: ContextVar[Sending] = ContextVar("sending_now")


class OriginProtocol(ResponseHandler):
    """One connection to an origin.

    `alive` is told of all that comes.  Where the origin `has_others`, addresses that is, a request that this one
    drops without a word is sent to the next.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, alive: Callable[[], None], has_others: bool
    ) -> None:
        super().__init__(loop)
        self._alive = alive
        self._has_others = has_others
        self.requests = 0
        self._is_mute = True  # as to this request
        self._awaits_head = False
        self._idle = False
        self._method = ""
        self._in_head = False
        self._head_end = b""  # the last bytes of a head that comes in pieces
        self._last_head: RawResponseMessage | None = None
        self._due: int | None = None  # of the body; None where it has no length, or where we cannot count

    def begin(self, method: str, read_size: int) -> None:
        """A request goes out, whose response is read so many bytes at once."""
        self.requests += 1
        self._is_mute = True
        self._awaits_head = False
        self._idle = False
        self._method = method
        self._in_head, self._head_end, self._last_head, self._due = True, b"", None, None
        self.read_at_once(read_size)

    def read_at_once(self, size: int) -> None:
        """From now on, read so many bytes from the socket, if there are."""
        if self.transport is not None:
            self.transport.max_size = size  # type: ignore[attr-defined]  # asyncio's own

    def _rest(self) -> None:
        self._idle = True

    def data_received(self, data: bytes) -> None:
        """What comes after a response's end answers nobody: scripts write a line too many (RFC 9112 section 6.3).

        The parser would refuse the whole response for it, or take it for the next.
        """
        if not data:  # aiohttp goes on with what it holds
            super().data_received(data)
            return
        self._is_mute = False
        self._alive()
        if not self._idle:
            data = self._without_head(data)
        surplus = len(data) if self._idle else 0 if self._due is None else len(data) - self._due
        if surplus > 0:
            self.force_close()
            data = data[:-surplus]
        if self._due is not None:
            self._due -= len(data)
        if data and self._due is not None and self._payload is not None:
            self._hand_on(data, self._payload)
        elif data:
            super().data_received(data)
        elif surplus > 0 and self.transport is not None:
            self.transport.close()

    def _hand_on(self, data: bytes, payload: aiohttp.StreamReader) -> None:
        """Some of a body whose length is known: the parser would find out no more about it, and copy it."""
        self._reschedule_timeout()
        payload.feed_data(data)
        if not self._due:
            self._parser = None  # it waits for the body still; the next response has its own
            payload.feed_eof()

    def _without_head(self, data: bytes) -> bytes:
        """Hand heads on to the parser, each by itself; the rest is body."""
        while data and self._in_head:
            found = _END_OF_HEAD.search(self._head_end + data)
            if found is None:
                self._head_end = (self._head_end + data)[-3:]
                super().data_received(data)
                return b""
            size = found.end() - len(self._head_end)
            self._head_end = b""
            head, data = data[:size], data[size:]
            super().data_received(head)
            if self.exception() is not None:
                return b""
            if self._last_head is not None:
                self._due = _body_length(self._method, self._last_head)
        return data

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """The parser has read a head."""
        head = data[0]
        if not 100 <= head.code < 200 or head.code == 101:
            self._in_head, self._last_head = False, head
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """What breaks the connection breaks the body that is being read, too."""
        payload = self._payload
        if isinstance(exc, aiohttp.http.HttpProcessingError) and payload is not None and not payload.is_eof():
            payload.set_exception(exc)
        super().set_exception(exc, *cause)

    def start_timeout(self) -> None:
        """The request is out: from now on it is the origin's turn."""
        self._awaits_head = True
        super().start_timeout()

    def _reschedule_timeout(self) -> None:
        if not self._awaits_head or self._read_timeout_handle is None:
            super()._reschedule_timeout()  # else the head as a whole is due, not just its next byte

    async def read(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        """The next head.  Interim responses (RFC 9110 section 15.2) are reported on the way."""
        sending = sending_now.get()
        try:
            message, payload = await super().read()
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            again = self._is_mute and (self.requests > 1 or self._has_others)
            if again and sending.request.body is None:
                raise  # kept alive for too long, or in vain: aiohttp tries once more, if the method is idempotent
            raise aiohttp.ClientConnectionError(describe(error)) from error
        if 100 <= message.code < 200 and message.code != 101:
            if sending.request.interim is not None:
                sending.request.interim(message.code, message.reason, message.headers)
            if self._awaits_head:
                self.start_timeout()  # aiohttp takes it for an answer, and has stopped the clock
        else:
            self._awaits_head = False
            _check(sending.request, message)
            if message.code != 101:
                payload.on_eof(self._rest)
        return message, payload

    def connection_lost(self, exc: BaseException | None) -> None:
        """Only a good end of the connection is the end of a body without a length (RFC 9112 section 8)."""
        payload = self._payload
        if payload is not None and not payload.is_eof():
            if self._due is not None:
                self._parser = None  # it has not seen the body
                exc = exc or ConnectionError(f"the connection ended, {self._due} bytes too early")
            if exc is not None:
                payload.set_exception(aiohttp.ClientPayloadError(describe(exc)), exc)
        super().connection_lost(exc)

    def pause_reading(self) -> None:
        """Take no more for now, unless the connection is lost: then all is there that will ever be."""
        if self.transport is not None:
            super().pause_reading()

    def expect_within(self, seconds: float | None) -> None:
        """The next bytes are due in so many seconds; None: whenever they come."""
        self.read_timeout = seconds
        if not self._reading_paused:
            self._reschedule_timeout()


class _PatientWriter(StreamWriter):
    """Waits for an origin that takes no byte of an upload at most `idle` seconds."""

    def __init__(self, protocol: ResponseHandler, loop: asyncio.AbstractEventLoop, idle: float) -> None:
        super().__init__(protocol, loop)
        self._idle = idle

    async def drain(self) -> None:
        if self._protocol.writing_paused:
            async with Patience(self._protocol.transport, self._idle):
                await super().drain()


class ExactRequest(aiohttp.ClientRequest):
    """Sends the `OriginRequest` of this context, untouched."""

    connect_by = 0.0
    """When its connection is due, in the loop's time."""

    def update_expect_continue(self, expect: bool = False) -> None:
        """Leave `Expect` to the body's iterator, which waits with a limit; aiohttp would wait for ever."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        sending = sending_now.get()
        exact = sending.request
        protocol = conn.protocol
        assert isinstance(protocol, OriginProtocol)
        protocol.begin(exact.method, exact.read_size)
        if not _may_be_shared(exact):
            protocol.force_close()
        fields = CIMultiDict(exact.fields)
        if self.chunked:
            fields["Transfer-Encoding"] = "chunked"
        writer = _PatientWriter(protocol, self.loop, sending.idle)
        await writer.write(serialize_head(f"{exact.method} {exact.target} HTTP/1.1", fields))
        task: asyncio.Task[None] | None = None
        if self.body:
            if self.chunked:
                writer.enable_chunking()
            length = parse_digits(fields.get("Content-Length", ""))
            task = self._writer = asyncio.create_task(self.write_bytes(writer, conn, length))
        else:
            protocol.start_timeout()
            writer.set_eof()
        response = aiohttp.ClientResponse(
            self.method,
            self.original_url,
            writer=task,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )
        cast("Any", self).response = response  # aiohttp declares it as None
        return response


def _may_be_shared(request: OriginRequest) -> bool:
    """May the connection carry other clients' requests after this one?

    Legacy origins that do not read a body take it for the next request.  And some schemes log in the connection.
    """
    scheme = (joined(request.fields, "Authorization") or "").partition(" ")[0].lower()
    return request.body is None and scheme not in {"ntlm", "negotiate"}


def _body_length(method: str, head: RawResponseMessage) -> int | None:
    """How many bytes of content follow a head; None if the parser has to find the end (RFC 9112 section 6.3)."""
    if method == "HEAD" or head.code in {204, 304}:
        return 0
    if head.code == 101 or "Transfer-Encoding" in head.headers:
        return None
    length = joined(head.headers, "Content-Length")
    return None if length is None else parse_digits(length)


def _check(request: OriginRequest, head: RawResponseMessage) -> None:
    """Raises OriginMalformed for what the parser lets through and nobody behind us could make sense of."""
    if head.code < 100:
        raise OriginMalformed(f"the origin answered {head.code:03}, which is no status")
    if head.code == 101 and "Upgrade" not in request.fields:
        raise OriginMalformed("the origin switched protocols, which nobody had asked for")
    coding = joined(head.headers, "Transfer-Encoding")
    if coding is not None and coding.lower() != "chunked":
        raise OriginMalformed(f"the origin used a transfer coding that nobody had asked for: {coding}")


def describe(error: BaseException) -> str:
    """An exception in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
