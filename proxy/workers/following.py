"""The cache at a distance: another worker keeps it, and this one asks over a link."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from itertools import count
from typing import Any, assert_never

from proxy.cache.lease import Lease
from proxy.cache.sources import Broken, Complete, Source
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, KeeperLost, Overloaded
from proxy.semantics.key import CacheKey
from proxy.semantics.purging import Purge
from proxy.spool.entry import Entry
from proxy.workers import words
from proxy.workers.bodies import OpenBodies
from proxy.workers.link import NO_FILE, Link
from proxy.workers.mirrored import Distant, Method, Mirror, Mirrored


class Following:
    """One keeper, while it is there: `lost` is called when it has gone, before anyone learns of it by KeeperLost.

    `note` writes this worker's figures down.
    """

    def __init__(
        self, sock: socket.socket, bodies: OpenBodies, note: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self.secret = b""
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the keeper has taken notice of us."""
        self._bodies = bodies
        self._note = note
        self._lost = lost
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._asking: dict[int, Wanted] = {}
        self._mirrors: dict[int, Mirror] = {}
        self._followers: Counter[int] = Counter()  # of mirrors
        self._link = Link(sock, self._receive, self._end)

    # As the cache

    async def acquire(self, wanted: Wanted) -> Lease:
        """As the keeper's cache.  Raises AdapterError, and KeeperLost."""
        number = next(self._numbers)
        granted = await self._granted(number, words.Acquire(number, wanted.request), wanted)
        assert granted is not None
        return granted

    async def _granted(
        self, number: int, word: words.Acquire | words.Succeed, wanted: Wanted
    ) -> Lease | None:
        self._asking[number] = wanted
        try:
            granted = await self._ask(number, word)
        finally:
            del self._asking[number]
        assert granted is None or isinstance(granted, Lease)
        return granted

    async def invalidate(self, target: CacheKey, owners: Collection[bytes]) -> None:
        number = next(self._numbers)
        await self._ask(number, words.Invalidate(number, target, owners))

    async def purge(self, what: Purge, *, soft: bool) -> None:
        number = next(self._numbers)
        await self._ask(number, words.Remove(number, what, soft))

    def failed(self, error: Exception) -> None:
        """The disk has refused us something."""
        self._link.send(words.Doubt(error))

    async def has_others(self, entry: Entry) -> bool:
        """As the keeper's spool.  Raises SpoolError where something of the target is arriving, too."""
        number = next(self._numbers)
        return bool(await self._ask(number, words.HasOthers(number, entry)))

    def note_uses(self, generations: Collection[str]) -> None:
        """They are read by those who do not ask for them."""
        self._link.send(words.Used(generations))

    # What is said

    async def _ask(self, number: int, word: words.Request) -> Any:
        if self._link.closed:
            raise KeeperLost("the worker that keeps the spool has ended")
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self._link.send(word)
        try:
            return await answered
        except asyncio.CancelledError:
            if answered.done() and not answered.cancelled() and answered.exception() is None:
                _close_unclaimed(answered.result())
            else:
                self._link.send(words.Drop(number))
            raise
        finally:
            self._asked.pop(number, None)

    def _receive(self, reply: words.Reply, file: int | None) -> None:
        match reply:
            case words.Granted(number):
                self._take(number, reply, file)
            case words.Answer(number, value):
                self._settle(number, value)
            case words.Failure(number, error):
                self._fail(number, error)
            case words.Interim() | words.Forwarded():
                if (wanted := self._asking.get(reply.number)) is not None:
                    _tell(wanted, reply)
            case words.Growth(fill):
                if (mirror := self._mirrors.get(fill)) is not None:
                    mirror.tell(reply)
            case words.Condemned(generation):
                self._bodies.condemn(generation)
            case words.Note(number):
                self._note()
                self._link.send(words.Noted(number))
            case words.Welcome(secret):
                self.secret = secret
                self.welcome.set_result(None)
            case _:
                assert_never(reply)

    def _settle(self, number: int, value: object) -> None:
        answered = self._asked.get(number)
        if answered is not None and not answered.done():
            answered.set_result(value)
        else:
            _close_unclaimed(value)

    def _fail(self, number: int, error: AdapterError) -> None:
        answered = self._asked.get(number)
        if answered is not None and not answered.done():
            answered.set_exception(error)

    def _end(self) -> None:
        self._lost()
        if not self.welcome.done():
            self.welcome.cancel()
        for number in self._asked:
            self._fail(number, KeeperLost("the worker that keeps the spool has ended"))
        for mirror in self._mirrors.values():
            mirror.lose()

    def close(self) -> None:
        """Nobody asks, and nobody reads any more."""
        self._link.close()

    # Leases

    def _take(self, number: int, granted: words.Granted, file: int | None) -> None:
        answered = self._asked.get(number)
        if answered is None or answered.done():  # who asked has left, and said so
            if file is not None and file != NO_FILE:
                os.close(file)
            return
        if file == NO_FILE:
            self._link.send(words.Drop(number))
            answered.set_exception(Overloaded("no descriptor is left for the body"))
            return
        source, left = self._source(number, granted, file)

        def close() -> None:
            if left is not None:
                left()
            self._link.send(words.Drop(number))

        lease = Lease(source, granted.status, granted.age, granted.withheld, close)
        answered.set_result(lease)

    def _source(
        self, number: int, granted: words.Granted, file: int | None
    ) -> tuple[Source, Callable[[], None] | None]:
        """What is granted, and what is to be done when it is closed."""
        ask = partial(self._call, number)
        match granted.source:
            case words.Through(representation):
                return Distant(representation, ask), None
            case words.Whole(entry):
                assert file is not None
                return Complete(entry, self._bodies.take(entry.generation, file)), None
            case words.Beginning(entry, written, error):
                assert file is not None
                return Broken(entry, self._bodies.take(entry.generation, file), written, error), None
            case words.Growth(fill, entry) as growth:
                assert entry is not None
                assert file is not None
                mirror = self._mirrors.get(fill)
                if mirror is None:
                    mirror = self._mirrors[fill] = Mirror(growth)
                else:
                    mirror.tell(growth)
                self._followers[fill] += 1
                body = self._bodies.take(entry.generation, file)
                succeed = partial(self._successor, number, self._asking[number])
                return Mirrored(mirror, body, ask, succeed), partial(self._leave, fill)
            case _:
                assert_never(granted.source)

    def _leave(self, fill: int) -> None:
        self._followers[fill] -= 1
        if not self._followers[fill]:
            del self._followers[fill], self._mirrors[fill]

    async def _successor(self, lease: int, wanted: Wanted) -> Lease | None:
        number = next(self._numbers)
        return await self._granted(number, words.Succeed(number, lease, wanted.request), wanted)

    async def _call(self, lease: int, method: Method, *arguments: int) -> int | bytes | bytearray | None:
        number = next(self._numbers)
        answer: int | bytes | bytearray | None = await self._ask(
            number, words.Call(number, lease, method, arguments)
        )
        return answer


def _tell(wanted: Wanted, reply: words.Interim | words.Forwarded) -> None:
    match reply:
        case words.Forwarded(_, status):
            wanted.forwarded(status)
        case words.Interim(_, status, reason, fields):
            if wanted.interim is not None:
                wanted.interim(status, reason, fields)
        case _:
            assert_never(reply)


def _close_unclaimed(value: object) -> None:
    """A lease that came for somebody who has left."""
    if isinstance(value, Lease):
        value.close()
