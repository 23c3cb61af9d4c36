"""Bytes from sockets: what comes of them does not depend on how the network cuts them.

The first two bytes choose the cuts; the rest is what is sent.
"""

import asyncio
import random
import re
from collections.abc import Iterator
from typing import Any, Final
from unittest.mock import Mock

import aiohttp
from aiohttp import web
from aiohttp.streams import StreamReader
from multidict import CIMultiDict

from proxy.errors import ClientError
from proxy.exact import OriginProtocol, OriginRequest, Sending, sending_now
from proxy.origin import MAX_FIELDS, MAX_HEAD_LINE
from proxy.server.connection import Connection, Listener
from proxy.server.limits import Gate, Place
from proxy.server.reading import read_request

LONGEST: Final = 8 << 10

INTERIM: Final = frozenset(range(100, 200)) - {101}
_FOLD: Final = re.compile(rb"\n[ \t]")

Seen = tuple[object, ...]
"""What was made of one message."""


class _Transport(asyncio.Transport):
    """Takes what is written, and knows whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1234), "sockname": ("192.0.2.2", 80)})
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def cuttings(data: bytes) -> Iterator[list[bytes]]:
    """In one piece, in two, in single bytes, and in some pieces."""
    dice = random.Random(data[:2])
    sent = data[2:]
    yield [sent]
    middle = dice.randrange(len(sent) + 1)
    yield [sent[:middle], sent[middle:]]
    if len(sent) < 2000:
        yield [sent[at : at + 1] for at in range(len(sent))]
    places = sorted(dice.randrange(len(sent) + 1) for _ in range(5))
    yield [sent[a:b] for a, b in zip([0, *places], [*places, len(sent)], strict=True)]


def requests(data: bytes) -> None:
    """What clients send: requests and their bodies, or a refusal."""
    if len(data) > 3:
        asyncio.run(_requests(data))


async def _requests(data: bytes) -> None:
    _, *others = seen = [_requests_seen(pieces) for pieces in cuttings(data)]
    for other in others:
        _agree(seen[0], other)


def _requests_seen(pieces: list[bytes]) -> list[Seen]:
    listener, connection = _connection()
    parser = connection._parser
    assert parser is not None
    messages: list[tuple[Any, StreamReader]] = []
    end: Seen = ("open",)
    for piece in pieces:
        if not piece:
            continue
        try:
            got, upgraded, _ = parser.feed_data(piece)
        except aiohttp.http.HttpProcessingError:
            end = ("refused",)
            break
        messages += got
        if upgraded:
            end = ("upgraded",)
            break
    return [*(_request_seen(listener, connection, message, body) for message, body in messages), end]


def _connection() -> tuple[Listener, Connection]:
    async def never(request: web.BaseRequest) -> None:
        raise AssertionError("nobody is called")

    listener = Listener(
        never,
        name="fuzz",
        on_refusal=lambda *_: None,
        on_timeout=lambda *_: None,
        head=60.0,
        max_head=1 << 20,
        max_headers=MAX_FIELDS,
        max_line_size=LONGEST,
        max_field_size=LONGEST,
        auto_decompress=False,
    )
    gate = Gate(1, here=1, per_client=1, trusted=(), on_refused=lambda *_: None)
    connection = listener.connection(Place(gate, ""))
    connection.transport = _Transport()
    return listener, connection


def _request_seen(listener: Listener, connection: Connection, message: Any, payload: StreamReader) -> Seen:
    request = listener.request_factory(message, payload, connection, Mock(), Mock(spec=asyncio.Task))
    body = _arrived(payload), payload.is_eof(), payload.exception() is not None
    try:
        read = read_request(request, ())
    except ClientError as error:
        return "unreadable", error.status, error.reason, body
    assert read.target.startswith("/") or read.target == "*"
    assert read.host == read.host.lower()
    assert "\r" not in read.target
    assert "\n" not in read.target
    # The two parsers spell names that everybody knows differently, and case means nothing.
    fields = tuple((name.lower(), value) for name, value in read.fields.items())
    return read.method, read.target, read.host, read.version, fields, body


def _arrived(payload: StreamReader) -> bytes:
    """What nobody has read yet; aiohttp's empty stream has no place for anything."""
    return b"".join(getattr(payload, "_buffer", ()))


def _agree(one: list[Seen], other: list[Seen]) -> None:
    """The same, as far as neither was refused: for odd methods, where that shows depends on the pieces, by design."""
    if one == other:
        return
    ends = {one[-1][0], other[-1][0]}
    assert "refused" in ends, f"{one} or {other}"
    for first, second in zip(one[:-1], other[:-1], strict=False):
        # Of the request whose body was refused, more or less may have been read.
        assert first[:-1] == second[:-1], f"{first} or {second}"


def responses(data: bytes) -> None:
    """What an origin sends: a response and its body, whole, or not."""
    if len(data) > 3:
        asyncio.run(_responses(data))


async def _responses(data: bytes) -> None:
    method = ("GET", "HEAD")[data[0] & 1]
    # A head that the parser ends at a fold which is none, or a second one behind a whole answer, may spoil it: that
    # depends on the pieces, and nobody takes a wrong answer for a right one.
    doubtful = _FOLD.search(data) is not None or data.count(b"HTTP/") > 1
    for lost in (None, ConnectionResetError("reset")):
        seen = {_response_seen(pieces, method, lost) for pieces in cuttings(data)}
        if doubtful:
            seen = {each for each in seen if each[0] == "whole"}
        assert len(seen) <= 1, f"{seen}"


def _response_seen(pieces: list[bytes], method: str, lost: Exception | None) -> Seen:
    """The final head, whether its body was whole, and that."""
    protocol = OriginProtocol(asyncio.get_running_loop(), alive=lambda: None, has_others=False)
    transport = _Transport()
    protocol.connection_made(transport)
    request = OriginRequest(method, "/", CIMultiDict({"Host": "h"}))
    token = sending_now.set(Sending(request, 60))
    try:
        protocol.begin(method, 1 << 20)
        protocol.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=1 << 20,
            max_line_size=MAX_HEAD_LINE,
            max_field_size=MAX_HEAD_LINE,
            max_headers=MAX_FIELDS,
        )
        for piece in pieces:
            if piece and not transport.closed:
                protocol.data_received(piece)
        answers = [answer for answer, _ in protocol._buffer]
        final = next((answer for answer in answers if answer[0].code not in INTERIM), None)
        protocol.connection_lost(lost)
    finally:
        sending_now.reset(token)
    if final is None or final[0].code < 200:  # no status, or 101, which nobody has asked for
        return ("no answer",)
    head, payload = final
    whole = payload.is_eof() and payload.exception() is None
    told = head.code, head.reason, tuple(head.raw_headers)
    return "whole" if whole else "broken", told, _arrived(payload) if whole else None
