"""The keeper's side of a link: what a follower asks for, in the follower's name."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, assert_never

import structlog

from proxy.cache.cache import Cache
from proxy.cache.lease import Lease
from proxy.cache.sources import Broken, Complete, Growing
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, KeeperLost, SpoolError
from proxy.fill.fill import Fill, FillState
from proxy.semantics.request import ClientRequest
from proxy.workers import words
from proxy.workers.link import Link

PULSE = 0.002
"""Seconds between two words on how far a fill has come, at least."""
NOTED_WITHIN = 1.0
"""Seconds that a follower has to write its figures down."""

_log = structlog.stdlib.get_logger("workers")

Wanting = Callable[[ClientRequest], Wanted]
"""Makes of a request, which some route takes, what it asks of the cache."""

Work = Callable[[], Coroutine[Any, Any, None]]

P = ParamSpec("P")


@dataclass(slots=True)
class _Watched:
    number: int
    watch: asyncio.Task[None]
    leases: int = 0
    told: words.Growth | None = None


class Desk:
    """Serves one follower until that is gone: `over` is called then."""

    def __init__(
        self, sock: socket.socket, cache: Cache, wanting: Wanting, over: Callable[["Desk"], None]
    ) -> None:
        self._cache = cache
        self._wanting = wanting
        self._over = over
        self._leases: dict[int, Lease] = {}
        self._causes: dict[int, Wanted] = {}
        """For leases on what arrives for their own requests; the others ask again, if they have to."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._watched: dict[Fill, _Watched] = {}
        self._fills = 0
        self._noting: dict[int, asyncio.Future[None]] = {}
        self._link = Link(sock, self._receive, self._end)
        self._link.send(words.Welcome(cache.spool.secret))

    @property
    def idle(self) -> bool:
        """Is nobody waiting, and nobody reading?"""
        return not self._tasks and not self._leases

    def tell(self, word: words.Condemned) -> None:
        self._link.send(word)

    async def noted(self) -> None:
        """Have the follower write its figures down, and wait until it has, for a while."""
        if self._link.closed:
            return
        number = len(self._noting)
        while number in self._noting:
            number += 1
        noted = self._noting[number] = asyncio.get_running_loop().create_future()
        self._link.send(words.Note(number))
        await asyncio.wait({noted}, timeout=NOTED_WITHIN)
        del self._noting[number]

    def close(self) -> None:
        """Leave the follower to the next keeper."""
        if not self._link.closed:
            self._link.close()
            self._end()

    def _end(self) -> None:
        for number in {*self._tasks, *self._leases}:
            self._drop(number)
        for noted in self._noting.values():
            _ring(noted)
        self._over(self)

    def _receive(self, request: words.Request, file: int | None) -> None:
        match request:
            case words.Acquire(number):
                self._spawn(number, partial(self._acquire, request))
            case words.Succeed(number):
                self._spawn(number, partial(self._succeed, request))
            case words.Call(number):
                self._spawn(number, partial(self._call, request))
            case words.Invalidate(number, target, owners):
                self._spawn(number, partial(self._carry_out, number, self._cache.invalidate, target, owners))
            case words.Remove(number, what, soft):
                self._spawn(number, partial(self._carry_out, number, self._cache.purge, what, soft=soft))
            case words.Drop(number):
                self._drop(number)
            case words.HasOthers(number):
                self._spawn(number, partial(self._has_others, request))
            case words.Used(generations):
                self._cache.spool.used_lately.update(generations)
            case words.Doubt(error):
                self._cache.spool.failed(error)
            case words.Noted(number):
                _ring(self._noting.get(number))
            case _:
                assert_never(request)

    def _spawn(self, number: int, work: Work) -> None:
        task = asyncio.create_task(self._answered(number, work), name=f"for a follower: {number}")
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _answered(self, number: int, work: Work) -> None:
        try:
            await work()
        except AdapterError as error:
            self._link.send(words.Failure(number, error))
        except Exception:  # noqa: BLE001  # the client gets its 500, the log the traceback
            _log.exception("a follower's request failed by a fault of ours")
            self._link.send(words.Failure(number, AdapterError("an unexpected error")))

    async def _carry_out(
        self, number: int, order: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        await order(*args, **kwargs)
        self._link.send(words.Answer(number, None))

    async def _has_others(self, asked: words.HasOthers) -> None:
        has_others = await self._cache.spool.has_others(asked.entry)
        if any(fill.entry.target == asked.entry.target for fill in self._cache.fills()):
            raise SpoolError("it is not settled yet what will be stored of this target")
        self._link.send(words.Answer(asked.number, has_others))

    # Leases

    async def _acquire(self, asked: words.Acquire) -> None:
        number = asked.number
        wanted = replace(
            self._wanting(asked.request),
            interim=lambda *response: self._link.send(words.Interim(number, *response)),
            forwarded=lambda status: self._link.send(words.Forwarded(number, status)),
        )
        self._grant(number, wanted, await self._cache.acquire(wanted))

    async def _succeed(self, asked: words.Succeed) -> None:
        lease = self._held(asked.lease)
        wanted = self._causes.get(asked.lease) or self._wanting(asked.request)
        successor = await self._cache.successor(wanted, lease)
        if successor is None:
            self._link.send(words.Answer(asked.number, None))
        else:
            self._grant(asked.number, wanted, successor)

    def _grant(self, number: int, wanted: Wanted, lease: Lease) -> None:
        self._leases[number] = lease
        if self._cache.has_caused(wanted, lease):
            self._causes[number] = wanted
        file = lease.source.file
        match lease.source:
            case Complete(entry=entry) if entry is not None:
                told: words.Whole | words.Growth | words.Beginning | words.Through = words.Whole(entry)
            case Growing() as source:
                file, told = source.fill.body, self._follow(source.fill)
            case Broken(entry=entry, written=written, error=error) if entry is not None:
                told = words.Beginning(entry, written, error)
            case source:
                told = words.Through(source.representation)
        granted = words.Granted(number, lease.status, lease.age, lease.withheld, told)
        self._link.send(granted, None if file is None else file.fileno())

    def _held(self, number: int) -> Lease:
        if number not in self._leases:
            raise KeeperLost("the lease is another keeper's")
        return self._leases[number]

    def _drop(self, number: int) -> None:
        if (task := self._tasks.get(number)) is not None:
            task.cancel()
        self._causes.pop(number, None)
        if (lease := self._leases.pop(number, None)) is not None:
            if isinstance(lease.source, Growing):
                self._leave(lease.source.fill)
            lease.close()

    async def _call(self, call: words.Call) -> None:
        value = await getattr(self._held(call.lease).source, call.method)(*call.arguments)
        self._link.send(words.Answer(call.number, value))

    # Fills, told of once for all who follow them there

    def _follow(self, fill: Fill) -> words.Growth:
        fill.keep_beginning()
        watched = self._watched.get(fill)
        if watched is None:
            self._fills += 1
            watch = asyncio.create_task(self._watch(fill), name=f"news of {fill.entry.label}")
            watched = self._watched[fill] = _Watched(self._fills, watch)
        watched.leases += 1
        watched.told = _growth(fill, watched.number)
        return watched.told

    def _leave(self, fill: Fill) -> None:
        watched = self._watched[fill]
        watched.leases -= 1
        if not watched.leases:
            del self._watched[fill]
            watched.watch.cancel()

    async def _watch(self, fill: Fill) -> None:
        while True:
            watched = self._watched[fill]
            growth, told = _growth(fill, watched.number), watched.told
            if growth != told:
                watched.told = growth
                is_known = told is not None and told.entry is growth.entry
                self._link.send(replace(growth, entry=None) if is_known else growth)
            if growth.slides or growth.state is not FillState.STREAMING:
                return
            await self._link.drained()
            await asyncio.sleep(PULSE)
            await fill.news(growth.on_disk)


def _ring(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _growth(fill: Fill, number: int) -> words.Growth:
    return words.Growth(
        number, fill.entry, fill.on_disk, fill.state, not fill.is_stored, fill.provisional, fill.error
    )
