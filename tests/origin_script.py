"""The language of the scripted origin: steps, the request they answer, the exchange that performs them."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias, assert_never

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

PIECE = 64 * 1024
REASONS = {int(status): status.phrase for status in HTTPStatus}


class Bell:
    """Wakes those who wait for a condition, to look at it again."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._rung.wait()


class Gate:
    """A place where the origin stops until the test lets it go on."""

    def __init__(self) -> None:
        self.arrivals = 0
        self._open = asyncio.Event()
        self._bell = Bell()

    def open(self) -> None:
        self._open.set()

    async def reached(self, count: int = 1) -> None:
        """Wait until `count` responses have come this far."""
        await self._bell.until(lambda: self.arrivals >= count)

    async def wait(self) -> None:
        """The origin's side: arrive, then wait for `open`."""
        self.arrivals += 1
        self._bell.ring()
        await self._open.wait()


@dataclass(frozen=True, slots=True)
class Head:
    """The status line and header section, exactly these fields and no others."""

    status: int
    headers: Headers = ()

    def pairs(self) -> list[tuple[str, str]]:
        return list(self.headers.items() if isinstance(self.headers, Mapping) else self.headers)

    def __bytes__(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, '')}"]
        lines += [f"{name}: {value}" for name, value in self.pairs()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Body:
    """Body bytes; at most `rate` bytes per second where given."""

    data: bytes | memoryview
    rate: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a chunked body; the empty chunk ends it."""

    data: bytes | memoryview
    rate: int | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are: interim responses, malformed heads, WebSocket frames.  Not counted as body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Read the rest of the request's body (for routes with `body_first=False`)."""


@dataclass(frozen=True, slots=True)
class Read:
    """Read exactly `size` bytes off the connection into `request.body`, whatever they mean."""

    size: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait until the test sets the event or opens the gate."""

    until: asyncio.Event | Gate


@dataclass(frozen=True, slots=True)
class Stall:
    """Do nothing more; the connection stays open until the peer closes it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in good order (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection with a RST; what the peer has not read yet may be lost."""


Step: TypeAlias = Head | Body | Chunk | Raw | ReadBody | Read | Pause | Stall | Cut | Reset


@dataclass(slots=True)
class OriginRequest:
    """One request as it came, and what became of its response so far."""

    method: str
    target: bytes
    version: str
    headers: tuple[tuple[bytes, bytes], ...]
    connection: int  # 1 for the first connection accepted, and so on
    body: bytearray = field(default_factory=bytearray)
    sent: int = 0  # body bytes handed to the kernel, chunk framing not counted
    done: bool = False  # the script is over, or the peer left
    left: bool = False  # the peer closed before the script was over

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    def values(self, name: str) -> list[str]:
        """The values of every line of this field, in order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def header(self, name: str) -> str | None:
        """The only or first value of this field."""
        return next(iter(self.values(name)), None)

    def matches(self, path: str) -> bool:
        """Whether `path` names this request: the whole target where it has a `?`, else the path."""
        return path == (self.target.decode("latin-1") if "?" in path else self.path)


Script: TypeAlias = Iterable[Step]


class Exchange:
    """One request and its response on one connection."""

    def __init__(
        self,
        request: OriginRequest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gates: list[tuple[int | None, Gate]],
        bell: Bell,
    ) -> None:
        self._request = request
        self._reader = reader
        self._writer = writer
        self._gates = gates
        self._bell = bell
        self._body_read = False
        self._persistent = request.version == "HTTP/1.1" and request.header("Connection") != "close"
        self._remaining: int | None = None  # of the response's body: known length, or 0 where it has ended

    async def run(self, script: Script) -> bool:
        """Carry out the steps.  True when both messages are complete and the connection can be used again."""
        await self._pass_gates(None)
        for step in script:
            await self._carry_out(step)
        return self._persistent and self._body_read and self._remaining == 0

    async def read_body(self, *, send_continue: bool = False) -> None:
        """Read the whole request body into `request.body`."""
        if send_continue and self._request.header("Expect") == "100-continue":
            await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._request.header("Transfer-Encoding") is not None:
            while size := await self._chunk_size():
                await self._read(size)
                await self._reader.readline()
            while await self._reader.readline() not in (b"\r\n", b""):
                pass  # trailers
        else:
            await self._read(int(self._request.header("Content-Length") or 0))
        self._body_read = True

    async def _chunk_size(self) -> int:
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the peer closed in the middle of its request")
        return int(line.partition(b";")[0], 16)

    async def _carry_out(self, step: Step) -> None:
        match step:
            case Head():
                await self._send_head(step)
            case Body(data, rate):
                await self._send_body(data, rate)
            case Chunk(data, rate):
                await self._write(b"%x\r\n" % len(data))
                await self._send_body(data, rate)
                await self._write(b"\r\n")
                if not data:
                    self._remaining = 0
            case Raw(data):
                await self._write(data)
            case ReadBody():
                await self.read_body()
            case Read(size):
                await self._read(size)
            case Pause(until):
                await until.wait()
            case Stall():
                await asyncio.Event().wait()
            case Cut():
                self._close()
            case Reset():
                linger = struct.pack("ii", 1, 0)
                self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self._close()
            case _:
                assert_never(step)

    async def _send_head(self, head: Head) -> None:
        await self._write(bytes(head))
        fields = {name.lower(): value for name, value in head.pairs()}
        if head.status < 200:
            return
        if fields.get("connection", "").lower() == "close":
            self._persistent = False
        if self._request.method == "HEAD" or head.status in (204, 304):
            self._remaining = 0
        elif "transfer-encoding" not in fields and "content-length" in fields:
            self._remaining = int(fields["content-length"])

    async def _send_body(self, data: bytes | memoryview, rate: int | None) -> None:
        view = memoryview(data)
        clock = asyncio.get_running_loop().time
        begin, first, piece = clock(), self._request.sent, PIECE if rate is None else max(1, rate // 50)
        while True:
            await self._pass_gates(self._request.sent)
            if not view:
                return
            stops = [
                at - self._request.sent for at, _ in self._gates if at is not None and at > self._request.sent
            ]
            part = view[: min([piece, *stops])]
            await self._write(part)
            view = view[len(part) :]
            self._request.sent += len(part)
            if self._remaining is not None:
                self._remaining = max(0, self._remaining - len(part))
            self._bell.ring()
            if rate is not None:
                await asyncio.sleep(begin + (self._request.sent - first) / rate - clock())

    async def _pass_gates(self, position: int | None) -> None:
        for at, gate in [pair for pair in self._gates if pair[0] == position]:
            await gate.wait()
            self._gates.remove((at, gate))

    async def _write(self, data: bytes | memoryview) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _read(self, size: int) -> None:
        while size:
            data = await self._reader.read(min(size, PIECE))
            if not data:
                raise ConnectionResetError("the peer closed in the middle of its request")
            self._request.body += data
            self._bell.ring()
            size -= len(data)

    def _close(self) -> None:
        self._writer.close()
        self._persistent = False
