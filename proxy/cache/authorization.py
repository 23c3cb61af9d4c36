"""Asking the origin who may have what (`authorize: origin`): each request, with its own credentials.

The question is an ordinary GET, given up after its head.  A 304, or a 200 that describes what is stored or arriving,
is a yes: the bytes come from the spool.  Anything else is the origin's answer to this client, and of no consequence
to what is fresh: a page to log in on neither replaces nor ends it.  Where nothing is stored, or only what is stale,
the answer is stored if it may be.  That may be such a page, if it has a lifetime: until that is over, the object
differs from what is stored, and passes.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple
from weakref import WeakValueDictionary

from multidict import CIMultiDict

from proxy.cache.answer import Answer, Asker
from proxy.cache.asking import Asking, Question
from proxy.cache.fetch import Freshened, Held, Outcome, Passed, Storing
from proxy.cache.underway import Underway
from proxy.cache.wanted import Wanted
from proxy.errors import ConnectTimeout, OriginDown, OriginError, OriginMalformed
from proxy.origin import OriginRequest, OriginResponse
from proxy.semantics import reuse
from proxy.semantics.freshness import FAILURES, is_fresh
from proxy.semantics.key import CacheKey
from proxy.semantics.storing import UNASKED, Pass, divided, judge
from proxy.semantics.validation import can_be_validated, describes
from proxy.spool.spool import Spool

CAPACITY = 4096
"""How many times a yes is remembered; of more, the oldest are forgotten, and the origin is asked again."""

DIFFERENT = "origin-decided"
"""Why an answer that might be stored is not: the origin has something else for this client."""


class _Permit(NamedTuple):
    """Whose, for which target and what of it; `asked` is the digest of what the origin was asked for, which may
    hold a signature that is no part of the key.
    """

    credentials: bytes | None
    target: bytes
    asked: bytes
    generation: str


class Permits:
    """The origin's remembered yeses.  A no is never remembered."""

    def __init__(self, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._until: OrderedDict[_Permit, float] = OrderedDict()
        self.ended = 0
        """How often some have been ended.  A yes to a question from before that is not remembered."""

    def add(self, wanted: Wanted, generation: str) -> None:
        """The origin has said yes to this request's credentials, as to this generation."""
        authorize = wanted.policy.authorize
        if authorize is None or authorize.ttl <= 0:
            return
        permit = _permit(wanted, generation)
        self._until[permit] = self._clock() + authorize.ttl
        self._until.move_to_end(permit)
        if len(self._until) > self._capacity:
            self._until.popitem(last=False)

    def discard(self, wanted: Wanted, generation: str) -> None:
        """It says no by now."""
        self._until.pop(_permit(wanted, generation), None)

    def holds(self, wanted: Wanted, generation: str) -> bool:
        if not self._until:
            return False
        return self._until.get(_permit(wanted, generation), 0.0) > self._clock()

    def end(self, target: CacheKey, owners: Collection[bytes]) -> None:
        """An unsafe request for this target, with these credentials, has succeeded: nobody's yes to the one, and no
        yes to the others, counts any more.
        """
        self.ended += 1
        over = [
            permit for permit in self._until if permit.target == target.digest or permit.credentials in owners
        ]
        for permit in over:
            del self._until[permit]


def _permit(wanted: Wanted, generation: str) -> _Permit:
    asked = blake2b(wanted.target.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return _Permit(wanted.credentials, wanted.target_key.digest, asked, generation)


class Authorizing:
    """`now` gives seconds since the epoch."""

    def __init__(
        self, spool: Spool, asker: Asker, asking: Asking, underway: Underway, now: Callable[[], int]
    ) -> None:
        self.permits = Permits()
        self._spool = spool
        self._asker = asker
        self._asking = asking
        self._underway = underway
        self._now = now
        self._receiving: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def ask(self, wanted: Wanted, question: Question) -> Outcome:
        """Ask, up to the head of the answer.  Raises AdapterError."""
        ended = self.permits.ended
        outcome = await self._ask_by_head(wanted, question) or await self._ask(wanted, question)
        match outcome:
            case Storing(fill) if ended == self.permits.ended:
                self.permits.add(wanted, fill.entry.generation)
            case Freshened(held) if ended == self.permits.ended:
                self.permits.add(wanted, held.entry.generation)
            case Passed(response) if question.selected is not None and response.status not in FAILURES:
                self.permits.discard(wanted, question.selected.entry.generation)
        return outcome

    async def _ask_by_head(self, wanted: Wanted, question: Question) -> Freshened | None:
        """By a HEAD, where the origin checks that, too.  None if it does not say yes: then a GET decides."""
        authorize = wanted.policy.authorize
        if authorize is None or authorize.method != "HEAD" or question.selected is None:
            return None
        request_time, epoch = self._now(), self._spool.epoch
        request = self._request(replace(wanted, interim=None), question, "HEAD")
        try:
            response = await wanted.origin.fetch(request)
        except (OriginDown, ConnectTimeout):  # it takes no GET either
            raise
        except OriginError:  # it breaks at HEAD, or sends a body
            return None
        try:
            return await self._yes(wanted, question, Answer(response, request_time, epoch))
        finally:
            response.close()

    async def _ask(self, wanted: Wanted, question: Question) -> Outcome:
        # What cannot become a fill needs no place among them: neither waits for the other.
        held = question.selected
        is_mere_question = held is not None and self._is_current(held, wanted)
        self._asker.count += not is_mere_question
        request_time, epoch = self._now(), self._spool.epoch
        request = self._request(wanted, question, "GET")
        if is_mere_question:
            response = await wanted.origin.fetch(request)
        else:
            response = await wanted.origin.fetch_whole(request, wanted.causer)
        answer = Answer(response, request_time, epoch)
        try:
            if response.status == 304 and question.conditions:
                outcome: Outcome | None = await self._yes(wanted, question, answer)
            else:
                outcome = await self._receive(wanted, question, answer)
        except BaseException:
            response.close()
            raise
        if outcome is None or isinstance(outcome, Freshened):
            response.close()
        if outcome is None:  # a 304 that speaks of nothing that we have
            return await self._ask(wanted, replace(question, conditions=CIMultiDict()))
        return outcome

    @staticmethod
    def _request(wanted: Wanted, question: Question, method: str) -> OriginRequest:
        fields = CIMultiDict(wanted.fields())
        fields.extend(question.conditions)
        return OriginRequest(method, wanted.target, fields, interim=wanted.interim)

    async def _receive(self, wanted: Wanted, question: Question, answer: Answer) -> Outcome:
        """The whole comes: what we have, something else, or the first.

        One after the other, so that of several heads that arrive at once only the first begins a fill.  Nobody waits
        for another's head here: all of these have come.
        """
        key = wanted.shared_key.digest
        async with self._receiving.setdefault(key, asyncio.Lock()):
            if yes := await self._yes(wanted, question, answer):
                return yes
            if not wanted.is_lonely and any(self._is_current(held, wanted) for held in self._held(wanted)):
                return Passed(answer.response, self._why_not_stored(wanted, answer.response))
            return await self._asking.receive(wanted, question, answer)

    async def _yes(self, wanted: Wanted, question: Question, answer: Answer) -> Freshened | None:
        """What the head of the answer lets this client have; None if nothing."""
        response = answer.response
        if wanted.is_lonely:
            return None
        if response.status == 304 and not question.conditions:
            return None  # nobody asked for it
        if response.status == 304:
            known = [held] if (held := question.meant(response.fields)) is not None else []
        else:
            length = response.content_length
            known = [
                held
                for held in self._held(wanted)
                if describes(held.current.stored, response.status, response.fields, length)
            ]
        current = next((held for held in known if self._is_current(held, wanted)), None)
        if current is not None:
            _, withheld = divided(response.fields, wanted.policy)
            return Freshened(Held(current.current, current.fill), response.status, withheld)
        # A length alone says yes, but not that what is stale holds: there its bytes are compared.
        if not known or (response.status != 304 and not can_be_validated(response.fields)):
            return None
        keep = question.selects or response.status != 304
        return await self._asking.freshen(wanted, question, known[0], answer, keep=keep)

    def _held(self, wanted: Wanted) -> list[Held]:
        """What arrives, and what is stored, that this request selects."""
        stored = [Held(entry) for entry in self._spool.lookup(wanted.shared_key.digest)]
        held = [*self._underway.joinable(wanted), *stored]
        return [each for each in held if reuse.matches(each.current.stored, wanted.request, wanted.policy)]

    def _is_current(self, held: Held, wanted: Wanted) -> bool:
        """Is it arriving, or fresh?  Then no other answer takes its place."""
        arriving = held.fill is not None and held.fill.joinable
        return arriving or is_fresh(held.current.stored, wanted.policy, self._now())

    def _why_not_stored(self, wanted: Wanted, response: OriginResponse) -> str:
        """The same as if nothing were stored, if only it might not be stored then either."""
        if response.status in UNASKED:
            raise OriginMalformed(f"the origin answered {response.status}, which nobody asked for")
        verdict = judge(wanted.request, response.status, response.fields, wanted.policy, self._now())
        return verdict.reason.value if isinstance(verdict, Pass) else DIFFERENT
