"""Messages between two workers, and open files with them, over a Unix socket.

Both ends are forks of one process, and nobody else can get hold of the socket: messages are pickled.
"""

import asyncio
import copyreg
import io
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy

READ_SIZE: Final = 256 << 10
NO_FILE: Final = -1
"""In the place of a descriptor for which this process has no room."""

_HEAD: Final = Struct("!IB")
"""Before each message: its bytes, and whether a file comes with it."""
_CLOSED_AT_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

Receive = Callable[[Any, int | None], None]
"""Takes a message, and the descriptor that came with it, which is then the receiver's to close."""


class Link:
    """One end.  `lost` is called once, when the other end is gone; not after `close`."""

    def __init__(self, sock: socket.socket, receive: Receive, lost: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._receive = receive
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._arrived = bytearray()
        self._files: deque[int] = deque()
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self.closed = False
        self._loop.add_reader(sock, self._read)

    def send(self, message: object, file: int | None = None) -> None:
        """Send it, or see to it that it is sent, if the other end still is there.  `file` stays the caller's."""
        if self.closed:
            return
        text = _dumps(message)
        frame = _HEAD.pack(len(text), file is not None) + text
        if self._waiting:
            self._queue(frame, file)
        else:
            sent = self._write(frame, file)
            if sent < len(frame) and not self.closed:
                self._queue(frame[sent:], None if sent else file)
                self._loop.add_writer(self._sock, self._write_more)

    async def drained(self) -> None:
        """Wait until the other end has been given everything, or is gone."""
        if self._waiting and not self.closed:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """May be called more than once."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        unsent = (file for _, file in self._waiting if file is not None)
        for file in (*unsent, *(file for file in self._files if file != NO_FILE)):
            os.close(file)
        self._waiting.clear()
        self._files.clear()
        self._note_drained()

    def _queue(self, frame: bytes, file: int | None) -> None:
        # By the time it goes, the caller may have closed it, and its number may mean another file.
        self._waiting.append((frame, None if file is None else os.dup(file)))

    def _write(self, frame: bytes, file: int | None) -> int:
        try:
            if file is None:
                return self._sock.send(frame)
            return socket.send_fds(self._sock, [frame], [file])
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._lose()
            return 0

    def _write_more(self) -> None:
        while self._waiting:
            frame, file = self._waiting[0]
            sent = self._write(frame, file)
            if not sent:
                return
            if file is not None:
                os.close(file)
            if sent < len(frame):
                self._waiting[0] = (frame[sent:], None)
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._sock)
        self._note_drained()

    def _note_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _read(self) -> None:
        try:
            data, files, flags, _ = socket.recv_fds(self._sock, READ_SIZE, 1, _CLOSED_AT_EXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, files, flags = b"", [], 0
        if not data:
            self._lose()
            return
        # The kernel never joins what two files came with.
        self._files += files or ([NO_FILE] if flags & socket.MSG_CTRUNC else [])
        self._arrived += data
        self._take_messages()

    def _take_messages(self) -> None:
        while len(self._arrived) >= _HEAD.size and not self.closed:
            length, has_file = _HEAD.unpack_from(self._arrived)
            end = _HEAD.size + length
            if len(self._arrived) < end:
                break
            message = pickle.loads(self._arrived[_HEAD.size : end])  # noqa: S301  # our own
            del self._arrived[:end]
            self._receive(message, self._files.popleft() if has_file else None)

    def _lose(self) -> None:
        if not self.closed:
            self.close()
            self._loop.call_soon(self._lost)


class _Pickler(pickle.Pickler):
    dispatch_table = copyreg.dispatch_table | {
        CIMultiDictProxy: lambda proxy: (CIMultiDictProxy, (CIMultiDict(proxy),))
    }


def _dumps(message: object) -> bytes:
    text = io.BytesIO()
    _Pickler(text, pickle.HIGHEST_PROTOCOL).dump(message)
    return text.getvalue()
