"""The warm lane: a GET whose answer is a warm record is answered where its bytes arrive, past aiohttp.

A head is recognised, not parsed: see `heads`.  Everything else, whatever is spelled in another way, and whatever has
got lost goes the long way, which answers the same, byte for byte.

What came over TLS has other keys: its objects may be others.
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from functools import partial
from mmap import PAGESIZE
from typing import Final, Protocol

from multidict import CIMultiDict

from proxy.cache.warm import Record, Warm
from proxy.errors import SpoolError
from proxy.patience import give_up_after, reset
from proxy.semantics.forward import Network, client_address, is_trusted
from proxy.semantics.preconditions import Verdict
from proxy.semantics.ranges import read_slice
from proxy.semantics.shape import Shape
from proxy.server.access import Access
from proxy.server.heads import LONGEST, Head, Heads
from proxy.server.lines import About
from proxy.server.reading import OVER_TLS
from proxy.server.sending import TURN, Room, Sending, Way, send_there, waits
from proxy.spool.body import Body

ROOM: Final = 72 << 10
"""Bytes of a head and its body up to which they are copied, and sent as one; of a larger body, the file is sent from
the first page on that begins in it, as the kernel packs whole pages best.
"""

_MORE: Final = getattr(socket, "MSG_MORE", 0)

Told = tuple[About, str, bytes | None, int, float]
"""What `Access.record_warm` is told of an answer, before its size."""


class Client(Protocol):
    """What the lane asks of a connection that is idle, and behind whole requests."""

    transport: asyncio.Transport | None
    way: Way | None
    """Past asyncio's buffers; the transport itself, if it encrypts."""
    client: str
    sending: Sending | Room | None

    def passed_by(self) -> None:
        """A request was answered without the connection's knowledge."""

    def pass_on(self, data: bytes) -> None:
        """What has been received goes the long way after all."""

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
        self._warm = warm
        self._access = access
        self._trusted = trusted
        self._send_idle = send_idle
        self._send_rate = send_rate
        self._sending = partial(Sending, send_idle=send_idle, send_rate=send_rate)
        self._longest = min(longest, LONGEST)
        self._heads = Heads(warm, fields)
        self._room = memoryview(bytearray(ROOM + PAGESIZE))

    def drain(self) -> None:
        """From now on, who is answered is told that this was the last answer: not by us."""
        self.draining = True

    def address(self, transport: asyncio.BaseTransport) -> str | None:
        """What a client is called who may come this way: by TCP, and for nobody else."""
        sock, peer = transport.get_extra_info("socket"), transport.get_extra_info("peername")
        if (
            not isinstance(peer, tuple)
            or sock is None
            or sock.family == socket.AF_UNIX
            or is_trusted(peer[0], self._trusted)
        ):
            return None
        return client_address(peer[0], CIMultiDict(), self._trusted)

    def take(self, client: Client, data: bytes) -> bool:
        """Answer what has been received, if it is one such request and nothing else; False if it is not."""
        begun = time.monotonic()
        if self.draining or len(data) > self._longest or not data.endswith(b"\r\n\r\n"):
            return False
        at, asked, rest = data.rfind(b"\r\nRange: bytes="), None, data  # it stands near the end
        if at >= 0:
            end = data.find(b"\r\n", at + 15)
            asked, rest = data[at + 15 : end], data[:at] + data[end:]
        if client.way is client.transport:
            rest = OVER_TLS + rest
        head = self._heads.find(rest) or self._heads.recognise(rest)
        if head is None:
            return False
        record = head.record
        if (record is None or head.second != int(time.time()) or not self._warm.use(record)) and (
            record := self._look_up(head)
        ) is None:
            return False
        part = None
        if asked is not None and (part := read_slice(asked, record.length)) is None:
            return False
        about = head.about
        if about is None or about.client != client.client:
            about = head.about = _about(client, record, head.shape)
        if head.is_known:
            self._write(client, record.not_modified)
            self._access.record_warm(about, record.answers.origin, asked, 304, begun, 0)
            return True
        if part is not None and head.range_applies:
            status, (start, stop) = 206, part
            answer = b"%b%d-%d%b%d\r\n\r\n" % (
                record.partial,
                start,
                stop - 1,
                record.partial_rest,
                stop - start,
            )
        else:
            answer, status, start, stop = record.whole, 200, 0, record.length
        told = about, record.answers.origin, asked, status, begun
        return self._send(client, data, answer, record.body, start, stop, told)

    def _look_up(self, head: Head) -> Record | None:
        """The record that answers such requests for the rest of this second, if one does."""
        record = self._warm.find(head.key)
        if record is None:
            return None
        if not self._warm.holds(head.key, record):
            self._warm.drop(head.key)
            return None
        if not self._fits(head.shape, record):
            return None
        verdict, head.range_applies = (
            record.verdict(head.conditions) if head.conditions else (Verdict.PROCEED, True)
        )
        if verdict is not Verdict.PROCEED and verdict is not Verdict.NOT_MODIFIED:
            return None
        head.is_known = verdict is Verdict.NOT_MODIFIED
        if head.record is not record:
            head.record, head.about = record, None
        head.second = record.second
        return record

    def _fits(self, shape: Shape, record: Record) -> bool:
        """Would everybody who sends such fields get what is in the record?"""
        if shape.has_origin and record.answers.by_site:
            return False
        if not shape.has_cookies:
            return True
        partition = shape.partition(record.about, record.policy, self._warm.secret)
        return partition is None or self._warm.enters(record, partition)

    def _send(
        self, client: Client, asked: bytes, head: bytes, body: Body, start: int, stop: int, told: Told
    ) -> bool:
        transport, way = client.transport, client.way
        assert transport is not None
        assert way is not None
        before, there, copied = len(head), stop, stop
        try:
            if before + stop - start > ROOM:
                there = body.at_hand(start, min(start + TURN, stop))
                copied = min(-(-start // PAGESIZE) * PAGESIZE, there)
            first = self._room[: before + copied - start]
            first[:before] = head
            at_hand = there > start and (copied == start or body.read_now(first[before:], start))
        except OSError:
            return False
        client.passed_by()
        if not at_hand:
            over = partial(self._end_unless_lost, client, asked, transport, told)
            self._keep(client, self._sending(transport, way, head, body, start, stop, over, at_hand=False))
            return True
        at = start
        try:
            try:  # what it does not take is in the file: no need for a copy
                sent = way.send(first, _MORE if copied < stop else 0)
            except BlockingIOError:
                sent = 0
            if sent >= before and (at := start + sent - before) < there:
                at, _ = send_there(way, body, at, there)
        except (OSError, SpoolError) as error:
            self._end(client, transport, told, at - start, 0, error)
            return True
        if at == stop and sent >= before and (way is not transport or not waits(way)):
            self._access.record_warm(*told, stop - start)
        else:
            over = partial(self._end, client, transport, told, at - start)
            self._keep(client, self._sending(transport, way, head[sent:], body, at, stop, over))
        return True

    def _keep(self, client: Client, sending: Sending) -> None:
        """It goes on whenever the client takes more, or the disk has brought more."""
        client.sending = sending
        self.sendings.add(sending.done)
        sending.done.add_done_callback(self.sendings.discard)

    def _write(self, client: Client, answer: bytes) -> None:
        transport = client.transport
        assert transport is not None
        transport.write(answer)
        client.passed_by()
        self._limit_rest(client, transport)

    def _limit_rest(self, client: Client, transport: asyncio.Transport) -> None:
        """What waits in a buffer, and nobody waits for, shall not stay there for ever."""
        if transport.get_write_buffer_size():
            give_up_after(transport, self._send_idle)
            client.watch_rest(self._send_idle, self._send_rate)

    def _end(
        self,
        client: Client,
        transport: asyncio.Transport,
        told: Told,
        before: int,
        sent: int,
        error: BaseException | None,
    ) -> None:
        client.sending = None
        self._access.record_warm(*told, before + sent, error)
        self._limit_rest(client, transport)
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

    def _end_unless_lost(
        self,
        client: Client,
        asked: bytes,
        transport: asyncio.Transport,
        told: Told,
        sent: int,
        error: BaseException | None,
    ) -> None:
        """As `_end`; but what turns out to be lost before anything was sent is asked for in the long way."""
        if (
            isinstance(error, SpoolError)
            and isinstance(client.sending, Sending)
            and not client.sending.has_sent
        ):
            client.sending = None
            transport.resume_reading()
            client.pass_on(asked)
        else:
            self._end(client, transport, told, 0, sent, error)


def _about(client: Client, record: Record, shape: Shape) -> About:
    return About(
        client.client,
        "GET",
        record.answers.target,
        "HTTP/1.1",
        record.about.host,
        record.answers.route,
        shape.referer,
        shape.user_agent,
    )
