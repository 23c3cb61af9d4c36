"""One object on its way in: what has to be known of it to fetch it in several pieces."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from proxy.cache.answer import Answer, Asker
from proxy.cache.generations import new_entry, whole_of
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError
from proxy.fill.ends import Incoming
from proxy.fill.fill import Fill
from proxy.incidents import Incidents
from proxy.origin import OriginRequest
from proxy.semantics.fields import joined
from proxy.semantics.storing import Store, judge
from proxy.spool.entry import Entry

HEAD_WAIT = 5.0
"""Seconds to wait for an origin's word on how long a body should be that has just ended."""


class Books(Protocol):
    """What a subject needs of the one who files it (`proxy.cache.filing`)."""

    asker: Asker
    incidents: Incidents
    now: Callable[[], int]

    async def succeed(
        self, fill: Fill, wanted: Wanted, entry: Entry, answer: Answer, rest: Incoming
    ) -> None: ...
    def doubts(self, entry: Entry, received: int) -> bool: ...


class Subject:
    """As in `proxy.cache.resuming`.  `known_length` is that of an earlier fetch; `fill` is set before it is asked."""

    fill: Fill

    def __init__(self, filing: Books, wanted: Wanted, known_length: int | None) -> None:
        self._filing = filing
        self._wanted = replace(wanted, interim=None)
        self._known_length = known_length
        self._twin: Entry | None = None
        self._broken_by: set[str] = set()

    async def ask(self) -> Answer:
        return await self._filing.asker.get(self._wanted)

    def fits(self, answer: Answer) -> bool:
        entry = self._entry(answer)
        self._twin = None if entry is None else whole_of(entry, self.fill.entry, self.fill.stored)
        return self._twin is not None

    def confirm(self) -> None:
        """Only now is what the answer says, its freshness above all, true of what had come."""
        twin, self._twin = self._twin, None
        if twin is not None:
            self.fill.entry = twin
        if self._broken_by:
            self._filing.incidents.over(self._wanted.origin.name, *self._broken_by)
            self._broken_by.clear()

    def note_break(self, error: AdapterError) -> None:
        name, reason = self._wanted.origin.name, error.reason
        event = "an origin broke off, and is asked again"
        label = self.fill.entry.label
        self._filing.incidents.note(
            event, about=name, reason=reason, why=str(error), requests=0, object=label
        )
        self._broken_by.add(reason)

    async def change(self, answer: Answer, rest: Incoming) -> None:
        entry = self._entry(answer)
        if entry is None:
            rest.close()
            return
        try:
            await self._filing.succeed(self.fill, self._wanted, entry, answer, rest)
        except BaseException:
            rest.close()
            raise

    def _entry(self, answer: Answer) -> Entry | None:
        """What the answer would be stored as, if it may be."""
        response, now = answer.response, self._filing.now()
        verdict = judge(self._wanted.request, response.status, response.fields, self._wanted.policy, now)
        return new_entry(self._wanted, verdict, answer, now) if isinstance(verdict, Store) else None

    async def is_end(self, received: int) -> bool:
        entry = self.fill.entry
        if entry.stored.representation.status != 200:
            return True
        expected = max(self._known_length or 0, self.fill.stored)
        if self._known_length is None or received < expected:
            told = await self._length_by_head()
            if told is not None:  # its own word, and its latest
                return received >= told
        return received >= expected or not self._filing.doubts(entry, received)

    async def _length_by_head(self) -> int | None:
        """What the origin says by a HEAD, if it says so: many legacy ones do not know it."""
        wanted = self._wanted
        try:
            async with asyncio.timeout(HEAD_WAIT):
                response = await wanted.origin.fetch(OriginRequest("HEAD", wanted.target, wanted.fields()))
        except (AdapterError, TimeoutError):
            return None
        response.close()
        stored = self.fill.entry.stored.representation.fields
        same = all(
            joined(response.fields, name) == joined(stored, name)
            for name in ("Content-Type", "Content-Encoding")
        )
        return response.content_length if response.status == 200 and same else None
