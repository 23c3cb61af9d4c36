"""Making room for what arrives: the disk is measured, and what was used least recently goes."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from proxy.errors import SpoolError, SpoolFull
from proxy.spool import calls
from proxy.spool.bodies import Bodies
from proxy.spool.catalogue import Catalogue
from proxy.spool.eviction import Candidate, choose
from proxy.spool.room import BLOCK, Need, Reservation, Room, footprint

EVICTION_BATCH = 64
OWN_ROOM = 4 << 20
"""Bytes, but at most a quarter of the disk, that no object gets: without room for its log, the index could not even
forget one.  That log has 1 MiB before it is written back, and one transaction (index.ROWS) adds another at most; what
it is written back into grows with the rows of the objects that arrive between two measurements, 1 to 2 KiB each.
"""
MEASURE_INTERVAL = 1.0
"""Seconds for which our own reckoning of the disk's free space is believed."""


class Admission:
    """Of one spool folder.  `remove` forgets and unlinks objects; it raises SpoolError.  `drop_unfinished` ends one
    that is unfinished and not being read, if there is any.
    """

    def __init__(
        self,
        root: Path,
        room: Room,
        catalogue: Catalogue,
        bodies: Bodies,
        disk: Executor,
        remove: Callable[[Sequence[Candidate]], Awaitable[object]],
        drop_unfinished: Callable[[], Awaitable[bool]],
    ) -> None:
        self.evictions = 0
        self._root = root
        self._room = room
        self._catalogue = catalogue
        self._bodies = bodies
        self._disk = disk
        self._remove = remove
        self._drop_unfinished = drop_unfinished
        self._admitting = asyncio.Lock()
        self._measured = -math.inf

    async def grow(self, reservation: Reservation, size: int, spare: int = 0) -> None:
        """Make `reservation` `size` bytes large, evicting as needed, and `spare` larger if there is room anyway.

        Raises SpoolFull, SpoolError.
        """
        more = size - reservation.size
        async with self._admitting:
            spare = self._room.spare(reservation, more, spare)
            await self._measure()
            while not (need := self._room.need(more)).met:
                if await self._drop_unfinished():
                    continue
                victims = await self._victims(need) if self._can_meet(need) else []
                if not victims:
                    missing = max(need.bytes, need.blocks)
                    raise SpoolFull(f"the spool {self._root} is full: {missing} bytes are missing")
                await self._remove(victims)
                self.evictions += len(victims)
            reservation.size = size + min(spare, -need.bytes, -need.blocks)

    async def shrink(self, size: int) -> None:
        """Evict so many bytes, whatever the books say: a quota, say, knows better.  Raises SpoolError."""
        async with self._admitting:
            victims = await self._victims(Need(0, size))
            await self._remove(victims)
            self.evictions += len(victims)

    def doubt(self) -> None:
        """What is believed of the disk has proved wrong."""
        self._measured = -math.inf

    async def _measure(self) -> None:
        if time.monotonic() - self._measured < MEASURE_INTERVAL:
            return
        try:
            disk = await asyncio.get_running_loop().run_in_executor(self._disk, calls.statvfs, self._root)
        except OSError as error:
            raise SpoolError(f"cannot read the spool folder {self._root}: {error.strerror}") from error
        own = min(OWN_ROOM, disk.f_blocks * disk.f_frsize // 4)
        self._room.free = disk.f_bavail * disk.f_frsize - max(0, own - self._room.min_free)
        self._measured = time.monotonic()

    def _can_meet(self, need: Need) -> bool:
        """Would that be met if all went that is stored and not being read?"""
        stored, count = self._catalogue.usage()
        in_use = [size for name, size in self._bodies.sizes_in_use() if not self._catalogue.hides(name)]
        # How many blocks it all takes nobody has counted; it is at least the bytes, and the block of each head.
        evictable = stored + count * BLOCK - sum(map(footprint, in_use))
        return need.bytes <= stored - sum(in_use) and need.blocks <= evictable

    async def _victims(self, need: Need) -> list[Candidate]:
        """Whom to evict.  Good until the next await: then somebody may have begun to read one of them."""
        oldest = await self._catalogue.oldest(self._bodies.in_use + EVICTION_BATCH)
        return choose(
            oldest, need, spared=lambda name: self._catalogue.hides(name) or self._bodies.uses(name)
        )
