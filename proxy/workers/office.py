"""Who keeps the spool.  Where nobody does, each worker tries: a lock decides, and no message does."""

import asyncio
import fcntl
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import structlog
from multidict import CIMultiDict

from proxy.cache.cache import Cache
from proxy.cache.clock import Clock
from proxy.cache.lease import Lease
from proxy.cache.wanted import Wanted
from proxy.cache.warm import Warm
from proxy.errors import AdapterError, KeeperLost, SpoolInUse
from proxy.semantics.key import CacheKey
from proxy.semantics.purging import Purge
from proxy.spool.epochs import Epochs
from proxy.spool.threads import Threads
from proxy.workers import words
from proxy.workers.bodies import OpenBodies
from proxy.workers.desk import Desk, Wanting
from proxy.workers.durable import Durable
from proxy.workers.following import Following
from proxy.workers.ground import Ground, InUse
from proxy.workers.mirrored import Mirrored

PATIENCE = 10.0
"""Seconds that a request waits for somebody to keep the spool; then it gets 503."""
LOOK_AGAIN = 0.05
"""Seconds between two looks whether the folder is free, while nobody answers."""
TRY_AGAIN = 1.0
"""Seconds after which a worker that could not take over the folder tries again."""
LOOK_AFTER_BODIES = 1.0
"""Seconds for which what the keeper has dropped may stay open here, although nobody reads it."""

_log = structlog.stdlib.get_logger("workers")


class Keeping(Protocol):
    """What the keeper has that others have not, from when it has taken over the folder."""

    @property
    def cache(self) -> Cache: ...
    async def close(self) -> None: ...


T = TypeVar("T")

Take = Callable[[], Awaitable[Keeping]]
"""Takes over the folder, and starts all that goes with it.  Raises SpoolInUse where another worker has it."""


