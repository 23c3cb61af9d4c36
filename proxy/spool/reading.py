"""Stored bodies, opened to be read: none that is not as it was stored, and not another byte once one has rotted."""

from collections.abc import Awaitable, Callable

import structlog

from proxy.errors import SpoolError
from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.catalogue import Catalogue
from proxy.spool.entry import Entry
from proxy.spool.eviction import Candidate
from proxy.spool.folder import Paths
from proxy.spool.guard import Guard
from proxy.spool.leaving import Leaving
from proxy.spool.whole import whole

_log = structlog.stdlib.get_logger("spool")


class Reading:
    """Of one spool folder.  `drop` forgets an object whose file is gone, or is not its own.

    `rotten` counts the objects that were condemned; `on_condemned` is told of each.
    """

    def __init__(
        self,
        paths: Paths,
        catalogue: Catalogue,
        bodies: Bodies,
        leaving: Leaving,
        drop: Callable[[list[Entry]], Awaitable[None]],
    ) -> None:
        self.rotten = 0
        self.on_condemned: Callable[[str], None] = lambda generation: None
        self.guard = Guard()
        self._paths = paths
        self._catalogue = catalogue
        self._bodies = bodies
        self._leaving = leaving
        self._drop = drop

    async def open(self, entry: Entry) -> Body:
        """The entry's bytes, held once for the caller.

        Raises SpoolError if the file is gone, not the size that its head says, or was written to by others and has
        other bytes now, which takes a reading: the entry is found no more then.
        Raises Overloaded where the process may open no more files.
        """
        if self._catalogue.hides(entry.generation):
            raise SpoolError(f"{entry.label} has just been dropped")
        body = await self._bodies.take(entry)
        if not body.intact(entry.length):
            body.release()
            await self._drop([entry])
            raise SpoolError(f"the body of {entry.label} is not as it was stored")
        if not self.guard.trusts(entry, body):
            await self._check(entry, body)
        self._catalogue.note_use(entry.generation)
        return body

    def use(self, entry: Entry, body: Body) -> bool:
        """Somebody reads a body that is open already, if it is what was stored, as its file's size and time tell."""
        if not (body.intact(entry.length) and self.guard.trusts(entry, body)):
            return False
        self._catalogue.note_use(entry.generation)
        self._bodies.note_use(entry.generation)
        return True

    async def condemn(self, entry: Entry, why: str) -> None:
        """Its bytes are not those that were stored: nobody gets another one, and the next request fetches it anew."""
        if self._catalogue.hides(entry.generation):
            return  # it is going already
        self._catalogue.hide(entry)
        self._bodies.condemn(entry.generation)
        self.on_condemned(entry.generation)
        try:
            gone = await whole(self._leaving.remove([Candidate.of(entry)]))
        except SpoolError as error:
            why = f"{why}; and the index cannot be written: {error}"
            gone = [Candidate.of(entry)]
        if gone:  # or it went meanwhile, and was nobody's any more
            self.rotten += 1
            file = str(self._paths.body(entry.generation))
            _log.error("dropped an object that has rotted", object=entry.label, file=file, why=why)

    async def _check(self, entry: Entry, body: Body) -> None:
        """Somebody has written to the file.  Raises SpoolError where that was not what lay there."""
        try:
            is_sound = await self.guard.is_sound(entry, body)
        except BaseException:
            body.release()
            raise
        if is_sound and not self._catalogue.hides(entry.generation):
            return
        body.release()
        if not is_sound:
            await self.condemn(
                entry, "others have written to its file, and its bytes are not those that were stored"
            )
        raise SpoolError(f"the body of {entry.label} is not as it was stored")
