"""The warm lane: a GET whose answer is a warm record is answered where its bytes arrive, past aiohttp.

A head is recognised, not parsed: its first line and Host are a record's key; the rest, without the lines that differ
from request to request (`Range` and the conditions), is one that was read before.  Everything else, whatever is
spelled in another way, and whatever is not at hand goes the long way, which answers the same, byte for byte.
"""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from multidict import CIMultiDict

from proxy.cache.warm import Record, Warm
from proxy.errors import SpoolError
from proxy.patience import give_up_after, reset
from proxy.semantics.forward import Network, client_address, is_trusted
from proxy.semantics.preconditions import Verdict
from proxy.semantics.ranges import read_slice
from proxy.semantics.shape import MOST_CONDITIONS, Shape, read_shape
from proxy.server.access import Access
from proxy.server.sending import WINDOW, Sending, send_some
from proxy.spool.bodies import share_of_files
from proxy.spool.body import Body

SHAPES: Final = 1024
"""Heads without what differs, that are remembered; ..."""
LONGEST: Final = 4096
"""... of heads of at most so many bytes."""
SMALL: Final = 64 << 10
"""Bytes up to which a body is read and written with its head; of a larger one, the file is sent."""
ROOM: Final = SMALL + (8 << 10)
"""Bytes of a buffer for both, which is used again and again."""

SENDINGS: Final = 4096
"""Answers at once, at most, that go at the client's speed, and no more than one in 16 of the files that may be open:
each has a descriptor of its own for that, besides those that the limit of connections reckons with for a client.
"""


Over = Callable[[int, BaseException | None], None]
"""Told of an answer's end: the bytes of its body, and what kept the rest from it."""


class Client(Protocol):
    """What the lane asks of a connection that is idle, and behind whole requests."""

    transport: asyncio.Transport | None
    client: str
    sending: Sending | None

    def passed_by(self) -> None:
        """A request was answered without the connection's knowledge."""

    def note_slow(self, error: TimeoutError) -> None:
        """The connection ends, because its client takes so little."""

    def watch_rest(self, send_idle: float, send_rate: float) -> None:
        """See to it that the client takes what is written already."""


