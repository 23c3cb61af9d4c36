"""TLS for clients: the certificate, which is renewed while we run, and the handshakes, which fail in many ways.

The cryptography is OpenSSL's; what talks to it once a handshake is done, is `proxy.server.encrypted`.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from proxy.incidents import Incidents
from proxy.server.encrypted import EncryptedTransport
from proxy.server.metrics import Metrics

LOOK_EVERY = 10.0
"""Seconds between two looks at whether the certificate's files have changed."""

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
        self._waiting: set[asyncio.Future[None]] = set()
        for reason in ("client-gone", "plain-http", "tls"):
            self._failed.labels(reason)

    async def connect(self, sock: socket.socket, client: asyncio.Protocol) -> None:
        """Raises OSError."""
        context = self._certificate.context
        try:
            secret = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._shake(secret)
                EncryptedTransport(secret, client, parting=self._parting)
            except BaseException:
                secret.close()
                raise
        except OSError as error:
            self._tell(error)
            raise

    async def _shake(self, sock: ssl.SSLSocket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                watch, unwatch = loop.add_reader, loop.remove_reader
            except ssl.SSLWantWriteError:
                watch, unwatch = loop.add_writer, loop.remove_writer
            ready: asyncio.Future[None] = loop.create_future()
            self._waiting.add(ready)
            watch(sock, _end, ready)
            try:
                await ready
            finally:
                unwatch(sock)
                self._waiting.discard(ready)

    def close(self) -> None:
        """Give up those that are not done."""
        for ready in self._waiting:
            _end(ready, _GivenUp())

    def _tell(self, error: OSError) -> None:
        match error:
            case _GivenUp():
                pass
            case TimeoutError(errno=None):  # ours, not the kernel's
                self._on_timeout("head")
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ssl.SSLSyscallError():
                self._failed.labels("client-gone").inc()
            case ssl.SSLError(reason=reason) if reason in _PLAIN:
                self._fail(
                    "plain-http", "plain HTTP came where TLS is spoken; clients must use https:// there"
                )
            case ssl.SSLError(reason=reason):
                self._fail("tls", (reason or str(error)).lower().replace("_", " "))
            case _:  # who only looks whether somebody listens, goes like this
                self._failed.labels("client-gone").inc()

    def _fail(self, reason: str, why: str) -> None:
        self._failed.labels(reason).inc()
        self._incidents.note("TLS handshakes fail", about=_ABOUT, reason=reason, why=why)


class _GivenUp(ConnectionAbortedError):
    """The service ends."""


def _end(ready: asyncio.Future[None], error: OSError | None = None) -> None:
    if ready.done():
        return
    if error is None:
        ready.set_result(None)
    else:
        ready.set_exception(error)
