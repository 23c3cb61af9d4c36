"""TLS for clients: the certificate, which is renewed while we run, and the handshakes, which fail in many ways.

The cryptography is OpenSSL's, the state machine asyncio's.
"""

import asyncio
import os
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from aiohttp.base_protocol import BaseProtocol

from proxy.incidents import Incidents
from proxy.server.metrics import Metrics

LOOK_EVERY = 10.0
"""Seconds between two looks at whether the certificate's files have changed."""
BUFFER = 16 << 10
"""Bytes read at a time: what a TLS record holds."""

_ABOUT = "tls"
_UNREADABLE = "certificate-unreadable"
_PLAIN: Final = {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}

Stamp = tuple[tuple[int, int, int], ...]

_log = structlog.stdlib.get_logger("server")


class Certificate:
    """What handshakes show.  `read` makes it of these `files`, and raises OSError, in words."""

    def __init__(
        self, read: Callable[[], ssl.SSLContext], files: Sequence[str], incidents: Incidents
    ) -> None:
        self._read = read
        self._files = files
        self._incidents = incidents
        self._wanted = asyncio.Event()
        self._stamp: Stamp = ()
        self.context: ssl.SSLContext

    async def load(self) -> None:
        """Raises OSError; then what there was is kept."""
        stamp = await asyncio.to_thread(_stamp, self._files)  # before: what changes in between is read again
        self.context = await asyncio.to_thread(self._read)
        self._stamp = stamp

    def renew(self) -> None:
        """Have it read again, whatever the files' times say."""
        self._wanted.set()

    async def watch(self) -> None:
        """Read it again when its files change.  Runs until it is cancelled.

        While one of the two is new and the other is not yet, they do not fit: that is tried again, too.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wanted.wait()
            if not self._wanted.is_set() and await asyncio.to_thread(_stamp, self._files) == self._stamp:
                continue
            self._wanted.clear()
            try:
                await self.load()
            except OSError as error:
                self._incidents.note(
                    "the new certificate cannot be used, the old one goes on",
                    about=_ABOUT,
                    reason=_UNREADABLE,
                    why=str(error),
                    requests=0,
                )
            else:
                self._incidents.over(_ABOUT, _UNREADABLE)
                _log.info("the certificate is read again", files=self._files)


def _stamp(files: Sequence[str]) -> Stamp:
    """What tells whether they have changed; nothing, where one of them is not there."""
    try:
        found = [os.stat(file) for file in files]
    except OSError:
        return ()
    return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)


class Handshakes:
    """Makes TLS connections of accepted sockets.  A handshake has so many `seconds`, and `on_timeout` is told when it
    takes longer; who is parted from has `parting` seconds to say goodbye.
    """

    def __init__(
        self,
        certificate: Certificate,
        metrics: Metrics,
        incidents: Incidents,
        *,
        seconds: float,
        parting: float,
        on_timeout: Callable[[str], None],
    ) -> None:
        self._certificate = certificate
        self._failed = metrics.failed_handshakes
        self._incidents = incidents
        self._seconds = seconds
        self._parting = parting
        self._on_timeout = on_timeout
        self._underway: set[asyncio.Transport] = set()
        for reason in ("client-gone", "plain-http", "tls"):
            self._failed.labels(reason)

    async def connect(self, sock: socket.socket, client: asyncio.Protocol) -> None:
        """Raises OSError."""
        assert isinstance(client, BaseProtocol)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        context = self._certificate.context
        tls = _Tls(loop, client, context, done, handshake=self._seconds, parting=self._parting)
        transport, _ = await loop.connect_accepted_socket(lambda: tls, sock)
        self._underway.add(transport)
        try:
            await done
        except BaseException as error:
            transport.abort()
            if isinstance(error, OSError):
                self._tell(error)
            raise
        finally:
            self._underway.discard(transport)
        if transport.is_closing():  # asyncio takes that for a success
            raise ConnectionAbortedError("the connection was given up")

    def close(self) -> None:
        """Give up those that are not done."""
        for transport in self._underway:
            transport.abort()

    def _tell(self, error: OSError) -> None:
        match error:
            case ssl.SSLError(reason=reason) if reason in _PLAIN:
                self._fail(
                    "plain-http", "plain HTTP came where TLS is spoken; clients must use https:// there"
                )
            case ssl.SSLError(reason=reason):
                self._fail("tls", (reason or str(error)).lower().replace("_", " "))
            case ConnectionAbortedError(errno=None):  # asyncio's, not the kernel's
                self._on_timeout("head")
            case _:  # who only looks whether somebody listens, goes like this
                self._failed.labels("client-gone").inc()

    def _fail(self, reason: str, why: str) -> None:
        self._failed.labels(reason).inc()
        self._incidents.note("TLS handshakes fail", about=_ABOUT, reason=reason, why=why)


class _Tls(SSLProtocol):
    """asyncio's, for a server of many clients.

    Its own buffer for what comes takes 256 KiB of each connection.  And it has a sender wait only for what has not
    been encrypted yet, while all that has been stays in memory; here, until the kernel has taken what was sent.
    """

    max_size = BUFFER

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: BaseProtocol,
        context: ssl.SSLContext,
        done: asyncio.Future[None],
        *,
        handshake: float,
        parting: float,
    ) -> None:
        super().__init__(
            loop,
            client,
            context,
            done,
            server_side=True,
            ssl_handshake_timeout=handshake,  # type: ignore[arg-type]  # it takes fractions, too
            ssl_shutdown_timeout=parting,
        )
        self._client: BaseProtocol | None = client
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(0)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = True
        if self._client is not None and not self._client.writing_paused:
            self._client.pause_writing()

    def resume_writing(self) -> None:
        self._full = False
        super().resume_writing()  # what waits here may fill it again
        if self._client is not None and not self._full and self._client.writing_paused:
            self._client.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._client = None
