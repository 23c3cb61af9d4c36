"""What is wrong with the disk now: told once when it begins and once when it ends, and in between, to who asks.

Meanwhile what is stored is served as far as it can be read, and nothing is written but what might put it right.
"""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from typing import Final

import apsw
import structlog

from proxy.errors import AdapterError, SpoolFull, SpoolSuspended

PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds before each attempt to put it right; the last goes for all that follow."""
RELAPSE: Final = 60.0
"""Seconds within which the next trouble is taken for the same: the pauses go on where they were."""

_log = structlog.stdlib.get_logger("spool")


class Trouble(Enum):
    """What is wrong; the value is the metric's label."""

    FULL = "full"
    READ_ONLY = "read-only"
    GONE = "gone"
    FILES = "too-many-files"
    INDEX = "index"
    CORRUPT = "index-corrupt"
    IO = "io-error"


_OF_ERRNO: Final = {
    errno.ENOSPC: Trouble.FULL,
    errno.EDQUOT: Trouble.FULL,
    errno.EROFS: Trouble.READ_ONLY,
    errno.ENOENT: Trouble.GONE,
    errno.ENOTDIR: Trouble.GONE,
    errno.ESTALE: Trouble.GONE,
    errno.EMFILE: Trouble.FILES,
    errno.ENFILE: Trouble.FILES,
}

_SENTENCES: Final = {
    Trouble.FULL: "the disk of the spool is full, or its quota is used up",
    Trouble.READ_ONLY: "the disk of the spool is read-only",
    Trouble.GONE: "the spool folder was removed, or something in it",
    Trouble.FILES: "too many files are open",
    Trouble.INDEX: "the spool's index cannot be used",
    Trouble.CORRUPT: "the spool's index is broken",
    Trouble.IO: "the disk of the spool fails",
}


def trouble_of(error: BaseException) -> Trouble | None:
    """What an error says of the disk, by what caused it; None if that is about one file alone."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case SpoolSuspended() | SpoolFull():
                return None
            case apsw.FullError():
                return Trouble.FULL
            case apsw.ReadOnlyError():
                return Trouble.READ_ONLY
            case apsw.CorruptError() | apsw.NotADBError() | ValueError() | TypeError():
                return Trouble.CORRUPT
            case apsw.Error():
                return Trouble.INDEX
            case OSError(errno=errno.EFBIG):
                return None
            case OSError():
                return _OF_ERRNO.get(cause.errno or 0, Trouble.IO)
            case _:
                cause = cause.__cause__
    return Trouble.IO


class Condition:
    """`repair` puts right what it can and proves that the disk takes writes; it raises SpoolError until it does."""

    def __init__(self, root: Path, repair: Callable[[Trouble], Awaitable[None]]) -> None:
        self.trouble: Trouble | None = None
        self._root = root
        self._repair = repair
        self._begun = 0.0
        self._ended = -RELAPSE
        self._attempts = 0
        self._quiet = True
        self._repairing: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Condition {self.trouble.value if self.trouble else 'good'}>"

    @property
    def sentence(self) -> str | None:
        """What is wrong, for people; None if nothing is."""
        if self.trouble is None:
            return None
        return f"{_SENTENCES[self.trouble]}: requests are answered without storing anything new"

    def check(self) -> None:
        """Raises SpoolSuspended while nothing should be written."""
        if self.trouble is not None:
            raise SpoolSuspended(f"nothing is written to the spool: {_SENTENCES[self.trouble]}")

    def note(self, error: BaseException) -> None:
        """Something could not be done.  The first to say so begins the attempts to put it right."""
        if (trouble := trouble_of(error)) is not None:
            self.begin(trouble, str(error))

    def begin(self, trouble: Trouble, why: str) -> None:
        """As `note`, where what is wrong is known."""
        self._quiet = False
        if self.trouble is not None or self._closed:
            return
        self.trouble, self._begun = trouble, time.monotonic()
        if self._begun - self._ended >= RELAPSE:
            self._attempts = 0
        _log.error("the spool is degraded", spool=str(self._root), what=_SENTENCES[trouble], why=why)
        self._repairing = asyncio.create_task(self._recover(), name="spool repair")

    async def _recover(self) -> None:
        # What can be put right without anyone's help, is at once.
        at_once = self._attempts == 0 and self.trouble in {Trouble.GONE, Trouble.CORRUPT}
        while self.trouble is not None:
            await asyncio.sleep(0 if at_once else PAUSES[min(self._attempts, len(PAUSES) - 1)])
            at_once = False
            self._attempts += 1
            self._quiet = True
            try:
                await self._repair(self.trouble)
            except (AdapterError, OSError) as error:
                self.trouble = trouble_of(error) or self.trouble
                continue
            if not self._quiet:  # something else failed meanwhile, which may be waiting for the end of this
                continue
            self.trouble, self._ended = None, time.monotonic()
            seconds = round(self._ended - self._begun, 3)
            _log.info("the spool is well again", spool=str(self._root), after_seconds=seconds)

    async def close(self) -> None:
        """Leave it as it is; what comes now is no news."""
        self._closed = True
        if self._repairing is not None:
            self._repairing.cancel()
            await asyncio.wait({self._repairing})
