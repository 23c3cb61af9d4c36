"""The client side: one origin server, spoken to in HTTP/1.1 exactly as we are told.

aiohttp's client does the connections, the pool, TLS and the parsing; `proxy.exact` holds it to the letter.  Its
exceptions end here, as `proxy.errors`.
"""

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from proxy.connector import OriginConnector
from proxy.errors import (
    OriginError,
    OriginMalformed,
    OriginTimeout,
    OriginTruncated,
    OriginUnreachable,
)
from proxy.exact import (
    ExactRequest,
    InterimHandler,
    OriginProtocol,
    OriginRequest,
    Sending,
    describe,
    sending_now,
)
from proxy.health import Health
from proxy.semantics.fields import Fields, joined, parse_digits
from proxy.semantics.policy import is_endless
from proxy.slots import Slots

__all__ = ["InterimHandler", "Origin", "OriginRequest", "OriginResponse"]

MAX_HEAD_LINE = 64 << 10
"""Longest field line taken from an origin, in bytes: legacy applications send large cookies."""

MAX_FIELDS = 1000
"""Most field lines taken from an origin."""


class OriginResponse:
    """One response: its head, and its body as it arrives.

    `content_length` is what the origin promised for the body, None for a chunked or close-delimited one.
    """

    def __init__(self, response: aiohttp.ClientResponse, origin: str) -> None:
        self._response = response
        self._origin = origin
        self.status = response.status
        self.reason = response.reason or ""
        self.fields: Fields = response.headers
        self.version = (response.version.major, response.version.minor) if response.version else (1, 1)
        self.content_length = _content_length(response.headers)
        self._on_close: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<OriginResponse {self.status} length={self.content_length} from {self._origin}>"

    async def read(self) -> bytes:
        """The next bytes of the body, as many as have arrived; b"" at its end.

        Raises OriginTruncated, OriginTimeout or OriginMalformed.
        """
        content = self._response.content
        if content.exception() is not None and content._size:
            return content._read_nowait(-1)  # what had come before the break
        with _mapped(self._origin):
            return await content.readany()

    def read_ahead(self, size: int) -> None:
        """From now on, read at most `size` bytes at once, and hold half as many more before somebody takes them."""
        content, connection = self._response.content, self._response.connection
        if content.is_eof():
            return
        if connection is not None and isinstance(connection.protocol, OriginProtocol):
            connection.protocol.read_at_once(size)
        content._low_water, content._high_water = _marks(size)
        if content._size > content._high_water:
            content._protocol.pause_reading()

    def expect_within(self, seconds: float | None) -> None:
        """From now on, give the origin `seconds` between two reads; None: as long as it likes."""
        connection = self._response.connection
        if connection is not None and isinstance(connection.protocol, OriginProtocol):
            connection.protocol.expect_within(seconds)

    def upgraded(self) -> ResponseHandler:
        """The protocol beneath a 101, to be tunnelled.  `close()` still ends it."""
        connection = self._response.connection
        if self.status != 101 or connection is None or connection.protocol is None:
            raise OriginMalformed(f"origin {self._origin} did not switch protocols")
        self.expect_within(None)
        return connection.protocol

    def close(self) -> None:
        """Let go: a body read to its end gives its connection back, any other loses it."""
        self._response.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def when_closed(self, on_close: Callable[[], None]) -> None:
        """Call this once, at the first `close`."""
        self._on_close = on_close


