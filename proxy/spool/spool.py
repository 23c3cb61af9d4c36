"""The spool: find what is stored, make room for what arrives, hand out open bodies."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import structlog

from proxy.errors import OriginTruncated, Overloaded, SpoolError
from proxy.semantics.purging import Purge
from proxy.spool.admission import Admission
from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.catalogue import Catalogue
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.filling import Filling
from proxy.spool.folder import Claim, FillingFiles
from proxy.spool.holdings import Holdings
from proxy.spool.partials import Partial, Partials
from proxy.spool.purges import Purges
from proxy.spool.room import Reservation, Room
from proxy.spool.shelf import Shelf, take_over
from proxy.spool.whole import whole

P = ParamSpec("P")
R = TypeVar("R")

DISK_THREADS = 8

_log = structlog.stdlib.get_logger("spool")


class Spool:
    """One folder, one process.  Made by `open`, ended by `close`."""

    def __init__(self, owned: Claim, shelf: Shelf, room: Room, *, max_object_size: int) -> None:
        self.paths = owned.paths
        self.secret = owned.secret
        self.max_object_size = max_object_size
        self.room = room
        self._claim = owned
        self._shelf = shelf
        self._catalogue = Catalogue(shelf)
        self._disk = ThreadPoolExecutor(DISK_THREADS, "spool-disk")
        self._bodies = Bodies(self._open_file)
        self._holdings = Holdings(room, self._bodies)
        self._purges = Purges(self._catalogue, self)
        self.partials = Partials(self._disk)
        self._admission = Admission(
            self.paths.root,
            room,
            self._catalogue,
            self._bodies,
            self._disk,
            self._remove,
            self.partials.drop_oldest,
        )
        for files in owned.unfinished:
            self._find(files)
        self.rotten = 0
        """Objects that were condemned."""
        self._orderly = owned.orderly and not shelf.fresh
        self._sweeping = None if self._orderly else asyncio.create_task(self._sweep(), name="spool sweep")
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
        except FileNotFoundError as error:
            await self.drop([entry])
            raise SpoolError(f"lost the body of {entry.label}") from error
        except OSError as error:
            raise Overloaded(f"cannot open the body of {entry.label}: {error.strerror}") from error
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

        Raises SpoolFull when there is no room even after eviction, SpoolError when the disk refuses.
        """
        return await whole(self._create(entry, length or 0), undo=Filling.discard)

    async def _create(self, entry: Entry, length: int) -> Filling:
        reservation = self.room.reserve(personal=entry.partition is not None)
        try:
            await self._admission.grow(reservation, length)
            files = await self._on_disk(FillingFiles, self.paths, entry)
        except OSError as error:
            self.room.settle(reservation)
            raise SpoolError(f"cannot write to the spool: {error.strerror}") from error
        except BaseException:
            self.room.settle(reservation)
            raise
        return self._enter(files, reservation)

    def _enter(self, files: FillingFiles, reservation: Reservation) -> Filling:
        filling = Filling(
            self, self._admission.grow, self.partials.keep, files, reservation, Body(files.fd, self._disk)
        )
        self._purges.enter(filling)
        return filling

    def _find(self, files: FillingFiles) -> None:
        """An unfinished object of an earlier process: on the books again, to be gone on with."""
        reservation = self.room.reserve(personal=files.entry.partition is not None)
        reservation.size = reservation.written = files.size
        filling = self._enter(files, reservation)
        filling.checksum = None
        error = OriginTruncated(f"the fetch of {files.entry.label} was interrupted")
        self.partials.add(Partial(filling, files.entry, files.size, error, confirmed=self._claim.same_boot))

    def wrote(self, filling: Filling, end: int) -> None:
        """A fill's file reaches `end`."""
        self.room.wrote(filling.reservation, end)

    async def publish(self, filling: Filling, entry: Entry) -> None:
        """A whole body: make it durable, then known, in the place of older ones of the same variant.

        One that is retracted meanwhile is given up, or removed again.
        """
        self._purges.note_publishing()
        try:
            await self._on_disk(filling.files.seal, entry)
        except OSError as error:
            raise SpoolError(f"cannot complete an object in the spool: {error.strerror}") from error
        has_successor = filling.retracted
        if has_successor:  # that may be there already, and stays
            await self.abandon(filling)
            return
        # Kept before it can be found: there is one body for those who followed and those who come.
        self._bodies.keep(entry.generation, filling.body.hold())
        try:
            gone = await self._catalogue.admit(filling.files, entry)
        except BaseException:
            self._holdings.release(entry.generation)
            raise
        self._purges.leave(filling)
        self.room.settle(filling.reservation, stored=entry.length)
        filling.body.release()
        self._holdings.forget(gone)
        await self.partials.drop_replaced(entry)
        if filling.retracted:
            await self._remove([Candidate.of(entry)])
        else:
            self._catalogue.reveal(entry)

    async def abandon(self, filling: Filling) -> None:
        """An unfinished body, or an unwanted one: unlink it; those who read it may finish."""
        self._purges.leave(filling)
        try:
            await self._on_disk(filling.files.discard)
        except OSError as error:  # the next start clears it away
            _log.warning("cannot delete an unfinished object", object=filling.entry.label, why=error.strerror)
        self.room.settle(filling.reservation)
        self._holdings.let_go(filling.body, filling.reservation.written)

    async def update(self, entry: Entry) -> None:
        """New metadata for a stored object (a 304 freshened it).  Raises SpoolError."""
        await whole(self._catalogue.update(entry))

    async def set_digest(self, entry: Entry, digest: bytes) -> None:
        """The SHA-256 of a stored object's bytes has become known.  Raises SpoolError."""
        await whole(self._catalogue.set_digest(entry, digest))

    # Dropping

    async def drop(self, entries: Iterable[Entry]) -> None:
        """Forget objects and unlink them; their readers may finish.  What is gone already is no matter."""
        await self._whole(self._remove([Candidate.of(entry) for entry in entries]))

    async def condemn(self, entry: Entry, why: str) -> None:
        """Its bytes are not those that were stored: nobody gets another one, and the next request fetches it anew."""
        if self._catalogue.hides(entry.generation):
            return  # it is going already
        self._catalogue.hide(entry)
        self._bodies.condemn(entry.generation)
        try:
            gone = await whole(self._remove([Candidate.of(entry)]))
        except SpoolError as error:
            why = f"{why}; and the index cannot be written: {error}"
            gone = [Candidate.of(entry)]
        if gone:  # or it went meanwhile, and was nobody's any more
            self.rotten += 1
            file = str(self.paths.body(entry.generation))
            _log.error("dropped an object that has rotted", object=entry.label, file=file, why=why)

    async def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """The next few stored objects after a generation; None for what cannot be read.  Raises SpoolError."""
        return await self._catalogue.page(after, limit)

    async def is_stored(self, entry: Entry) -> bool:
        """Does the index know it yet?  Raises SpoolError."""
        return await self._catalogue.contains(entry.generation)

    async def drop_partition(self, partition: bytes) -> None:
        """Forget all that is stored or arrives for one credential."""
        await self._whole(self._end_arriving(lambda entry: entry.partition == partition))
        await self._whole(self._remove_found(self._catalogue.in_partition(partition)))

    async def drop_target(self, target: bytes) -> None:
        """Forget all that is stored or arrives of one target, for whichever credential."""
        await self._whole(self._end_arriving(lambda entry: entry.target == target))
        await self._whole(self._remove_found(self._catalogue.of_target(target)))

    async def _end_arriving(self, about: Callable[[Entry], bool]) -> None:
        """What is arriving is not to be found, nor to be gone on with, whatever becomes of this process."""
        for filling in self._purges.arriving():
            if about(filling.entry):
                filling.retract()
                await self._on_disk(filling.files.disown)
        await self.partials.drop_retracted()

    async def unused_partitions(self, seconds: float, limit: int) -> list[bytes]:
        """Credentials of which nothing stored was used for so long.  Raises SpoolError."""
        return await self._catalogue.unused_partitions(seconds, limit)

    async def _whole(self, dropping: Coroutine[Any, Any, object]) -> None:
        try:
            await whole(dropping)
        except (SpoolError, OSError) as error:
            _log.error("the spool cannot be written", why=str(error))

    async def _remove_found(self, finding: Coroutine[Any, Any, list[Candidate]]) -> None:
        await self._remove(await finding)

    async def _remove(self, gone: Sequence[Candidate]) -> list[Candidate]:
        removed = await self._catalogue.remove(gone)
        self._holdings.forget(removed)
        for each in gone:  # where the index had lost one before
            self._holdings.release(each.generation)
        return removed

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
        await self._whole(self.partials.drop_retracted())

    async def purged(self) -> None:
        """Wait until all purges have been carried out on the disk, or that has failed."""
        await self._purges.carried_out()

    async def remove(self, gone: Sequence[Candidate]) -> None:
        """Forget stored objects as a purge finds them.  Raises SpoolError."""
        await whole(self._remove(gone))

    async def adopted(self) -> bool:
        """Wait for `swept`, and tell whether nothing is left on the disk that the index does not know."""
        await self.swept()
        return self._orderly

    # Beginning and end

    async def _sweep(self) -> None:
        try:
            async for adopted in self._catalogue.sweep():
                self.room.adopted(adopted.size)
                self._holdings.forget(adopted.replaced)
            self._orderly = True
        except (SpoolError, OSError) as error:
            _log.error("cannot sweep the spool", why=str(error))

    async def swept(self) -> None:
        """Wait until everything in the folder has been found: after an end that was no orderly one."""
        if self._sweeping is not None:
            await asyncio.shield(self._sweeping)

    async def close(self) -> None:
        """Let go of the folder.  Nothing may be filling or read any more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await self._purges.close()
        await self.partials.close()
        self._bodies.close()
        await self._catalogue.close()
        await asyncio.to_thread(self._disk.shutdown)
        await asyncio.to_thread(self._claim.release, orderly=self._orderly)

    async def _on_disk(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking file work in a thread.  OSError passes through as it is."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(work, *args, **kwargs))
