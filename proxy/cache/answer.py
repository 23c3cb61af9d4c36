"""Asking an origin for what may be stored, and what came of it, as far as its head."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from multidict import CIMultiDict

from proxy.cache.wanted import Wanted
from proxy.errors import OriginDown, OriginUnreachable
from proxy.origin import OriginRequest, OriginResponse
from proxy.semantics.fields import Fields
from proxy.spool.spool import Spool

PAUSES = (0.1, 0.3)
"""Seconds before an origin that took a connection and ended it without an answer is asked for the second time, and
for the third."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An origin's response, whose body is still to come.

    `request_time` is when it was asked for, in seconds since the epoch, and `epoch` that of the spool then: purges
    since are about it.
    """

    response: OriginResponse
    request_time: int
    epoch: int


class Asker:
    """`now` gives seconds since the epoch.  `make_room` is told of each request before it is sent."""

    def __init__(self, spool: Spool, now: Callable[[], int], make_room: Callable[[Wanted], None]) -> None:
        self._spool = spool
        self._make_room = make_room
        self._now = now
        self.count = 0
        """Requests sent to origins in order to store the answer."""

    async def get(self, wanted: Wanted, conditions: Fields | None = None) -> Answer:
        """The origin's answer to a GET for `wanted`, as if that had neither Range nor conditions but these.

        Raises AdapterError.
        """
        fields = CIMultiDict(wanted.fields())
        fields.extend(conditions or {})
        request = OriginRequest("GET", wanted.target, fields, interim=wanted.interim)
        for pause in PAUSES:
            try:
                return await self._send(wanted, request)
            except OriginDown:
                raise
            except OriginUnreachable:
                await asyncio.sleep(pause)
        return await self._send(wanted, request)

    async def _send(self, wanted: Wanted, request: OriginRequest) -> Answer:
        self.count += 1
        self._make_room(wanted)
        request_time, epoch = self._now(), self._spool.epoch
        response = await wanted.origin.fetch_whole(request, wanted.causer)
        return Answer(response, request_time, epoch)
