"""SHA-256 digests of stored objects (RFC 9530): reckoned when somebody wants to know, once, and then kept.

They cost as much as fetching does (0.6 to 0.85 CPU seconds for each GB), so that they have one thread, which gives
way to everything else, and nobody waits for one that takes long.  A body that has rotted gets none: that would only
confirm what is wrong.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Protocol, TypeVar

import structlog

from proxy.errors import AdapterError, SpoolError
from proxy.spool import calls
from proxy.spool.background import background_thread
from proxy.spool.checksum import Checksum
from proxy.spool.entry import Entry
from proxy.spool.spool import Spool
from proxy.spool.whole import whole

SMALL = 4 << 20
"""Bytes up to which an answer waits for the digest: some milliseconds' work."""
WAIT = 1.0
"""Seconds that it waits at most."""
STEP = 8 << 20
"""Bytes of a large object between two looks at whether anybody else is waiting, or the object is gone."""
PIECE = 1 << 20
MOST = 256
"""Objects whose digests are on their way; for one more there is none, until somebody asks again."""

R = TypeVar("R")

_log = structlog.stdlib.get_logger("cache")


class Digesting:
    """Small objects are digested at once, between the steps of large ones; of those, one after the other."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._thread = background_thread("digest")
        self._turn = asyncio.Lock()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def with_digest(self, entry: Entry) -> Entry:
        """The stored `entry` with its digest, if that is known or soon will be; else it is known to later callers."""
        entry = self._current(entry)
        if entry.digest is not None:
            return entry
        running = self._running.get(entry.generation) or self._start(entry)
        if running is None or entry.length > SMALL:
            return entry
        await asyncio.wait({running}, timeout=WAIT)
        return self._current(entry)

    def _current(self, entry: Entry) -> Entry:
        """`entry` as the spool has it now, where its digest may be."""
        for each in self._spool.lookup(entry.key):
            if each.generation == entry.generation:
                return replace(entry, checksum=each.checksum, digest=each.digest)
        return entry

    def _start(self, entry: Entry) -> asyncio.Task[None] | None:
        if len(self._running) >= MOST:
            return None
        task = asyncio.create_task(self._run(entry), name=f"digest {entry.label}")
        self._running[entry.generation] = task
        task.add_done_callback(lambda _: self._running.pop(entry.generation))
        return task

    async def _run(self, entry: Entry) -> None:
        try:
            if entry.length <= SMALL:
                await self._digest(entry)
            else:
                async with self._turn:
                    await self._digest(entry)
        except AdapterError as error:  # it went while it waited, mostly
            _log.info("no digest of an object", object=entry.label, why=str(error))

    async def _digest(self, entry: Entry) -> None:
        body = await self._spool.open_body(entry)
        try:
            hashed, checksum = sha256(), Checksum()
            while checksum.length < entry.length:
                stop = min(checksum.length + STEP, entry.length)
                # To its end whoever cancels us: the body must stay open under the thread.
                checksum = await whole(self._step(partial(_feed, hashed, checksum, body.fileno(), stop)))
                if not body.intact(entry.length):
                    raise SpoolError("it is gone, or not as it was stored")
            if checksum.value != entry.checksum:
                await self._spool.condemn(
                    entry, "its bytes have another checksum than those that were stored"
                )
                raise SpoolError("it has rotted")
            await self._spool.set_digest(entry, hashed.digest())
        finally:
            body.release()

    async def _step(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Give up what is under way; a step that has begun is finished.  The spool stays open."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def _feed(hashed: _Hash, checksum: Checksum, fd: int, stop: int) -> Checksum:
    """Hash a file's bytes from where `checksum` ends up to `stop`; that of all up to there.  Raises SpoolError."""
    while checksum.length < stop:
        try:
            piece = calls.pread(fd, min(PIECE, stop - checksum.length), checksum.length)
        except OSError as error:
            raise SpoolError(f"cannot read the spool: {error.strerror}") from error
        if not piece:
            raise SpoolError(f"body file is shorter than its {stop} bytes")
        hashed.update(piece)
        checksum = checksum.followed_by(piece)
    return checksum
