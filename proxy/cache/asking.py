"""One question to the origin, and what its answer means for the spool."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.cache.answer import Answer, Asker
from proxy.cache.fetch import Freshened, Held, Outcome, Passed
from proxy.cache.filing import Filing
from proxy.cache.wanted import Wanted
from proxy.errors import (
    ConnectTimeout,
    OriginDown,
    OriginError,
    OriginMalformed,
    SpoolError,
    SpoolSuspended,
)
from proxy.origin import OriginRequest
from proxy.semantics.cache_status import Forward
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import FAILURES, Scope
from proxy.semantics.purging import tags_of
from proxy.semantics.storing import UNASKED, Judgement, NoStore, Pass, Store, divided, judge
from proxy.semantics.validation import (
    can_be_validated,
    confirms,
    describes,
    freshened,
    is_meant,
    is_personal,
    news,
)
from proxy.spool.spool import Spool

_GONE = frozenset({404, 410, 451})
"""Statuses by which an origin says that it has no more what it had."""
_OF_THE_REQUEST = frozenset({NoStore.CREDENTIALS, NoStore.REQUEST_NO_STORE, NoStore.UNKEYED_QUERY})
"""Reasons not to store an answer that say nothing of it: another request's would be stored."""
_OF_THE_ANSWER = frozenset({NoStore.NO_STORE, NoStore.PRIVATE, NoStore.VARY_STAR})
"""Reasons by which an origin says that nobody is to keep it."""

FRESH_KEPT = "fresh-kept"
"""Why an error is not stored: one client's request must not replace by it what is fresh for everybody."""

ORIGIN_FAILED = "origin-failed"
"""Why a failure is not stored where there is something to serve in its stead."""

_log = structlog.stdlib.get_logger("cache")


@dataclass(frozen=True, slots=True)
class Question:
    """Why the origin is asked, and what is stored that its answer may be about.

    `candidates` are what the request selects, or, without `selects`, the siblings whose tags are offered.
    """

    reason: Forward
    candidates: tuple[Held, ...] = ()
    conditions: Fields = field(default_factory=CIMultiDict)
    selects: bool = True

    @property
    def selected(self) -> Held | None:
        """What would answer the request if it were fresh enough."""
        return self.candidates[0] if self.candidates and self.selects else None

    @property
    def wants_fresher(self) -> bool:
        """Is what is selected fresh, and the origin asked only because the client wants that?"""
        return self.selected is not None and self.reason is Forward.REQUEST

    def meant(self, fields: Fields) -> Held | None:
        """What a 304 with these fields speaks of."""
        speaks_of = confirms if self.selects else is_meant
        return next((held for held in self.candidates if speaks_of(held.current.stored, fields)), None)


