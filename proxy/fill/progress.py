"""How far a body has come: a counter that only grows, and those who wait for it.

A wait costs nothing until it is over, however many there are.
"""

import asyncio
import heapq


class Progress:
    """`reached` is how many bytes there are."""

    def __init__(self, reached: int = 0) -> None:
        self.reached = reached
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, by offset
        self._waits = 0
        self._deserted = 0  # of those waiting

    def __repr__(self) -> str:
        return f"<Progress {self.reached} waiting={len(self._waiting)}>"

    @property
    def awaited(self) -> list[int]:
        """The offsets that somebody waits for."""
        return [offset for offset, _, _ in self._waiting]

    async def passing(self, offset: int) -> None:
        """Wait until there are more than `offset` bytes, or for `wake_all`."""
        woken = asyncio.get_running_loop().create_future()
        self._waits += 1
        heapq.heappush(self._waiting, (offset, self._waits, woken))
        try:
            await woken
        except asyncio.CancelledError:
            self._deserted += woken.cancelled()
            if self._deserted * 2 > len(self._waiting):  # a stalled fill must not collect those who left
                self._waiting = [each for each in self._waiting if not each[2].done()]
                heapq.heapify(self._waiting)
                self._deserted = 0
            raise

    def advance(self, reached: int) -> None:
        """There are so many bytes now."""
        self.reached = reached
        while self._waiting and self._waiting[0][0] < reached:
            woken = heapq.heappop(self._waiting)[2]
            self._deserted -= woken.cancelled()
            _wake(woken)

    def wake_all(self) -> None:
        """Something else has happened that everybody should look at."""
        for _, _, woken in self._waiting:
            _wake(woken)
        self._waiting.clear()
        self._deserted = 0


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # cancelled by a reader who left
        woken.set_result(None)
