"""Files onto sockets at once, as far as both are ready for it; and the rest as soon as they are."""

import asyncio
import os
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from proxy.errors import SpoolError
from proxy.patience import Watch
from proxy.spool.body import Body

WINDOW: Final = 256 << 10
"""Bytes that are looked for in the page cache, and then sent."""
TURN: Final = 1 << 20
"""Bytes sent without letting others have their turn."""


class Pause(Enum):
    """Why no more was sent."""

    TURN = auto()
    SOCKET = auto()
    DISK = auto()


def send_some(sock: int, body: Body, start: int, stop: int) -> tuple[int, Pause]:
    """Send of the bytes [start, stop), and tell how far that came.

    Raises OSError, where the client has gone or the disk is broken, and SpoolError for a file that ends too early:
    if nothing was sent.  Else the next call does.
    """
    body.check()
    fd, at, limit = body.fileno(), start, min(stop, start + TURN)
    try:
        while at < limit:
            end = min(at + WINDOW, limit)
            if not body.has_at_hand(at, end):
                return at, Pause.DISK
            sent = os.sendfile(sock, fd, at, end - at)
            if not sent:
                raise SpoolError("the spool's file is shorter than promised")
            at += sent
    except BlockingIOError:
        return at, Pause.SOCKET
    except (OSError, SpoolError):
        if at == start:
            raise
    return at, Pause.TURN


class Sending:
    """The rest of an answer, [start, stop) of `body`, to a connection that reads nothing meanwhile.

    `over` is called once, with how many bytes were sent and what kept the rest from it: None if nothing did.  The
    future, `done` by then, is for whoever waits for its end, or cancels it.  To begin raises OSError where no
    descriptor is left.
    """

    __slots__ = (
        "_at", "_begun", "_body", "_loop", "_over", "_reading", "_sock", "_stop", "_transport", "_watch", "done",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        body: Body,
        start: int,
        stop: int,
        over: Callable[[int, BaseException | None], None],
        *,
        send_idle: float,
        send_rate: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        # A descriptor of its own: the loop watches the transport's for itself.
        self._sock = os.dup(transport.get_extra_info("socket").fileno())
        self._body = body.hold()
        self._at, self._stop, self._begun = start, stop, start
        self._over = over
        self._watch = Watch(transport, send_idle, self.end, rate=send_rate)
        self._reading: asyncio.Task[None] | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.done.add_done_callback(self._cancelled)
        transport.pause_reading()
        self._loop.add_writer(self._sock, self._go)

    def __repr__(self) -> str:
        return f"<Sending {self._at}/{self._stop} of {self._body}>"

    def _go(self) -> None:
        if self._transport.get_write_buffer_size():
            return  # the head is first
        try:
            self._at, pause = send_some(self._sock, self._body, self._at, self._stop)
        except (OSError, SpoolError) as error:
            self.end(error)
            return
        if self._at == self._stop:
            self.end(None)
        elif pause is Pause.DISK:
            self._loop.remove_writer(self._sock)
            self._reading = self._loop.create_task(self._bring())

    async def _bring(self) -> None:
        """Have the next bytes in the page cache."""
        try:
            await self._body.bring(self._at, min(self._at + WINDOW, self._stop))
        except SpoolError as error:
            self.end(error)
            return
        self._reading = None
        self._loop.add_writer(self._sock, self._go)

    def end(self, error: BaseException | None) -> None:
        """It is over; the first time it is said, it counts."""
        if self._sock < 0:
            return
        self._loop.remove_writer(self._sock)
        os.close(self._sock)
        self._sock = -1
        self._watch.stop()
        if self._reading is not None:
            self._reading.cancel()
        self._body.release()
        if not self.done.done():
            self.done.set_result(None)
        self._over(self._at - self._begun, error)

    def _cancelled(self, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            self.end(asyncio.CancelledError())
