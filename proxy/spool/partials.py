"""Objects of which only the beginning is stored: their origin broke off, or we stopped.  A later fill goes on."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

import structlog

from proxy.errors import AdapterError
from proxy.spool.bodies import most_idle, share_of_files
from proxy.spool.entry import Entry
from proxy.spool.filling import Filling

MOST = 64
"""Objects that are kept so, each with an open file; of more, the oldest go."""
KEPT_FOR = 3600.0
"""Seconds for which one is kept that nobody goes on with."""

_log = structlog.stdlib.get_logger("spool")


def most_unfinished() -> int:
    """How many objects are kept so."""
    return share_of_files(MOST, 16)


def most_kept_open() -> int:
    """The most files that a spool has open for nobody who is there: idle bodies, and unfinished ones."""
    return most_idle() + most_unfinished()


@dataclass(slots=True, eq=False)
class Partial:
    """`filling` holds the first `written` bytes of `entry`; `error` is why there are no more.

    Not `confirmed`, they were stored before the power failed, or have become stale since: nobody may have them before
    they have been compared with the origin's.
    """

    filling: Filling
    entry: Entry
    written: int
    error: AdapterError
    confirmed: bool = True
    since: float = field(default_factory=time.monotonic)
    taken: bool = False
    """Has somebody gone on with it, or ended it?"""

    @property
    def is_read(self) -> bool:
        """Does somebody read it now?"""
        return self.filling.body.shared


class Partials:
    """By key.  `clock` is monotonic."""

    def __init__(self, disk: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self._disk = disk
        self._clock = clock
        self._by_key: dict[bytes, list[Partial]] = {}
        self._expiring: asyncio.TimerHandle | None = None
        self.most = most_unfinished()
        self._dropping: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Partial]:
        """The oldest first."""
        all_of_them = (each for some in self._by_key.values() for each in some)
        return iter(sorted(all_of_them, key=lambda each: each.since))

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def lookup(self, key: bytes) -> tuple[Partial, ...]:
        """Those that may still be used, the newest first.  Costs microseconds."""
        return tuple(each for each in reversed(self._by_key.get(key, ())) if not each.filling.retracted)

    async def keep(
        self, filling: Filling, entry: Entry, written: int, error: AdapterError, *, confirmed: bool
    ) -> None:
        """Put aside the beginning of a body whose rest does not come, because of `error`; one that has been retracted
        is given up.
        """
        is_old = filling.retracted
        if is_old:
            await filling.discard()
            return
        filling.reservation.size = written
        # At once, before the disk: nobody shall find neither the fill nor this.
        put_aside = Partial(filling, entry, written, error, confirmed)
        self.add(put_aside)
        describe = partial(filling.files.describe, entry, confirmed=confirmed, unless=lambda: put_aside.taken)
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, describe)
        except OSError as failure:  # it has an older head, or none: then the next start drops it
            _log.warning("cannot describe an unfinished object", object=entry.label, why=failure.strerror)
        if filling.retracted:  # meanwhile
            await self.drop_retracted()

    def add(self, partial: Partial) -> None:
        """Keep it for a while."""
        self._by_key.setdefault(partial.entry.key, []).append(partial)
        self._expire()

    def take(self, partial: Partial) -> bool:
        """Somebody goes on with it, or ends it; False if somebody has done so already."""
        some = self._by_key.get(partial.entry.key, [])
        if partial not in some:
            return False
        some.remove(partial)
        if not some:
            del self._by_key[partial.entry.key]
        partial.taken = True
        return True

    async def drop(self, partials: Iterable[Partial]) -> None:
        """Unlink them; who reads one may finish."""
        for each in list(partials):
            if self.take(each):
                await each.filling.discard()

    async def drop_retracted(self) -> None:
        """Those that a purge or an unsafe request was about."""
        await self.drop([each for each in self if each.filling.retracted])

    async def drop_lost(self) -> None:
        """Those whose files were deleted by others."""
        await self.drop([each for each in self if not each.filling.body.intact(each.written)])

    async def drop_replaced(self, entry: Entry) -> None:
        """Those of the same variant as `entry`, which is whole."""
        some = self._by_key.get(entry.key, ())
        await self.drop([each for each in some if each.entry.stored.vary == entry.stored.vary])

    async def drop_oldest(self) -> bool:
        """Make room; False if somebody reads each of them, or there is none."""
        oldest = next((each for each in self if not each.is_read), None)
        if oldest is not None:
            await self.drop([oldest])
        return oldest is not None

    def _expire(self) -> None:
        """Drop those that are too old, or too many."""
        oldest_first, begun_before = list(self), self._clock() - KEPT_FOR
        over = [
            each
            for place, each in enumerate(oldest_first)
            if each.since <= begun_before or place < len(oldest_first) - self.most
        ]
        loop = asyncio.get_running_loop()
        if over:
            task = loop.create_task(self.drop(over), name="end of unfinished objects")
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)
        if self._expiring is not None:
            self._expiring.cancel()
        self._expiring = loop.call_later(KEPT_FOR / 10, self._expire) if oldest_first else None

    async def close(self) -> None:
        """Let go of the open files; the next start finds them."""
        if self._expiring is not None:
            self._expiring.cancel()
        await asyncio.gather(*self._dropping)
        for each in self:
            each.filling.body.release()
        self._by_key.clear()
