"""A client that shows what was really on the wire: raw sockets, strict framing, nothing smoothed over."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from email import message_from_bytes
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from multidict import CIMultiDict


class Truncated(Exception):
    """The connection ended inside a response; `response` holds what had come."""

    def __init__(self, response: "Response") -> None:
        super().__init__(f"truncated after {len(response.body)} body bytes")
        self.response = response


@dataclass
class Response:
    status: int
    fields: CIMultiDict[str]
    body: bytes = b""
    interim: list["Response"] = field(default_factory=list)

    @property
    def cache_status(self) -> str:
        return ", ".join(self.fields.getall("Cache-Status", ["none"]))

    def parts(self) -> list[tuple[str, bytes]]:
        """Content-Range and bytes of each part of a multipart/byteranges body, read by the standard library."""
        head = f"Content-Type: {self.fields['Content-Type']}\r\n\r\n".encode()
        message = message_from_bytes(head + self.body)
        assert message.is_multipart()
        parts: list[tuple[str, bytes]] = []
        boundary = message.get_boundary()
        assert boundary is not None
        # The standard library decodes text; the bytes are cut out here.
        for piece in self.body.split(b"--" + boundary.encode())[1:-1]:
            section, _, data = piece.partition(b"\r\n\r\n")
            fields = message_from_bytes(section.lstrip(b"\r\n") + b"\r\n\r\n")
            parts.append((str(fields["Content-Range"]), data.removesuffix(b"\r\n")))
        return parts


class Wire:
    """One connection.  `async with Wire(url) as wire: response = await wire.get("/path", Range="bytes=0-1")`."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._tls = tls
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        opening = asyncio.open_connection(self.host, self.port, limit=1 << 20, ssl=self._tls)
        self.reader, self.writer = await opening
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass  # reset by the other side, or there was more to come: the test has seen that already

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        version: str = "HTTP/1.1",
        **fields: str,
    ) -> None:
        """Send a request; `If_Range="x"` becomes `If-Range: x`.  A `Host` is added where none is given."""
        pairs = [*headers, *((name.replace("_", "-"), value) for name, value in fields.items())]
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.insert(0, ("Host", f"{self.host}:{self.port}"))
        if body:
            pairs.append(("Content-Length", str(len(body))))
        lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in pairs), "", ""]
        await self.send("\r\n".join(lines).encode("latin-1") + body)

    async def get(self, target: str, headers: Iterable[tuple[str, str]] = (), **fields: str) -> Response:
        await self.request("GET", target, headers, b"", **fields)
        return await self.response()

    async def head(self, target: str, headers: Iterable[tuple[str, str]] = (), **fields: str) -> Response:
        await self.request("HEAD", target, headers, b"", **fields)
        return await self.response(to_head=True)

    async def response_head(self) -> Response:
        """Read one head, interim ones before it included."""
        interim: list[Response] = []
        while True:
            head = await self.reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
            assert status_line.startswith("HTTP/1.1 "), status_line
            status = int(status_line.split(" ")[1])
            fields = CIMultiDict(
                (name, value.strip()) for name, _, value in (line.partition(":") for line in lines)
            )
            response = Response(status, fields, interim=interim)
            if status >= 200 or status == 101:
                return response
            interim.append(response)

    async def response(self, *, to_head: bool = False) -> Response:
        """Read one whole response.  Raises Truncated when the connection ends inside it."""
        response = await self.response_head()
        if to_head or response.status in {204, 304}:
            return response
        body = bytearray()
        try:
            async for data in self._pieces(response):
                body += data
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            response.body = bytes(body)
            raise Truncated(response) from error
        response.body = bytes(body)
        return response

    async def _pieces(self, response: Response) -> AsyncIterator[bytes]:
        if response.fields.get("Transfer-Encoding") == "chunked":
            assert "Content-Length" not in response.fields
            while data := await self.chunk():
                yield data
        elif "Content-Length" in response.fields:
            left = int(response.fields["Content-Length"])
            while left:
                data = await self.reader.read(min(left, 1 << 16))
                if not data:
                    raise asyncio.IncompleteReadError(b"", left)
                yield data
                left -= len(data)
        else:
            while data := await self.reader.read(1 << 16):
                yield data

    async def chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def body(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        return await self.reader.readexactly(count)

    async def closed(self) -> bool:
        """Wait for the other side to close; True if it did without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True