class Office:
    """A cache like the others to whoever uses it: kept here, or asked for from the worker that keeps it.

    Whoever keeps the spool reads `knocks`: who writes to `knock` sends it a socket to talk by.  `note` writes this
    worker's figures down.
    """

    _take: Take
    _wanting: Wanting

    def __init__(
        self,
        knock: socket.socket,
        knocks: socket.socket,
        note: Callable[[], None],
        *,
        epochs: Epochs,
        partition_ttl: float,
    ) -> None:
        self._threads = Threads()
        self._bodies = OpenBodies(self._threads)
        self.spool = Ground(epochs, self._bodies)
        self._credentials = InUse(partition_ttl)
        self.warm = Warm(self.spool, self.spool, self._credentials, Clock())
        self._tending = asyncio.create_task(self._tend(), name="open bodies, and their uses")
        self._knock = knock
        self._knocks = knocks
        self._note = note
        self._keeping: Keeping | None = None
        self._desks: set[Desk] = set()
        self._kept = asyncio.Event()
        self._vacant = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        for sock in (knock, knocks):
            sock.setblocking(False)

    # As the cache

    async def acquire(self, wanted: Wanted) -> Lease:
        """As the cache.  Raises KeeperLost, too, where nobody takes over."""
        lease = await self._asked(lambda keeper: keeper.acquire(wanted))
        if wanted.partition is not None:
            self._credentials.add(wanted.partition)
        return self._lasting(wanted, lease)

    async def successor(self, wanted: Wanted, lease: Lease) -> Lease | None:
        """As the cache."""
        now = lease.source.lease if isinstance(lease.source, Durable) else lease
        successor: Lease | None = None
        if isinstance(now.source, Mirrored):
            with suppress(KeeperLost):
                successor = await now.source.successor()
        elif isinstance(self.spool.keeper, Cache):
            successor = await self.spool.keeper.successor(wanted, now)
        return successor and self._lasting(wanted, successor)

    async def invalidate(self, target: CacheKey, owners: Collection[bytes]) -> None:
        """As the cache, whoever keeps it by the end of it."""
        await self._asked(lambda keeper: keeper.invalidate(target, owners))

    async def purge(self, what: Purge, *, soft: bool) -> None:
        """As the cache, whoever keeps it by the end of it."""
        await self._asked(lambda keeper: keeper.purge(what, soft=soft))

    async def _asked(self, ask: Callable[[Following | Cache], Awaitable[T]]) -> T:
        """The answer of this keeper, or the next."""
        while True:
            keeper = self.spool.keeper or await self._next_keeper()
            try:
                return await ask(keeper)
            except KeeperLost:
                await asyncio.sleep(0)  # by then, it is not the keeper any more

    async def _next_keeper(self) -> Following | Cache:
        try:
            async with asyncio.timeout(PATIENCE):
                while self.spool.keeper is None:
                    await self._kept.wait()
        except TimeoutError:
            raise KeeperLost("no worker has taken over the spool") from None
        return self.spool.keeper

    def _lasting(self, wanted: Wanted, lease: Lease) -> Lease:
        """A lease on what is arriving goes on with the next keeper, if there has to be one."""
        if not isinstance(lease.source, Mirrored):
            return lease
        return Lease(Durable(lease, partial(self._again, wanted)), lease.status, lease.age, lease.withheld)

    async def _again(self, wanted: Wanted) -> Lease:
        fields = CIMultiDict(wanted.request.fields)
        for name in ("Cache-Control", "Pragma"):  # what the client wanted of the cache, that has been done
            fields.popall(name, None)
        request = replace(wanted.request, fields=fields)
        same = replace(wanted, request=request, interim=None, forwarded=lambda status: None)
        return await self._asked(lambda keeper: keeper.acquire(same))

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AFTER_BODIES)
            self._bodies.close_unlinked()
            self.spool.tell_of_uses()

    # Who it is

    @property
    def keeping(self) -> Keeping | None:
        """What this worker has as the keeper, if it is that."""
        return self._keeping

    async def open(self, take: Take, wanting: Wanting, *, alone: bool) -> None:
        """Settle who keeps the spool: if there is no other worker, this one.  Raises SpoolError, OSError."""
        self._take, self._wanting = take, wanting
        if alone:
            self._keep(await self._take_over())
            return
        following = await self._settle()
        self._running = asyncio.create_task(self._run(following), name="office")

    async def _run(self, following: Following | None) -> None:
        while following is not None:
            await self._vacant.wait()
            following.close()
            try:
                following = await self._settle()
            except (AdapterError, OSError) as error:
                _log.error("cannot take over the spool", why=str(error))
                await asyncio.sleep(TRY_AGAIN)
                self._vacant.set()

    async def _settle(self) -> Following | None:
        """Take the folder, or find who has it."""
        self._vacant.clear()
        following: Following | None = None
        try:
            while True:
                try:
                    self._keep(await self._take_over())
                    break
                except SpoolInUse:
                    pass
                if following is None or self._vacant.is_set():
                    following = self._follow()
                if following is not None and await _is_welcome(following) and not self._vacant.is_set():
                    self.spool.secret = following.secret
                    self._set(following)
                    return following
        except BaseException:
            if following is not None:
                following.close()
            raise
        if following is not None:
            following.close()
        return None

    async def _take_over(self) -> Keeping:
        """Become the keeper.  Raises SpoolInUse where there is one; SpoolError, OSError."""
        self._claim(fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            return await self._take()
        except BaseException:
            self._claim(fcntl.LOCK_UN)
            raise

    def _claim(self, how: int) -> None:
        """Whoever reads the knocks holds them, too: the folder with its lock may be removed, and another one made.

        The kernel keeps this for the process, however it ends.
        """
        try:
            fcntl.lockf(self._knocks, how)
        except BlockingIOError:
            raise SpoolInUse("another worker keeps the spool") from None
        except OSError:
            pass  # a system that locks files only, not sockets: the folder alone decides

    def _set(self, keeper: Following | Cache) -> None:
        self.spool.keeper = keeper
        self._kept.set()

    def _lose(self) -> None:
        self.spool.keeper = None
        self._kept.clear()
        self._vacant.set()

    def _follow(self) -> Following | None:
        """Knock, with a socket for the keeper to talk to us by; None where too many others do."""
        self._vacant.clear()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._knock, [b"?"], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        return Following(ours, self._bodies, self._note, self._lose)

    # As the keeper

    def _keep(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self.warm.clear()  # its bodies are those of others
        self._bodies.close()
        spool = keeping.cache.spool
        spool.tell_condemned(self._condemned)
        self.spool.secret = spool.secret
        self._set(keeping.cache)
        asyncio.get_running_loop().add_reader(self._knocks, self._answer_knock)

    def _answer_knock(self) -> None:
        try:
            _, files, _, _ = socket.recv_fds(self._knocks, 1, 1)
        except (BlockingIOError, InterruptedError):
            return
        if files and self._keeping is not None:
            sock = socket.socket(fileno=files[0])
            self._desks.add(Desk(sock, self._keeping.cache, self._wanting, self._desks.discard))

    def _condemned(self, generation: str) -> None:
        for desk in list(self._desks):
            desk.tell(words.Condemned(generation))

    async def noted(self) -> None:
        """Have all workers write their figures down."""
        self._note()
        await asyncio.gather(*(desk.noted() for desk in self._desks))

    async def wait_for_followers(self) -> None:
        """Wait until none of them wants anything."""
        while not all(desk.idle for desk in self._desks):  # noqa: ASYNC110  # it is the end, and takes no time
            await asyncio.sleep(LOOK_AGAIN)

    async def close(self) -> None:
        """Leave the office, to the next worker if there is one."""
        self._tending.cancel()
        await self.warm.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if isinstance(self.spool.keeper, Following):
            self.spool.keeper.close()
        if self._keeping is not None:
            asyncio.get_running_loop().remove_reader(self._knocks)
            for desk in list(self._desks):
                desk.close()
            await self._keeping.close()
            self._claim(fcntl.LOCK_UN)
        self._bodies.close()
        await asyncio.to_thread(self._threads.shutdown)


async def _is_welcome(following: Following) -> bool:
    await asyncio.wait({following.welcome}, timeout=LOOK_AGAIN)
    return following.welcome.done() and not following.welcome.cancelled()
