"""Everything that is being fetched: started once, run to its end in tasks of its own, whoever leaves."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

from proxy.cache.answer import Asker
from proxy.cache.asking import Asking, Question
from proxy.cache.authorization import Authorizing, Permits
from proxy.cache.failing import SPARED_FOR, Failing
from proxy.cache.fetch import Fetch, Freshened, Storing
from proxy.cache.filing import Filing
from proxy.cache.recent import Recent
from proxy.cache.resuming import Resumptions
from proxy.cache.underway import Underway, Waits
from proxy.cache.wanted import Wanted
from proxy.errors import (
    AdapterError,
    ConnectTimeout,
    NotCompared,
    ObjectChanged,
    OriginDown,
    OriginError,
)
from proxy.fill.fill import Fill
from proxy.incidents import Incidents
from proxy.spool.partials import Partial
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
        self._asker = Asker(spool, now, self._make_room)
        self._filing = Filing(spool, self._asker, incidents, now, self._enter, admits)
        self._asking = Asking(spool, self._asker, self._filing, now)
        self._authorizing = Authorizing(spool, self._asker, self._asking, self.underway, now)
        self._tasks: set[asyncio.Task[None]] = set()
        self._causes: dict[Fill, Wanted] = {}  # of what is running, or about to
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
        return self._asker.count

    @property
    def resumptions(self) -> Resumptions:
        """How often an origin broke off, and what came of it."""
        return self._filing.resumptions

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
        self._spawn(self._run(fetch, question), f"fetch {wanted.shared_key.text}")
        return fetch

    def refresh(self, wanted: Wanted, question: Question) -> None:
        """Ask the origin for nobody, unless that is going on, or was in vain a moment ago (RFC 5861 section 3)."""
        key = _key(wanted, question)
        arriving = any(wanted.may_have(held.entry) for held in self.underway.joinable(wanted))
        if arriving or self.underway.awaited(wanted, Waits()) or key in self._refreshed:
            return
        self._refreshed.add(key)
        self.start(replace(wanted, interim=None, for_nobody=True), question).disown()

    def go_on(self, wanted: Wanted, partial: Partial) -> Fill | None:
        """Fetch the rest of what broke off; None if that is going on already."""
        fill = self._filing.go_on(wanted, partial)
        if fill is not None:
            self._enter(wanted, fill)
            self._spawn(self._run_fills(wanted, fill), f"fetch the rest of {fill.entry.label}")
        return fill

    def caused(self, fill: Fill) -> Wanted | None:
        """What `fill` was begun for; None once it is over."""
        return self._causes.get(fill)

    def _enter(self, wanted: Wanted, fill: Fill) -> None:
        self._causes[fill] = wanted
        self.underway.enter_fill(fill)
        self._spool.epochs.bump(fill.entry.target)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        self._enter(fetch.wanted, fill)
        try:
            await fetch.resolve(outcome)
        except asyncio.CancelledError:
            _cancel_this_task()  # again, in `run`, which then leaves everything in order
        await self._run_fills(fetch.wanted, fill)

    async def _run_fills(self, wanted: Wanted, fill: Fill) -> None:
        """`fill`, which has been entered, and those that succeed it."""
        following: Fill | None = fill
        while following is not None:
            current = following
            try:
                await self._run_fill(wanted, current)
            except asyncio.CancelledError:
                if current.successor is None:
                    raise
                _cancel_this_task()
            following = current.successor

    async def _run_fill(self, wanted: Wanted, fill: Fill) -> None:
        """`fill` has been entered."""
        try:
            await fill.run()
            if fill.error is None and not fill.retracted:
                self.underway.supersede(fill)
        finally:
            del self._causes[fill]
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
            self._note_failure(wanted, fill, fill.error)
            return
        self.failing.note_whole(fill.entry.key)
        if fill.retracted and not fill.provisional and fill.complete_length is not None:
            await self._spool.drop([fill.entry])  # it may have been retracted while it was committed

    def _note_failure(self, wanted: Wanted, fill: Fill, error: AdapterError) -> None:
        key = fill.entry.key
        if isinstance(error, ObjectChanged) or not isinstance(error, OriginError):
            return
        asked_again = wanted.origin.resume > 0
        if isinstance(error, OriginDown | ConnectTimeout) or (
            isinstance(error, NotCompared) and not asked_again
        ):
            self.failing.note_error(key, wanted, error)
        else:
            self.failing.note_broken(key, fill.stored, asked_again=asked_again)

    def _make_room(self, wanted: Wanted) -> None:
        """Where a fetch would have to wait, what is fetched for nobody gives way.  What has come of it is kept."""
        slots = wanted.origin.slots
        if slots.is_free_for(wanted.causer):
            return
        in_the_way = [
            fill
            for fill, cause in self._causes.items()
            if cause.origin is wanted.origin
            and fill.is_abandoned
            and (slots.in_use >= slots.total or cause.causer == wanted.causer)
        ]
        if in_the_way:
            min(in_the_way, key=lambda fill: fill.written).stop()

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
