"""The books and the open files, when something stored is no more."""

from collections.abc import Iterable
from functools import partial

from proxy.spool.bodies import Bodies
from proxy.spool.body import Body
from proxy.spool.eviction import Candidate
from proxy.spool.room import Room


class Holdings:
    """What is unlinked takes room for as long as somebody reads it."""

    def __init__(self, room: Room, bodies: Bodies) -> None:
        self._room = room
        self._bodies = bodies

    def forget(self, gone: Iterable[Candidate]) -> None:
        """These are on the shelf no more."""
        for each in gone:
            self._room.forgot(each.size)
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
        """Its file is not kept open any more."""
        body = self._bodies.pop(generation)
        if body is not None:
            body.release()
