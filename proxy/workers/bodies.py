"""Bodies whose descriptors the keeper has handed over: one of each for all who read it, and the last few."""

import os
from collections import OrderedDict
from concurrent.futures import Executor
from functools import partial

from proxy.spool.bodies import most_idle
from proxy.spool.body import Body


class OpenBodies:
    """By generation.  A body is busy while somebody holds it, else idle."""

    def __init__(self, disk: Executor) -> None:
        self._disk = disk
        self._most_idle = most_idle()
        self._busy: dict[str, Body] = {}
        self._idle: OrderedDict[str, Body] = OrderedDict()

    def take(self, generation: str, file: int) -> Body:
        """The body of this generation, held once for the caller; `file` is one descriptor of it."""
        body = self._busy.get(generation) or self._idle.get(generation)
        if body is not None:
            os.close(file)
            return body.hold()
        body = self._idle[generation] = Body(file, self._disk)
        body.kept(partial(self._set_busy, generation, body), partial(self._set_idle, generation, body))
        return body.hold()

    def note_use(self, generation: str) -> None:
        """Somebody reads it without taking it."""
        if generation in self._idle:
            self._idle.move_to_end(generation)

    def condemn(self, generation: str) -> None:
        """Nobody gets another byte of it."""
        body = self._busy.get(generation) or self._idle.get(generation)
        if body is not None:
            body.condemn()

    def close_unlinked(self) -> None:
        """Those that are kept for nobody and that the keeper has dropped: their room is wanted."""
        for generation, body in list(self._idle.items()):
            if not body.intact(body.size):
                self._close(generation)

    def close(self) -> None:
        """Those that nobody reads."""
        for generation in list(self._idle):
            self._close(generation)

    def _set_busy(self, generation: str, body: Body) -> None:
        del self._idle[generation]
        self._busy[generation] = body

    def _set_idle(self, generation: str, body: Body) -> None:
        del self._busy[generation]
        self._idle[generation] = body
        if len(self._idle) > self._most_idle:
            self._close(next(iter(self._idle)))

    def _close(self, generation: str) -> None:
        body = self._idle.pop(generation)
        body.kept()
        body.release()
