"""One request to the origin, and who waits for its head.

A fetch runs in a task of its own: whoever asked first may leave.  What comes of it is an `Outcome`.
"""

import asyncio
from dataclasses import dataclass, field

from multidict import CIMultiDict

from proxy.cache.wanted import Wanted
from proxy.fill.fill import Fill, FillState
from proxy.origin import OriginResponse
from proxy.semantics.fields import Fields
from proxy.spool.entry import Entry
from proxy.spool.partials import Partial


@dataclass(frozen=True, slots=True)
class Held:
    """Something under a request's keys: complete, as far as `fill` has come, or what a `partial` has of it."""

    entry: Entry
    fill: Fill | None = None
    partial: Partial | None = None

    @property
    def current(self) -> Entry:
        """The entry as its fill knows it by now: its length, say, once that has ended."""
        return self.entry if self.fill is None else self.fill.entry

    @property
    def is_firm(self) -> bool:
        """Is it there to its end, or will it be, as far as anybody knows?"""
        return self.partial is None and (self.fill is None or not self.fill.provisional)

    @property
    def is_good(self) -> bool:
        """Is it what the origin means to give, and not an error of its?"""
        return self.entry.stored.representation.status < 400

    @property
    def is_whole(self) -> bool:
        """Is it stored to its end?"""
        if self.partial is not None:
            return False
        return self.fill is None or (
            self.fill.state is FillState.COMPLETE and self.fill.complete_length is not None
        )


@dataclass(frozen=True, slots=True)
class Storing:
    """It is being stored: everyone entitled to it may follow.

    `status` is the origin's; the `withheld` fields are for the one who asked.
    """

    fill: Fill
    status: int
    withheld: Fields = field(default_factory=CIMultiDict, compare=False)


@dataclass(frozen=True, slots=True)
class Freshened:
    """What we had is good again: the origin said so, by a 304 or by an equal head.

    `status` is the origin's; the `withheld` fields are for the one who asked.  Unless the news are `kept`, all of it
    is: they are about a variant that this request does not select.
    """

    held: Held
    status: int
    withheld: Fields = field(default_factory=CIMultiDict, compare=False)
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Passed:
    """It is not stored, for `reason`: it belongs to the one who asked, the others ask for themselves."""

    response: OriginResponse
    reason: str


Outcome = Storing | Freshened | Passed


class Fetch:
    """`wanted` is what caused it.  `retracted`: an unsafe request or a purge has passed it, so that nobody new
    may join."""

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

    def disown(self) -> None:
        """Nobody asked for it: a passed response is for nobody."""
        self._disowned = True

    async def resolve(self, outcome: Outcome) -> None:
        """Tell all who wait; returns when each has taken what it came for, or has left."""
        self._head.set_result(outcome)
        if self._disowned:
            self._close_unclaimed(outcome)
        if self._waiting:
            self._all_gone.clear()
            await self._all_gone.wait()

    def fail(self, error: Exception) -> None:
        self._head.set_exception(error)

    @staticmethod
    def _close_unclaimed(outcome: Outcome) -> None:
        if isinstance(outcome, Passed):
            outcome.response.close()


def _retrieve(head: asyncio.Future[Outcome]) -> None:
    """A failure that nobody waited for is no news."""
    head.exception()
