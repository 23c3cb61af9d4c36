"""Sources whose bytes the keeper fetches: read from its files, as far as they lie there, else asked for."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from proxy.cache.lease import Lease
from proxy.errors import BodyLost, KeeperLost
from proxy.fill.fill import FillState
from proxy.fill.progress import Progress
from proxy.semantics.representation import Representation
from proxy.spool.body import Body
from proxy.spool.entry import Entry
from proxy.workers import words

Method = Literal["ensure", "wait", "wait_for_end", "read"]


class Asks(Protocol):
    """Asks the same of the keeper's source for this lease.  Raises AdapterError, KeeperLost."""

    def __call__(self, method: Method, *arguments: int) -> Awaitable[int | bytes | bytearray | None]: ...


class Mirror:
    """A fill of the keeper's, as it was told of last."""

    def __init__(self, growth: words.Growth) -> None:
        assert growth.entry is not None
        self.entry = growth.entry
        self.growth = growth
        self.lost = False
        self._progress = Progress(growth.on_disk)

    def tell(self, growth: words.Growth) -> None:
        """That was said of it."""
        if growth.entry is not None and growth.entry != self.entry:
            self.entry = growth.entry  # else one for all who read it
        self.growth = growth
        self._progress.advance(growth.on_disk)
        if growth.slides or growth.state is not FillState.STREAMING:
            self._progress.wake_all()

    def lose(self) -> None:
        """The keeper has gone."""
        self.lost = True
        self._progress.wake_all()

    async def wait(self, offset: int) -> bool:
        """Wait until more than `offset` bytes lie in the file; False if no more will.  Raises KeeperLost, and what
        made the fill fail.
        """
        while self.growth.on_disk <= offset:
            if self.growth.error is not None:
                raise self.growth.error
            if self.growth.state is not FillState.STREAMING:
                return False
            if self.lost:
                raise KeeperLost("the worker that fetched this has ended")
            if self.growth.slides:
                return False
            await self._progress.passing(offset)
        return True

    async def wait_for_end(self) -> None:
        """Wait until no more bytes will come to the file.  Raises as `wait`."""
        while await self.wait(self.growth.on_disk):
            pass


class Mirrored:
    """What the keeper fetches.  Takes over one hold of `body`.  `successor` asks for a lease on what has replaced it;
    it raises AdapterError, KeeperLost.
    """

    seekable = True

    def __init__(
        self, mirror: Mirror, body: Body, ask: Asks, successor: Callable[[], Awaitable[Lease | None]]
    ) -> None:
        self.successor = successor
        self._mirror = mirror
        self._body = body
        self._ask = ask

    @property
    def _growth(self) -> words.Growth:
        return self._mirror.growth

    @property
    def entry(self) -> Entry | None:
        return self._mirror.entry

    @property
    def representation(self) -> Representation:
        return self._mirror.entry.stored.representation

    @property
    def provisional(self) -> bool:
        return self._growth.provisional and self._growth.state is FillState.STREAMING

    @property
    def file(self) -> Body | None:
        return None if self._growth.slides else self._body

    async def ensure(self, stop: int) -> None:
        if self._growth.on_disk < stop and self._growth.state is not FillState.COMPLETE:
            await self._ask("ensure", stop)

    async def wait(self, offset: int) -> int:
        if await self._mirror.wait(offset) or not self._growth.slides:
            return self._growth.on_disk
        return await _number(self._ask("wait", offset))

    async def wait_for_end(self) -> int:
        await self._mirror.wait_for_end()
        return await _number(self._ask("wait_for_end")) if self._growth.slides else self._growth.on_disk

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        if start < self._growth.on_disk:
            return await _read(self._body, start, min(stop, self._growth.on_disk), self._ask)
        return await _bytes(self._ask("read", start, stop))

    def close(self) -> None:
        self._body.release()


class Distant:
    """What is not stored: it comes piece by piece through the keeper, as fast as the client takes it."""

    seekable = False
    provisional = False
    entry: Entry | None = None
    file: Body | None = None

    def __init__(self, representation: Representation, ask: Asks) -> None:
        self.representation = representation
        self._ask = ask

    async def ensure(self, stop: int) -> None:
        """They are on their way."""

    async def wait(self, offset: int) -> int:
        return await _number(self._ask("wait", offset))

    async def wait_for_end(self) -> int:
        return await _number(self._ask("wait_for_end"))

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return await _bytes(self._ask("read", start, stop))

    def close(self) -> None:
        """Whoever holds the lease says so."""


async def _read(body: Body, start: int, stop: int, ask: Asks) -> bytes | bytearray:
    try:
        return await body.read(start, stop)
    except BodyLost:  # is it the disk?  The keeper, which has to know, tries too
        return await _bytes(ask("read", start, stop))


async def _number(asked: Awaitable[int | bytes | bytearray | None]) -> int:
    answer = await asked
    assert isinstance(answer, int)
    return answer


async def _bytes(asked: Awaitable[int | bytes | bytearray | None]) -> bytes | bytearray:
    answer = await asked
    assert isinstance(answer, bytes | bytearray)
    return answer
