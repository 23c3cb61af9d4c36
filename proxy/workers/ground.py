"""What a worker knows of the spool, whoever keeps it: enough to answer by itself what it has been told of before."""

from collections.abc import Iterator
from contextlib import suppress

from proxy.cache.cache import Cache
from proxy.cache.recent import Recent
from proxy.errors import KeeperLost, SpoolError
from proxy.fill.fill import Fill
from proxy.spool.body import Body
from proxy.spool.entry import Entry
from proxy.spool.epochs import Epochs
from proxy.workers.bodies import OpenBodies
from proxy.workers.following import Following


class Ground:
    """The spool, as far as a worker that may be no keeper knows it."""

    def __init__(self, epochs: Epochs, bodies: OpenBodies) -> None:
        self.secret = b""
        self.epochs = epochs
        self.used_lately: set[str] = set()
        """Generations that were read without asking, to be told to the keeper."""
        self.keeper: Following | Cache | None = None
        self._bodies = bodies

    def use(self, entry: Entry, body: Body) -> bool:
        """As the spool."""
        if isinstance(self.keeper, Cache):
            return self.keeper.spool.use(entry, body)
        if not body.intact(entry.length) or entry.mtime not in {None, body.mtime}:
            return False
        self._bodies.note_use(entry.generation)
        self.used_lately.add(entry.generation)
        return True

    def tell_of_uses(self) -> None:
        """To whoever keeps the spool."""
        match self.keeper:
            case Cache() as cache:
                cache.spool.used_lately.update(self.used_lately)
            case Following() as following if self.used_lately:
                following.note_uses(frozenset(self.used_lately))
        self.used_lately.clear()

    async def has_others(self, entry: Entry) -> bool:
        """As the spool.  Raises SpoolError, too, where that is not to be known just now."""
        match self.keeper:
            case Cache() as cache:
                return await cache.spool.has_others(entry)
            case Following() as following:
                with suppress(KeeperLost):
                    return await following.has_others(entry)
        raise SpoolError("nobody keeps the spool just now")

    def fills(self) -> Iterator[Fill]:
        """What is being fetched here."""
        return self.keeper.fills() if isinstance(self.keeper, Cache) else iter(())

    def failed(self, error: Exception) -> None:
        match self.keeper:
            case Following() as following:
                following.failed(error)
            case Cache() as cache:
                cache.spool.failed(error)
            case None:
                pass  # the next keeper will find out


class InUse:
    """Credentials that the keeper has heard of, not so long ago that it might have ended what is stored for them."""

    def __init__(self, partition_ttl: float) -> None:
        self._asked_for = Recent(partition_ttl / 2)

    def add(self, partition: bytes) -> None:
        self._asked_for.add(partition)

    def is_in_use(self, partition: bytes) -> bool:
        return partition in self._asked_for
