"""The origin: a legacy server that answers 200 with the whole, whatever Range says, and fails as it is told."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

from tests.torture.injuries import PIECE, Cut, End, Injury, Lie, fits, offset
from tests.torture.items import Framing, Item
from tests.torture.truth import History, Version

STALL: float = 30.0
"""Seconds for which a stalled response waits to be given up: more than anybody has patience."""

Injure = Callable[[History], Injury | None]
"""Chooses what is wrong with the next response."""


def nothing_wrong(history: History) -> None:
    """An origin without faults."""


class Origin:
    """On a free loopback port, in this loop.  `histories` are by path; `injured` counts the faults that happened."""

    def __init__(self, items: Iterable[Item], dice: random.Random, injure: Injure = nothing_wrong) -> None:
        self.histories: dict[str, History] = {}
        self.injured = 0
        self.requests = 0
        self.port = 0
        self._reserved: socket.socket
        self._dice = dice
        self.injure = injure
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.add(items)

    def add(self, items: Iterable[Item]) -> None:
        """More to fetch."""
        for item in items:
            self.histories[item.path] = History(item)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._reserved = self._bound()
        self.port = self._reserved.getsockname()[1]
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._reserved.close()

    def _bound(self) -> socket.socket:
        """Does not listen: connections are refused, and nobody else gets the port."""
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", self.port))
        return bound

    async def listen(self) -> None:
        """Take connections, on the same port each time."""
        async with self._opening:
            if self._server is None:
                self._server = await asyncio.start_server(self._connected, sock=self._bound(), backlog=1000)

    def refuse(self) -> None:
        """New connections are refused; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the adapter has closed the connection, or all is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One exchange; can the connection be used again?"""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head[:-4].split("\r\n")
        method, target, _ = request_line.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        history = self.histories[target]
        self.requests += 1
        if method == "POST":
            await reader.readexactly(int(fields.get("content-length", "0")))
            history.change()
            body = str(history.generation).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
            return True
        injury = self.injure(history)
        if injury is not None and fits(injury, history.item):
            self.injured += 1
        else:
            injury = None
        return await self._send(reader, writer, history, injury, method, fields)

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        history: History,
        injury: Injury | None,
        method: str,
        fields: Mapping[str, str],
    ) -> bool:
        item, generation = history.item, history.generation
        own = item.fields(generation)
        if injury is Lie.ERROR:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nlater")
            await writer.drain()
            return True
        known = fields.get("if-none-match"), fields.get("if-modified-since")
        if not isinstance(injury, Lie) and any(
            each in item.validators(generation).values() for each in known
        ):
            response = _head(304, item, own, None)
            return await self._write(
                reader, writer, [response], self._cut(injury, item, len(response), 0), injury
            )
        version, claimed = Version(generation, item.length(generation)), item.length(generation)
        if injury is Lie.SHORT_LENGTH:
            claimed = self._dice.randrange(claimed)
            version = version._replace(length=claimed)
        elif injury is Lie.LONG_LENGTH:
            claimed += self._dice.choice((1, 1000, 1_000_000))
        if claimed != item.length(generation):
            own = {"Content-Type": own["Content-Type"]}  # two bodies under one tag would be another lie
        head = _head(200, item, own, claimed)
        if method == "HEAD":
            history.lengths.add(claimed)
            return await self._write(reader, writer, [head], self._cut(injury, item, len(head), 0), injury)
        cut = self._cut(injury, item, len(head), version.length)
        # A range may be answered before anybody can know that the rest does not come, or that there is none.
        history.give(version._replace(length=claimed))
        if cut is not None and _looks_whole(injury, item, cut - len(head), version.length):
            history.give(version._replace(length=cut - len(head)))
        body = _body(item, generation, item.length(generation), broken=injury is Lie.NO_CHUNK)
        after = [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"] if injury is Lie.SURPLUS else []
        keep = await self._write(reader, writer, _chained(head, body, after), cut, injury, item.rate)
        return keep and injury is None and item.framing is not Framing.CLOSE

    def _cut(self, injury: Injury | None, item: Item, head: int, length: int) -> int | None:
        if not isinstance(injury, Cut):
            return None
        if length == 0:
            return self._dice.randrange(head)
        return offset(injury, item.framing, head, length, self._dice)

    async def _write(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pieces: Iterable[bytes],
        cut: int | None,
        injury: Injury | None = None,
        rate: int = 0,
    ) -> bool:
        """Send the pieces, at most `cut` bytes of them; False where that was the end of the connection."""
        sent = 0
        for piece in pieces:
            if cut is not None and sent + len(piece) >= cut:
                writer.write(piece[: cut - sent])
                await writer.drain()
                await self._end(reader, writer, injury)
                return False
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            if rate and len(piece) > 1000:
                await asyncio.sleep(len(piece) / rate)
        return True

    async def _end(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, injury: Injury | None
    ) -> None:
        assert isinstance(injury, Cut)
        match injury.end:
            case End.CLOSE:
                writer.close()
            case End.RESET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.close()
            case End.STALL:
                try:
                    async with asyncio.timeout(STALL):
                        await reader.read(1)  # until the other side has had enough
                except TimeoutError:
                    pass


def _head(status: int, item: Item, fields: dict[str, str], length: int | None) -> bytes:
    if status == 304:
        pass
    elif item.framing is Framing.CHUNKED:
        fields["Transfer-Encoding"] = "chunked"
    elif item.framing is Framing.CLOSE:
        fields["Connection"] = "close"
    else:
        fields["Content-Length"] = str(length)
    lines = [f"HTTP/1.1 {status} OK", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


def _body(item: Item, generation: int, length: int, *, broken: bool) -> Iterator[bytes]:
    """The body on the wire; `broken`: without a chunk size somewhere."""
    chunked = item.framing is Framing.CHUNKED
    for start in range(0, length, PIECE):
        data = item.bytes_of(generation, start, min(start + PIECE, length))
        if broken and start >= length // 2:
            yield b"no size\r\n"
        yield b"%x\r\n%b\r\n" % (len(data), data) if chunked else data
    if chunked:
        yield b"none\r\n\r\n" if broken else b"0\r\n\r\n"


def _chained(head: bytes, body: Iterator[bytes], after: list[bytes]) -> Iterator[bytes]:
    yield head
    yield from body
    yield from after


def _looks_whole(injury: Injury | None, item: Item, count: int, length: int) -> bool:
    """Can nobody tell that a body which was cut after `count` bytes was to go on?"""
    if not isinstance(injury, Cut) or count < 0:
        return False
    match item.framing:
        case Framing.LENGTH:
            return count == length
        case Framing.CLOSE:
            return injury.end is End.CLOSE
        case Framing.CHUNKED:
            return False
