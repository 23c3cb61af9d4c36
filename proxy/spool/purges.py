"""Purges: true at once, because they are bans that every lookup obeys; carried out on the disk behind that."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from proxy.errors import SpoolError
from proxy.semantics.purging import Ban, Purge, Targets
from proxy.spool.bans import MAX_BANS, Bans, is_about
from proxy.spool.catalogue import Catalogue
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.filling import Filling

STEP = 32
"""Objects that are looked at, rewritten or unlinked without leaving the shelf to others."""

_log = structlog.stdlib.get_logger("spool")


class Books(Protocol):
    """What purges need of the spool."""

    async def remove(self, gone: Sequence[Candidate]) -> None: ...
    async def adopted(self) -> bool: ...


class Purges:
    """A ban may go when nothing of before it can come to light any more:

    what is stored     has been walked through
    what lies unknown  on the disk after a crash has been adopted before that walk
    what is arriving   was retracted when the ban came into force; where it was being published just then, the walk
                       begins after that.  What begins to arrive later, from a request of before, is retracted too.

    So a ban that is gone from the disk needs to be remembered only in memory, and only for such requests.
    """

    def __init__(self, catalogue: Catalogue, books: Books) -> None:
        self._catalogue = catalogue
        self._books = books
        self._writing = asyncio.Lock()
        self._arriving: set[Filling] = set()
        self._publishing: set[asyncio.Task[object]] = set()
        self._recent: deque[Ban] = deque(maxlen=MAX_BANS)  # of this process, the newest last
        self._forgotten = catalogue.bans.epoch  # of the newest that is not among them
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Purges {self._catalogue.bans} arriving={len(self._arriving)}>"

    def start(self) -> None:
        """Carry out what is in force."""
        if self._catalogue.bans.bans and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="purge sweep")

    async def carried_out(self) -> None:
        """Wait until nothing is in force any more, or that has failed."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Stop between two steps; the next start goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # What is arriving

    def arriving(self) -> list[Filling]:
        """All that is not stored yet, nor over."""
        return list(self._arriving)

    def enter(self, filling: Filling) -> None:
        """It begins to arrive."""
        self._arriving.add(filling)
        if self._is_purged(filling.entry):
            filling.retract()

    def leave(self, filling: Filling) -> None:
        """It is stored, or over."""
        self._arriving.discard(filling)

    def note_publishing(self) -> None:
        """The running task makes a filling known that nothing had retracted."""
        task = asyncio.current_task()
        assert task is not None
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    def _is_purged(self, entry: Entry) -> bool:
        """By a ban that came after its request?  Where that is so long ago that nobody knows, it counts as purged."""
        if entry.epoch < self._forgotten:
            return True
        return entry.epoch < self._catalogue.bans.epoch and any(is_about(ban, entry) for ban in self._recent)

    # Bans

    async def ban(self, what: Purge, *, soft: bool, now: int, then: Callable[[], None]) -> None:
        """Durable first, then true.  Not to be cancelled.  Raises SpoolError, Overloaded."""
        async with self._writing:
            bans = self._catalogue.bans.with_ban(what, soft=soft, since=now)
            await self._catalogue.add_ban(bans)
            # From here on no await: what is stored, what arrives and what is asked for become purged together.
            self._catalogue.put_in_force(bans)
            ban = bans.bans[-1]
            if len(self._recent) == MAX_BANS:
                self._forgotten = self._recent[0].epoch
            self._recent.append(ban)
            for filling in self._arriving:
                if is_about(ban, filling.entry):
                    filling.retract()
            then()
            self.start()

    async def rewrite(self) -> None:
        """Write down what is in force, in a folder that may have lost it.  Raises SpoolError."""
        async with self._writing:  # or one that is just being acknowledged would be written away
            await self._catalogue.write_bans(self._catalogue.bans)

    async def _drop(self, done: tuple[Ban, ...]) -> None:
        """These have been carried out, once what could not go has gone, and nothing can come back."""
        await self._books.remove(self._catalogue.owed)
        if self._catalogue.owed:
            raise SpoolError("files that are purged cannot be deleted")
        await self._catalogue.settle()
        async with self._writing:
            bans: Bans = self._catalogue.bans.without(done)
            await self._catalogue.write_bans(bans)
            self._catalogue.put_in_force(bans)

    # The disk

    async def _run(self) -> None:
        try:
            if not await self._books.adopted():
                return  # what the index does not know may turn up at the next start
            while self._catalogue.bans.bans:
                await self._sweep_targets()
                await self._sweep()
        except SpoolError as error:
            _log.error("cannot carry out purges; they stay in force", why=str(error))

    async def _sweep_targets(self) -> None:
        """One target's objects are found without a walk."""
        bans = self._catalogue.bans.bans
        done = {ban: ban.what.digests for ban in bans if isinstance(ban.what, Targets)}
        if done:
            await self._published()
            for target in frozenset().union(*done.values()):
                await self._remove(await self._catalogue.carry_out_on(target))
            await self._drop(tuple(done))

    async def _sweep(self) -> None:
        """Walk through all that is stored, and leave the shelf to others for as long as each step takes."""
        bans = self._catalogue.bans.bans
        if not bans:
            return
        await self._published()
        after: str | None = ""
        while after is not None:
            begun = time.monotonic()
            page = await self._catalogue.carry_out(after, STEP)
            taken = time.monotonic() - begun
            await self._remove(page.gone)
            await asyncio.sleep(taken)
            await self._sweep_targets()
            after = page.last
        await self._drop(bans)

    async def _published(self) -> None:
        """Wait for what is being published now: it may lie where the walk has been already."""
        if self._publishing:
            await asyncio.wait(set(self._publishing))

    async def _remove(self, gone: Sequence[Candidate]) -> None:
        for first in range(0, len(gone), STEP):
            begun = time.monotonic()
            await self._books.remove(gone[first : first + STEP])
            await asyncio.sleep(time.monotonic() - begun)
