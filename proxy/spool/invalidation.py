"""All of one target, or of one credential, stored or arriving, is to be found no more: after an unsafe request."""

from collections.abc import Callable

from proxy.errors import Overloaded, SpoolError
from proxy.semantics.purging import Targets
from proxy.spool.catalogue import Catalogue
from proxy.spool.entry import Entry
from proxy.spool.intake import OnDisk
from proxy.spool.leaving import Leaving
from proxy.spool.partials import Partials
from proxy.spool.purges import Purges
from proxy.spool.upkeep import Upkeep


class Invalidation:
    """Raises nothing: what the disk does not let go is hidden, and goes when it can.  Not to be cancelled."""

    def __init__(
        self,
        catalogue: Catalogue,
        leaving: Leaving,
        purges: Purges,
        partials: Partials,
        upkeep: Upkeep,
        on_disk: OnDisk,
    ) -> None:
        self._catalogue = catalogue
        self._leaving = leaving
        self._purges = purges
        self._partials = partials
        self._upkeep = upkeep
        self._on_disk = on_disk

    async def of_partition(self, partition: bytes) -> None:
        """Not durable."""
        await self._end_arriving(lambda entry: entry.partition == partition)
        try:
            await self._leaving.remove(await self._catalogue.in_partition(partition))
        except SpoolError:
            self._catalogue.end(partition)

    async def of_target(self, target: bytes) -> None:
        """Durable, wherever the disk still takes a ban."""
        gone = await self._end_arriving(lambda entry: entry.target == target)
        try:
            stored = await self._catalogue.of_target(target)
            await self._leaving.remove(stored)
            await self._catalogue.settle(target)
        except SpoolError:
            gone = False
            self._catalogue.end(target)
        else:
            gone = gone and not any(self._catalogue.hides(each.generation) for each in stored)
        if gone and not self._upkeep.sweeping:
            return
        # What the disk does not let go now, or what the sweep may find later, shall not come back after a kill.
        try:
            await self._purges.ban(Targets(frozenset({target})), soft=False, now=0, then=lambda: None)
        except (SpoolError, Overloaded):
            self._catalogue.end(target)

    async def _end_arriving(self, about: Callable[[Entry], bool]) -> bool:
        """What is arriving is not to be found, nor to be gone on with, whatever becomes of this process: unless the
        disk does not let it go, which is told.
        """
        gone = True
        for filling in self._purges.arriving():
            if about(filling.entry):
                filling.retract()
                try:
                    await self._on_disk(filling.files.disown)
                except OSError as error:
                    gone = False
                    self._upkeep.condition.note(error)
        await self._partials.drop_retracted()
        return gone
