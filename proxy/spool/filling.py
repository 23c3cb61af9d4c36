"""An object on its way to the disk: the one writer of its bytes."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol

from proxy.errors import AdapterError, SpoolError
from proxy.spool.body import Body
from proxy.spool.checksum import Checksum
from proxy.spool.entry import Entry
from proxy.spool.folder import FillingFiles
from proxy.spool.room import Reservation
from proxy.spool.whole import whole

GROWTH = 8 << 20
"""Bytes by which room is asked for while the length is unknown."""


Grow = Callable[[Reservation, int, int], Coroutine[Any, Any, None]]
"""Makes a reservation so large, and so much larger if there is room anyway.  Raises SpoolFull, SpoolError."""


class Keep(Protocol):
    """Puts an unfinished object aside."""

    async def __call__(
        self, filling: "Filling", entry: Entry, written: int, error: AdapterError, *, confirmed: bool
    ) -> None: ...


class Books(Protocol):
    """What a filling needs of the spool that made it."""

    async def publish(self, filling: "Filling", entry: Entry) -> None: ...
    async def abandon(self, filling: "Filling") -> None: ...
    def wrote(self, filling: "Filling", end: int) -> None: ...
    def failed(self, error: SpoolError) -> None: ...


class Filling:
    """Ends with one of `commit` and `discard`; a `suspend` hands it over, to whoever goes on with it.  `body` is
    readable up to what has been written.

    `checksum` is that of all that was written, while each piece begins where the last one ended; None after that, and
    where an earlier process has written some of it.

    A cancelled caller learns of it when the call is done: no write comes later than what the next one writes.  After
    a `commit` that was done, `discard` does nothing.
    """

    def __init__(
        self,
        books: Books,
        grow: Grow,
        keep: Keep,
        files: FillingFiles,
        reservation: Reservation,
        body: Body,
    ) -> None:
        self._books = books
        self._grow = grow
        self._keep = keep
        self.files = files
        self.reservation = reservation
        self.body = body
        self.checksum: Checksum | None = Checksum()
        self.retracted = False
        self._ended = False

    @property
    def entry(self) -> Entry:
        return self.files.entry

    async def reserve(self, size: int) -> None:
        """Have room for `size` bytes in all.  Raises SpoolFull."""
        if size > self.reservation.size:
            await whole(self._grow(self.reservation, size, GROWTH))

    async def write(self, data: bytes, offset: int) -> None:
        """Put `data` at `offset` of the body file.  Raises SpoolError."""
        self._books.wrote(self, offset + len(data))
        follows = self.checksum is not None and self.checksum.length == offset
        try:
            self.checksum = await self.body.write(data, offset, self.checksum if follows else None)
        except SpoolError as error:
            self._books.failed(error)
            raise

    async def commit(self, entry: Entry) -> None:
        """The body is whole: publish it as `entry`, in the place of the same variant's older ones; or give it up, if
        it has been retracted.

        Raises SpoolError; then only `discard` is left.
        """
        assert not self._ended
        await whole(self._commit(entry))

    async def _commit(self, entry: Entry) -> None:
        if self.retracted:
            await self._books.abandon(self)
        else:
            checksum = self.checksum
            if checksum is None:
                checksum = await self.body.checksum(entry.length)
            assert checksum.length == entry.length
            await self._books.publish(self, replace(entry, checksum=checksum.value))
        self._ended = True

    def retract(self) -> None:
        """It is not to be found, however far a `commit` has come."""
        self.retracted = True

    async def suspend(self, entry: Entry, written: int, error: AdapterError, *, confirmed: bool) -> None:
        """The rest does not come, because of `error`: keep the first `written` bytes of `entry` for another fill.

        The caller is done with it then.
        """
        assert not self._ended
        await whole(self._keep(self, entry, written, error, confirmed=confirmed))

    async def discard(self) -> None:
        """Give up: nothing stays but what readers hold."""
        if not self._ended:
            self._ended = True
            await whole(self._books.abandon(self))