class Lane:
    """`longest` is how many bytes a head may have at all, `fields` how many fields."""

    def __init__(
        self,
        warm: Warm,
        access: Access,
        *,
        trusted: Sequence[Network],
        send_idle: float,
        send_rate: float,
        longest: int,
        fields: int,
    ) -> None:
        self.draining = False
        self.sendings: set[asyncio.Future[None]] = set()
        """What is being sent, done with each one's end."""
        self.most_sendings = share_of_files(SENDINGS, 16)
        self._warm = warm
        self._access = access
        self._trusted = trusted
        self._send_idle = send_idle
        self._send_rate = send_rate
        self._longest = min(longest, LONGEST)
        self._fields = fields - MOST_CONDITIONS - 2
        self._shapes: OrderedDict[bytes, Shape | None] = OrderedDict()
        self._room = memoryview(bytearray(ROOM))

    def drain(self) -> None:
        """From now on, who is answered is told that this was the last answer: not by us."""
        self.draining = True

    def address(self, transport: asyncio.BaseTransport) -> str | None:
        """What a client is called who may come this way: by plain TCP, and for nobody else."""
        sock, peer = transport.get_extra_info("socket"), transport.get_extra_info("peername")
        is_plain = transport.get_extra_info("sslcontext") is None and isinstance(peer, tuple)
        if (
            not is_plain
            or sock is None
            or sock.family == socket.AF_UNIX
            or is_trusted(peer[0], self._trusted)
        ):
            return None
        return client_address(peer[0], CIMultiDict(), self._trusted)

    def take(self, client: Client, data: bytes) -> bool:
        """Answer what has been received, if it is one such request and nothing else; False if it is not."""
        begun = time.monotonic()
        end = data.find(b"\r\n")
        if not data.startswith(b"\r\nHost: ", end) or not data.endswith(b"\r\n\r\n"):
            return False
        end = data.find(b"\r\n", end + 8)
        key = data[:end]
        record = self._warm.find(key)
        if record is None or self.draining or len(data) > self._longest:
            return False
        lines, asked, conditions = data[end:], None, b""
        at = lines.find(b"\r\nRange: bytes=")
        if at >= 0:
            end = lines.find(b"\r\n", at + 15)
            asked = lines[at + 15 : end]
            lines = lines[:at] + lines[end:]
        at = lines.find(b"\r\nIf-")
        while at >= 0:
            end = lines.find(b"\r\n", at + 5)
            conditions += lines[at:end]
            lines = lines[:at] + lines[end:]
            at = lines.find(b"\r\nIf-", at)
        shape = self._shapes.get(lines) or self._shape(lines)
        if shape is None or not self._fits(shape, record):
            return False
        if not self._warm.holds(key, record):
            self._warm.drop(key)
            return False
        return self._answer(client, record, shape, asked, conditions, begun)

    def _shape(self, lines: bytes) -> Shape | None:
        if lines in self._shapes:
            return None
        shape = read_shape(lines)
        if shape is not None and shape.count > self._fields:
            shape = None
        self._shapes[lines] = shape
        if len(self._shapes) > SHAPES:
            self._shapes.popitem(last=False)
        return shape

    def _fits(self, shape: Shape, record: Record) -> bool:
        """Would everybody who sends such fields get what is in the record?"""
        if shape.has_origin and record.answers.by_site:
            return False
        if not shape.has_cookies:
            return True
        partition = shape.partition(record.about, record.policy, self._warm.secret)
        return partition is None or self._warm.enters(record, partition)

    def _answer(
        self,
        client: Client,
        record: Record,
        shape: Shape,
        asked: bytes | None,
        conditions: bytes,
        begun: float,
    ) -> bool:
        part = None
        if asked is not None and (part := read_slice(asked, record.length)) is None:
            return False
        if conditions:
            verdict, range_applies = record.verdict(conditions)
            if verdict is Verdict.NOT_MODIFIED:
                self._write(client, record.not_modified)
                self._access.record_warm(client.client, record, shape, asked, 304, begun, 0)
                return True
            if verdict is not Verdict.PROCEED:
                return False
            if not range_applies:
                part = None
        if part is not None:
            start, stop = part
            head = b"%b%d-%d%b%d\r\n\r\n" % (
                record.partial,
                start,
                stop - 1,
                record.partial_rest,
                stop - start,
            )
            status = 206
        else:
            head, status, start, stop = record.whole, 200, 0, record.length
        if stop - start > SMALL:
            over = partial(self._access.record_warm, client.client, record, shape, asked, status, begun)
            return self._send_large(client, record, head, start, stop, over)
        answer = self._with_body(head, record.body, start, stop)
        if answer is None:
            return False
        self._write(client, answer)
        self._access.record_warm(client.client, record, shape, asked, status, begun, stop - start)
        return True

    def _send_large(
        self, client: Client, record: Record, head: bytes, start: int, stop: int, over: Over
    ) -> bool:
        transport, body, at = client.transport, record.body, start
        assert transport is not None
        if len(self.sendings) >= self.most_sendings:
            return False
        try:
            if not body.has_at_hand(start, min(start + WINDOW, stop)):
                return False
        except OSError:
            return False
        transport.write(head)
        client.passed_by()
        try:
            if not transport.get_write_buffer_size():
                sock = transport.get_extra_info("socket").fileno()
                at, _ = send_some(sock, body, start, stop)
        except (OSError, SpoolError) as error:
            self._end(client, transport, 0, over, 0, error)
            return True
        if at == stop:
            over(stop - start, None)
            return True
        try:
            client.sending = Sending(
                transport,
                body,
                at,
                stop,
                partial(self._end, client, transport, at - start, over),
                send_idle=self._send_idle,
                send_rate=self._send_rate,
            )
        except OSError as error:
            self._end(client, transport, at - start, over, 0, error)
            return True
        done = client.sending.done
        self.sendings.add(done)
        done.add_done_callback(self.sendings.discard)
        return True

    def _with_body(self, head: bytes, body: Body, start: int, stop: int) -> memoryview | None:
        """A whole answer; None where its bytes are not at hand, or lost, which the long way finds out, and tells."""
        size = len(head) + stop - start
        answer = self._room[:size] if size <= ROOM else memoryview(bytearray(size))
        answer[: len(head)] = head
        try:
            return answer if body.read_now(answer[len(head) :], start) else None
        except OSError:
            return None

    def _write(self, client: Client, answer: bytes | memoryview) -> None:
        transport = client.transport
        assert transport is not None
        transport.write(answer)
        client.passed_by()
        if transport.get_write_buffer_size():
            self._room = memoryview(bytearray(ROOM))  # the old one may be what waits to be sent
            give_up_after(transport, self._send_idle)
            client.watch_rest(self._send_idle, self._send_rate)

    def _end(
        self,
        client: Client,
        transport: asyncio.Transport,
        before: int,
        over: Over,
        sent: int,
        error: BaseException | None,
    ) -> None:
        client.sending = None
        over(before + sent, error)
        match error:
            case None:
                transport.resume_reading()
                client.passed_by()
            case TimeoutError():
                client.note_slow(error)
                reset(transport)
            case ConnectionError():
                reset(transport)
            case _:  # the client must not take it for whole
                transport.close()
