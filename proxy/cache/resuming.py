"""The body of one object, out of as many responses as it takes.

An origin that breaks off is asked again.  It sends everything from the beginning: what is stored already is compared,
and what comes after that goes on.  To those who follow, that is a pause.  Where anything else comes, the object is
another one by now: nothing of the two is ever put together.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from proxy.cache.answer import Answer
from proxy.cache.rest import Rest
from proxy.errors import (
    AdapterError,
    NotCompared,
    ObjectChanged,
    OriginDown,
    OriginError,
    OriginTimeout,
    OriginTruncated,
    Overloaded,
)
from proxy.fill.ends import Incoming
from proxy.fill.fill import Fill
from proxy.semantics.freshness import FAILURES
from proxy.semantics.storing import UNASKED

FIRST_PAUSE = 0.1
"""Seconds before an origin is asked for the second time; each further time it is twice as many."""
LONGEST_PAUSE = 5.0
ENOUGH = 64 << 10
"""Bytes that an attempt has to bring for the next pause to be short again."""
MOST_REQUESTS = 64
"""How often an origin is asked for one body."""
SAME_PLACE = 5
"""Where a body ends at the same byte so often, that is no accident: its origin has promised what it has not got."""
NOT_NOW = FAILURES | UNASKED | {408, 425, 429}
"""Statuses that say nothing of the object."""

_log = structlog.stdlib.get_logger("cache")


class Subject(Protocol):
    """Knows what it is a body of (`proxy.cache.filing`)."""

    async def ask(self) -> Answer:
        """Ask the origin again.  Raises AdapterError."""

    def fits(self, answer: Answer) -> bool:
        """Can this be the same object, by the head of the answer alone?"""

    def note_break(self, error: AdapterError) -> None:
        """The origin broke off, or was asked again in vain."""

    def confirm(self) -> None:
        """It is: all that had come before has come again."""

    async def change(self, answer: Answer, rest: Incoming) -> None:
        """It is another one; `rest`, its body, is taken over."""

    async def is_end(self, received: int) -> bool:
        """Is a connection that ends after so many bytes the end of the body?"""


@dataclass(slots=True)
class Resumptions:
    """Counted since the start."""

    breaks: int = 0
    """Responses that ended before their end."""
    resumed: int = 0
    """Bodies that went on after that."""
    changed: int = 0
    """Bodies that others had taken the place of."""


class Resuming:
    """What comes in for `fill`, which is set before the first `read`.

    `answer` is the origin's, `incoming` its body; without, it is yet to be asked.  The first `stored` bytes lie in
    the fill's file: they are compared with what comes, and not handed out.  `patience` is in seconds: for so long
    after a break the origin is asked again, and again.
    """

    fill: Fill

    def __init__(
        self,
        subject: Subject,
        counts: Resumptions,
        *,
        patience: float,
        answer: Answer | None = None,
        incoming: Incoming | None = None,
        stored: int = 0,
    ) -> None:
        self._subject = subject
        self._counts = counts
        self._patience = patience
        self._answer = answer
        self._incoming = incoming or (answer.response if answer is not None else None)
        self._received = stored
        self._offset = 0  # of what comes in now
        self._requests = 0
        self._pauses = 0
        self._reached = stored  # at the last break
        self._deadline: float | None = None if answer is not None else 0.0  # whoever waits for a first answer
        self._place = -1
        self._ends_there = 0

    async def read(self) -> bytes:
        """The next bytes that are not stored yet; b"" at the end.  Raises AdapterError."""
        while True:
            try:
                return await self._read()
            except ObjectChanged:
                self._counts.changed += 1
                raise
            except (OriginError, Overloaded) as error:
                await self._recover(error)

    async def _read(self) -> bytes:
        while True:
            incoming = self._incoming or await self._ask_again()
            data = await incoming.read()
            if not data:
                await self._check_end()
                return b""
            if self._offset < self._received:
                data = await self._compare(data)
            if data:
                if self._requests and self._offset == self._reached:
                    self._counts.resumed += 1
                    _log.info("a broken fill goes on", object=self.fill.entry.label, at=self._offset)
                self._offset += len(data)
                self._received = self._offset
                return data

    # What is known already

    async def _compare(self, data: bytes) -> bytes:
        """What `data` brings beyond what is stored.  Raises ObjectChanged, SpoolError."""
        known = data[: self._received - self._offset]
        if await self.fill.body.read(self._offset, self._offset + len(known)) != known:
            await self._change(data)
        self._offset += len(known)
        self.fill.confirm(self._offset)
        if self._offset == self._received:
            self._note_return()
        return data[len(known) :]

    async def _check_end(self) -> None:
        """Raises OriginTruncated, ObjectChanged where this is not the end."""
        assert self._answer is not None
        response = self._answer.response
        promised = response.content_length if self.fill.complete_length is None else self.fill.complete_length
        is_chunked = "Transfer-Encoding" in response.fields
        if promised is None:
            is_end = is_chunked or await self._subject.is_end(self._offset)
        else:
            is_end = self._offset >= promised
        if not is_end:
            raise OriginTruncated(f"the body ended after {self._offset} bytes")
        if self._offset < self._received:
            await self._change(b"")

    async def _change(self, data: bytes) -> NoReturn:
        answer, incoming = self._answer, self._incoming
        assert answer is not None
        assert incoming is not None
        self._incoming = None
        await self._subject.change(answer, Rest(self.fill.body.hold(), self._offset, data, incoming))
        raise ObjectChanged(f"{self.fill.entry.label} has changed at its origin while it was being read")

    # Asking again

    async def _ask_again(self) -> Incoming:
        """A response that may be of the same object.  Raises ObjectChanged if it cannot."""
        self._requests += 1
        self._offset = 0
        try:
            async with asyncio.timeout_at(self._deadline or None):
                answer = await self._subject.ask()
        except TimeoutError as error:
            raise OriginTimeout("the origin did not come back in time") from error
        self._answer, self._incoming = answer, answer.response
        if answer.response.status in NOT_NOW:
            raise OriginError(f"the origin answered {answer.response.status} when it was asked again")
        if not self._subject.fits(answer):
            await self._change(b"")
        if not self._received:
            self._note_return()
        return answer.response

    def _note_return(self) -> None:
        self._subject.confirm()
        self.fill.note_return()

    async def _recover(self, error: AdapterError) -> None:
        """Wait before the origin is asked again; where there is no hope, raises `error`."""
        has_answered = self._incoming is not None
        self.close()
        self._counts.breaks += 1
        self._subject.note_break(error)
        self.fill.note_break(error if isinstance(error, OriginDown) and self._requests else None)
        now = asyncio.get_running_loop().time()
        if self._received > self._reached:
            if self._received - self._reached >= ENOUGH:
                self._pauses = 0
            self._reached, self._deadline = self._received, None
        self._ends_there = self._ends_there + 1 if has_answered and self._offset == self._place else 1
        self._place = self._offset
        if self._deadline is None:
            self._deadline = now + self._patience
        pause = min(FIRST_PAUSE * 2**self._pauses, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
        self._pauses += 1
        is_liar = self._ends_there >= SAME_PLACE
        is_over = now + pause >= self._deadline or self._requests >= MOST_REQUESTS
        if is_liar or is_over or not self.fill.is_stored:
            self._give_up(error)
        await asyncio.sleep(pause)

    def _give_up(self, error: AdapterError) -> NoReturn:
        if self.fill.written < self._received:  # what was stored before shows as far as it was compared
            raise NotCompared(str(error), reason=error.reason) from error
        raise error

    def close(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.close()
