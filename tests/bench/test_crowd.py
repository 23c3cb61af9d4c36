"""The crowd: it notices wrong bytes and other answers, and takes what it is told."""

import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.bench.crowd import Crowd
from tests.bench.origin import slice_of


class Origin(socketserver.StreamRequestHandler):
    """GET /<status>/<from>/<to>: those bytes of the bench's objects, until the client goes."""

    def handle(self) -> None:
        _, status, start, stop = self.rfile.readline().split()[1].split(b"/")
        self.wfile.write(b"HTTP/1.1 %b OK\r\nX: y\r\n\r\n" % status + slice_of(int(start), int(stop)))
        self.rfile.read(1)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Origin) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def crowd(port: int, answer: str) -> Crowd:
    return Crowd(port, f"GET /{answer} HTTP/1.1\r\n\r\n", 206)


def test_it_takes_no_more_than_it_is_told(port: int) -> None:
    told: list[int] = []
    with crowd(port, "206/0/4000") as clients:
        clients.grow(3, told.append)
        clients.answered(told.append)
        assert len(clients) == 3
        before = clients.progress()
        clients.drive(0.01, 10)
        after = clients.progress()
    assert all(old <= new <= old + 10 for old, new in zip(before, after, strict=True))


def test_wrong_bytes_are_noticed(port: int) -> None:
    with crowd(port, "206/1/50") as clients:
        clients.grow(2, print)
        with pytest.raises(RuntimeError, match="2 of 2 connections: wrong bytes at 0"):
            clients.answered(print)


def test_another_answer_is_noticed(port: int) -> None:
    with crowd(port, "503/0/0") as clients:
        clients.grow(1, print)
        with pytest.raises(RuntimeError, match=r"not expected: b.HTTP/1\.1 503"):
            clients.answered(print)
