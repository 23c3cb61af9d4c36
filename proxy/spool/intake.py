"""Objects on their way in: room is made, files are opened, and what is whole is published."""

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from proxy.errors import OriginTruncated, SpoolError, SpoolFull
from proxy.spool.admission import Admission
from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.catalogue import Catalogue
from proxy.spool.condition import Trouble
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.filling import Filling
from proxy.spool.folder import FillingFiles, Paths
from proxy.spool.leaving import Leaving
from proxy.spool.partials import Partial, Partials
from proxy.spool.purges import Purges
from proxy.spool.room import Reservation, Room
from proxy.spool.threads import Threads
from proxy.spool.upkeep import PROOF, Upkeep
from proxy.spool.whole import whole

P = ParamSpec("P")
R = TypeVar("R")


class OnDisk(Protocol):
    """Runs blocking file work in a thread.  OSError passes through as it is."""

    async def __call__(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...


class Intake:
    """Of one spool folder."""

    def __init__(
        self,
        paths: Paths,
        catalogue: Catalogue,
        bodies: Bodies,
        purges: Purges,
        admission: Admission,
        leaving: Leaving,
        partials: Partials,
        upkeep: Upkeep,
        room: Room,
        threads: Threads,
        on_disk: OnDisk,
    ) -> None:
        self._paths = paths
        self._catalogue = catalogue
        self._bodies = bodies
        self._purges = purges
        self._admission = admission
        self._leaving = leaving
        self._partials = partials
        self._upkeep = upkeep
        self._condition = upkeep.condition
        self._room = room
        self._threads = threads
        self._on_disk = on_disk

    async def create(self, entry: Entry, length: int) -> Filling:
        """Begin to store `entry`, whose body will have `length` bytes; 0 where that is not known.

        Raises SpoolFull when there is no room even after eviction, SpoolError when the disk refuses; SpoolSuspended
        where it did a moment ago.
        """
        self._condition.check()
        return await whole(self._create(entry, length), undo=Filling.discard)

    async def _create(self, entry: Entry, length: int) -> Filling:
        reservation = self._room.reserve(personal=entry.partition is not None)
        try:
            await self._admission.grow(reservation, length)
            files = await self._on_disk(FillingFiles, self._paths, entry)
        except OSError as error:
            self._room.settle(reservation)
            self.failed(error)
            await self._upkeep.discard(entry.generation)
            raise SpoolError(f"cannot write to the spool: {error.strerror}") from error
        except SpoolFull as error:
            self._room.settle(reservation)
            if error.reason == SpoolFull.reason and self._room.disk_left < PROOF:
                self._condition.begin(Trouble.FULL, str(error))
            raise
        except BaseException:
            self._room.settle(reservation)
            raise
        return self._enter(files, reservation)

    def _enter(self, files: FillingFiles, reservation: Reservation) -> Filling:
        filling = Filling(
            self, self._admission.grow, self._partials.keep, files, reservation, Body(files.fd, self._threads)
        )
        self._purges.enter(filling)
        return filling

    def find(self, files: FillingFiles) -> None:
        """An unfinished object of an earlier process: on the books again, to be gone on with."""
        reservation = self._room.reserve(personal=files.entry.partition is not None)
        reservation.size = reservation.written = files.size
        filling = self._enter(files, reservation)
        filling.checksum = None
        error = OriginTruncated(f"the fetch of {files.entry.label} was interrupted")
        self._partials.add(Partial(filling, files.entry, files.size, error, confirmed=files.confirmed))

    def wrote(self, filling: Filling, end: int) -> None:
        """A fill's file reaches `end`."""
        self._room.wrote(filling.reservation, end)

    async def publish(self, filling: Filling, entry: Entry) -> None:
        """A whole body: make it durable, then known, in the place of older ones of the same variant.

        One that is retracted meanwhile is given up, or removed again.
        """
        self._purges.note_publishing()
        try:
            entry = await self._on_disk(filling.files.seal, entry)
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
        self._room.settle(filling.reservation)
        filling.body.release()
        self._leaving.forget(gone)
        await self._partials.drop_replaced(entry)
        if filling.retracted:
            await self._leaving.remove([Candidate.of(entry)])
        else:
            self._catalogue.reveal(entry)

    async def abandon(self, filling: Filling) -> None:
        """An unfinished body, or an unwanted one: unlink it; those who read it may finish."""
        self._purges.leave(filling)
        await self._upkeep.discard(filling.entry.generation)
        self._room.settle(filling.reservation)
        self._leaving.let_go(filling.body, filling.reservation.written)

    def failed(self, error: Exception) -> None:
        """The disk has refused something: until it is put right, little is asked of it."""
        self._admission.doubt()
        self._condition.note(error)
