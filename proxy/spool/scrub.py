"""Looking for rot: everything that is stored is read again now and then, a little at a time.

Disks lose bits, and nobody notices before a client does.  Whatever has changed is condemned at once.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final, ParamSpec, TypeVar

import structlog

from proxy.errors import SpoolError
from proxy.spool import calls
from proxy.spool.background import background_thread
from proxy.spool.entry import Entry
from proxy.spool.folder import write_file
from proxy.spool.rereading import Rereading
from proxy.spool.spool import Spool
from proxy.spool.whole import whole

P = ParamSpec("P")
R = TypeVar("R")

STEP: Final = 1 << 20
"""Bytes read without a look at anything else, or those of a second, if these are fewer."""
LEAST_STEP: Final = 64 << 10
PAGE: Final = 64
"""Objects that are looked up at once."""
OBJECT_COST: Final = 64 << 10
"""Bytes that count for an object at least: to look it up and open it takes as long as to read some of them."""
NOTE_INTERVAL: Final = 60.0
"""Seconds between two notes of how far it has come."""
BREATH: Final = 0.05
"""Seconds that it sleeps at least, where it sleeps."""
PAUSE: Final = 1.0
"""Seconds between two passes, at least."""
RETRY: Final = 60.0
"""Seconds after which it goes on when the index has failed."""

_log = structlog.stdlib.get_logger("spool")


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the scrub, as its file keeps it for the next process.

    When the last pass began, and when the last whole one ended, in seconds since the epoch; `after`: the generation
    that the running one has come to, None between two passes.
    """

    begun: float | None = None
    ended: float | None = None
    after: str | None = None


class Scrub:
    """Reads `rate` bytes a second at most; each pass begins `interval` seconds after the one before, if that is over.

    Without a `rate` there is none.  `clock` gives seconds since the epoch.
    """

    def __init__(
        self, spool: Spool, *, rate: int, interval: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.progress = Progress()
        self.read = 0
        """Bytes, in this process."""
        self._spool = spool
        self._rate = rate
        self._interval = interval
        self._clock = clock
        self._owed = 0
        self._noted = -math.inf
        self._thread = background_thread("scrub")
        self._task = asyncio.create_task(self._run(), name="scrub") if rate else None

    def __repr__(self) -> str:
        return f"<Scrub {self.progress} read={self.read}>"

    @property
    def runs(self) -> bool:
        """Is there one at all?"""
        return self._task is not None

    async def close(self) -> None:
        """Stop, and note how far it has come.  The spool stays open."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            await self._in_thread(self._note)
        await asyncio.to_thread(self._thread.shutdown)

    # Passes

    async def _run(self) -> None:
        await self._spool.swept()
        self.progress = await self._in_thread(self._load)
        while True:
            if self.progress.after is None:
                await asyncio.sleep(self._until_next())
                self.progress = Progress(self._clock(), self.progress.ended, "")
            try:
                await self._pass()
            except SpoolError as error:
                _log.error("cannot look for rot; it is tried again", why=str(error))
                await asyncio.sleep(RETRY)

    def _until_next(self) -> float:
        """Seconds.  A clock that has been set back must not put it off any further."""
        if self.progress.begun is None:
            return 0
        return max(PAUSE, min(self.progress.begun + self._interval - self._clock(), self._interval))

    async def _pass(self) -> None:
        """From where the progress is, to the end."""
        while page := await self._spool.page(self.progress.after or "", PAGE):
            for candidate, entry in page:
                if entry is None:  # its row cannot be read
                    await self._spool.remove([candidate])
                else:
                    await self._look_at(entry)
                self.progress = replace(self.progress, after=candidate.generation)
                await self._note_if_due()
        self.progress = Progress(self.progress.begun, self._clock())
        await self._in_thread(self._note)

    async def _look_at(self, entry: Entry) -> None:
        """Nothing holds it meanwhile: it may be evicted, and what was read of it does not matter then."""
        try:
            flaw = await self._read(entry)
        except FileNotFoundError:
            flaw = "its file is gone" if await self._spool.is_stored(entry) else None
        except OSError as error:
            _log.warning("cannot look whether an object has rotted", object=entry.label, why=error.strerror)
            return
        if flaw is not None:
            await self._spool.condemn(entry, flaw)

    async def _read(self, entry: Entry) -> str | None:
        """What is wrong with its body."""
        opening = self._in_thread(Rereading, self._spool.paths.body(entry.generation), entry)
        rereading = await whole(opening, undo=self._close)
        try:
            while await self._read_on(rereading):
                pass
            self._owed += max(0, OBJECT_COST - rereading.read)
        finally:
            await self._close(rereading)
        return rereading.flaw

    async def _close(self, rereading: Rereading) -> None:
        """After a step that is under way."""
        await self._in_thread(rereading.close)

    async def _read_on(self, rereading: Rereading) -> bool:
        before = rereading.read
        more = await self._in_thread(rereading.step, min(STEP, max(LEAST_STEP, self._rate)))
        self.read += rereading.read - before
        self._owed += rereading.read - before
        if self._owed > self._rate * BREATH:
            owed, self._owed = self._owed, 0
            await asyncio.sleep(owed / self._rate)
        return more

    # Its file

    async def _note_if_due(self) -> None:
        if time.monotonic() - self._noted > NOTE_INTERVAL:
            await self._in_thread(self._note)

    def _note(self) -> None:
        self._noted = time.monotonic()
        try:
            # Not synced: after a power failure a pass begins anew, at worst.
            write_file(self._spool.paths.scrub, json.dumps(asdict(self.progress)), durable=False)
        except OSError as error:
            _log.warning("cannot note how far the scrub has come", why=error.strerror)

    def _load(self) -> Progress:
        try:
            progress = Progress(**json.loads(calls.read_file(self._spool.paths.scrub)))
            for when in (progress.begun, progress.ended):
                if when is not None and not math.isfinite(when):
                    raise ValueError("no time")
            if not isinstance(progress.after, str | None):
                raise TypeError("no generation")
        except (OSError, ValueError, TypeError):  # the first start, or not ours
            return Progress()
        return progress

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))
