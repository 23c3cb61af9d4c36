"""The spool: find what is stored, make room for what arrives, hand out open bodies."""

import asyncio
import errno
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from proxy.errors import Overloaded, SpoolError, SpoolFull
from proxy.semantics.purging import Purge, Targets
from proxy.spool.admission import Admission
from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.catalogue import Catalogue
from proxy.spool.condition import Trouble
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.filling import Filling
from proxy.spool.folder import Claim, FillingFiles
from proxy.spool.leaving import Leaving
from proxy.spool.purges import Purges
from proxy.spool.room import Room
from proxy.spool.shelf import Shelf, take_over
from proxy.spool.upkeep import PROOF, Upkeep
from proxy.spool.whole import whole

P = ParamSpec("P")
R = TypeVar("R")

DISK_THREADS = 8
OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}

_log = structlog.stdlib.get_logger("spool")


class Spool:
    """One folder, one process.  Made by `open`, ended by `close`."""

    def __init__(self, owned: Claim, shelf: Shelf, room: Room, *, max_object_size: int) -> None:
        self.paths = owned.paths
        self.secret = owned.secret
        self.max_object_size = max_object_size
        self.room = room
        self._shelf = shelf
        self._catalogue = Catalogue(shelf, self.failed)
        self._disk = ThreadPoolExecutor(DISK_THREADS, "spool-disk")
        self._bodies = Bodies(self._open_file)
        self._leaving = Leaving(room, self._catalogue, self._bodies)
        self._purges = Purges(self._catalogue, self)
        self._admission = Admission(
            self.paths.root, room, self._catalogue, self._bodies, self._disk, self._leaving.remove
        )
        self._upkeep = Upkeep(
            owned,
            self._catalogue,
            self._admission,
            self._leaving,
            room,
            self._disk,
            self._purges.start,
            orderly=owned.orderly,
        )
        self.condition = self._upkeep.condition
        self._purges.start()

    @classmethod
    async def open(
        cls, root: Path, *, max_size: int, max_object_size: int, min_free: int, partition_size: int = 2 << 30
    ) -> "Spool":
        """Create the folder or take it over.  Raises SpoolError, in words for the person who started us."""
        owned, shelf = await asyncio.to_thread(take_over, root)
        room = Room(max_size=max_size, min_free=min_free, stored=shelf.usage()[0])
        room.limit_partitions(partition_size, shelf.partition_bytes)
        return cls(owned, shelf, room, max_object_size=max_object_size)

    def __repr__(self) -> str:
        return f"<Spool {self.paths.root} used={self.room.used} of {self.room.max_size} {self._bodies}>"

    # Finding

    def lookup(self, key: bytes) -> tuple[Entry, ...]:
        """The complete variants under `key`, the newest first.  Costs microseconds."""
        return self._catalogue.lookup(key)

    async def open_body(self, entry: Entry) -> Body:
        """The entry's bytes, held once for the caller.

        Raises SpoolError if the file is gone or not the size that its head says: the entry is found no more then.
        Raises Overloaded where the process may open no more files.
        """
        if self._catalogue.hides(entry.generation):
            raise SpoolError(f"{entry.label} has just been dropped")
        body = await self._bodies.take(entry)
        if not body.intact(entry.length):
            body.release()
            await self.drop([entry])
            raise SpoolError(f"the body of {entry.label} is not as it was stored")
        self._catalogue.note_use(entry.generation)
        return body

    async def _open_file(self, entry: Entry) -> Body:
        try:
            fd = await self._on_disk(self._shelf.open, entry)
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                raise Overloaded(f"cannot open the body of {entry.label}: {error.strerror}") from error
            await self.drop([entry])
            raise SpoolError(f"lost the body of {entry.label}: {error.strerror}") from error
        return Body(fd, self._disk)

    def usage(self) -> tuple[int, int]:
        """Bytes and objects that are stored complete."""
        return self._catalogue.usage()

    @property
    def being_read(self) -> int:
        """Stored bodies that somebody reads now."""
        return self._bodies.in_use

    @property
    def evictions(self) -> int:
        """Objects dropped to make room."""
        return self._admission.evictions

    # Storing

    async def create(self, entry: Entry, length: int | None) -> Filling:
        """Begin to store `entry`, whose body will have `length` bytes (None: unknown).

        Raises SpoolFull when there is no room even after eviction, SpoolError when the disk refuses; SpoolSuspended
        where it did a moment ago.
        """
        self.condition.check()
        return await whole(self._create(entry, length or 0), undo=Filling.discard)

    async def _create(self, entry: Entry, length: int) -> Filling:
        reservation = self.room.reserve(personal=entry.partition is not None)
        try:
            await self._admission.grow(reservation, length)
            files = await self._on_disk(FillingFiles, self.paths, entry)
        except OSError as error:
            self.room.settle(reservation)
            self.failed(error)
            await self._upkeep.discard(entry.generation)
            raise SpoolError(f"cannot write to the spool: {error.strerror}") from error
        except SpoolFull as error:
            self.room.settle(reservation)
            if error.reason == SpoolFull.reason and self.room.disk_left < PROOF:
                self.condition.begin(Trouble.FULL, str(error))
            raise
        except BaseException:
            self.room.settle(reservation)
            raise
        filling = Filling(self, self._admission.grow, files, reservation, Body(files.fd, self._disk))
        self._purges.enter(filling)
        return filling

    def wrote(self, filling: Filling, end: int) -> None:
        """A fill's file reaches `end`."""
        self.room.wrote(filling.reservation, end)

    async def publish(self, filling: Filling, entry: Entry) -> None:
        """A whole body: make it durable, then known, in the place of older ones of the same variant.

        One that is retracted meanwhile is removed again.
        """
        self._purges.note_publishing()
        try:
            await self._on_disk(filling.files.seal, entry)
        except OSError as error:
            self.failed(error)
            raise SpoolError(f"cannot complete an object in the spool: {error.strerror}") from error
        # Kept before it can be found: there is one body for those who followed and those who come.
        self._bodies.keep(entry.generation, filling.body.hold())
        try:
            gone = await self._catalogue.admit(filling.files, entry, lambda: not filling.retracted)
        except BaseException:
            self._leaving.release(entry.generation)
            raise
        if gone is None:
            self._leaving.release(entry.generation)
            await self.abandon(filling)
            return
        self._purges.leave(filling)
        self.room.settle(filling.reservation, stored=entry.length)
        filling.body.release()
        self._leaving.forget(gone)
        if filling.retracted:
            await self._leaving.remove([Candidate.of(entry)])
        else:
            self._catalogue.reveal(entry)

    async def abandon(self, filling: Filling) -> None:
        """An unfinished body, or an unwanted one: unlink it; those who read it may finish."""
        self._purges.leave(filling)
        await self._upkeep.discard(filling.entry.generation)
        self.room.settle(filling.reservation)
        self._leaving.let_go(filling.body, filling.reservation.written)

    async def update(self, entry: Entry) -> None:
        """New metadata for a stored object (a 304 freshened it).  Raises SpoolError."""
        self.condition.check()
        await whole(self._catalogue.update(entry))

    async def set_digest(self, entry: Entry, digest: bytes) -> None:
        """The SHA-256 of a stored object's bytes has become known.  Raises SpoolError."""
        self.condition.check()
        await whole(self._catalogue.set_digest(entry, digest))

    # Dropping

    async def drop(self, entries: Iterable[Entry]) -> None:
        """Forget objects and unlink them; their readers may finish.  What is gone already is no matter."""
        with suppress(SpoolError):  # what the disk does not let go is hidden, and goes when it can
            await self.remove([Candidate.of(entry) for entry in entries])

    async def drop_partition(self, partition: bytes) -> None:
        """Forget all that is stored for one credential.

        Not durable: whatever is stored for a credential ends with the first request of it after a start.
        """
        await self._end(partition, self._remove_found(self._catalogue.in_partition(partition)))

    async def drop_target(self, target: bytes) -> None:
        """Forget all that is stored of one target, for whichever credential.  Durable, where there was something."""
        await self._end(target, self._drop_target(target))

    async def _end(self, digest: bytes, dropping: Coroutine[Any, Any, None]) -> None:
        try:
            await whole(dropping)
        except (SpoolError, Overloaded):
            self._catalogue.end(digest)

    async def _drop_target(self, target: bytes) -> None:
        if self._upkeep.sweeping:  # and may find more of it later
            what = Targets(frozenset({target}))
            await self._purges.ban(what, soft=False, now=0, then=lambda: None)
        await self._remove_found(self._catalogue.of_target(target))
        await self._catalogue.settle(target)

    async def unused_partitions(self, seconds: float, limit: int) -> list[bytes]:
        """Credentials of which nothing stored was used for so long.  Raises SpoolError."""
        return await self._catalogue.unused_partitions(seconds, limit)

    async def _remove_found(self, finding: Coroutine[Any, Any, list[Candidate]]) -> None:
        await self._leaving.remove(await finding)

    # Purging

    @property
    def epoch(self) -> int:
        """How many purges there have been: an entry's is read when it is decided to ask for it."""
        return self._catalogue.bans.epoch

    async def ban(
        self, what: Purge, *, soft: bool, now: int, then: Callable[[], None] = lambda: None
    ) -> None:
        """Purge what was asked for before: `soft` makes it stale since `now` (seconds since the epoch of clocks).

        It is durable, and then at once true for all that is stored or arrives; `then` is called in that very moment.
        The disk follows.  Raises SpoolError, and Overloaded where too many are waiting for that.
        """
        await whole(self._purges.ban(what, soft=soft, now=now, then=then))

    async def purged(self) -> None:
        """Wait until all purges have been carried out on the disk, or that has failed."""
        await self._purges.carried_out()

    async def remove(self, gone: Sequence[Candidate]) -> None:
        """Forget stored objects as a purge finds them.  Raises SpoolError."""
        await whole(self._leaving.remove(gone))

    async def adopted(self) -> bool:
        """Wait for `swept`, and tell whether nothing is left on the disk that the index does not know."""
        await self.swept()
        return not self._upkeep.sweeping

    # The disk, well or not

    def failed(self, error: Exception) -> None:
        """The disk has refused something: until it is put right, little is asked of it."""
        self._admission.doubt()
        self.condition.note(error)

    def keep(self, name: str, text: str) -> None:
        """Somebody's small file of that name in the folder: if that has to be made again, the file is too."""
        self._upkeep.kept[name] = text

    async def swept(self) -> None:
        """Wait until everything in the folder has been found: after an end that was no orderly one."""
        await self._upkeep.swept()

    async def close(self) -> None:
        """Let go of the folder.  Nothing may be filling or read any more."""
        await self._upkeep.stop()
        await self._purges.close()
        for body in self._bodies.pop_all():
            body.release()
        orderly = True
        try:
            await self._catalogue.close()
        except SpoolError as error:
            _log.error("the spool was not closed in order", why=str(error))
            orderly = False
        await asyncio.to_thread(self._disk.shutdown)
        await asyncio.to_thread(self._upkeep.release, orderly=orderly)

    async def _on_disk(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking file work in a thread.  OSError passes through as it is."""
        loop, job = asyncio.get_running_loop(), partial(work, *args, **kwargs)
        try:
            return await loop.run_in_executor(self._disk, job)
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS or not self._bodies.close_idle():
                raise
            return await loop.run_in_executor(self._disk, job)
