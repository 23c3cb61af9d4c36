"""The origin of the integration tests: plain asyncio streams, scripted to the byte, and causal.

    async with ScriptedOrigin() as origin:
        origin.serve("/film.mp4", film)           # 200 only, ignores Range, like the origins we stand before
        gate = origin.gate("/film.mp4", at=1000)  # ... but stops after byte 1000
        ...
        await gate.reached()
        gate.open()

What `serve` cannot say, a script can:

    origin.on("/odd", [Head(200, {"Content-Length": "9"}), Body(b"abc"), Cut()])

or a function from the request to steps; a generator resumes after each step has been carried out.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from tests.origin_script import (
    PIECE,
    Bell,
    Body,
    Chunk,
    Cut,
    Exchange,
    Gate,
    Head,
    Headers,
    OriginRequest,
    Pause,
    Raw,
    Read,
    ReadBody,
    Reset,
    Script,
    Stall,
    Step,
)

__all__ = [
    "Body",
    "Chunk",
    "Cut",
    "Gate",
    "Handler",
    "Head",
    "OriginRequest",
    "Pause",
    "Raw",
    "Read",
    "ReadBody",
    "Reset",
    "Script",
    "ScriptedOrigin",
    "Stall",
    "Step",
]

Handler: TypeAlias = Callable[[OriginRequest], Script]


class _Route(NamedTuple):
    script: Script | Handler
    body_first: bool = True

    def steps(self, request: OriginRequest) -> Script:
        return self.script(request) if callable(self.script) else self.script


def _not_found(request: OriginRequest) -> Script:
    return [Head(404, {"Content-Length": "0"})]


class _Protocol(asyncio.StreamReaderProtocol):
    """Streams, and the one thing they hide: the moment the peer goes, even while nobody reads."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        gone: asyncio.Event,
    ) -> None:
        super().__init__(reader, connected)
        self._gone = gone

    def eof_received(self) -> bool | None:
        self._gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        super().connection_lost(exc)


def _parse(head: bytes, connection: int) -> OriginRequest:
    request_line, *lines = head[:-4].split(b"\r\n")
    method, target, version = request_line.split(b" ")
    pairs = (line.partition(b":")[::2] for line in lines)
    headers = tuple((name, value.strip(b" \t")) for name, value in pairs)
    return OriginRequest(method.decode("latin-1"), target, version.decode("latin-1"), headers, connection)


