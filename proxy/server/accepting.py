"""Listening sockets, from which we accept ourselves: to refuse before a connection costs anything, and to go on where
no descriptor is left.

There, asyncio would log a traceback and set a timer for each place in the backlog.  We keep some descriptors spare:
with them the admin listener goes on, clients get their refusal, and those that are there the files they ask for.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.incidents import Incidents
from proxy.semantics.forward import UNIX

BACKLOG = 1024
"""Connections the kernel holds until we accept them."""
AT_ONCE = 64
"""Connections accepted in one turn of the loop; then those that are there have theirs."""
RETRY = 0.2
"""Seconds until the next attempt where none can be accepted, or another worker shall accept it."""
SPARE = 24
"""Descriptors kept spare, ..."""
SPARE_FOR_ADMIN = 8
"""... so many of them for the admin listener alone."""

Take = Callable[[socket.socket, str], asyncio.Protocol | None]
"""What talks to an accepted socket, which does not block, with this peer; None: that is settled already."""
Connect = Callable[[socket.socket, asyncio.Protocol], Awaitable[object]]
"""Makes a connection of such a socket for who talks to it.  Raises OSError."""


async def connect(sock: socket.socket, protocol: asyncio.Protocol) -> None:
    """Without anything between the two."""
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)


class Spare:
    """Descriptors that stand for nothing, to be given up where there is no other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        self.complete()

    def complete(self) -> bool:
        """Take back what was given, if there is enough for all of it; whether nothing is missing."""
        before = len(self._held)
        try:
            while len(self._held) < self._count:
                self._held.append(os.dup(self._held[0]))
        except OSError:
            self._give_up(before)
            return False
        return True

    def give(self, keep: int) -> bool:
        """Give up all but `keep` of them; whether that were any."""
        before = len(self._held)
        self._give_up(max(keep, 1))
        return len(self._held) < before

    def _give_up(self, keep: int) -> None:
        while len(self._held) > keep:
            os.close(self._held.pop())

    def close(self) -> None:
        self._give_up(0)


class Acceptor:
    """Accepts from one listening socket.  The spare descriptors but `keep` of them are for this.  As long as it
    `leaves_it`, connections wait for other processes that listen there.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Take,
        spare: Spare,
        incidents: Incidents,
        *,
        about: str,
        keep: int,
        connect: Connect = connect,
        at_once: int = AT_ONCE,
        leaves_it: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sock = sock
        self._leaves_it = leaves_it
        self._take = take
        self._connect = connect
        self._spare = spare
        self._incidents = incidents
        self._about = about
        self._keep = keep
        self._at_once = at_once
        self._retry: asyncio.TimerHandle | None = None
        self._starting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._resume()

    def _resume(self) -> None:
        self._loop.add_reader(self._sock, self._accept_some)

    def _accept_some(self) -> None:
        for _ in range(self._at_once):
            if self._leaves_it():
                self._wait()
                return
            accepted = self._accept()
            if accepted is None:
                return
            sock, address = accepted
            sock.setblocking(False)
            protocol = self._take(sock, address[0] if isinstance(address, tuple) else UNIX)
            if protocol is not None:
                starting = self._loop.create_task(self._start(sock, protocol))
                self._starting.add(starting)
                starting.add_done_callback(self._starting.discard)

    async def _start(self, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            await self._connect(sock, protocol)
        except OSError as error:  # no handshake, or the kernel has no more room for it
            sock.close()
            protocol.connection_lost(error)

    def _accept(self) -> tuple[socket.socket, object] | None:
        while True:
            try:
                return self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE} and self._spare.give(self._keep):
                    continue
                self._pause(error)
                return None

    def _pause(self, error: OSError) -> None:
        """It would be told to us again and again."""
        self._incidents.note(
            "no connection can be accepted",
            about=self._about,
            reason="accept-failed",
            why=str(error),
            requests=0,
        )
        self._wait()

    def _wait(self) -> None:
        self._loop.remove_reader(self._sock)
        self._retry = self._loop.call_later(RETRY, self._resume)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()


class Site(web.BaseSite):
    """An address that is listened on; `server` is bound to it, and does not serve."""

    def __init__(
        self, runner: web.BaseRunner, server: asyncio.Server, accept: Callable[[socket.socket], Acceptor]
    ) -> None:
        super().__init__(runner)
        self._server = server
        self._accept = accept
        self._acceptors: list[Acceptor] = []

    @property
    def name(self) -> str:
        return "site"

    async def start(self) -> None:
        await super().start()
        assert isinstance(self._server, asyncio.Server)
        for bound in self._server.sockets:
            sock = bound.dup()
            try:
                sock.listen(BACKLOG)
            except OSError:
                sock.close()
                raise
            self._acceptors.append(self._accept(sock))

    async def stop(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await super().stop()
