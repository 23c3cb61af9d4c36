"""The warm lane's rules, each on raw sockets: when it acts, what it leaves alone, and how its answers end."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest

from proxy.server import sending, warm
from proxy.server.connection import Connection
from proxy.server.encrypted import RECORD, EncryptedTransport
from proxy.server.lines import Line
from proxy.spool.body import Body
from proxy.spool.residence import Residence
from tests.access_log import access_log
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.server.lanes import lane_of, listener_of, served
from tests.server.pki import Pki, over_tls
from tests.spool.objects import pattern
from tests.together import busy, settled, until
from tests.wire import Response, Truncated, Wire

FILM = pattern(300_000)
LARGE = pattern(9 << 20)
HEAD = b"GET /film.mp4 HTTP/1.1\r\nHost: films.example\r\nRange: bytes=5-9\r\n\r\n"
TAGS = {"ETag": '"v1"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT", "Cache-Control": "max-age=3600"}


@pytest.fixture(params=["tcp", "tls"])
def start_adapter(request: pytest.FixtureRequest, start_adapter: StartAdapter, pki: Pki) -> StartAdapter:
    """All that follows holds on both."""
    return over_tls(start_adapter, pki) if request.param == "tls" else start_adapter


@pytest.fixture
async def film(adapter: Adapter, origin: ScriptedOrigin) -> Adapter:
    """An adapter whose lane knows the film."""
    origin.serve("/film.mp4", FILM, headers=TAGS)
    await warm_up(adapter, origin, "/film.mp4")
    return adapter


async def warm_up(adapter: Adapter, origin: ScriptedOrigin, target: str) -> None:
    async with adapter.wire() as wire:
        await get(wire, target)
        await settled(adapter, origin)
        await get(wire, target)
        await until(lambda: len(lane_of(adapter)._warm) > 0)
        before = served(adapter)
        await get(wire, target)
    assert served(adapter) == before + 1, "the lane does not act at all"


async def get(wire: Wire, target: str, **fields: str) -> Response:
    return await wire.get(target, [("Host", "films.example")], **fields)


@asynccontextmanager
async def by_lane(adapter: Adapter, count: int) -> AsyncIterator[None]:
    """So many answers come by the lane."""
    before = served(adapter)
    yield
    assert served(adapter) - before == count


async def test_it_acts_while_the_first_who_met_the_object_is_still_being_answered(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/large.mp4", LARGE, headers=TAGS)
    async with adapter.wire() as wire:
        await get(wire, "/large.mp4")
        await settled(adapter, origin)
    async with slow_client(adapter) as slow:
        await slow.request("GET", "/large.mp4", [("Host", "films.example")])
        await until(lambda: len(lane_of(adapter)._warm) > 0)
        assert served(adapter) == 0
        async with by_lane(adapter, 1), adapter.wire() as wire:
            assert (await get(wire, "/large.mp4", Range="bytes=7-9")).body == LARGE[7:10]
        assert await taken(slow) == LARGE


# --- What it takes ---------------------------------------------------------------------------------


async def test_a_slice(film: Adapter) -> None:
    async with by_lane(film, 1), film.wire() as wire:
        await wire.send(HEAD)
        response = await wire.response()
        assert (response.status, response.body) == (206, FILM[5:10])
        assert response.fields["Content-Range"] == "bytes 5-9/300000"
        assert response.cache_status.startswith("range-adapter;hit;ttl=")


async def test_a_condition_and_a_whole_object(film: Adapter) -> None:
    async with by_lane(film, 4), film.wire() as wire:
        assert (await get(wire, "/film.mp4", If_None_Match='"v1"')).status == 304
        assert (await get(wire, "/film.mp4", If_Modified_Since=TAGS["Last-Modified"])).status == 304
        assert (await get(wire, "/film.mp4", If_None_Match='"v2"')).body == FILM
        assert (await get(wire, "/film.mp4", If_Range='"v2"', Range="bytes=0-1")).body == FILM


@pytest.mark.parametrize(("fields", "count"), [(3, 1), (30, 0)])
async def test_heads_that_are_not_too_long(
    adapter: Adapter, origin: ScriptedOrigin, fields: int, count: int
) -> None:
    origin.serve("/film.mp4", FILM, headers=TAGS | {f"X-{number}": "x" * 4000 for number in range(fields)})
    async with adapter.wire() as wire:
        await get(wire, "/film.mp4")
        await settled(adapter, origin)
        await get(wire, "/film.mp4")
        await until(lambda: len(lane_of(adapter)._warm) == count)
        for stop in (10, 250_000):
            async with by_lane(adapter, count):
                response = await get(wire, "/film.mp4", Range=f"bytes=5-{stop - 1}")
            assert len(response.fields) > fields
            assert response.body == FILM[5:stop]


async def test_only_short_conditions_are_remembered(film: Adapter) -> None:
    [record] = lane_of(film)._warm._records.values()
    async with by_lane(film, 3), film.wire() as wire:
        assert (await get(wire, "/film.mp4", If_None_Match='"v1"')).status == 304
        for _ in range(2):
            many = ", ".join([f'"{number}"' for number in range(400)] + ['"v1"'])
            assert (await get(wire, "/film.mp4", If_None_Match=many)).status == 304
    assert list(record._verdicts) == [b'\r\nIf-None-Match: "v1"']


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", FILM[:1]),
        ("bytes=299999-", FILM[-1:]),
        ("bytes=-7", FILM[-7:]),
        ("bytes=0-", FILM),
        ("bytes=-999999", FILM),
        ("bytes=100-999999", FILM[100:]),
        ("bytes=1000-230000", FILM[1000:230_001]),
    ],
)
async def test_one_range(film: Adapter, value: str, expected: bytes) -> None:
    async with by_lane(film, 1), film.wire() as wire:
        response = await get(wire, "/film.mp4", Range=value)
        assert (response.status, response.body) == (206, expected)


@pytest.mark.parametrize(
    "piece", ["bytes=300000-", "bytes=9-5", "bytes=0-1,5-6", "bytes=-0", "items=0-1", "bytes=-"]
)
async def test_other_ranges_go_the_long_way(film: Adapter, piece: str) -> None:
    async with by_lane(film, 0), film.wire() as wire:
        assert (await get(wire, "/film.mp4", Range=piece)).status in {200, 206, 416}


@pytest.mark.parametrize(
    "fields",
    [
        {"Authorization": "Basic YTpi"},
        {"Cache-Control": "max-age=0"},
        {"Pragma": "no-cache"},
        {"Connection": "close"},
        {"Content-Length": "0"},
        {"Expect": "100-continue"},
        {"Want-Repr-Digest": "sha-256=3"},
        {"X_Odd": "1"},
        {"range": "bytes=0-1"},
        {"If-Match": '"v2"'},
    ],
)
async def test_what_may_change_the_answer_goes_the_long_way(film: Adapter, fields: dict[str, str]) -> None:
    async with by_lane(film, 0), film.wire() as wire:
        await wire.request("GET", "/film.mp4", [("Host", "films.example"), *fields.items()])
        await wire.response_head()


async def test_no_field_twice(film: Adapter) -> None:
    async with by_lane(film, 0), film.wire() as wire:
        for name, value in (("Range", "bytes=0-1"), ("If-None-Match", '"v1"'), ("X-A", "1")):
            await wire.request("GET", "/film.mp4", [("Host", "films.example"), (name, value), (name, value)])
            await wire.response()


async def test_http_1_0_and_other_methods(film: Adapter) -> None:
    async with by_lane(film, 0), film.wire() as wire:
        assert (await wire.head("/film.mp4", [("Host", "films.example")])).fields[
            "Content-Length"
        ] == "300000"
        await wire.request("GET", "/film.mp4", [("Host", "films.example")], version="HTTP/1.0")
        assert (await wire.response()).fields["Connection"] == "close"


# --- Where a request begins ------------------------------------------------------------------------


async def test_a_head_split_anywhere(film: Adapter) -> None:
    async with by_lane(film, 0):
        for at in range(1, len(HEAD), 3):
            async with film.wire() as wire:
                await wire.send(HEAD[:at])
                await until(lambda: any(_received(each) for each in listener_of(film).connections))
                await wire.send(HEAD[at:])
                assert (await wire.response()).body == FILM[5:10]


def _received(connection: Any) -> bool:
    assert isinstance(connection, Connection)
    return bool(connection._parser.head_bytes)


async def test_a_range_behind_the_end_of_a_head(film: Adapter) -> None:
    """Without that line, the bytes are a head that is known."""
    whole = HEAD.replace(b"Range: bytes=5-9\r\n", b"")
    async with film.wire() as wire:
        await wire.send(whole)
        assert (await wire.response()).body == FILM
        async with by_lane(film, 0):
            await wire.send(whole + b"Range: bytes=5-9\r\n")
            assert (await wire.response()).body == FILM


async def test_a_head_is_known_with_any_range_and_by_its_other_fields(film: Adapter) -> None:
    async with by_lane(film, 3), film.wire() as wire:
        for first, last in ((0, 4), (7, 7)):
            await wire.send(HEAD.replace(b"5-9", b"%d-%d" % (first, last)))
            assert (await wire.response()).body == FILM[first : last + 1]
        await wire.send(HEAD[:-2] + b'If-None-Match: "v1"\r\n\r\n')
        assert (await wire.response()).status == 304


async def test_after_a_split_head_it_acts_again(film: Adapter) -> None:
    async with film.wire() as wire:
        await wire.send(HEAD[:20])
        await until(lambda: any(_received(each) for each in listener_of(film).connections))
        await wire.send(HEAD[20:])
        await wire.response()
        async with by_lane(film, 1):
            await wire.send(HEAD)
            assert (await wire.response()).body == FILM[5:10]


async def test_a_body_that_looks_like_a_request(film: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/post", b"posted")
    async with by_lane(film, 0), film.wire() as wire:
        await wire.send(
            b"POST /post HTTP/1.1\r\nHost: films.example\r\nContent-Length: %d\r\n\r\n" % len(HEAD)
        )
        await origin.requested("/post")
        await wire.send(HEAD)
        assert (await wire.response()).body == b"posted"
        await wire.send(HEAD)
        assert (await wire.response()).body == FILM[5:10], (
            "the long way, for the rest of the connection's life"
        )


async def test_a_body_in_one_piece_with_its_head(film: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/post", b"posted")
    async with by_lane(film, 0), film.wire() as wire:
        head = b"POST /post HTTP/1.1\r\nHost: films.example\r\nContent-Length: %d\r\n\r\n" % len(HEAD)
        await wire.send(head + HEAD)
        assert (await wire.response()).body == b"posted"
        await wire.send(HEAD)
        assert (await wire.response()).body == FILM[5:10]


@pytest.mark.parametrize("other", [HEAD, b"GET /missing HTTP/1.1\r\nHost: films.example\r\n\r\n"])
@pytest.mark.parametrize("first", [True, False])
async def test_pipelined_requests(film: Adapter, other: bytes, first: bool) -> None:
    async with by_lane(film, 0), film.wire() as wire:
        await wire.send(HEAD + other if first else other + HEAD)
        answers = [await wire.response(), await wire.response()]
        assert answers[not first].body == FILM[5:10]
        assert answers[first].status == (206 if other is HEAD else 404)


async def test_a_request_while_another_is_answered(film: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/slow", b"slow")
    gate = origin.gate("/slow", None)
    async with by_lane(film, 0), film.wire() as wire:
        await wire.request("GET", "/slow", [("Host", "films.example")])
        await gate.reached()
        await wire.send(HEAD)
        gate.open()
        assert (await wire.response()).body == b"slow"
        assert (await wire.response()).body == FILM[5:10]


# --- What is sent while the socket takes no more ---------------------------------------------------


@asynccontextmanager
async def stuck(adapter: Adapter, origin: ScriptedOrigin) -> AsyncIterator[Wire]:
    """A client that has asked for a large object, and takes only the head for now."""
    origin.serve("/large.mp4", LARGE, headers=TAGS)
    await warm_up(adapter, origin, "/large.mp4")
    async with slow_client(adapter) as wire:
        await wire.request("GET", "/large.mp4", [("Host", "films.example")], Range="bytes=1-")
        await until(lambda: bool(lane_of(adapter).sendings))
        yield wire


@asynccontextmanager
async def slow_client(adapter: Adapter) -> AsyncIterator[Wire]:
    """One that has little room for what it does not read."""
    wire = adapter.wire()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (wire.host, wire.port))
    wire.reader, wire.writer = await asyncio.open_connection(
        sock=sock, limit=1 << 16, ssl=adapter.tls, server_hostname=wire.host if adapter.tls else None
    )
    try:
        yield wire
    finally:
        wire.writer.transport.abort()


async def taken(wire: Wire) -> bytes:
    """The rest of the answer."""
    return (await wire.response()).body


async def test_a_small_answer_too_goes_on_as_the_client_takes_it(film: Adapter) -> None:
    async with buffering(film, 4096) as sock:
        [connection] = listener_of(film).connections
        assert connection.transport is not None
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await asyncio.to_thread(sock.sendall, HEAD.replace(b"5-9", b"7-60000"))
        await until(lambda: bool(lane_of(film).sendings))
        waiting = connection.transport.get_write_buffer_size()
        assert 0 < waiting <= RECORD if film.tls else not waiting, "it is read when it is sent"
        answer = b""
        while len(answer) < 59_994 or not answer.endswith(FILM[59_900:60_001]):
            answer += (piece := await asyncio.to_thread(sock.recv, 1 << 16))
            assert piece
    assert answer.partition(b"\r\n\r\n")[2] == FILM[7:60_001]


@asynccontextmanager
async def buffering(adapter: Adapter, count: int) -> AsyncIterator[socket.socket]:
    """A client whose kernel takes next to nothing in its place; it blocks."""
    wire, sock = adapter.wire(), socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, count)
    await asyncio.to_thread(sock.connect, (wire.host, wire.port))
    if adapter.tls is not None:
        sock = await asyncio.to_thread(adapter.tls.wrap_socket, sock, server_hostname=wire.host)
    with sock:
        await until(lambda: bool(listener_of(adapter).connections))
        yield sock


async def test_only_what_was_sent_is_counted(film: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ConnectionResetError

    def sent() -> float:
        return sum(counts[-1] for counts in lane_of(film)._access._metrics._routes.values())

    monkeypatch.setattr(warm, "send_there", gone)
    before = sent()
    async with by_lane(film, 1), film.wire() as wire:
        with pytest.raises((Truncated, ConnectionError)):
            await get(wire, "/film.mp4", Range="bytes=100000-")
    assert sent() == before + -100_000 % PAGESIZE, "those before the first page go with the head"


async def test_a_second_request_waits_for_the_first_answer(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with stuck(adapter, origin) as wire:
        await wire.request("GET", "/large.mp4", [("Host", "films.example")], Range="bytes=7-9")
        assert adapter.service.in_progress == 1
        assert await taken(wire) == LARGE[1:]
        assert await taken(wire) == LARGE[7:10]
    assert not lane_of(adapter).sendings


async def test_the_keep_alive_timer_does_not_cut_it_off(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter(server={"timeouts": {"keep_alive": "300ms"}})
    async with stuck(adapter, origin) as wire:
        [connection] = [each for each in listener_of(adapter).connections if _sends(each)]
        assert isinstance(connection, Connection)
        for _ in range(2):
            handle = connection._keepalive_handle
            await until(lambda before=handle: connection._keepalive_handle is not before)  # type: ignore[misc]
        assert await taken(wire) == LARGE[1:]
        assert await asyncio.wait_for(wire.closed(), 5), "idle from then on"


def _sends(connection: Any) -> bool:
    return connection.sending is not None


async def test_a_drain_lets_it_finish(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "25s"}})
    async with stuck(adapter, origin) as wire:
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        assert await taken(wire) == LARGE[1:]
        assert await wire.closed()
        await stopping


async def test_a_drain_does_not_wait_for_ever(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server={"timeouts": {"drain": "100ms"}})
    async with stuck(adapter, origin) as wire:
        await asyncio.wait_for(adapter.service.stop(), 10)
        with pytest.raises(Truncated):
            await taken(wire)


async def test_who_takes_nothing_is_reset(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(server={"timeouts": {"send_idle": "200ms"}})
    async with stuck(adapter, origin) as wire:
        await busy(adapter, 0)
        await until(lambda: not listener_of(adapter).connections)
        with pytest.raises((Truncated, ConnectionError)):
            await taken(wire)


async def test_who_leaves_is_let_go(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with stuck(adapter, origin) as wire:
        wire.writer.transport.abort()
        await busy(adapter, 0)
    await until(lambda: not adapter.service._cache.spool.being_read)


async def test_the_loop_has_its_turn_after_a_mebibyte(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    real = sending.send_there

    def noted(sock: Any, body: Any, start: int, stop: int) -> tuple[int, sending.Pause]:
        at, pause = real(sock, body, start, stop)
        turns.append(at - start)
        return at, pause

    for each in (sending, warm):
        monkeypatch.setattr(each, "send_there", noted)
    async with stuck(adapter, origin) as wire:
        assert await taken(wire) == LARGE[1:]
    assert max(turns) <= 1 << 20


async def test_what_is_not_in_the_page_cache_is_read_by_a_thread(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stuck(adapter, origin) as wire:
        absent = iter([True, False] * 1000)
        monkeypatch.setattr(Body, "at_hand", lambda _, start, stop: start if next(absent) else stop)
        assert await taken(wire) == LARGE[1:]


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_bytes_are_told_as_far_as_they_were_sent(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Windows are sent, `before` so many, and then the client has gone."""
    sent: list[int] = []
    lines: list[Line] = []

    def until_gone(out: Any, source: int, offset: int, count: int) -> int:
        if len(sent) == before:
            raise ConnectionResetError(errno.ECONNRESET, "gone")
        sent.append(real(out, source, offset, count))
        return sent[-1]

    with access_log(lines.append):
        adapter = await start_adapter(logging={"access": True})
        sender: Any = os if adapter.tls is None else EncryptedTransport
        real = sender.sendfile
        origin.serve("/large.mp4", LARGE, headers=TAGS)
        await warm_up(adapter, origin, "/large.mp4")
        monkeypatch.setattr(sender, "sendfile", until_gone)
        async with adapter.wire() as wire:
            await wire.request("GET", "/large.mp4", [("Host", "films.example")], Range="bytes=1000000-")
            await until(lambda: served(adapter) == 2)
        lane_of(adapter)._access.lines.hand_over()
    told = [(line.bytes, line.remarks.reason) for line in lines if line.remarks.aborted]
    assert told == [(-1_000_000 % PAGESIZE + sum(sent), "client-gone")]