class Origin:
    """One origin server.

    `connect`, `first_byte`, `idle` and `queue` are seconds: for a connection, from the last byte of a request to the
    head, between two reads of a body, and until it is a request's turn.  At most `max_waiting` wait for that.  For
    `resume` seconds an origin that broke off a body is asked for it again.
    Whole bodies are fetched `max_fills` at a time, and `fills_per_client` for one client.  `on_recovery` is told
    when it can be connected to again.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        connect: float,
        first_byte: float,
        idle: float,
        resume: float,
        queue: float,
        max_connections: int,
        max_fills: int,
        fills_per_client: int,
        max_waiting: int,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.url = URL(url)
        self.resume = resume
        self._idle = idle
        self.health = Health(on_recovery=on_recovery)
        self.slots = Slots(
            name, max_fills, per_client=fills_per_client, max_waiting=max_waiting, timeout=queue
        )
        self.connector = OriginConnector(
            name, self.health, limit=max_connections, connect=connect, queue=queue, max_waiting=max_waiting
        )
        self._session = aiohttp.ClientSession(
            connector=self.connector,
            request_class=ExactRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=first_byte),
            max_line_size=MAX_HEAD_LINE,
            max_field_size=MAX_HEAD_LINE,
            max_headers=MAX_FIELDS,
        )

    def __repr__(self) -> str:
        return f"<Origin {self.name} {self.url}>"

    @property
    def refused(self) -> Counter[str]:
        """Requests that our own limits kept from it, by reason."""
        return self.slots.refused + self.connector.refused

    async def fetch(self, request: OriginRequest) -> OriginResponse:
        """Send `request`; return once the final head is here.  Redirects are answers like any other.

        Raises OriginUnreachable, OriginTimeout, OriginMalformed; Overloaded if no connection becomes free.
        """
        token = sending_now.set(Sending(request, self._idle))
        try:
            with _mapped(self.name):
                response = await self._session.request(
                    _kind(request.method),
                    self.url,
                    headers=CIMultiDict(request.fields),
                    data=request.body,
                    allow_redirects=False,
                    read_bufsize=_marks(request.read_size)[0],
                )
        finally:
            sending_now.reset(token)
        answer = OriginResponse(response, self.name)
        answer.expect_within(None if is_endless(answer.fields) else self._idle)  # events come when they come
        return answer

    async def fetch_whole(self, request: OriginRequest, client: str) -> OriginResponse:
        """As `fetch`, for bodies that are fetched to their end, whoever still wants them; `client` caused it.

        They take turns, until their responses are closed, and leave connections to what is relayed.  Raises
        Overloaded, too, where there are too many of them.
        """
        self.connector.refuse_if_down()
        await self.slots.acquire(client)
        release = partial(self.slots.release, client)
        try:
            response = await self.fetch(request)
        except BaseException:
            release()
            raise
        response.when_closed(release)
        return response

    async def close(self) -> None:
        await self._session.close()


def _marks(read_size: int) -> tuple[int, int]:
    """How few bytes of a body we hold when reading goes on, and how many when it pauses.

    It pauses soon, for more to be there at once when it goes on.  aiohttp makes the second twice the first.
    """
    return read_size // 4, read_size // 2


def _kind(method: str) -> str:
    """What aiohttp must know of a method: has its response a body, and may it be sent twice?  It ignores case."""
    return method if method in {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"} else "POST"


def _content_length(fields: Fields) -> int | None:
    if "Transfer-Encoding" in fields:
        return None
    text = joined(fields, "Content-Length")
    return None if text is None else parse_digits(text)


@contextmanager
def _mapped(origin: str) -> Iterator[None]:
    """aiohttp's errors as ours, once there is a connection."""
    try:
        yield
    except (aiohttp.ServerTimeoutError, TimeoutError) as error:
        raise OriginTimeout(f"origin {origin} did not answer in time: {describe(error)}") from error
    except aiohttp.ClientPayloadError as error:
        raise OriginTruncated(f"origin {origin} broke off its body: {describe(error)}") from error
    except (aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError) as error:
        raise OriginMalformed(f"origin {origin} did not speak HTTP: {describe(error)}") from error
    except (aiohttp.ClientConnectionError, ConnectionError, ssl.SSLError) as error:
        raise OriginUnreachable(f"cannot reach origin {origin}: {describe(error)}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise OriginError(f"origin {origin} failed: {describe(error)}") from error
