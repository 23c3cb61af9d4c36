"""One request to the origin, and who waits for its head.

A fetch runs in a task of its own: whoever asked first may leave.  What comes of it is an `Outcome`.
"""

import asyncio
from dataclasses import dataclass

from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError
from proxy.fill import Fill
from proxy.origin import OriginResponse
from proxy.spool.entry import Entry


@dataclass(frozen=True, slots=True)
class Held:
    """Something under a request's keys: complete, or as far as `fill` has come."""

    entry: Entry
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class Storing:
    """It is being stored: everyone entitled to it may follow.  `status` is the origin's."""

    fill: Fill
    status: int


@dataclass(frozen=True, slots=True)
class Freshened:
    """The origin said 304: what we had is good again."""

    held: Held


@dataclass(frozen=True, slots=True)
class Passed:
    """It is not stored, for `reason`: it belongs to the one who asked, the others ask for themselves."""

    response: OriginResponse
    reason: str


Outcome = Storing | Freshened | Passed


class Fetch:
    """`wanted` is what caused it.  `retracted`: an unsafe request has passed it, so that nobody new may join."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.retracted = False
        self._head: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._head.add_done_callback(_retrieve)
        self._waiting = 0
        self._all_gone = asyncio.Event()
        self._disowned = False

    @property
    def pending(self) -> bool:
        """Is its head still to come?"""
        return not self._head.done()

    async def head(self) -> Outcome:
        """What came of it.  Raises AdapterError if nothing did.  Waiting can be cancelled; the fetch goes on."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._head)
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self._all_gone.set()

    async def own_head(self) -> Outcome:
        """As `head`, for the one who caused it: a passed response is theirs, or nobody's if they leave."""
        try:
            return await self.head()
        except asyncio.CancelledError:
            self._disowned = True
            if self._head.done() and self._head.exception() is None:
                self._close_unclaimed(self._head.result())
            raise

    async def resolve(self, outcome: Outcome) -> None:
        """Tell all who wait; returns when each has taken what it came for, or has left."""
        self._head.set_result(outcome)
        if self._disowned:
            self._close_unclaimed(outcome)
        if self._waiting:
            self._all_gone.clear()
            await self._all_gone.wait()

    def fail(self, error: AdapterError) -> None:
        self._head.set_exception(error)

    @staticmethod
    def _close_unclaimed(outcome: Outcome) -> None:
        if isinstance(outcome, Passed):
            outcome.response.close()


def _retrieve(head: asyncio.Future[Outcome]) -> None:
    """A failure that nobody waited for is no news."""
    head.exception()