# --- What only the disk has ------------------------------------------------------------------------


class Disk:
    """Nothing is in the page cache until it has brought something, which it does when it may `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        self._brought = False
        bring, read, reach = Residence.bring, Residence.read, Residence.reach

        def slowly(residence: Residence, start: int, stop: int) -> bool:
            self.asked.set()
            assert self.go.wait(20)
            self._brought = True
            return bring(residence, start, stop)

        def read_if_there(residence: Residence, room: memoryview, start: int) -> bool:
            return self._brought and read(residence, room, start)

        def as_far_as_there(residence: Residence, start: int, stop: int) -> int:
            return reach(residence, start, stop) if self._brought else start

        monkeypatch.setattr(Residence, "bring", slowly)
        monkeypatch.setattr(Residence, "read", read_if_there)
        monkeypatch.setattr(Residence, "reach", as_far_as_there)

    async def is_asked(self) -> None:
        await asyncio.to_thread(self.asked.wait, 20)


@pytest.fixture
def disk(film: Adapter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    yield (disk := Disk(monkeypatch))
    disk.go.set()


@pytest.mark.parametrize("count", [10, 200_000])
async def test_it_waits_for_the_disk_without_the_loop(film: Adapter, disk: Disk, count: int) -> None:
    async with by_lane(film, 2), film.wire() as wire, film.wire() as other:
        await wire.request("GET", "/film.mp4", [("Host", "films.example")], Range=f"bytes=5-{4 + count}")
        await disk.is_asked()
        await wire.send(HEAD)
        assert (await other.get("/elsewhere")).status == 404
        disk.go.set()
        response = await wire.response()
        assert (response.status, response.body) == (206, FILM[5 : 5 + count])
        assert (await wire.response()).body == FILM[5:10]


async def test_what_the_disk_has_lost_is_fetched(film: Adapter, origin: ScriptedOrigin, disk: Disk) -> None:
    disk.go.set()
    os.truncate(body_file(film), 100)
    async with by_lane(film, 0), film.wire() as wire:
        assert (await get(wire, "/film.mp4", Range="bytes=200-299")).body == FILM[200:300]
        assert (await get(wire, "/film.mp4")).body == FILM
    assert origin.count("/film.mp4") == 2


async def test_who_leaves_waits_for_no_disk(film: Adapter, disk: Disk) -> None:
    async with by_lane(film, 1), film.wire() as wire:
        await wire.send(HEAD)
        await disk.is_asked()
        [connection] = [each for each in listener_of(film).connections if _sends(each)]
        wire.writer.transport.abort()
        assert isinstance(connection, Connection)
        assert connection.transport is not None
        connection.transport.abort()  # reading nothing, it learns of that when it sends
        await until(lambda: not listener_of(film).connections)
    assert not lane_of(film).sendings


async def test_a_drain_waits_for_the_disk(film: Adapter, disk: Disk) -> None:
    async with film.wire() as wire:
        await wire.send(HEAD)
        await disk.is_asked()
        stopping = asyncio.create_task(film.service.stop())
        await until(lambda: film.service.draining)
        disk.go.set()
        assert (await wire.response()).body == FILM[5:10]
        assert await wire.closed()
        await stopping


async def test_a_disk_that_is_slow_is_no_fault_of_the_client(
    start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = await start_adapter(server={"timeouts": {"send_idle": "50ms"}})
    origin.serve("/film.mp4", FILM, headers=TAGS)
    await warm_up(adapter, origin, "/film.mp4")
    disk = Disk(monkeypatch)
    async with by_lane(adapter, 1), adapter.wire() as wire:
        await wire.send(HEAD)
        await disk.is_asked()
        await asyncio.sleep(0.15)  # any client of a slower one would be cut off by then
        disk.go.set()
        assert (await wire.response()).body == FILM[5:10]


async def test_what_is_lost_while_the_service_ends_keeps_no_connection(
    film: Adapter, origin: ScriptedOrigin, disk: Disk
) -> None:
    origin.serve("/slow", b"done")
    gate = origin.gate("/slow", None)
    async with film.wire() as wire, film.wire() as other:
        await other.request("GET", "/slow")
        await origin.requested("/slow")
        await wire.send(HEAD)
        await disk.is_asked()
        os.truncate(body_file(film), 2)
        stopping = asyncio.create_task(film.service.stop())
        await until(lambda: film.service.draining)
        disk.go.set()
        try:
            assert await asyncio.wait_for(wire.closed(), 5), "it waits for nobody else"
        finally:
            gate.open()
            await other.response()
            await stopping


# --- Files that are not what they were -------------------------------------------------------------


def body_file(adapter: Adapter) -> Path:
    [path] = adapter.service._cache.spool.paths.objects.rglob("*.body")
    return path


async def test_a_file_that_becomes_shorter_in_mid_transfer(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with stuck(adapter, origin) as wire:
        os.truncate(body_file(adapter), len(LARGE) - 1000)
        with pytest.raises(Truncated):
            await taken(wire)
    assert not lane_of(adapter).sendings


async def test_a_file_that_is_shorter_is_never_promised(film: Adapter, origin: ScriptedOrigin) -> None:
    os.truncate(body_file(film), 100)
    async with film.wire() as wire:
        assert (await get(wire, "/film.mp4", Range="bytes=200-299")).body == FILM[200:300]
    assert origin.count("/film.mp4") == 2


async def test_a_file_system_that_has_no_sendfile(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "sendfile", none)
    async with stuck(adapter, origin) as wire:
        assert await taken(wire) == LARGE[1:]


# --- What ends a record ----------------------------------------------------------------------------


async def test_a_purge_between_two_requests(film: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM[::-1], headers={**TAGS, "ETag": '"v2"'})
    async with film.wire() as wire:
        async with by_lane(film, 1):
            await wire.send(HEAD)
            assert (await wire.response()).body == FILM[5:10]
        async with film.wire() as other:
            await other.request("PURGE", "/film.mp4", [("Host", "films.example")])
            assert (await other.response()).status < 300
        async with by_lane(film, 0):
            await wire.send(HEAD)
            assert (await wire.response()).body == FILM[::-1][5:10]


async def test_an_unsafe_request_between_two(film: Adapter, origin: ScriptedOrigin) -> None:
    async with film.wire() as wire:
        await wire.request("POST", "/film.mp4", [("Host", "films.example")])
        await wire.response()
    async with by_lane(film, 0), film.wire() as wire:
        await wire.send(HEAD)
        await wire.response()


async def test_freshness_ends(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter()
    origin.serve("/film.mp4", FILM, headers={**TAGS, "Cache-Control": "max-age=3600"})
    await warm_up(adapter, origin, "/film.mp4")
    warm = lane_of(adapter)._warm
    now = warm.clock()
    async with adapter.wire() as wire:
        for later, count in ((3000, 1), (3601, 0)):
            warm.clock = lambda seconds=later: now + seconds  # type: ignore[misc]
            for record in warm._records.values():
                record.second = -1
            for head in lane_of(adapter)._heads._heads.values():
                head.second = -1
            async with by_lane(adapter, count):
                await wire.send(HEAD)
                assert (await wire.response()).body == FILM[5:10]


async def test_no_record_stands_once_all_are_forgotten(film: Adapter) -> None:
    async with film.wire() as wire:
        for count in (1, 0):
            async with by_lane(film, count):
                await wire.send(HEAD)
                assert (await wire.response()).body == FILM[5:10]
            lane_of(film)._warm.clear()


async def test_a_replacement(film: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM[::-1], headers={**TAGS, "ETag": '"v2"'})
    async with film.wire() as wire:
        assert (await get(wire, "/film.mp4", Cache_Control="no-cache")).body == FILM[::-1]
        await settled(film, origin)
        for count in (0, 1):
            async with by_lane(film, count):
                await wire.send(HEAD)
                assert (await wire.response()).body == FILM[::-1][5:10]
            await until(lambda: len(lane_of(film)._warm) > 0)


async def test_whose_cookies_have_something_of_their_own(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """Once a credential has a copy, all requests go the long way, which knows whose it is."""
    adapter = await start_adapter()
    origin.serve("/film.mp4", FILM, headers=TAGS)
    await warm_up(adapter, origin, "/film.mp4")
    async with adapter.wire() as wire:
        await get(wire, "/film.mp4", Cookie="session=1")
        async with by_lane(adapter, 1):
            assert (await get(wire, "/film.mp4", Cookie="session=1")).body == FILM
        origin.serve("/film.mp4", FILM[::-1], headers={"ETag": '"mine"'})
        await get(wire, "/film.mp4", Cookie="session=1", Cache_Control="no-cache")
        await settled(adapter, origin, 2)
        async with by_lane(adapter, 0):
            await get(wire, "/film.mp4", Cookie="session=1")
            assert (await get(wire, "/film.mp4", Cookie="session=2")).body == FILM


# --- aiohttp ---------------------------------------------------------------------------------------


async def test_aiohttp_has_what_the_lane_looks_at(film: Adapter) -> None:
    """Private to aiohttp, which is pinned to a minor version: if one goes, this says which."""
    async with film.wire() as wire:
        await wire.send(HEAD)
        await wire.response()
        [connection] = listener_of(film).connections
        for name in (
            "_waiter",
            "_close",
            "_force_close",
            "_upgraded",
            "_next_keepalive_close_time",
            "_keepalive_timeout",
        ):
            assert hasattr(connection, name), name
        assert isinstance(connection, Connection)
        assert connection._waiter is not None, "it waits in a future while it is idle"
        assert connection._next_keepalive_close_time > asyncio.get_running_loop().time()
