"""Bodies that others have written to, as the times of their files tell: read before anyone gets a byte of them."""

import asyncio
from collections import OrderedDict
from typing import Final

from proxy.errors import BodyLost
from proxy.spool.body import Body
from proxy.spool.checksum import Checksum
from proxy.spool.entry import Entry

STEP: Final = 16 << 20
"""Bytes read before we look whether we have to stop."""
AT_ONCE: Final = 2
"""Bodies read at once: after a copy of the folder, all have other times, and the disk has other things to do."""
REMEMBERED: Final = 65_536
"""Bodies found sound under another time than their head's; the one that was looked at longest ago is forgotten."""


class Guard:
    """Whoever changes a file and puts back its time is not noticed here, but by the scrub."""

    def __init__(self) -> None:
        self._sound: OrderedDict[str, int] = OrderedDict()
        self._checking: dict[str, asyncio.Task[bool]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def trusts(self, entry: Entry, body: Body) -> bool:
        """Is it the file that was written, or found sound since?  Costs a microsecond."""
        mtime = body.mtime
        return entry.mtime is None or mtime == entry.mtime or mtime == self._sound.get(entry.generation, -1)

    async def is_sound(self, entry: Entry, body: Body) -> bool:
        """Read it, unless somebody does so already; remember it if its bytes are those that were stored."""
        checking = self._checking.get(entry.generation)
        if checking is None:
            checking = asyncio.create_task(self._check(entry, body), name=f"check {entry.generation}")
            self._checking[entry.generation] = checking
            held = body.hold()

            def over(_: asyncio.Task[bool]) -> None:
                """Even if it never began."""
                del self._checking[entry.generation]
                held.release()

            checking.add_done_callback(over)
        return await asyncio.shield(checking)

    async def _check(self, entry: Entry, body: Body) -> bool:
        try:
            async with self._turns:
                mtime, checksum = body.mtime, Checksum()
                while checksum.length < entry.length:
                    checksum = await body.checksum(min(checksum.length + STEP, entry.length), checksum)
        except BodyLost:
            return False
        if checksum.value != entry.checksum or mtime is None:
            return False
        self._sound[entry.generation] = mtime
        self._sound.move_to_end(entry.generation)
        if len(self._sound) > REMEMBERED:
            self._sound.popitem(last=False)
        return True

    async def close(self) -> None:
        """Give up what is being read."""
        checking = list(self._checking.values())
        for task in checking:
            task.cancel()
        await asyncio.gather(*checking, return_exceptions=True)
