"""The load: a process of its own that asks over raw sockets, and costs less than what it measures.

It reads one order a line from standard input and writes one outcome a line.  The bytes of a body are counted and
thrown away by the kernel (MSG_TRUNC); whether they are right is looked at elsewhere, before anything is measured.
"""

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from tests.bench.machine import clocks, pin, used

PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """Ask a server on `port` for `requests`, in turn and over again, for `seconds`; each is a whole head.

    `once`: each request once, however long that takes.  `beside`: what one more connection asks for, in turn; the
    others then go on until it has had all of that, at least for `seconds`, and starts over if it is done before.
    """

    port: int
    requests: Sequence[str]
    status: int
    processes: Sequence[int]
    """Whose processor time is taken."""
    connections: int = 16
    seconds: float = 0.5
    once: bool = False
    beside: Sequence[str] = ()
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """`cpu` is that of the order's processes, `own_cpu` the load's; seconds, as are the `latencies`."""

    requests: int
    octets: int
    seconds: float
    cpu: float
    own_cpu: float
    latencies: Sequence[float] = ()
    """From a request to the end of its answer, of those who ask `beside` somebody."""
    laps: int = 0
    """How often that somebody has had all."""


class Load:
    """The process, as those see it who give it orders."""

    def __init__(self, core: int | None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load", "" if core is None else str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def carry_out(self, order: Order) -> Outcome:
        """Wait for it.  RuntimeError: an answer was not what the order says, or the server has gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the load has ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return Outcome(**answer)


class _Client:
    """One connection; `left` bytes of its answer are still to come, -1 while the head is."""

    __slots__ = (
        "_decipher",
        "_filled",
        "_flags",
        "_head",
        "_room",
        "_status",
        "_timed",
        "_waste",
        "begun",
        "busy",
        "left",
        "octets",
        "sock",
    )

    def __init__(
        self, port: int, status: int, *, timed: bool, waste: bytearray, tls: ssl.SSLContext | None
    ) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 120)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock)
            self.sock.setblocking(False)
        # Encrypted bytes have to be read to be thrown away, and epoll knows nothing of those that are deciphered.
        self._decipher = tls is not None
        self._flags = 0 if self._decipher else socket.MSG_TRUNC
        self._status, self._timed, self._waste = str(status).encode(), timed, waste
        self._head = bytearray(16384)
        self._room = memoryview(self._head)
        self._filled = 0
        self.left, self.busy, self.begun, self.octets = -1, False, 0.0, 0

    def ask(self, request: bytes) -> None:
        self.left, self._filled, self.busy = -1, 0, True
        if self._timed:
            self.begun = time.perf_counter()
        self.sock.sendall(request)

    def take(self) -> None:
        """Read what has come; not `busy` any more once the answer is whole."""
        if not self._decipher:
            self._take()
            return
        try:
            while self.busy:
                self._take()
        except ssl.SSLWantReadError:
            pass

    def _take(self) -> None:
        if self.left < 0:
            count = self.sock.recv_into(self._room[self._filled :] if self._filled else self._head)
            self._filled += count
            end = self._head.find(b"\r\n\r\n", 0, self._filled)
            if end >= 0:
                self.left = self._length(end) - (self._filled - end - 4)
        else:
            count = self.sock.recv_into(self._waste, min(self.left, PIECE), self._flags)
            self.left -= count
        if not count:
            raise RuntimeError(f"the server closed a connection after {bytes(self._head[: self._filled])!r}")
        self.octets += count
        self.busy = self.left != 0

    def _length(self, end: int) -> int:
        if self._head[9:12] != self._status:
            raise RuntimeError(f"{self._status.decode()} was expected: {bytes(self._head[:end])!r}")
        if self._status == b"304":
            return 0
        at = self._head.find(b"\r\nContent-Length: ", 0, end)
        if at < 0:
            raise RuntimeError(f"an answer without Content-Length: {bytes(self._head[:end])!r}")
        return int(self._head[at + 18 : self._head.find(b"\r\n", at + 2)])


class _Run:
    """One order being carried out."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._requests = [request.encode() for request in order.requests]
        self._beside = [request.encode() for request in order.beside]
        self._poll = select.epoll()
        waste, tls = bytearray(PIECE), anybody() if order.tls else None
        clients = [
            _Client(order.port, order.status, timed=bool(order.beside), waste=waste, tls=tls)
            for _ in range(order.connections + bool(order.beside))
        ]
        self._clients = {client.sock.fileno(): client for client in clients}
        for number in self._clients:
            self._poll.register(number, select.EPOLLIN)
        self._other = clients[0] if order.beside else None
        self._asked = self._done = self._beside_asked = 0
        self._late = False
        self._latencies: list[float] = []

    def close(self) -> None:
        self._poll.close()
        for client in self._clients.values():
            client.sock.close()

    def outcome(self) -> Outcome:
        before, own, begun = clocks(self._order.processes), time.process_time(), time.perf_counter()
        deadline, self._late = begun + self._order.seconds, self._order.seconds == 0
        busy = 0
        for client in self._clients.values():
            self._next(client)
            busy += client.busy
        clients, poll = self._clients, self._poll.poll
        while busy:
            ready = poll(120)
            if not ready:
                raise RuntimeError("the server has sent nothing for two minutes")
            self._late = time.perf_counter() >= deadline
            for number, _ in ready:
                client = clients[number]
                client.take()
                if not client.busy:
                    self._finished(client)
                    busy -= not client.busy
        return Outcome(
            requests=self._done,
            octets=sum(client.octets for client in self._clients.values()),
            seconds=time.perf_counter() - begun,
            cpu=used(before, clocks(self._order.processes)),
            own_cpu=time.process_time() - own,
            latencies=self._latencies,
            laps=self._beside_asked // len(self._beside) if self._beside else 0,
        )

    def _finished(self, client: _Client) -> None:
        if client is not self._other:
            self._done += 1
            if self._other is not None:
                self._latencies.append(time.perf_counter() - client.begun)
        self._next(client)

    def _next(self, client: _Client) -> None:
        if client is self._other:
            lap_is_over = self._beside_asked % len(self._beside) == 0 and self._beside_asked > 0
            if not (self._late and lap_is_over):
                client.ask(self._beside[self._beside_asked % len(self._beside)])
                self._beside_asked += 1
        elif self._order.once:
            if self._asked < len(self._requests):
                client.ask(self._requests[self._asked])
                self._asked += 1
        elif not self._late or (self._other is not None and self._other.busy):
            client.ask(self._requests[self._asked % len(self._requests)])
            self._asked += 1


def anybody() -> ssl.SSLContext:
    """TLS with whoever is there."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def main(core: str) -> None:
    if core:
        pin(os.getpid(), int(core))
    for line in sys.stdin:
        answer: dict[str, object]
        try:
            run = _Run(Order(**json.loads(line)))
            try:
                answer = asdict(run.outcome())
            finally:
                run.close()
        except (RuntimeError, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
