"""How much may still be written: `max_size` for all objects, `partition_size` for those of them that are kept for
single credentials, `min_free` for the disk they share with others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.errors import SpoolFull

BLOCK = 4096
"""What file systems give at least."""


def footprint(size: int) -> int:
    """Bytes of the disk's blocks that a body of `size` takes with its head; none where there is no body yet."""
    return -(-size // BLOCK) * BLOCK + BLOCK if size else 0


@dataclass(frozen=True, slots=True)
class Need:
    """How much has to go: `bytes` of bodies, for the limit, and of their `blocks`, for the disk.

    Below 0 it is how much is left.
    """

    bytes: int
    blocks: int

    @property
    def met(self) -> bool:
        return self.bytes <= 0 and self.blocks <= 0

    def without(self, size: int) -> "Need":
        """After a body of that size has gone."""
        return Need(self.bytes - size, self.blocks - footprint(size))


@dataclass(slots=True, eq=False)
class Reservation:
    """Bytes promised to one fill, `personal` if that is for one credential.  `written` of them are on the disk."""

    size: int = 0
    written: int = 0
    personal: bool = False


class Room:
    """The books of one spool folder.  All figures are bytes.

    `stored` and `partition_bytes` tell the index' sums: of all objects, and of those for single credentials.
    `lingering` are unlinked bodies that somebody still reads: they take room until they are closed.  `free` is what
    the disk has left: measured now and then, and corrected in between by what we write and delete ourselves (some
    file systems give freed blocks back late; that must not cost more objects).
    """

    def __init__(
        self,
        *,
        max_size: int,
        min_free: int,
        partition_size: int,
        stored: Callable[[], int],
        partition_bytes: Callable[[], int],
    ) -> None:
        self.max_size = max_size
        self.partition_size = partition_size
        self.min_free = min_free
        self.stored = stored
        self.partition_bytes = partition_bytes
        self.lingering = 0
        self.free = 0
        self._reservations: set[Reservation] = set()

    @property
    def reserved(self) -> int:
        return sum(each.size for each in self._reservations)

    @property
    def used(self) -> int:
        """Everything that counts against `max_size`."""
        return self.stored() + self.lingering + self.reserved

    @property
    def disk_left(self) -> int:
        """What the disk has left for more than is promised already."""
        promised = sum(max(0, footprint(each.size) - footprint(each.written)) for each in self._reservations)
        return self.free - self.min_free - promised

    def need(self, size: int) -> Need:
        """What must go before `size` more bytes fit."""
        return Need(self.used + size - self.max_size, footprint(size) - self.disk_left)

    # Partitions

    def partition_room(self) -> int:
        """How many more bytes may be kept for single credentials."""
        reserved = sum(each.size for each in self._reservations if each.personal)
        return self.partition_size - self.partition_bytes() - reserved

    def spare(self, reservation: Reservation, size: int, spare: int) -> int:
        """How much of `spare` may be reserved beyond `size` more bytes.

        Raises SpoolFull where these are too many for single credentials.
        """
        if not reservation.personal:
            return spare
        left = self.partition_room() - size
        if left < 0:
            raise SpoolFull("too much is kept for single credentials", reason="partition-quota")
        return min(spare, left)

    # Fills

    def reserve(self, *, personal: bool = False) -> Reservation:
        """An empty promise, on the books until it is settled."""
        reservation = Reservation(personal=personal)
        self._reservations.add(reservation)
        return reservation

    def wrote(self, reservation: Reservation, end: int) -> None:
        """A fill's file reaches `end` now."""
        if end > reservation.written:
            self.free -= footprint(end) - footprint(reservation.written)
            reservation.written = end

    def settle(self, reservation: Reservation) -> None:
        """A fill has ended: its promise goes, and what is stored of it is the index' to count."""
        self._reservations.discard(reservation)

    # What goes

    def linger(self, size: int) -> None:
        """Bytes are unlinked, but somebody still reads them."""
        self.lingering += size

    def lingered(self, size: int) -> None:
        """Nobody reads those any more."""
        self.lingering -= size
        self.freed(size)

    def freed(self, size: int) -> None:
        """A body of so many bytes is no more on the disk."""
        self.free += footprint(size)
