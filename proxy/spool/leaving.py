"""Objects on their way out: found no more at once, then unlinked, and counted until the last reader has left."""

from collections.abc import Iterable, Sequence
from functools import partial

from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.catalogue import Catalogue
from proxy.spool.eviction import Candidate
from proxy.spool.room import Room


class Leaving:
    """Of one spool folder."""

    def __init__(self, room: Room, catalogue: Catalogue, bodies: Bodies) -> None:
        self._room = room
        self._catalogue = catalogue
        self._bodies = bodies

    async def remove(self, gone: Sequence[Candidate]) -> list[Candidate]:
        """Forget objects and unlink them; their readers may finish.  Returns those that were there.

        Not to be cancelled.  Raises SpoolError.
        """
        if not gone:
            return []
        removed = await self._catalogue.remove(gone)
        self.forget(removed)
        for each in gone:  # where the index had lost one before
            self.release(each.generation)
        return removed

    def forget(self, gone: Iterable[Candidate]) -> None:
        """These are on the shelf no more."""
        for each in gone:
            body = self._bodies.pop(each.generation)
            if body is None:
                self._room.freed(each.size)
            else:
                self.let_go(body, each.size)

    def let_go(self, body: Body, size: int) -> None:
        """Release an unlinked body; its bytes count until the last reader has closed it."""
        if body.shared:
            self._room.linger(size)
            body.unlinked(partial(self._room.lingered, size))
        else:  # its blocks are as good as free
            self._room.freed(size)
            body.unlinked()
        body.release()

    def release(self, generation: str) -> None:
        """Keep a body open no longer."""
        body = self._bodies.pop(generation)
        if body is not None:
            body.release()

    def let_all_go(self) -> None:
        """The folder is another one: all that is open here lies nowhere any more."""
        for body in self._bodies.pop_all():
            self.let_go(body, body.size)
