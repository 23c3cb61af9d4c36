"""The spool: find what is stored, make room for what arrives, hand out open bodies."""

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from proxy.errors import Overloaded, SpoolError
from proxy.semantics.purging import Purge
from proxy.spool.admission import Admission
from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.catalogue import Catalogue
from proxy.spool.entry import Entry
from proxy.spool.epochs import Epochs
from proxy.spool.eviction import Candidate
from proxy.spool.filling import Filling
from proxy.spool.folder import Claim
from proxy.spool.intake import Intake
from proxy.spool.invalidation import Invalidation
from proxy.spool.leaving import Leaving
from proxy.spool.partials import Partials
from proxy.spool.purges import Purges
from proxy.spool.reading import Reading
from proxy.spool.room import Room
from proxy.spool.shelf import Shelf
from proxy.spool.takeover import take_over
from proxy.spool.threads import Threads
from proxy.spool.upkeep import Upkeep
from proxy.spool.whole import whole

P = ParamSpec("P")
R = TypeVar("R")


OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}

_log = structlog.stdlib.get_logger("spool")


class Spool:
    """One folder, one process.  Made by `open`, ended by `close`."""

    def __init__(
        self,
        owned: Claim,
        shelf: Shelf,
        epochs: Epochs,
        *,
        max_size: int,
        max_object_size: int,
        min_free: int,
        partition_size: int,
    ) -> None:
        self.paths = owned.paths
        self.secret = owned.secret
        self.max_object_size = max_object_size
        self.epochs = epochs
        self._shelf = shelf
        self._catalogue = Catalogue(shelf, self.failed, epochs)
        self.used_lately = self._catalogue.used_lately
        self.room = room = Room(
            max_size=max_size,
            min_free=min_free,
            partition_size=partition_size,
            stored=self._catalogue.stored,
            partition_bytes=shelf.partition_bytes,
        )
        self._threads = Threads()
        self._bodies = Bodies(self._open_file)
        self._leaving = Leaving(room, self._catalogue, self._bodies)
        self._reading = Reading(self.paths, self._catalogue, self._bodies, self._leaving, self.drop)
        self._purges = Purges(self._catalogue, self)
        self.partials = Partials(self._threads.filing)
        self._admission = Admission(
            self.paths.root,
            room,
            self._catalogue,
            self._bodies,
            self._threads.writing,
            self._leaving.remove,
            self.partials.drop_oldest,
        )
        self._upkeep = Upkeep(
            owned,
            self._catalogue,
            self._admission,
            self._leaving,
            self.partials,
            room,
            self._threads.filing,
            self._purges.rewrite,
            self._purges.start,
            orderly=owned.orderly,
        )
        self.condition = self._upkeep.condition
        self._intake = Intake(
            self.paths,
            self._catalogue,
            self._bodies,
            self._purges,
            self._admission,
            self._leaving,
            self.partials,
            self._upkeep,
            room,
            self._threads,
            self._on_disk,
        )
        for files in owned.unfinished:
            self._intake.find(files)
        self._invalidation = Invalidation(
            self._catalogue, self._leaving, self._purges, self.partials, self._upkeep, self._on_disk
        )
        self._purges.start()

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        max_size: int,
        max_object_size: int,
        min_free: int,
        partition_size: int = 2 << 30,
        epochs: Epochs | None = None,
    ) -> "Spool":
        """Create the folder or take it over.  Raises SpoolError, in words for the person who started us."""
        owned, shelf = await asyncio.to_thread(take_over, root)
        return cls(
            owned,
            shelf,
            epochs or Epochs(),
            max_size=max_size,
            max_object_size=max_object_size,
            min_free=min_free,
            partition_size=partition_size,
        )

    def __repr__(self) -> str:
        return f"<Spool {self.paths.root} used={self.room.used} of {self.room.max_size} {self._bodies}>"

    # Finding

    def lookup(self, key: bytes) -> tuple[Entry, ...]:
        """The complete variants under `key`, the newest first.  Costs microseconds."""
        return self._catalogue.lookup(key)

    async def open_body(self, entry: Entry) -> Body:
        """The entry's bytes, held once for the caller.

        Raises SpoolError if the file is gone, not the size that its head says, or was written to by others and has
        other bytes now, which takes a reading: the entry is found no more then.
        Raises Overloaded where the process may open no more files.
        """
        return await self._reading.open(entry)

    def use(self, entry: Entry, body: Body) -> bool:
        """Somebody reads a body that is open already, if it is what was stored, as its file's size and time tell."""
        return self._reading.use(entry, body)

    async def has_others(self, entry: Entry) -> bool:
        """Is something else of its target stored: a variant, or for a credential?  Raises SpoolError."""
        return any(each != Candidate.of(entry) for each in await self._catalogue.of_target(entry.target))

    async def _open_file(self, entry: Entry) -> Body:
        try:
            fd = await self._run(self._threads.reading, partial(self._shelf.open, entry))
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                raise Overloaded(f"cannot open the body of {entry.label}: {error.strerror}") from error
            await self.drop([entry])
            raise SpoolError(f"lost the body of {entry.label}: {error.strerror}") from error
        return Body(fd, self._threads)

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
        return await self._intake.create(entry, length or 0)

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

    async def condemn(self, entry: Entry, why: str) -> None:
        """Its bytes are not those that were stored: nobody gets another one, and the next request fetches it anew."""
        await self._reading.condemn(entry, why)

    def tell_condemned(self, tell: Callable[[str], None]) -> None:
        """From now on, `tell` hears of each generation that is."""
        self._reading.on_condemned = tell

    @property
    def rotten(self) -> int:
        """Objects that were condemned."""
        return self._reading.rotten

    async def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """The next few stored objects after a generation; None for what cannot be read.  Raises SpoolError."""
        return await self._catalogue.page(after, limit)

    async def is_stored(self, entry: Entry) -> bool:
        """Does the index know it yet?  Raises SpoolError."""
        return await self._catalogue.contains(entry.generation)

    async def drop_partition(self, partition: bytes) -> None:
        """Forget all that is stored or arrives for one credential.

        Not durable: whatever is stored for a credential ends with the first request of it after a start.
        """
        await whole(self._invalidation.of_partition(partition))

    async def drop_target(self, target: bytes) -> None:
        """Forget all of one target, stored or arriving, for whichever credential.  Durable, if there was any."""
        await whole(self._invalidation.of_target(target))

    async def unused_partitions(self, seconds: float, limit: int) -> list[bytes]:
        """Credentials of which nothing stored was used for so long.  Raises SpoolError."""
        return await self._catalogue.unused_partitions(seconds, limit)

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
        await self.partials.drop_retracted()

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
        await self.partials.close()
        await self._reading.guard.close()
        for body in self._bodies.pop_all():
            body.release()
        orderly = True
        try:
            await self._catalogue.close()
        except SpoolError as error:
            _log.error("the spool was not closed in order", why=str(error))
            orderly = False
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._upkeep.release, orderly=orderly)

    async def _on_disk(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking file work in a thread.  OSError passes through as it is."""
        return await self._run(self._threads.filing, partial(work, *args, **kwargs))

    async def _run(self, pool: Executor, job: Callable[[], R]) -> R:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(pool, job)
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS or not self._bodies.close_idle():
                raise
            return await loop.run_in_executor(pool, job)
