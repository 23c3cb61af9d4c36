"""Files to clients at once, as far as both are ready for it; and the rest as soon as they are."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Any, Final

from proxy.errors import SpoolError
from proxy.patience import Watch
from proxy.server.encrypted import PIECE, EncryptedTransport
from proxy.spool.body import Body
from proxy.spool.residence import WINDOW

TURN: Final = 1 << 20
"""Bytes sent without letting others have their turn."""
_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""What the kernel says of file systems that have none."""


Way = socket.socket | EncryptedTransport
"""To a client: what sends bytes at once, and raises BlockingIOError where there is no room for one."""


class Pause(Enum):
    """Why no more was sent."""

    TURN = auto()
    SOCKET = auto()
    DISK = auto()


def way_of(transport: asyncio.Transport) -> Way:
    """To the client of this connection, which is TCP."""
    if isinstance(transport, EncryptedTransport):
        return transport
    way: socket.socket = transport.get_extra_info("socket")._sock  # asyncio's wrapper of it sends nothing
    return way


def sendfile(way: Way, file: int, start: int, count: int) -> int:
    """Send some of so many bytes of a file; how many, 0 at its end.  Raises OSError."""
    if isinstance(way, EncryptedTransport):
        return way.sendfile(file, start, count)
    try:
        return os.sendfile(way.fileno(), file, start, count)
    except OSError as error:
        if error.errno not in _NO_SENDFILE:
            raise
    return way.send(os.pread(file, min(count, PIECE), start))


def send_some(way: Way, body: Body, start: int, stop: int) -> tuple[int, Pause]:
    """Send of the bytes [start, stop), and tell how far that came.

    Raises OSError, where the client has gone or the disk is broken, and SpoolError for a file that ends too early:
    if nothing was sent.  Else the next call does.
    """
    end = body.at_hand(start, min(stop, start + TURN))
    return (start, Pause.DISK) if end == start else send_there(way, body, start, end)


def send_there(way: Way, body: Body, start: int, stop: int) -> tuple[int, Pause]:
    """The same of bytes that are at hand."""
    body.check()
    fd, at = body.fileno(), start
    try:
        while at < stop:
            sent = sendfile(way, fd, at, stop - at)
            if not sent:
                raise SpoolError("the spool's file is shorter than promised")
            at += sent
    except BlockingIOError:
        return at, Pause.SOCKET
    except (OSError, SpoolError):
        if at == start:
            raise
    return at, Pause.TURN


def call_with_room(way: Way, on_room: Callable[[], None] | None) -> None:
    """Whenever the client takes more, `on_room` is called; with None, no more.  Nothing of the loop's own is to be
    written meanwhile.
    """
    if isinstance(way, EncryptedTransport):
        way.call_with_room(on_room)
        return
    # By asyncio's own way for transports: add_writer refuses what belongs to one, and a second descriptor of the same
    # socket for each slow client would halve how many there can be.
    loop: Any = asyncio.get_running_loop()
    if on_room is not None:
        loop._add_writer(way.fileno(), on_room)
    else:
        loop._remove_writer(way.fileno())


class Room:
    """A wait for the client to take more: `done` once it does, or has gone."""

    def __init__(self, way: Way) -> None:
        self._way: Way | None = way
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        call_with_room(way, self.end)

    def end(self, _: BaseException | None = None) -> None:
        """It is over; to be called before the connection is closed, or is used for something else."""
        if self._way is not None:
            call_with_room(self._way, None)
            self._way = None
        if not self.done.done():
            self.done.set_result(None)


def waits(way: Way) -> bool:
    """Has it taken bytes that are not in the kernel yet?"""
    return isinstance(way, EncryptedTransport) and way.get_write_buffer_size() > 0


class Sending:
    """The rest of an answer, of its `head` and then [start, stop) of `body`, to a connection that reads nothing
    meanwhile, and whose transport has nothing to write; if that encrypts, at most a record.  Where the first bytes of
    the body are not `at_hand`, nothing is sent before they are.

    `over` is called once, with how many bytes of the body were sent and what kept the rest from it: None if nothing
    did.  The future, `done` by then, is for whoever waits for its end, or cancels it.
    """

    __slots__ = (
        "_at", "_begun", "_body", "_ended", "_head", "_loop", "_over", "_reading", "_stop", "_transport", "_watch",
        "_watching", "_way", "done", "has_sent",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        way: Way,
        head: bytes,
        body: Body,
        start: int,
        stop: int,
        over: Callable[[int, BaseException | None], None],
        *,
        send_idle: float,
        send_rate: float,
        at_hand: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._way = way
        self._ended = False
        self._head = head
        self._body = body.hold()
        self._at, self._stop, self._begun = start, stop, start
        self._over = over
        self._watching = partial(Watch, transport, send_idle, self.end, rate=send_rate)
        self._watch: Watch | None = None
        """While it is for the client to take something, and not for the disk to bring it."""
        self._reading: asyncio.Task[None] | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.done.add_done_callback(self._cancelled)
        self.has_sent = at_hand
        """Has the client any of the answer?"""
        transport.pause_reading()
        if at_hand:
            self._wait()
        else:
            self._reading = self._loop.create_task(self._bring())

    def __repr__(self) -> str:
        return f"<Sending {self._at}/{self._stop} of {self._body}>"

    def _wait(self) -> None:
        """For the client to take more."""
        self._watch = self._watching()
        call_with_room(self._way, self._go)

    def _go(self) -> None:
        pause = Pause.SOCKET
        try:
            if self._head:
                self._head = self._head[self._way.send(self._head) :]
                self.has_sent = True
            if self._at < self._stop and not self._head:
                self._at, pause = send_some(self._way, self._body, self._at, self._stop)
        except BlockingIOError:
            return
        except (OSError, SpoolError) as error:
            self.end(error)
            return
        if self._at == self._stop and not self._head:
            if not waits(self._way):
                self.end(None)
        elif pause is Pause.DISK:
            call_with_room(self._way, None)
            self._stop_watch()
            self._reading = self._loop.create_task(self._bring())

    async def _bring(self) -> None:
        """Have the next bytes in the page cache."""
        try:
            await self._body.bring(self._at, min(self._at + WINDOW, self._stop))
        except SpoolError as error:
            self.end(error)
            return
        self._reading = None
        self._go()
        if not self._ended and self._reading is None:
            self._wait()

    def end(self, error: BaseException | None) -> None:
        """It is over; the first time it is said, it counts."""
        if self._ended:
            return
        self._ended = True
        call_with_room(self._way, None)
        self._stop_watch()
        if self._reading is not None:
            self._reading.cancel()
        self._body.release()
        if not self.done.done():
            self.done.set_result(None)
        self._over(self._at - self._begun, error)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _cancelled(self, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            self.end(asyncio.CancelledError())
