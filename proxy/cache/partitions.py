"""What is stored for one credential alone: it ends when that has not been seen for a while, and no client may have
it for as many credentials as it can invent.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial

from proxy.cache.recent import CAPACITY, Recent
from proxy.errors import SpoolError
from proxy.semantics.request import network
from proxy.spool.spool import Spool

SWEEP_INTERVAL = 60.0
"""Seconds between two looks for credentials that never came back."""
SWEEP_BATCH = 256
"""How many of them end at one look."""


class Census:
    """The partitions that something is kept for, and how many of them there are for each client: at most `most`.

    A partition counts for the client it was begun for, wherever else its credentials are used from, until it is
    left or unused for `seconds`.  Of more than `capacity` in all, those that were unused longest are forgotten.
    """

    def __init__(
        self,
        most: int,
        seconds: float,
        *,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # whose, and until when; by that
        self._counts: Counter[str] = Counter()

    def admit(self, partition: bytes, client: str) -> bool:
        """May something be kept for these credentials?  Then it counts for `client`, if it is new."""
        now = self._clock()
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            self.leave(next(iter(self._kept)))
        if partition in self._kept:
            return True
        client = network(client)
        if self._counts[client] >= self._most:
            return False
        self._kept[partition] = client, now + self._seconds
        self._counts[client] += 1
        if len(self._kept) > self._capacity:
            self.leave(next(iter(self._kept)))
        return True

    def note_use(self, partition: bytes) -> None:
        """These credentials are in use."""
        if (kept := self._kept.get(partition)) is not None:
            self._kept[partition] = kept[0], self._clock() + self._seconds
            self._kept.move_to_end(partition)

    def leave(self, partition: bytes) -> None:
        """Nothing is kept for them any more."""
        if (kept := self._kept.pop(partition, None)) is not None:
            self._counts[kept[0]] -= 1
            if not self._counts[kept[0]]:
                del self._counts[kept[0]]


class Partitions:
    """`ttl` is in seconds; each client may have `per_client` partitions."""

    def __init__(self, spool: Spool, ttl: float, per_client: int) -> None:
        self._spool = spool
        self._ttl = ttl
        self._seen = Recent(ttl)
        self._census = Census(per_client, ttl)
        self._ending: dict[bytes, asyncio.Task[None]] = {}

    def note_use(self, partition: bytes) -> None:
        """These credentials are in use."""
        self._seen.add(partition)
        self._census.note_use(partition)

    def is_in_use(self, partition: bytes) -> bool:
        """Would it be entered without waiting for anything?  Then the use is noted."""
        in_use = partition in self._seen and partition not in self._ending
        if in_use:
            self.note_use(partition)
        return in_use

    def admit(self, partition: bytes, client: str) -> bool:
        """May something be stored for these credentials, which the client at this address sent?"""
        return self._census.admit(partition, client)

    def forget(self, partition: bytes) -> None:
        """Somebody else ends it now."""
        self._census.leave(partition)

    async def enter(self, partition: bytes) -> None:
        """A request brings these credentials.  After a pause, theirs is a new partition, and the old one gone."""
        is_new = partition not in self._seen
        self.note_use(partition)
        if is_new:
            self._end(partition)
        if (ending := self._ending.get(partition)) is not None:
            await asyncio.shield(ending)

    async def sweep(self) -> None:
        """End, now and then, what nobody asks for any more.  Runs until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                unused = await self._spool.unused_partitions(self._ttl, SWEEP_BATCH)
            except SpoolError:  # the disk's condition is in the log
                continue
            for partition in unused:
                if partition not in self._seen:
                    await asyncio.shield(self._end(partition))

    def _end(self, partition: bytes) -> asyncio.Task[None]:
        """Drop what is stored in it; whoever enters it meanwhile waits for that."""
        self._census.leave(partition)
        ending = self._ending.get(partition)
        if ending is None:
            ending = asyncio.create_task(self._spool.drop_partition(partition), name="end of a partition")
            self._ending[partition] = ending
            ending.add_done_callback(partial(self._ended, partition))
        return ending

    def _ended(self, partition: bytes, ending: asyncio.Task[None]) -> None:
        del self._ending[partition]

    async def close(self) -> None:
        """Wait for what is ending."""
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
