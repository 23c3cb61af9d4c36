"""The load: it reads whole answers, complains about others, and leaves when it is told."""

import os
import socketserver
import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme

from tests.bench.load import Load, Order


class Origin(socketserver.StreamRequestHandler):
    """Answers /<status>/<length>, the head in two pieces."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            _, status, length = line.split()[1].split(b"/")
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 %b OK\r\nContent-Le" % status)
            self.wfile.write(b"ngth: %b\r\n\r\n" % length + (b"" if status == b"304" else bytes(int(length))))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Origin) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    with Load(None) as load:
        yield load


def ask(*answers: str) -> list[str]:
    return [f"GET /{answer} HTTP/1.1\r\n\r\n" for answer in answers]


def test_each_request_once(load: Load, port: int) -> None:
    order = Order(port, ask("200/5", "200/300000", "200/0"), 200, [os.getpid()], connections=2, once=True)
    outcome = load.carry_out(order)
    assert outcome.requests == 3
    assert outcome.octets == 300005 + sum(
        len(f"HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n") for n in (5, 300000, 0)
    )
    assert outcome.cpu > 0


def test_for_some_time(load: Load, port: int) -> None:
    outcome = load.carry_out(Order(port, ask("304/9"), 304, [os.getpid()], connections=2, seconds=0.05))
    assert outcome.requests > 2
    assert outcome.seconds >= 0.05


def test_beside_another(load: Load, port: int) -> None:
    order = Order(
        port, ask("206/5"), 206, [], connections=2, seconds=0, beside=ask("206/7", "206/8", "206/9")
    )
    outcome = load.carry_out(order)
    assert outcome.laps == 1
    assert len(outcome.latencies) == outcome.requests > 0


def test_another_status_is_an_error_and_the_next_order_works(load: Load, port: int) -> None:
    with pytest.raises(RuntimeError, match="200 was expected"):
        load.carry_out(Order(port, ask("404/5"), 200, [], once=True))
    assert load.carry_out(Order(port, ask("200/5"), 200, [], once=True)).requests == 1


def test_over_tls(load: Load) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Origin) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        asked = ask("200/5", "200/300000", "200/0")
        outcome = load.carry_out(Order(server.server_address[1], asked, 200, [], 2, once=True, tls=True))
        server.shutdown()
        thread.join()
    assert outcome.requests == 3
    assert outcome.octets > 300005
