"""Answers to connections that are not taken on, so that they arrive.

Who closes a socket with bytes that nobody has read resets it, and the answer is lost.  So we say it, say that it was
all, and throw away what comes until the client closes.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from proxy.semantics.cache_status import CacheStatus, render
from proxy.server.access import RETRY_AFTER
from proxy.server.limits import Limit

SPEAK_AFTER = 0.1
"""Seconds to wait for the first bytes of a request: some clients take an answer that comes before it for noise."""
LINGER = 2.0
"""Seconds that the client has to take the answer and close."""
READ_SIZE = 16 << 10
MOST_WHEN_SHORT = 8
"""Connections answered at a time where descriptors are short: the others that are left are for files."""


class Refusing:
    """`most` connections at a time are answered with care; more are closed at once.  `name` is ours in the answer."""

    def __init__(self, name: str, most: int) -> None:
        self._most = most
        self._answers = {
            Limit.CONNECTIONS: _answer(name, CacheStatus(detail="too-many-connections")),
            Limit.PER_CLIENT: _answer(name, CacheStatus(detail="too-many-connections-of-client")),
            Limit.DESCRIPTORS: _answer(name, CacheStatus(detail="too-few-descriptors")),
        }
        self._refused: set[_Refused] = set()

    @property
    def open(self) -> int:
        """Connections that have not taken their answer yet."""
        return len(self._refused)

    def refuse(self, sock: socket.socket, limit: Limit) -> None:
        """Answer 503 to whoever is behind this socket, which must not block, and close it."""
        short = limit is Limit.DESCRIPTORS
        if len(self._refused) >= (min(self._most, MOST_WHEN_SHORT) if short else self._most):
            with suppress(BlockingIOError):
                sock.recv(READ_SIZE)
            with suppress(OSError):  # in vain, if more is on its way
                sock.send(self._answers[limit])
            sock.close()
            return
        self._refused.add(_Refused(sock, self._answers[limit], self._refused.discard))

    def close(self) -> None:
        """Close them all."""
        for refused in list(self._refused):
            refused.close()


class _Refused:
    def __init__(self, sock: socket.socket, answer: bytes, on_close: Callable[["_Refused"], None]) -> None:
        self._sock = sock
        self._answer = answer
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.call_later(SPEAK_AFTER, self._say)
        self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if self._answer:
            self._say()
        if not data:
            self.close()

    def _say(self) -> None:
        answer, self._answer = self._answer, b""
        self._due.cancel()
        self._due = self._loop.call_later(LINGER, self.close)
        try:
            self._sock.send(answer)  # so little always fits
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone
            self.close()

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._due.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._on_close(self)


def _answer(name: str, status: CacheStatus) -> bytes:
    body = f"503 Service Unavailable: {status.detail}\n"
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: text/plain; charset=utf-8",
        "Cache-Control: no-store",
        f"Cache-Status: {render(name, status)}",
        f"Retry-After: {RETRY_AFTER}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        body,
    )
    return "\r\n".join(lines).encode()
