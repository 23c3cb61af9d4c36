"""What is stored, as the loop sees it: the shelf, with its own thread, and what is remembered of it in memory."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from proxy.errors import SpoolError
from proxy.spool.bans import Bans
from proxy.spool.entry import Entry
from proxy.spool.epochs import Epochs
from proxy.spool.eviction import Candidate
from proxy.spool.folder import FillingFiles
from proxy.spool.shelf import Page, Shelf

P = ParamSpec("P")
R = TypeVar("R")

KNOWN_KEYS = 4096
"""Keys whose entries are kept parsed in memory."""
TOUCH_INTERVAL = 5.0
"""Seconds between two writes of what was used when: a hit must not cost a transaction."""
SWEEP_STEP = 128
"""Objects that are taken in without leaving the shelf to others."""


class Catalogue:
    """Decisions are made on the loop and at once: what comes or goes is hidden while the disk follows.

    Apart from `lookup`, methods raise SpoolError where the index or the disk refuses.
    """

    def __init__(self, shelf: Shelf, failed: Callable[[Exception], None], epochs: Epochs) -> None:
        """`failed` hears of everything that the shelf could not do; `epochs` change with what `lookup` finds."""
        self._shelf = shelf
        self._failed = failed
        self._epochs = epochs
        self._thread = ThreadPoolExecutor(1, "spool-shelf")
        self._usage = shelf.usage()
        self.bans = shelf.bans
        self._known: OrderedDict[bytes, tuple[Entry, ...]] = OrderedDict()
        self._hidden: set[str] = set()
        self._owed: dict[str, Candidate] = {}
        self._ended: set[bytes] = set()
        self._clock = _Clock(shelf.last_use)
        self._used: dict[str, int] = {}
        self.used_lately: set[str] = set()
        """Generations that somebody has read again who had noted a use a moment before; the time is seen to later."""
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
            self._failed(error)
            return ()
        judged = (self.bans.judged(each) for each in entries if not self._is_hidden(each))
        self._known[key] = entries = tuple(each for each in judged if each is not None)
        if len(self._known) > KNOWN_KEYS:
            self._known.popitem(last=False)
        return entries

    def _forget(self, *digests: bytes) -> None:
        """What is found under these keys, or may be had of these targets, is not what it was."""
        for digest in digests:
            self._known.pop(digest, None)
            self._epochs.bump(digest)

    def _forget_all(self) -> None:
        self._known.clear()
        self._epochs.bump_all()

    def _is_hidden(self, entry: Entry) -> bool:
        ended = self._ended and (entry.target in self._ended or entry.partition in self._ended)
        return bool(ended) or self.hides(entry.generation)

    def hides(self, generation: str) -> bool:
        """Is this one on its way in or out?"""
        return generation in self._hidden

    def usage(self) -> tuple[int, int]:
        """Bytes and objects, as the index counted them when it had done what was asked of it last."""
        return self._usage

    def stored(self) -> int:
        """Bytes, in the same way."""
        return self._usage[0]

    async def admit(
        self, files: FillingFiles, entry: Entry, wanted: Callable[[], bool]
    ) -> list[Candidate] | None:
        """Take in a sealed object, to be found once it is `revealed`; returns those that it replaces.

        None if it is not `wanted` any more.
        """
        self._hidden.add(entry.generation)
        try:
            gone = await self._on_shelf(self._shelf.admit, files, entry, self._clock(), wanted)
            if gone is None:
                self._hidden.discard(entry.generation)
            return gone
        except BaseException:  # who knows how far that came?
            self._owed[entry.generation] = Candidate.of(entry)
            raise
        finally:
            self._forget(entry.key)

    def reveal(self, entry: Entry) -> None:
        """From now on it is found."""
        self._hidden.discard(entry.generation)
        self._forget(entry.key, entry.target)

    async def update(self, entry: Entry) -> None:
        """New metadata for an object, if it is still there."""
        await self._on_shelf(self._shelf.update, entry, self.bans)
        self._forget(entry.key)

    async def set_digest(self, entry: Entry, digest: bytes) -> None:
        """The SHA-256 of an object's bytes, if it is still there; what else is known of it stays as it is by then."""
        await self._on_shelf(self._shelf.set_digest, entry.generation, digest)
        self._forget(entry.key)

    async def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """The next few objects after a generation; None for what cannot be read."""
        return await self._on_shelf(self._shelf.page, after, limit)

    async def contains(self, generation: str) -> bool:
        """Is it stored?  One that is being removed is, or is not; nothing in between."""
        return await self._on_shelf(self._shelf.contains, generation)

    # Purges

    async def add_ban(self, bans: Bans) -> None:
        """Make the newest of them durable; all are to be put in force after that."""
        await self._on_shelf(self._shelf.add_ban, bans)

    async def write_bans(self, bans: Bans) -> None:
        """Make them durable, and no others, to be put in force after that."""
        await self._on_shelf(self._shelf.write_bans, bans)

    def put_in_force(self, bans: Bans) -> None:
        """From now on they hold."""
        self.bans = bans
        self._forget_all()

    async def carry_out(self, after: str, limit: int) -> Page:
        """Write soft bans into the next few objects after a generation; tells which ones hard bans are about."""
        return await self._on_shelf(self._shelf.carry_out, self.bans, after, limit)

    async def carry_out_on(self, target: bytes) -> list[Candidate]:
        """The same with all objects of one target."""
        return await self._on_shelf(self._shelf.carry_out_on, target, self.bans)

    async def settle(self, target: bytes | None = None) -> None:
        """What has gone, or was made stale, holds from now on, even if the power fails: all of it, or of a target."""
        await self._on_shelf(self._shelf.settle, target)

    # Dropping

    def hide(self, entry: Entry) -> None:
        """From now on it is not found; `remove` is to follow."""
        self._hidden.add(entry.generation)
        self._forget(entry.key)

    async def remove(self, gone: Sequence[Candidate]) -> list[Candidate]:
        """Forget objects and unlink them; returns those that were there.

        What the disk does not let go stays hidden, and is `owed`.
        """
        names = {each.generation: each for each in gone}
        self._hidden.update(names)
        keys = {each.key for each in gone}
        self._forget(*keys)
        for name in names:
            self._used.pop(name, None)
            self.used_lately.discard(name)
        try:
            removed = await self._on_shelf(self._shelf.remove, list(names))
        except SpoolError:
            self._owed.update(names)
            raise
        finally:
            self._forget(*keys)  # another process may have looked meanwhile
        for name in names:
            if name in removed.kept:
                self._owed[name] = names[name]
            else:
                self._owed.pop(name, None)
                self._hidden.discard(name)
        return removed.gone

    def end(self, digest: bytes) -> None:
        """What is stored of this target, or for this partition, is to be found no more until it can be removed."""
        self._ended.add(digest)
        self._forget_all()

    @property
    def owed(self) -> list[Candidate]:
        """What is to go, and could not."""
        return list(self._owed.values())

    @property
    def ended(self) -> list[bytes]:
        """The targets and partitions of which something may be stored that is to go."""
        return list(self._ended)

    def note_end(self, digest: bytes) -> None:
        """That has gone."""
        self._ended.discard(digest)
        self._forget_all()

    async def in_partition(self, partition: bytes) -> list[Candidate]:
        """What is stored for one credential."""
        return await self._on_shelf(self._shelf.in_partition, partition)

    async def of_target(self, target: bytes) -> list[Candidate]:
        """What is stored of one target, for whichever credential."""
        return await self._on_shelf(self._shelf.of_target, target)

    async def unused_partitions(self, seconds: float, limit: int) -> list[bytes]:
        """Credentials of which nothing was used for so long."""
        await self._touch()
        since = self._clock() - int(seconds * 1_000_000)
        return await self._on_shelf(self._shelf.unused_partitions, since, limit)

    async def oldest(self, limit: int) -> list[Candidate]:
        """The least recently used objects, oldest first."""
        with suppress(
            SpoolError
        ):  # a full disk cannot note what was used, and has to lose something all the same
            await self._touch()
        return await self._on_shelf(self._shelf.oldest, limit)

    def note_use(self, generation: str) -> None:
        """Somebody reads it."""
        self._used[generation] = self._clock()
        if self._touching is None:
            self._touching = asyncio.get_running_loop().call_later(TOUCH_INTERVAL, self._write_uses)

    def _write_uses(self) -> None:
        self._touching = None
        self._thread.submit(
            self._shelf.touch, self._take_uses()
        )  # if that fails, nobody shall lose sleep over it

    async def _touch(self) -> None:
        await self._on_shelf(self._shelf.touch, self._take_uses())

    def _take_uses(self) -> dict[str, int]:
        used, self._used = self._used, {}
        used.update(dict.fromkeys(self.used_lately, self._clock()))
        self.used_lately.clear()
        return used

    async def sweep(self) -> AsyncIterator[list[Candidate]]:
        """Make index and disk agree, after an end that was no orderly one; tells what has gone for it.

        Leaves the shelf to others for as long as it takes it.
        """
        for prefix in await self._on_shelf(self._shelf.prefixes):
            begun = time.monotonic()
            amiss = await self._on_shelf(self._shelf.survey, prefix)
            for first in range(0, len(amiss), SWEEP_STEP):
                step = [each for each in amiss[first : first + SWEEP_STEP] if not self.hides(each)]
                gone = await self._on_shelf(self._shelf.adopt, step, self._clock())
                self._forget_all()
                yield gone
                await asyncio.sleep(time.monotonic() - begun)
                begun = time.monotonic()
            await asyncio.sleep(time.monotonic() - begun)

    # When the disk has failed

    async def reopen(self, *, anew: bool) -> None:
        """Look for the index again, or make it `anew`.  Meanwhile nothing is found but what is known here."""
        await self._on_shelf(partial(self._shelf.reopen, anew=anew))
        self._forget_all()

    async def prove(self) -> None:
        """Write something to the index that changes nothing."""
        await self._on_shelf(self._shelf.prove)

    async def in_place(self) -> bool:
        """Is the index still the file of its name?"""
        return await self._on_shelf(self._shelf.in_place)

    async def close(self) -> None:
        """Raises SpoolError where something may come back if the power fails now."""
        if self._touching is not None:
            self._touching.cancel()
            self._write_uses()
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._shelf.close)

    async def _on_shelf(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        left = self._shelf.left
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, partial(work, *args, **kwargs)
            )
        except SpoolError as error:
            self._failed(error)
            raise
        except OSError as error:
            self._failed(error)
            raise SpoolError(f"cannot read the spool: {error.strerror}") from error
        finally:
            self._usage = self._shelf.usage()
            if self._shelf.left > left:
                self._failed(SpoolError("files that are to go cannot be deleted"))


class _Clock:
    """Microseconds since the epoch, as far as one can know: never before what it said last, in this run or another.

    What is used now must not look older than what was used before somebody set the clock back.
    """

    def __init__(self, last: int) -> None:
        self._offset = max(time.time_ns() // 1000, last + 1) - time.monotonic_ns() // 1000

    def __call__(self) -> int:
        return self._offset + time.monotonic_ns() // 1000
