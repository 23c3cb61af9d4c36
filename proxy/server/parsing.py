"""aiohttp's request parsing, with what it lacks for a proxy.

The fast parser knows a fixed list of methods; HTTP does not (RFC 9110 section 9.1).  It refuses targets that are
not ASCII, which old clients send.  It limits lines and their number, but neither a head's size nor its time.  And it
forgets to tell the reader of a body that the rest of it is no HTTP.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, InvalidURLError
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestPayloadError

from proxy.semantics.fields import MAX_LENGTH, parse_digits

Messages = Sequence[tuple[RawRequestMessage, StreamReader]]
Parsed = tuple[Messages, bool, bytes]
"""Messages with their payloads, whether the connection was upgraded, and the bytes behind that."""


class Parser(Protocol):
    """What a connection asks of its parser."""

    def feed_data(self, data: bytes) -> Parsed: ...
    def pause_reading(self) -> None: ...
    def message_consumed(self) -> None: ...
    def set_upgraded(self, val: bool) -> None: ...


class HeadTooLarge(BadHttpMessage):
    """All its fields together."""


class HeadTooSlow(BadHttpMessage):
    """It has begun, and its end did not come."""


class AnyMethodParser(HttpRequestParserPy):
    """The slow parser, which takes every token as a method."""

    def parse_message(self, lines: list[bytes]) -> RawRequestMessage:
        """It would turn the method into upper case, and wait for a body of any length."""
        message: RawRequestMessage = super().parse_message(lines)
        if parse_digits(message.headers.get("Content-Length", "0")) in {None, MAX_LENGTH}:
            raise BadHttpMessage("Content-Length is no length")
        return message._replace(method=lines[0].partition(b" ")[0].decode())


class RequestParser:
    """The fast parser, and from the first method or target on that it does not take, the slow one.

    That works where we know for sure that a request begins: at the beginning of what was received last, behind a
    request that came alone and ended with an empty line.  Elsewhere such a request gets 400, and can be sent on a
    new connection.

    Heads are at most `max_head` bytes.  `on_head` is called with True when one has begun and its end has not come,
    and with False when it has; the first one begins with the connection.  What comes in one piece with the end of
    something else is not looked at: such a head begins with its next piece.
    """

    def __init__(
        self, fast: Parser, make_slow: Callable[[], Parser], *, max_head: int, on_head: Callable[[bool], None]
    ) -> None:
        self._parser: Parser = fast
        self._make_slow: Callable[[], Parser] | None = make_slow
        self._max_head = max_head
        self._on_head = on_head
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._between = True
        self._is_timed = True
        self._is_over = False
        self._had_body = False
        self._fault: HttpProcessingError | None = None
        self.head_bytes = 0
        """Received of a head whose end has not come."""

    def fail(self, fault: HttpProcessingError) -> None:
        """Raise this the next time, as if it had been received."""
        self._fault = fault

    @property
    def is_clean(self) -> bool:
        """Does a head begin here for sure, and has there never been anything but whole heads without a body?"""
        return self._between and not self._had_body

    def pass_by(self) -> None:
        """A whole head was taken by somebody else."""
        if self._is_timed:
            self._is_timed = False
            self._on_head(False)

    def feed_data(self, data: bytes) -> Parsed:
        """Raises HttpProcessingError for what is no request; a body that becomes malformed fails its reader too."""
        if self._is_over:  # behind what was no request, nothing is
            return (), False, b""
        in_head = self._payload.is_eof()
        try:
            parsed = self._feed(data)
            messages = parsed[0]
            if self._is_timed or len(data) > self._max_head or not messages:
                self._watch_head(data, messages, in_head and not parsed[1])
        except HttpProcessingError as error:
            self._is_over = True
            self._on_head(False)
            if not self._payload.is_eof():
                self._payload.set_exception(RequestPayloadError(str(error)))
                self._payload.feed_eof()  # nobody shall wait for the rest of it
            raise
        if messages:
            self._payload = messages[-1][1]
            self._had_body = self._had_body or any(payload is not EMPTY_PAYLOAD for _, payload in messages)
        self._between = len(messages) == 1 and self._payload.is_eof() and data.endswith(b"\r\n\r\n")
        return parsed

    def _watch_head(self, data: bytes, messages: Messages, in_head: bool) -> None:
        if messages:
            if (
                self.head_bytes + len(data) > self._max_head
                and max(map(_head_size, messages)) > self._max_head
            ):
                raise HeadTooLarge("the head is too large")
            self.head_bytes = 0
            if self._is_timed:
                self._is_timed = False
                self._on_head(False)
        elif in_head and (self.head_bytes or data.strip(b"\r\n")):  # blank lines before a head are none of it
            self.head_bytes += len(data)
            if self.head_bytes > self._max_head:
                raise HeadTooLarge("the head is too large")
            if not self._is_timed:
                self._is_timed = True
                self._on_head(True)

    def _feed(self, data: bytes) -> Parsed:
        if self._fault is not None:
            raise self._fault
        try:
            return self._parser.feed_data(data)
        except (BadHttpMethod, InvalidURLError):
            if self._make_slow is None or not self._between:
                raise
        self._parser, self._make_slow = self._make_slow(), None
        return self._parser.feed_data(data)

    def pause_reading(self) -> None:
        self._parser.pause_reading()

    def message_consumed(self) -> None:
        self._parser.message_consumed()

    def set_upgraded(self, val: bool) -> None:
        self._parser.set_upgraded(val)


def _head_size(message: tuple[RawRequestMessage, StreamReader]) -> int:
    head = message[0]
    return len(head.path) + sum(len(name) + len(value) + 4 for name, value in head.raw_headers)
