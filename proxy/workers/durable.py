"""A source that outlives the keeper it came from: what it was in the middle of, goes on with the next one."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from proxy.cache.lease import Lease
from proxy.cache.sources import Source
from proxy.errors import KeeperLost, ObjectChanged
from proxy.semantics.representation import Representation
from proxy.spool.body import Body
from proxy.spool.entry import Entry

T = TypeVar("T")

Again = Callable[[], Awaitable[Lease]]
"""Asks for the same thing once more.  Raises AdapterError."""


class Durable:
    """What `lease` is on, and after that those which `again` brings, as long as they are of the same generation.

    Takes over the lease.
    """

    def __init__(self, lease: Lease, again: Again) -> None:
        self.lease = lease
        self.seekable = lease.source.seekable
        self._again = again

    @property
    def representation(self) -> Representation:
        return self.lease.source.representation

    @property
    def entry(self) -> Entry | None:
        return self.lease.source.entry

    @property
    def provisional(self) -> bool:
        return self.lease.source.provisional

    @property
    def file(self) -> Body | None:
        return self.lease.source.file

    async def ensure(self, stop: int) -> None:
        await self._lasting(lambda source: source.ensure(stop))

    async def wait(self, offset: int) -> int:
        return await self._lasting(lambda source: source.wait(offset))

    async def wait_for_end(self) -> int:
        return await self._lasting(lambda source: source.wait_for_end())

    async def read(self, start: int, stop: int) -> bytes | bytearray:
        return await self._lasting(lambda source: source.read(start, stop))

    def close(self) -> None:
        self.lease.close()

    async def _lasting(self, work: Callable[[Source], Coroutine[Any, Any, T]]) -> T:
        """Do it with this keeper, or the next.  Raises ObjectChanged where that one has another generation."""
        while True:
            try:
                return await work(self.lease.source)
            except KeeperLost:
                lease = await self._again()
            old, new = self.entry, lease.source.entry
            if old is None or new is None or old.generation != new.generation:
                lease.close()
                raise ObjectChanged("the worker that fetched this has ended, and another has something else")
            before, self.lease = self.lease, lease
            before.close()
