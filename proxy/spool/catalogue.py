"""What is stored, as the loop sees it: the shelf, with its own thread, and what is remembered of it in memory."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import structlog

from proxy.errors import SpoolError
from proxy.spool.bans import Bans
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.folder import FillingFiles
from proxy.spool.shelf import Adopted, Page, Shelf

P = ParamSpec("P")
R = TypeVar("R")

KNOWN_KEYS = 4096
"""Keys whose entries are kept parsed in memory."""
TOUCH_INTERVAL = 5.0
"""Seconds between two writes of what was used when: a hit must not cost a transaction."""

_log = structlog.stdlib.get_logger("spool")


class Catalogue:
    """Decisions are made on the loop and at once: what comes or goes is hidden while the disk follows.

    Apart from `lookup`, methods raise SpoolError where the index or the disk refuses.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._thread = ThreadPoolExecutor(1, "spool-shelf")
        self.bans = shelf.bans
        self._known: OrderedDict[bytes, tuple[Entry, ...]] = OrderedDict()
        self._hidden: set[str] = set()
        self._used: dict[str, int] = {}
        self._touching: asyncio.TimerHandle | None = None

    def lookup(self, key: bytes) -> tuple[Entry, ...]:
        """The complete variants under `key` that no purge has hidden, the newest first.  Costs microseconds."""
        entries = self._known.get(key)
        if entries is not None:
            self._known.move_to_end(key)
            return entries
        try:
            entries = self._shelf.lookup(key)
        except SpoolError as error:
            _log.error("the index cannot be read", why=str(error))
            return ()
        judged = (self.bans.judged(each) for each in entries if not self.hides(each.generation))
        self._known[key] = entries = tuple(each for each in judged if each is not None)
        if len(self._known) > KNOWN_KEYS:
            self._known.popitem(last=False)
        return entries

    def hides(self, generation: str) -> bool:
        """Is this one on its way in or out?"""
        return generation in self._hidden

    def usage(self) -> tuple[int, int]:
        """Bytes and objects."""
        return self._shelf.usage()

    async def admit(self, files: FillingFiles, entry: Entry) -> list[Candidate]:
        """Take in a sealed object, to be found once it is `revealed`; returns those that it replaces."""
        self._hidden.add(entry.generation)
        try:
            return await self._on_shelf(self._shelf.admit, files, entry, _microseconds())
        except BaseException:
            self._hidden.discard(entry.generation)
            raise
        finally:
            self._known.pop(entry.key, None)

    def reveal(self, entry: Entry) -> None:
        """From now on it is found."""
        self._hidden.discard(entry.generation)
        self._known.pop(entry.key, None)

    async def update(self, entry: Entry) -> None:
        """New metadata for an object, if it is still there."""
        await self._on_shelf(self._shelf.update, entry, self.bans)
        self._known.pop(entry.key, None)

    async def set_digest(self, entry: Entry, digest: bytes) -> None:
        """The SHA-256 of an object's bytes, if it is still there; what else is known of it stays as it is by then."""
        await self._on_shelf(self._shelf.set_digest, entry.generation, digest)
        self._known.pop(entry.key, None)

    async def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """The next few objects after a generation; None for what cannot be read."""
        return await self._on_shelf(self._shelf.page, after, limit)

    async def contains(self, generation: str) -> bool:
        """Is it stored?  One that is being removed is, or is not; nothing in between."""
        return await self._on_shelf(self._shelf.contains, generation)

    # Purges

    async def write_bans(self, bans: Bans) -> None:
        """Make them durable, to be put in force after that."""
        await self._on_shelf(self._shelf.write_bans, bans)

    def put_in_force(self, bans: Bans) -> None:
        """From now on they hold."""
        self.bans = bans
        self._known.clear()

    async def carry_out(self, after: str, limit: int) -> Page:
        """Write soft bans into the next few objects after a generation; tells which ones hard bans are about."""
        return await self._on_shelf(self._shelf.carry_out, self.bans, after, limit)

    async def carry_out_on(self, target: bytes) -> list[Candidate]:
        """The same with all objects of one target."""
        return await self._on_shelf(self._shelf.carry_out_on, target, self.bans)

    async def settle(self) -> None:
        """What was done holds from now on, even if the power fails."""
        await self._on_shelf(self._shelf.settle)

    # Dropping

    def hide(self, entry: Entry) -> None:
        """From now on it is not found; `remove` is to follow."""
        self._hidden.add(entry.generation)
        self._known.pop(entry.key, None)

    async def remove(self, gone: Sequence[Candidate]) -> list[Candidate]:
        """Forget objects and unlink them; returns those that were there."""
        names = [each.generation for each in gone]
        self._hidden.update(names)
        for each in gone:
            self._known.pop(each.key, None)
            self._used.pop(each.generation, None)
        removed = await self._on_shelf(self._shelf.remove, names)
        # Where that raised they stay hidden: they leave all the same, as far as we know them.
        self._hidden.difference_update(names)
        return removed

    async def in_partition(self, partition: bytes) -> list[Candidate]:
        """What is stored for one credential."""
        return await self._on_shelf(self._shelf.in_partition, partition)

    async def of_target(self, target: bytes) -> list[Candidate]:
        """What is stored of one target, for whichever credential."""
        return await self._on_shelf(self._shelf.of_target, target)

    async def unused_partitions(self, seconds: float, limit: int) -> list[bytes]:
        """Credentials of which nothing was used for so long."""
        used, self._used = self._used, {}
        await self._on_shelf(self._shelf.touch, used)
        since = _microseconds() - int(seconds * 1_000_000)
        return await self._on_shelf(self._shelf.unused_partitions, since, limit)

    async def oldest(self, limit: int) -> list[Candidate]:
        """The least recently used objects, oldest first."""
        used, self._used = self._used, {}
        await self._on_shelf(self._shelf.touch, used)
        return await self._on_shelf(self._shelf.oldest, limit)

    def note_use(self, generation: str) -> None:
        """Somebody reads it."""
        self._used[generation] = _microseconds()
        if self._touching is None:
            self._touching = asyncio.get_running_loop().call_later(TOUCH_INTERVAL, self._write_uses)

    def _write_uses(self) -> None:
        self._touching = None
        used, self._used = self._used, {}
        self._thread.submit(self._shelf.touch, used)

    async def sweep(self) -> AsyncIterator[Adopted]:
        """Make index and disk agree, after an end that was no orderly one; tells of what was found.

        Leaves the shelf to others for as long as it takes it.
        """
        for folder in await self._on_shelf(self._shelf.folders):
            begun = time.monotonic()
            adopted = await self._on_shelf(self._shelf.sweep, folder)
            if adopted.size:
                self._known.clear()
            yield adopted
            await asyncio.sleep(time.monotonic() - begun)

    async def close(self) -> None:
        if self._touching is not None:
            self._touching.cancel()
            self._write_uses()
        await asyncio.to_thread(self._thread.shutdown)
        self._shelf.close()

    async def _on_shelf(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))


def _microseconds() -> int:
    """Since the epoch."""
    return time.time_ns() // 1000
