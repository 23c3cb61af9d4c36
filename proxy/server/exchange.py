"""One request and its answer on the wire.

We write heads and framing ourselves, for the bytes of fields to stay as they came and for what was promised to be
kept: an answer ends whole or its connection is aborted.  To aiohttp, an `Exchange` is the handler's response, sent
already.
"""

import asyncio
import socket
from http import HTTPStatus
from typing import Protocol, assert_never, cast

from aiohttp import web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from proxy.patience import Patience, give_up_after, reset
from proxy.semantics.fields import Fields, end_to_end, format_http_date, serialize_head
from proxy.server.encrypted import EncryptedTransport
from proxy.server.sending import Pause, Room, Sending, send_some, way_of
from proxy.spool.body import Body

COALESCE = 32 << 10
"""A first piece of body up to this many bytes leaves in one packet train with the head."""
HEAD_DELAY = 0.01
"""Seconds that a head waits for the body's first bytes."""
WINDOW = 256 << 10
"""Bytes of a file that are brought at a time; ..."""
PIECE = 64 << 10
"""... and read, where they have to be written: so many wait here for the client then."""


class Line(Protocol):
    """What an exchange asks of its connection, besides what aiohttp's has."""

    sending: Sending | Room | None

    def watch_rest(self, send_idle: float, send_rate: float) -> None:
        """See to it that the client takes what is written already."""

    def note_slow(self, error: TimeoutError) -> None:
        """The connection ends, because its client takes so little."""


