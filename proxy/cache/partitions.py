"""The time of what is stored for one credential alone: it ends when that has not been seen for a while."""

import asyncio
from functools import partial

import structlog

from proxy.cache.recent import Recent
from proxy.errors import SpoolError
from proxy.spool.spool import Spool

_log = structlog.stdlib.get_logger("cache")

SWEEP_INTERVAL = 60.0
"""Seconds between two looks for credentials that never came back."""
SWEEP_BATCH = 256
"""How many of them end at one look."""


class Partitions:
    """`ttl` is in seconds."""

    def __init__(self, spool: Spool, ttl: float) -> None:
        self._spool = spool
        self._ttl = ttl
        self._seen = Recent(ttl)
        self._ending: dict[bytes, asyncio.Task[None]] = {}

    def note_use(self, partition: bytes) -> None:
        """These credentials are in use."""
        self._seen.add(partition)

    async def enter(self, partition: bytes) -> None:
        """A request brings these credentials.  After a pause, theirs is a new partition, and the old one gone."""
        is_new = partition not in self._seen
        self._seen.add(partition)
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
            except SpoolError as error:
                _log.error("the index cannot be read", why=str(error))
                continue
            for partition in unused:
                if partition not in self._seen:
                    await asyncio.shield(self._end(partition))

    def _end(self, partition: bytes) -> asyncio.Task[None]:
        """Drop what is stored in it; whoever enters it meanwhile waits for that."""
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
