"""TLS on a socket, as asyncio sees a connection: OpenSSL itself reads and writes the socket.

asyncio's own transport encrypts into memory, and copies from there: each connection then keeps its buffers for both
directions, as large as they ever were.  Here nothing stays but what OpenSSL has to keep, and of an answer to a client
that takes no more, one record.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

RECORD: Final = 16 << 10
"""Bytes that one record of TLS holds (RFC 8446 section 5.1); OpenSSL makes one at a time of what we give it."""
RECORDS: Final = 4
"""Records that are read before others have their turn."""
PIECE: Final = 64 << 10
"""Bytes of a file that are read, and then encrypted."""

_room = memoryview(bytearray(PIECE))
"""Whatever is in it has been encrypted before anybody else comes."""


class EncryptedTransport(asyncio.Transport):
    """Of a socket that has its handshake behind it, for `protocol`.  Who is parted from has `parting` seconds to say
    goodbye.
    """

    def __init__(self, sock: ssl.SSLSocket, protocol: asyncio.Protocol, *, parting: float) -> None:
        """Raises OSError: the client has gone."""
        about = {"socket": sock, "sslcontext": sock.context, "ssl_object": sock}
        super().__init__({**about, "peername": sock.getpeername(), "sockname": sock.getsockname()})
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._parting = parting
        self._gone: asyncio.TimerHandle | None = None
        self._buffer = bytearray()
        self._high, self._low = RECORD, 0
        self._writing_paused = self._reading_paused = self._reading_blocked = False
        self._closing = self._lost = self._eof = False
        self._on_room: Callable[[], None] | None = None
        protocol.connection_made(self)
        if not self._closing:
            self._loop.add_reader(self._fd, self._read)

    def __repr__(self) -> str:
        state = "lost" if self._lost else "closing" if self._closing else "open"
        return f"<EncryptedTransport fd={self._fd} {state} waiting={len(self._buffer)}>"

    # From the client

    def _read(self) -> None:
        """A record is taken whole: what is left lies in the socket, and the loop knows of it."""
        for _ in range(RECORDS):
            try:
                data = self._sock.recv(RECORD)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLWantWriteError:  # new keys of ours, half said, come first (RFC 8446 section 4.6.3)
                self._reading_blocked = True
                self._loop.remove_reader(self._fd)
                self._loop.add_writer(self._fd, self._write)
                return
            except OSError as error:
                self._fail(error)
                return
            if not data:
                self._end_of_input()
                return
            try:
                self._protocol.data_received(data)
            except BaseException:
                self.abort()
                raise
            if len(data) < RECORD or self._reading_paused or self._closing:
                return

    def _end_of_input(self) -> None:
        """The client will send no more; as for asyncio, that is the end of an encrypted connection."""
        self._eof = True
        self._protocol.eof_received()
        self.close()

    def is_reading(self) -> bool:
        return not self._closing and not self._reading_paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._reading_paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            self._loop.add_reader(self._fd, self._read)

    # To the client

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self._encrypt(memoryview(data))
            except OSError as error:
                self._fail(error)
                return
        self._keep(memoryview(data)[sent:])

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """As a socket's, which knows flags: how many bytes have been taken.  One record of them may wait here; then
        no more is taken.

        Raises BlockingIOError and ConnectionError.
        """
        if self._buffer:
            raise BlockingIOError
        if self._closing:
            raise ConnectionResetError("the connection is closed")
        try:
            sent = self._encrypt(memoryview(data))
        except OSError as error:
            raise _as_reset(error) from error
        waiting = data[sent : sent + RECORD]
        self._keep(waiting)
        return sent + len(waiting)

    def sendfile(self, file: int, start: int, count: int) -> int:
        """The same for bytes of a file from `start` on, which is read on the spot; 0 at its end.  Raises OSError."""
        return self.send(_room[: os.preadv(file, [_room[: min(count, PIECE)]], start)])

    def _encrypt(self, data: memoryview) -> int:
        """How many bytes OpenSSL has taken; what comes next must begin with the others.  Raises OSError."""
        at = 0
        try:
            while at < len(data):
                at += self._sock.send(data[at : at + RECORD])
        except ssl.SSLWantWriteError:
            pass
        return at

    def _keep(self, data: bytes | memoryview) -> None:
        if not data:
            return
        self._buffer += data
        self._loop.add_writer(self._fd, self._write)
        if len(self._buffer) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _write(self) -> None:
        """The socket takes more."""
        if self._reading_blocked:
            self._reading_blocked = False
            if self.is_reading():
                self._loop.add_reader(self._fd, self._read)
        if self._buffer:
            try:
                sent = self._encrypt(memoryview(self._buffer))
            except OSError as error:
                self._fail(error)
                return
            del self._buffer[:sent]
            if len(self._buffer) <= self._low and self._writing_paused:
                self._writing_paused = False
                self._protocol.resume_writing()
        if self._buffer or self._lost:
            return
        if self._closing:
            self._part()
        elif self._on_room is not None:
            self._on_room()
        else:
            self._loop.remove_writer(self._fd)

    def call_with_room(self, on_room: Callable[[], None] | None) -> None:
        """Whenever nothing waits here and the socket takes more, `on_room` is called; with None, no more."""
        self._on_room = on_room
        if on_room is not None and not self._lost:
            self._loop.add_writer(self._fd, self._write)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = PIECE if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def can_write_eof(self) -> bool:
        return False

    # The end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What has been written is sent first."""
        if self._closing:
            return
        self._closing = True
        self._on_room = None
        self._loop.remove_reader(self._fd)
        if not self._buffer:
            self._part()

    def _part(self) -> None:
        """Say that nothing follows, and wait for the client to go: were the socket closed under what it still sends,
        that would reset the connection, and the end of an answer be lost.
        """
        if self._gone is None:
            self._gone = self._loop.call_later(self._parting, self._lose, None)
        try:
            self._sock.unwrap()
        except ssl.SSLWantWriteError:
            self._loop.add_writer(self._fd, self._write)
            return
        except (OSError, ValueError):  # said, but not answered
            pass
        self._loop.remove_writer(self._fd)
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._eof = True
        if self._eof:
            self._lose(None)
            return
        self._loop.add_reader(self._fd, self._throw_away)

    def _throw_away(self) -> None:
        """What comes is not even deciphered."""
        try:
            if not self._sock.recv(PIECE):
                self._lose(None)
        except BlockingIOError:
            pass
        except OSError:
            self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def _fail(self, error: OSError) -> None:
        self._lose(_as_reset(error))

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        self._on_room = None
        if self._gone is not None:
            self._gone.cancel()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._buffer = bytearray()
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _as_reset(error: OSError) -> ConnectionError:
    """OpenSSL has many words for clients that have gone, or send no TLS."""
    if isinstance(error, ConnectionError):
        return error
    return ConnectionResetError(f"the client's connection broke: {error}")
