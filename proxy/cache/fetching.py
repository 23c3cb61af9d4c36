"""Everything that is being fetched: started once, run to its end in tasks of its own, whoever leaves."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import structlog

from proxy.cache.asking import FAILURES, Asking, Question
from proxy.cache.authorization import Authorizing, Permits
from proxy.cache.fetch import Fetch, Passed, Storing
from proxy.cache.recent import Recent
from proxy.cache.underway import Underway, Waits
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, OriginError
from proxy.fill import Fill
from proxy.spool.spool import Spool

SPARED_FOR = 5.0
"""Seconds for which an origin is not asked again for what it has just failed at, if there is something to serve."""

_log = structlog.stdlib.get_logger("cache")


class Fetching:
    """`now` gives seconds since the epoch; `admits` is as in `Asking`."""

    def __init__(self, spool: Spool, now: Callable[[], int], admits: Callable[[bytes, str], bool]) -> None:
        self.underway = Underway()
        self._spool = spool
        self._asking = Asking(spool, now, self.underway.enter_fill, admits)
        self._authorizing = Authorizing(spool, self._asking, self.underway, now)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = Recent(SPARED_FOR)
        self._refreshed = Recent(SPARED_FOR)
        self._filled_bytes = 0

    @property
    def idle(self) -> bool:
        """Is nothing being fetched?"""
        return not self._tasks

    @property
    def fetched(self) -> int:
        """Requests sent to origins in order to store the answer."""
        return self._asking.count

    @property
    def permits(self) -> Permits:
        """What origins have said yes to, where they are asked of each request."""
        return self._authorizing.permits

    @property
    def filled_bytes(self) -> int:
        """All bytes that ever came through fills."""
        return self._filled_bytes + sum(fill.written for fill in self.underway.fills())

    def fills(self) -> Iterator[Fill]:
        """Those that run now."""
        return self.underway.fills()

    def is_failing(self, wanted: Wanted) -> bool:
        """Has the origin failed a moment ago, when it was asked for this?"""
        return wanted.own_key in self._failing

    # Starting

    def start(self, wanted: Wanted, question: Question) -> Fetch:
        """Ask the origin; `own_head` of what is returned tells what comes of it."""
        fetch = Fetch(wanted)
        self.underway.enter_fetch(fetch)
        task = asyncio.create_task(self._run(fetch, question), name=f"fetch {wanted.shared_key.text}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return fetch

    def refresh(self, wanted: Wanted, question: Question) -> None:
        """Ask the origin for nobody, unless that is going on, or was in vain a moment ago (RFC 5861 section 3)."""
        going_on = self.underway.joinable(wanted) or self.underway.awaited(wanted, Waits())
        if going_on or wanted.own_key in self._refreshed:
            return
        self._refreshed.add(wanted.own_key)
        self.start(replace(wanted, interim=None), question).disown()

    # Running

    async def _run(self, fetch: Fetch, question: Question) -> None:
        own_key = fetch.wanted.own_key
        asking = self._asking if fetch.wanted.policy.authorize is None else self._authorizing
        try:
            outcome = await asking.ask(fetch.wanted, question)
        except AdapterError as error:
            if isinstance(error, OriginError):
                self._failing.add(own_key)
            fetch.fail(error)
            return
        except BaseException:
            fetch.fail(AdapterError("the request to the origin was stopped"))
            raise
        finally:
            self.underway.leave_fetch(fetch)
        self.underway.learn(fetch.wanted, outcome)
        match outcome:
            case Passed(response) if response.status in FAILURES:
                self._failing.add(own_key)
            case Passed():
                self._failing.discard(own_key)
            case _:
                self._failing.discard(own_key)
                self._refreshed.discard(own_key)
        if isinstance(outcome, Storing):
            await self._fill(fetch, outcome)
        else:
            await fetch.resolve(outcome)

    async def _fill(self, fetch: Fetch, outcome: Storing) -> None:
        fill = outcome.fill
        if fetch.retracted:
            fill.retract()
        self.underway.enter_fill(fill)
        try:
            await fetch.resolve(outcome)
        except asyncio.CancelledError:
            _cancel_this_task()  # again, in `run`, which then leaves everything in order
        try:
            await self._run_fill(fill)
        except asyncio.CancelledError:
            if fill.successor is None:
                raise
            _cancel_this_task()
        if fill.successor is not None:
            await self._run_fill(fill.successor)

    async def _run_fill(self, fill: Fill) -> None:
        """`fill` has been entered."""
        try:
            await fill.run()
            if fill.error is None and not fill.retracted:
                self.underway.supersede(fill)
        finally:
            self.underway.leave_fill(fill)
            self._filled_bytes += fill.written
        if fill.error is not None:
            _log.warning("a fill failed", object=fill.entry.label, why=str(fill.error), written=fill.written)
        elif fill.retracted and fill.complete_length is not None:
            await self._spool.drop([fill.entry])  # it may have been retracted while it was committed

    async def close(self) -> None:
        """Stop what is being fetched."""
        for fill in list(self.fills()):
            fill.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
