"""Which bodies are open: those that are being read, and the last few that were."""

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from proxy.errors import SpoolError
from proxy.spool.body import Body
from proxy.spool.entry import Entry

IDLE = 1024
"""Bodies kept open although nobody reads them just now: the bound of descriptors that are not some client's."""


def share_of_files(most: int, part: int) -> int:
    """At most `most`, and one in `part` of the files that this process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if limit == resource.RLIM_INFINITY else min(most, limit // part)


def most_idle() -> int:
    """How many bodies are kept open for nobody."""
    return share_of_files(IDLE, 8)


class Bodies:
    """Open bodies by generation.  `opener` opens one; however many ask for it, it is opened once.

    A body is busy while anyone beside this keeper holds it, else idle; both are found in constant time.
    """

    def __init__(self, opener: Callable[[Entry], Awaitable[Body]]) -> None:
        self._opener = opener
        self.most_idle = most_idle()
        self._busy: dict[str, Body] = {}
        self._idle: OrderedDict[str, Body] = OrderedDict()
        self._opening: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Bodies busy={len(self._busy)} idle={len(self._idle)} opening={len(self._opening)}>"

    @property
    def in_use(self) -> int:
        """How many are being read, or about to."""
        return len(self._busy) + len(self._opening)

    def sizes_in_use(self) -> Iterator[tuple[str, int]]:
        """Those that are being read, and their bytes on the disk."""
        return ((generation, body.size) for generation, body in self._busy.items())

    def uses(self, generation: str) -> bool:
        """Does anyone read it, or is about to?"""
        return generation in self._busy or generation in self._opening

    def note_use(self, generation: str) -> None:
        """Somebody reads it without taking it."""
        if generation in self._idle:
            self._idle.move_to_end(generation)

    async def take(self, entry: Entry) -> Body:
        """The entry's body, held once for the caller.  Raises what `opener` raises."""
        while (body := self._take(entry.generation)) is None:
            opening = self._opening.get(entry.generation)
            if opening is None:
                opening = asyncio.create_task(self._open(entry), name=f"open {entry.generation}")
                self._opening[entry.generation] = opening
            await asyncio.shield(opening)  # whoever leaves, leaves the others their body
        return body

    def _take(self, generation: str) -> Body | None:
        body = self._busy.get(generation) or self._idle.get(generation)
        return None if body is None else body.hold()

    async def _open(self, entry: Entry) -> None:
        generation, me = entry.generation, asyncio.current_task()
        assert me is not None
        me.add_done_callback(_retrieve)
        try:
            body = await self._opener(entry)
        finally:
            dropped = self._opening.get(generation) is not me
            if not dropped:
                del self._opening[generation]
        if dropped:
            body.release()
            raise SpoolError(f"{entry.label} was dropped while it was opened")
        self.keep(generation, body)

    def keep(self, generation: str, body: Body) -> None:
        """Take over one hold of `body`."""
        if generation in self._busy or generation in self._idle:
            body.release()  # somebody was faster
            return
        body.kept(partial(self._set_busy, generation, body), partial(self._set_idle, generation, body))
        self._busy[generation] = body
        if not body.shared:
            self._set_idle(generation, body)

    def _set_busy(self, generation: str, body: Body) -> None:
        del self._idle[generation]
        self._busy[generation] = body

    def _set_idle(self, generation: str, body: Body) -> None:
        del self._busy[generation]
        self._idle[generation] = body
        if len(self._idle) > self.most_idle:
            self._close_oldest()

    def pop(self, generation: str) -> Body | None:
        """Forget a body, and hand over the keeper's hold of it.  Who is just opening it, fails."""
        self._opening.pop(generation, None)
        body = self._busy.pop(generation, None) or self._idle.pop(generation, None)
        if body is not None:
            body.kept()
        return body

    def condemn(self, generation: str) -> None:
        """Nobody gets another byte of it.  Who is just opening it, fails."""
        self._opening.pop(generation, None)
        body = self._busy.get(generation) or self._idle.get(generation)
        if body is not None:
            body.condemn()

    def close(self) -> None:
        """Let go of all."""
        for generation in [*self._busy, *self._idle, *self._opening]:
            body = self.pop(generation)
            if body is not None:
                body.release()

    def pop_all(self) -> list[Body]:
        """The same with all of them."""
        popped = [self.pop(generation) for generation in [*self._busy, *self._idle, *self._opening]]
        return [body for body in popped if body is not None]

    def close_idle(self) -> int:
        """Close those that nobody reads; how many that were."""
        count = len(self._idle)
        while self._idle:
            self._close_oldest()
        return count

    def _close_oldest(self) -> None:
        _, oldest = self._idle.popitem(last=False)
        oldest.kept()
        oldest.release()


def _retrieve(opening: asyncio.Task[None]) -> None:
    """A failure that nobody waited for is no news."""
    if not opening.cancelled():
        opening.exception()