class Exchange:
    """`send_idle` is how many seconds a client may take no byte, or send none of its body.  `send_rate` is how many
    bytes it must take in a second, on average over so many.
    """

    def __init__(self, request: web.BaseRequest, *, send_idle: float, send_rate: float = 0) -> None:
        self.request = request
        self.status = 0
        self.fields: Fields = CIMultiDict()
        self.body_bytes = 0
        self.keep_alive = request.keep_alive
        self.aborted = False
        self._writer = cast("StreamWriter", request.writer)
        self.send_idle = send_idle
        self.send_rate = send_rate
        self._waiting: Patience | None = None
        self._head = b""
        self._head_due: asyncio.TimerHandle | None = None
        self._body_allowed = True
        self._close_delimited = False

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method} {self.request.raw_path} {self.status or 'unanswered'}>"

    @property
    def started(self) -> bool:
        """Is the head out?  Then an error can only be an aborted connection."""
        return self.status != 0

    @property
    def can_be_taken_back(self) -> bool:
        """Is the head still here, waiting for the body's first bytes?"""
        return bool(self._head)

    def interim(self, status: int, reason: str, fields: Fields) -> None:
        """Send a 1xx, if the client can take one now (RFC 9110 section 15.2)."""
        transport = self.request.transport
        if self.request.protocol.writing_paused and status != 100:
            return  # nobody needs it, and nobody bounds how many there are
        if not self.started and transport is not None and self.request.version >= (1, 1):
            transport.write(serialize_head(f"HTTP/1.1 {status} {reason}", end_to_end(fields)))

    async def start(
        self, status: int, fields: Fields, *, length: int | None, now: int, reason: str | None = None
    ) -> None:
        """Begin the answer.  `length` is its Content-Length, None if the end is not known (or there is no body).

        `fields` are end-to-end fields without framing; this adds that, and a missing Date.
        """
        assert not self.started, "an answer begins once"
        self.status, self.fields = status, fields
        head = CIMultiDict(fields)
        head.setdefault("Date", format_http_date(now))
        self._body_allowed = self.request.method != "HEAD" and status >= 200 and status not in {204, 304}
        if status == 204:
            head.popall("Content-Length", None)  # some origins send one; RFC 9110 section 8.6 forbids it
        elif length is not None and status != 304:
            head["Content-Length"] = str(length)
        elif self._body_allowed and self.request.version >= (1, 1):
            head["Transfer-Encoding"] = "chunked"
        elif self._body_allowed:
            self._close_delimited = True
            self.keep_alive = False
        if not self.keep_alive:
            head["Connection"] = "close"
        elif self.request.version < (1, 1):
            head["Connection"] = "keep-alive"
        self._head = serialize_head(f"HTTP/1.1 {status} {phrase(status) if reason is None else reason}", head)
        if "Transfer-Encoding" in head:
            await self._flush_head()
            self._writer.enable_chunking()
        elif not self._body_allowed or length == 0:
            await self._flush_head()
        else:
            self._head_due = asyncio.get_running_loop().call_later(HEAD_DELAY, self._send_head_alone)

    async def switch(self, fields: Fields, protocol: str, *, now: int) -> None:
        """Answer 101: what follows is no HTTP any more (RFC 9110 section 15.2.2)."""
        self.status, self.fields = 101, fields
        self.keep_alive = False
        head = CIMultiDict(fields)
        head.setdefault("Date", format_http_date(now))
        head["Connection"] = "Upgrade"
        head["Upgrade"] = protocol
        await self._writer.write(serialize_head("HTTP/1.1 101 Switching Protocols", head))

    async def write(self, data: bytes | bytearray) -> None:
        """Send body bytes; returns when the client has taken enough of them.

        Raises ConnectionError when the client is gone, TimeoutError when it takes nothing.
        """
        if not self._body_allowed or not data:
            return
        self.body_bytes += len(data)
        head = self._take_head()
        if head and len(data) > COALESCE:
            await self._writer.write(head, drain=False)
            head = b""
        await self._writer.write(head + data if head else data, drain=False)
        del data  # it can be large, and the client slow
        await self._taken()

    async def send_file(self, body: Body, start: int, stop: int) -> None:
        """Send the bytes [start, stop) of a file, by TLS or without touching them.  The loop waits for no disk: what
        is not in memory is brought there.  Raises as `write` does, and BodyLost.
        """
        await body.bring(start, stop)
        await self._flush_head()
        while start < stop:
            at, pause = await self._send_some(body, start, stop)
            self.body_bytes += at - start
            start = at
            match pause:
                case Pause.TURN:
                    pass
                case Pause.SOCKET:
                    async with self._patience():
                        await self._room()
                case Pause.DISK:
                    await body.bring(start, min(start + WINDOW, stop))
                case _:
                    assert_never(pause)

    async def _send_some(self, body: Body, start: int, stop: int) -> tuple[int, Pause]:
        transport = self._transport()
        if isinstance(transport, EncryptedTransport) or not transport.get_write_buffer_size():
            try:
                return send_some(way_of(transport), body, start, stop)
            except ConnectionError:
                raise
            except OSError as error:
                await body.read(start, min(start + PIECE, stop))  # if it is the disk, this says so
                raise ConnectionResetError("the client is gone") from error
        until = min(start + PIECE, stop)
        await self._writer.write(await body.read(start, until), drain=False)
        await self._taken()
        return until, Pause.TURN

    async def _room(self) -> None:
        """Wait until the client takes more, or is gone."""
        room = self._line.sending = Room(way_of(self._transport()))
        try:
            await room.done
        finally:
            room.end()
            self._line.sending = None

    async def finish(self) -> None:
        """The answer is whole."""
        await self._flush_head()
        if self._writer.chunked:
            async with self._patience():
                await self._writer.write_eof()
        self._limit_rest()

    def cut_short(self) -> None:
        """The body will not be whole.

        While the head still waits here, the answer is taken back: another can be given.  After that the connection
        ends so that nobody takes the body for whole (RFC 9112 section 8).  The client gets what is on its way; the
        missing rest, or the missing last chunk, tells.  Where the end of the connection would be the end of the
        body, only a reset does.
        """
        if self._take_head():
            self.status, self.fields, self.body_bytes = 0, CIMultiDict(), 0
            return
        if self._close_delimited:
            self.abort()
            return
        self._give_up()
        if self.request.transport is not None:
            self._limit_rest()
            self.request.transport.close()

    def end_slow(self, error: TimeoutError) -> None:
        """Reset the connection of a client that takes too little."""
        self._line.note_slow(error)
        self.abort()

    def abort(self) -> None:
        """Reset the connection: for clients that take nothing any more."""
        self._give_up()
        reset(self.request.transport)

    def _give_up(self) -> None:
        self._take_head()
        self.keep_alive = False
        self.aborted = True

    def _limit_rest(self) -> None:
        """What is still in our buffer shall not stay there for ever, once nobody waits for it."""
        transport = self.request.transport
        if transport is not None and not transport.is_closing() and transport.get_write_buffer_size():
            give_up_after(transport, self.send_idle)
            self._line.watch_rest(self.send_idle, self.send_rate)

    @property
    def _line(self) -> Line:
        return cast("Line", self.request.protocol)

    def _patience(self) -> Patience:
        if self._waiting is None:
            self._waiting = Patience(self.request.transport, self.send_idle, rate=self.send_rate)
        return self._waiting

    def can_send_files(self) -> bool:
        """Is the way to the client a TCP socket, with no framing of ours in the body?"""
        transport = self.request.transport
        if transport is None or self._writer.chunked:
            return False
        sock = transport.get_extra_info("socket")
        return sock is not None and sock.family != socket.AF_UNIX

    async def _flush_head(self) -> None:
        if head := self._take_head():
            await self._writer.write(head, drain=False)
            await self._taken()

    async def _taken(self) -> None:
        """Wait until the client has taken enough."""
        if self.request.protocol.writing_paused:
            async with self._patience():
                await self._writer.drain()

    def _send_head_alone(self) -> None:
        transport = self.request.transport
        if (head := self._take_head()) and transport is not None and not transport.is_closing():
            self._writer.output_size += len(head)
            transport.write(head)

    def _take_head(self) -> bytes:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
        head, self._head = self._head, b""
        return head

    def _transport(self) -> asyncio.Transport:
        transport = self.request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        assert isinstance(transport, asyncio.Transport)
        return transport

    # What aiohttp asks of a handler's response

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Nothing is left to write."""


def answer_head(status: int, fields: Fields, length: int | None) -> bytes:
    """What `Exchange.start` writes to a client of HTTP/1.1 that may go on, where `fields` have a Date."""
    head = CIMultiDict(fields)
    if length is not None:
        head["Content-Length"] = str(length)
    return serialize_head(f"HTTP/1.1 {status} {phrase(status)}", head)


def phrase(status: int) -> str:
    """The usual reason phrase."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
