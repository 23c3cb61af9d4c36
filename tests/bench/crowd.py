"""A crowd of clients in one process: raw sockets, each with an answer that it takes little by little."""

import resource
import socket
import ssl
import time
from collections.abc import Callable
from typing import Self

from tests.bench.origin import slice_of

PER_ADDRESS = 10_000
"""Connections from one loopback address: each has some 28,000 ports, and other programs need some."""
HEAD_WITHIN = 120.0
"""Seconds in which an answer must begin."""


def room_for_descriptors() -> int:
    """How many files this process may open, after it has asked for as many as it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class _Member:
    """One client.  `taken`: bytes of the body that it has had; all were right, or `wrong`."""

    __slots__ = ("head", "sock", "taken", "wrong")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head: bytearray | None = bytearray()
        self.taken = 0
        self.wrong: str | None = None

    def take(self, most: int, status: bytes) -> None:
        """Read what there is, at most so much."""
        try:
            data = self.sock.recv(most)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self.wrong = str(error)
            return
        if not data:
            self.wrong = "the connection was closed"
        elif self.head is None:
            self._body(data)
        else:
            self.head += data
            first, found, rest = self.head.partition(b"\r\n\r\n")
            if found:
                self.head = None
                if first.startswith(b"HTTP/1.1 " + status):
                    self._body(rest)
                else:
                    self.wrong = f"an answer that was not expected: {bytes(first[:200])!r}"

    def _body(self, data: bytes | bytearray) -> None:
        if data != slice_of(self.taken, self.taken + len(data)):
            self.wrong = f"wrong bytes at {self.taken}"
        self.taken += len(data)


class Crowd:
    """Connected one after the other, each with the same request; driven by `drive`, closed at the end.

    `buffer`: their receive buffers, in bytes; with small ones the kernel does not read in their place.
    """

    def __init__(
        self, port: int, request: str, status: int, *, buffer: int = 4096, tls: ssl.SSLContext | None = None
    ) -> None:
        self._port, self._request, self._status = port, request.encode(), b"%d" % status
        self._buffer, self._tls = buffer, tls
        self._members: list[_Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.sock.close()

    def __len__(self) -> int:
        return len(self._members)

    def grow(self, count: int, tell: Callable[[int], None]) -> None:
        """Let so many be there; `tell` hears how many are.  OSError: the connection was refused."""
        while len(self._members) < count:
            self._members.append(_Member(self._connect(len(self._members) // PER_ADDRESS)))
            if len(self._members) % 100 == 0:
                tell(len(self._members))

    def _connect(self, address: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        sock.settimeout(HEAD_WITHIN)
        sock.bind((f"127.0.0.{address + 2}", 0))
        sock.connect(("127.0.0.1", self._port))
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(self._request)
        sock.setblocking(False)
        return sock

    def answered(self, tell: Callable[[int], None]) -> None:
        """Wait until each has got the head of its answer.  RuntimeError: that took too long."""
        deadline = time.monotonic() + HEAD_WITHIN
        while missing := sum(member.head is not None for member in self._members):
            tell(len(self._members) - missing)
            if time.monotonic() > deadline:
                raise RuntimeError(f"{missing} of {len(self._members)} got no answer in {HEAD_WITHIN:.0f} s")
            self._turn(1024)
            time.sleep(0.2)
        self.check()

    def drive(self, seconds: float, most: int) -> None:
        """Each reads what has come for it, at most so many bytes a second."""
        deadline = time.monotonic() + seconds
        while (begun := time.monotonic()) < deadline:
            self._turn(most)
            time.sleep(max(0.0, min(begun + 1, deadline) - time.monotonic()))

    def _turn(self, most: int) -> None:
        for member in self._members:
            if not member.wrong:
                member.take(most, self._status)

    def progress(self) -> list[int]:
        """How many bytes each has."""
        return [member.taken for member in self._members]

    def check(self) -> None:
        """RuntimeError: somebody has met something that was not right."""
        wrong = [member.wrong for member in self._members if member.wrong]
        if wrong:
            raise RuntimeError(f"{len(wrong)} of {len(self._members)} connections: {wrong[0]}")