class Asking:
    """`now` gives seconds since the epoch."""

    def __init__(self, spool: Spool, asker: Asker, filing: Filing, now: Callable[[], int]) -> None:
        self._spool = spool
        self._asker = asker
        self._filing = filing
        self._now = now

    async def ask(self, wanted: Wanted, question: Question) -> Outcome:
        """Ask, up to the head of the answer.  Raises AdapterError."""
        if wanted.request.method == "HEAD" and (confirmed := await self._ask_for_head(wanted, question)):
            return confirmed
        return await self._get(wanted, question)

    async def _get(self, wanted: Wanted, question: Question) -> Outcome:
        answer = await self._asker.get(wanted, question.conditions)
        response = answer.response
        try:
            if response.status != 304 or not question.conditions:
                return await self.receive(wanted, question, answer)
            confirmed = await self._confirmed(wanted, question, answer)
        except BaseException:
            response.close()
            raise
        response.close()
        if confirmed is not None:
            return confirmed
        return await self._get(wanted, replace(question, conditions=CIMultiDict()))

    # What is stored, confirmed

    async def _ask_for_head(self, wanted: Wanted, question: Question) -> Freshened | None:
        """A client wants no more than the head: the origin's may freshen what is stored (RFC 9111 section 4.3.5).

        None if it does not: many legacy origins are wrong about HEAD.  Without a validator it cannot: a length alone
        does not tell one generation from the next.
        """
        held = question.selected
        if (
            held is None
            or not held.is_whole
            or not can_be_validated(held.current.stored.representation.fields)
        ):
            return None
        self._asker.count += 1
        request_time, epoch = self._now(), self._spool.epoch
        try:
            response = await wanted.origin.fetch(OriginRequest("HEAD", wanted.target, wanted.fields()))
        except (OriginDown, ConnectTimeout):  # it takes no GET either
            raise
        except OriginError:  # it breaks at HEAD, or sends a body; a GET will tell
            return None
        try:
            if not describes(held.current.stored, response.status, response.fields, response.content_length):
                return None
            return await self.freshen(wanted, question, held, Answer(response, request_time, epoch))
        finally:
            response.close()

    async def _confirmed(self, wanted: Wanted, question: Question, answer: Answer) -> Freshened | None:
        """What a 304 speaks of; None if that is nothing that we have, or allows no reuse."""
        held = question.meant(answer.response.fields)
        return None if held is None else await self.freshen(wanted, question, held, answer)

    async def freshen(
        self, wanted: Wanted, question: Question, held: Held, answer: Answer, *, keep: bool | None = None
    ) -> Freshened | None:
        """`held` with the news of it in an answer; None if it may not be reused any more.

        Without `keep` (default: if `held` is what the request selects) the news are for this request alone.
        """
        keep = question.selects if keep is None else keep
        entry, response = held.current, answer.response
        stored = freshened(entry.stored, response.fields, answer.request_time, self._now())
        match self._judge(wanted, stored.representation.status, stored.representation.fields):
            case Pass(reason):
                if keep and reason not in _OF_THE_REQUEST and _may_end(wanted, question):
                    await self._forget(held)
                return None
            case Store(Scope.PARTITION) if entry.partition is None:
                return None
            case Store() as verdict:
                representation = replace(stored.representation, fields=CIMultiDictProxy(verdict.fields))
                stored = replace(stored, representation=representation)
        tags = tags_of(response.fields, wanted.policy.tag_fields) or entry.tags
        fresh = replace(entry, stored=stored, tags=tags, epoch=answer.epoch)
        if keep and held.fill is not None:
            held.fill.entry = fresh
        if keep and held.is_whole:
            try:
                await self._spool.update(fresh)
            except SpoolSuspended:
                pass  # it is asked about again
            except SpoolError as error:
                _log.warning("a validation could not be recorded", object=entry.label, why=str(error))
        _, withheld = divided(response.fields, wanted.policy)
        if is_personal(entry.stored, response.fields):
            withheld = news(response.fields)
        return Freshened(Held(fresh, held.fill), response.status, withheld, kept=keep)

    async def _forget(self, held: Held) -> None:
        """The origin has taken it back."""
        if held.fill is not None:
            held.fill.retract()
        if held.current.stored.representation.complete_length is not None:
            await self._spool.drop([held.current])

    # A new answer

    async def receive(self, wanted: Wanted, question: Question, answer: Answer) -> Outcome:
        """What becomes of an answer with a body of its own: it is stored, or passes."""
        response, selected = answer.response, question.selected
        if response.status in UNASKED:
            raise OriginMalformed(f"the origin answered {response.status}, which nobody asked for")
        # Where the origin is asked first, the word would tell that something is stored.
        is_open = wanted.policy.authorize is None
        has_failed = response.status in FAILURES and selected is not None and selected.is_good
        match self._judge(wanted, response.status, response.fields):
            case Pass(reason):
                takes_back = _takes_back(response.status, reason) and _may_end(wanted, question)
                if selected is not None and takes_back:
                    await self._forget(selected)
                return Passed(response, ORIGIN_FAILED if has_failed and is_open else reason.value)
            case Store() if response.status >= 300 and question.wants_fresher:
                return Passed(response, FRESH_KEPT)
            case Store() if has_failed:
                return Passed(response, ORIGIN_FAILED)
            case Store() as verdict:
                return await self._filing.store(wanted, selected, verdict, answer)

    def _judge(self, wanted: Wanted, status: int, fields: Fields) -> Judgement:
        return judge(wanted.request, status, fields, wanted.policy, self._now())


def _takes_back(status: int, reason: NoStore) -> bool:
    """Does an answer, not stored for `reason`, say that what is stored is no more, or is nobody's to keep?"""
    if reason in _OF_THE_REQUEST:
        return False
    return status in _GONE or (status == 200 and reason in _OF_THE_ANSWER)


def _may_end(wanted: Wanted, question: Question) -> bool:
    """May an answer end what is stored for everybody?

    Not while that is fresh, nor to a client with credentials: others may get another answer.
    """
    return wanted.partition is None and question.reason is Forward.STALE
