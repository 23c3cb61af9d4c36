"""aiohttp's request parsing, with what it lacks for a proxy.

The fast parser knows a fixed list of methods; HTTP does not (RFC 9110 section 9.1).  It refuses targets that are
not ASCII, which old clients send.  And it forgets to tell the reader of a body that the rest of it is no HTTP.
"""

from collections.abc import Callable
from typing import Any, Protocol

from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, InvalidURLError
from aiohttp.http_parser import HttpRequestParserPy
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestPayloadError

from proxy.semantics.fields import MAX_LENGTH, parse_digits

Parsed = tuple[Any, bool, bytes]
"""Messages with their payloads, whether the connection was upgraded, and the bytes behind that."""


class Parser(Protocol):
    """What a connection asks of its parser."""

    def feed_data(self, data: bytes) -> Parsed: ...
    def pause_reading(self) -> None: ...
    def message_consumed(self) -> None: ...
    def set_upgraded(self, val: bool) -> None: ...


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
    """

    def __init__(self, fast: Parser, make_slow: Callable[[], Parser]) -> None:
        self._parser: Parser = fast
        self._make_slow: Callable[[], Parser] | None = make_slow
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._between = True

    def feed_data(self, data: bytes) -> Parsed:
        """Raises HttpProcessingError for what is no request; a body that becomes malformed fails its reader too."""
        try:
            parsed = self._feed(data)
        except HttpProcessingError as error:
            if not self._payload.is_eof():
                self._payload.set_exception(RequestPayloadError(str(error)))
                self._payload.feed_eof()  # nobody shall wait for the rest of it
            raise
        messages = parsed[0]
        if messages:
            self._payload = messages[-1][1]
        self._between = len(messages) == 1 and self._payload.is_eof() and data.endswith(b"\r\n\r\n")
        return parsed

    def _feed(self, data: bytes) -> Parsed:
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