class ScriptedOrigin:
    """An HTTP/1.1 server on a free loopback port.  `script` answers what has no route (default: 404)."""

    def __init__(self, script: Script | Handler | None = None) -> None:
        self.requests: list[OriginRequest] = []
        self.connections = 0  # accepted so far
        self.active = 0  # requests being answered now
        self.peak = 0  # the most requests there were at once
        self.port = 0
        self._default = _Route(script if script is not None else _not_found)
        self._routes: dict[str, _Route] = {}
        self._once: dict[str, deque[_Route]] = {}
        self._gates: list[tuple[str, int | None, Gate]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []
        self._bell = Bell()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._reserved = self._bound()
        self.port = self._reserved.getsockname()[1]
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        self._reserved.close()
        if self._errors and error is None:
            raise self._errors[0]

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=self._bound())

    def _bound(self) -> socket.socket:
        """Does not listen: connections are refused, and nobody else gets the port."""
        bound = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves Nagle's algorithm on
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", self.port))
        return bound

    async def stop(self) -> None:
        """Close the listening socket and every connection; new connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What the origin answers

    def on(self, path: str, script: Script | Handler, *, body_first: bool = True) -> None:
        """Answer `path` (with a `?`: this exact target) by a script, `body_first`: after reading the body."""
        self._routes[path] = _Route(script, body_first)

    def once(self, path: str, script: Script | Handler, *, body_first: bool = True) -> None:
        """As `on`, for one request only; several are used up in order, before `on`."""
        self._once.setdefault(path, deque()).append(_Route(script, body_first))

    def serve(
        self,
        path: str,
        body: bytes | memoryview,
        *,
        content_type: str | None = "video/mp4",
        headers: Headers = (),
        chunked: bool = False,
        close_delimited: bool = False,
        rate: int | None = None,
        accept_head: bool = True,
        content_length: int | None = None,
        conditional: bool = False,
    ) -> None:
        """Answer `path` as legacy origins do: 200, the whole body, whatever Range said.

        `rate` is in bytes per second; `content_length` replaces the true length; `conditional` answers 304
        where If-None-Match or If-Modified-Since repeats the ETag or Last-Modified among `headers`.
        """
        pairs = Head(200, headers).pairs()
        if content_type is not None:
            pairs.append(("Content-Type", content_type))
        if chunked:
            pairs.append(("Transfer-Encoding", "chunked"))
        elif close_delimited:
            pairs.append(("Connection", "close"))
        else:
            pairs.append(("Content-Length", str(len(body) if content_length is None else content_length)))
        validators = {name.lower(): value for name, value in pairs}

        def answer(request: OriginRequest) -> Script:
            if request.method == "HEAD" and not accept_head:
                return [Head(405, {"Allow": "GET", "Content-Length": "0"})]
            if conditional and (
                request.header("If-None-Match") == validators.get("etag", "")
                or request.header("If-Modified-Since") == validators.get("last-modified", "")
            ):
                return [Head(304, headers)]
            if request.method == "HEAD":
                return [Head(200, pairs)]
            if chunked:
                pieces = (Chunk(body[at : at + PIECE], rate) for at in range(0, len(body), PIECE))
                return [Head(200, pairs), *pieces, Chunk(b"")]
            return [Head(200, pairs), Body(body, rate)]

        self.on(path, answer)

    def gate(self, path: str, at: int | None) -> Gate:
        """Stop each response for `path` after `at` body bytes (None: before its head) until it opens."""
        gate = Gate()
        self._gates.append((path, at, gate))
        return gate

    # What the origin saw

    def count(self, path: str, method: str | None = None) -> int:
        """How many requests came for `path`."""
        return sum(r.matches(path) and method in (None, r.method) for r in self.requests)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is true; looked at again whenever anything happens here."""
        await self._bell.until(condition)

    async def requested(self, path: str, count: int = 1) -> None:
        """Wait until `count` requests came for `path`."""
        await self.until(lambda: self.count(path) >= count)

    async def disconnected(self, path: str, count: int = 1) -> None:
        """Wait until the peer has left `count` responses for `path` before their end."""
        await self.until(lambda: sum(r.left and r.matches(path) for r in self.requests) >= count)

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        await self.until(lambda: self.active == 0)

    # The wire

    def _accept(self) -> asyncio.StreamReaderProtocol:
        gone = asyncio.Event()
        return _Protocol(asyncio.StreamReader(), partial(self._serve_connection, gone), gone)

    async def _serve_connection(
        self, gone: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        writer.transport.set_write_buffer_limits(0)  # drained means: in the kernel
        try:
            keep = True
            while keep:
                request = _parse(await reader.readuntil(b"\r\n\r\n"), number)
                gates = [(at, gate) for path, at, gate in self._gates if request.matches(path)]
                exchange = Exchange(request, reader, writer, gates, self._bell)
                keep = await self._answer(request, exchange, gone)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the peer closed between two requests
        except Exception as error:
            self._errors.append(error)  # reaches the test when the origin ends
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, request: OriginRequest, exchange: Exchange, gone: asyncio.Event) -> bool:
        """Run the script for one request; False when the connection is of no further use."""
        self.requests.append(request)
        self.active += 1
        self.peak = max(self.peak, self.active)
        self._bell.ring()
        script = asyncio.create_task(self._respond(request, exchange))
        leaving = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait({script, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if script.done():
                return script.result()
            request.left = True
            return False
        except (ConnectionError, asyncio.IncompleteReadError):
            request.left = True
            return False
        finally:
            script.cancel()
            leaving.cancel()
            await asyncio.gather(script, leaving, return_exceptions=True)
            request.done = True
            self.active -= 1
            self._bell.ring()

    async def _respond(self, request: OriginRequest, exchange: Exchange) -> bool:
        route = self._route(request)
        if route.body_first:
            await exchange.read_body(send_continue=True)
        return await exchange.run(route.steps(request))

    def _route(self, request: OriginRequest) -> _Route:
        for path in (request.target.decode("latin-1"), request.path):
            if self._once.get(path):
                return self._once[path].popleft()
            if path in self._routes:
                return self._routes[path]
        return self._default
