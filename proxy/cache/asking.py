"""One question to the origin, and what its answer means for the spool."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.cache.fetch import Freshened, Held, Outcome, Passed, Storing
from proxy.cache.wanted import Wanted
from proxy.errors import OriginMalformed, SpoolError
from proxy.fill import Fill, FillState
from proxy.origin import OriginRequest, OriginResponse
from proxy.semantics.cache_status import Forward
from proxy.semantics.fields import Fields
from proxy.semantics.freshness import Scope, Stored, confirms, freshened
from proxy.semantics.key import CacheKey
from proxy.semantics.own_tags import own_tag
from proxy.semantics.representation import Representation
from proxy.semantics.storing import Judgement, Pass, Store, judge
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry, new_generation
from proxy.spool.spool import Spool

_log = structlog.stdlib.get_logger("cache")


@dataclass(frozen=True, slots=True)
class Question:
    """Why the origin is asked, and, where something stored is to be validated, with which conditions."""

    reason: Forward
    stale: Held | None = None
    conditions: Fields = field(default_factory=CIMultiDict)


class Asking:
    """`now` gives seconds since the epoch."""

    def __init__(self, spool: Spool, now: Callable[[], int]) -> None:
        self._spool = spool
        self._now = now
        self.count = 0
        """Requests sent to origins in order to store the answer."""

    async def ask(self, wanted: Wanted, question: Question) -> Outcome:
        """Ask, up to the head of the answer.  Raises AdapterError."""
        fields = CIMultiDict(wanted.fields())
        fields.extend(question.conditions)
        self.count += 1
        request_time = self._now()
        response = await wanted.origin.fetch_whole(OriginRequest("GET", wanted.target, fields))
        try:
            if response.status != 304 or question.stale is None:
                return await self._receive(wanted, response, request_time)
            confirmed = await self._freshen(wanted, question.stale, response, request_time)
        except BaseException:
            response.close()
            raise
        response.close()
        if confirmed is not None:
            return Freshened(confirmed)
        return await self.ask(wanted, Question(question.reason))

    async def _freshen(
        self, wanted: Wanted, stale: Held, response: OriginResponse, request_time: int
    ) -> Held | None:
        """What we have, confirmed by a 304; None if that speaks of something else, or allows no reuse."""
        entry = stale.entry if stale.fill is None else stale.fill.entry
        if not confirms(entry.stored, response.fields):
            return None
        stored = freshened(entry.stored, response.fields, request_time, self._now())
        fresh = replace(entry, stored=stored)
        match self._judge(wanted, stored.representation.status, stored.representation.fields):
            case Pass():
                if stale.fill is not None:
                    stale.fill.retract()
                if entry.stored.representation.complete_length is not None:
                    await self._spool.drop([entry])
                return None
            case Store(scope):
                if scope is Scope.PARTITION and entry.partition is None:
                    return None
        if stale.fill is not None:
            stale.fill.entry = fresh
        if stale.fill is None or stale.fill.state is FillState.COMPLETE:
            try:
                await self._spool.update(fresh)
            except SpoolError as error:
                _log.warning("a validation could not be recorded", object=entry.label, why=str(error))
        return Held(fresh, stale.fill)

    async def _receive(self, wanted: Wanted, response: OriginResponse, request_time: int) -> Outcome:
        if response.status in {206, 304, 416}:
            raise OriginMalformed(f"the origin answered {response.status}, which nobody asked for")
        match self._judge(wanted, response.status, response.fields):
            case Pass(reason):
                return Passed(response, reason.value)
            case Store() as verdict:
                return await self._store(wanted, verdict, response, request_time)

    def _judge(self, wanted: Wanted, status: int, fields: Fields) -> Judgement:
        return judge(wanted.request, status, fields, wanted.policy, self._now())

    async def _store(
        self, wanted: Wanted, verdict: Store, response: OriginResponse, request_time: int
    ) -> Outcome:
        length = response.content_length
        if length is not None and length > self._spool.max_object_size:
            return Passed(response, "too-large")
        key, partition = wanted.shared_key, None
        if verdict.scope is Scope.PARTITION:
            assert wanted.partition_key is not None, "only credentials make an answer personal"
            key, partition = wanted.partition_key, wanted.partition
        entry = _new_entry(wanted, key, partition, verdict, response, request_time, self._now())
        try:
            writer = await self._spool.create(entry, length)
        except SpoolError as error:
            _log.warning("an answer passes without being stored", object=entry.label, why=str(error))
            return Passed(response, error.reason)
        return Storing(Fill(response, writer, limit=self._spool.max_object_size), response.status)


def _new_entry(
    wanted: Wanted,
    key: CacheKey,
    partition: bytes | None,
    verdict: Store,
    response: OriginResponse,
    request_time: int,
    now: int,
) -> Entry:
    generation = new_generation()
    fields = CIMultiDictProxy(verdict.fields)
    return Entry(
        key=key.digest,
        target=wanted.target_key.digest,
        location=wanted.location,
        generation=generation,
        label=key.text,
        partition=partition,
        stored=Stored(
            representation=Representation(
                status=response.status,
                fields=fields,
                validators=origin_validators(fields, own_tag(generation)),
                complete_length=response.content_length,
            ),
            request_time=request_time,
            response_time=now,
            vary=verdict.vary,
            scope=verdict.scope,
        ),
    )
