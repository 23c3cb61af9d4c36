"""Everything that is being fetched: started once, run to its end in tasks of its own, whoever leaves."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

from proxy.cache.asking import Asking, Question
from proxy.cache.authorization import Authorizing, Permits
from proxy.cache.failing import SPARED_FOR, Failing
from proxy.cache.fetch import Fetch, Freshened, Storing
from proxy.cache.filing import Filing
from proxy.cache.recent import Recent
from proxy.cache.underway import Underway, Waits
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, NotCompared
from proxy.fill import Fill
from proxy.incidents import Incidents
from proxy.spool.spool import Spool


class Fetching:
    """`now` gives seconds since the epoch; `admits` is as in `Filing`."""

    def __init__(
        self,
        spool: Spool,
        incidents: Incidents,
        now: Callable[[], int],
        admits: Callable[[bytes, str], bool],
    ) -> None:
        self._incidents = incidents
        self.underway = Underway()
        self._spool = spool
        self._asking = Asking(spool, Filing(spool, now, self.underway.enter_fill, admits), now)
        self._authorizing = Authorizing(spool, self._asking, self.underway, now)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failing = Failing()
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
        key = _key(wanted, question)
        arriving = any(wanted.may_have(held.entry) for held in self.underway.joinable(wanted))
        if arriving or self.underway.awaited(wanted, Waits()) or key in self._refreshed:
            return
        self._refreshed.add(key)
        self.start(replace(wanted, interim=None), question).disown()

    # Running

    async def _run(self, fetch: Fetch, question: Question) -> None:
        key = _key(fetch.wanted, question)
        asking = self._asking if fetch.wanted.policy.authorize is None else self._authorizing
        try:
            outcome = await asking.ask(fetch.wanted, question)
        except AdapterError as error:
            self.failing.note_error(key, fetch.wanted, error)
            fetch.fail(error)
            return
        except Exception as error:  # a fault of ours: each who waits has it in the log
            fetch.fail(error)
            raise
        except BaseException:
            fetch.fail(AdapterError("the request to the origin was stopped"))
            raise
        finally:
            self.underway.leave_fetch(fetch)
        self.underway.learn(fetch.wanted, outcome)
        self.failing.note(key, fetch.wanted, outcome)
        if isinstance(outcome, Freshened):
            self._refreshed.discard(key)
        if isinstance(outcome, Storing):
            await self._fill(fetch, outcome)
            if outcome.fill.error is None:
                self._refreshed.discard(key)
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
            await self._run_fill(fetch.wanted, fill)
        except asyncio.CancelledError:
            if fill.successor is None:
                raise
            _cancel_this_task()
        if fill.successor is not None:
            await self._run_fill(fetch.wanted, fill.successor)

    async def _run_fill(self, wanted: Wanted, fill: Fill) -> None:
        """`fill` has been entered."""
        try:
            await fill.run()
            if fill.error is None and not fill.retracted:
                self.underway.supersede(fill)
        finally:
            self.underway.leave_fill(fill)
            self._filled_bytes += fill.written
        if fill.error is not None:
            self._incidents.note(
                "a fill failed",
                about=wanted.origin.name,
                reason=fill.error.reason,
                why=str(fill.error),
                requests=0,  # those who follow it tell of themselves
                object=fill.entry.label,
                written=fill.written,
            )
            if isinstance(fill.error, NotCompared):
                self.failing.note_error(fill.entry.key, wanted, fill.error)
        elif fill.retracted and not fill.provisional and fill.complete_length is not None:
            await self._spool.drop([fill.entry])  # it may have been retracted while it was committed

    async def close(self) -> None:
        """Stop what is being fetched."""
        for fill in list(self.fills()):
            fill.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _key(wanted: Wanted, question: Question) -> bytes:
    """Of what is stored that a question is about, else of what would be."""
    return wanted.own_key if question.selected is None else question.selected.entry.key


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
