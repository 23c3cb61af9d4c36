"""What an origin has failed at a moment ago."""

from collections import OrderedDict

from proxy.cache.fetch import Outcome, Passed
from proxy.cache.recent import CAPACITY, Recent
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, ConnectTimeout, OriginDown, OriginError
from proxy.semantics.freshness import FAILURES

SPARED_FOR = 5.0
"""Seconds for which an origin is not asked again for what it has just failed at, if there is something to serve."""
SPARED_AT_MOST = 300.0
"""The same, of a body that it has sent again, and again, and never further: each time costs it twice the pause."""


class Failing:
    """By the key of what is stored.

    An origin that cannot be reached is spared for everybody.  Other failures may be due to the one request, and spare
    it that client's: nobody shall keep the others from it.
    """

    def __init__(self) -> None:
        self._recent = Recent(SPARED_FOR)
        self._vain: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # how far, and how often no further

    def holds(self, key: bytes, wanted: Wanted) -> bool:
        """Has it failed at what is stored under `key`, as far as this request should know?"""
        return key in self._recent or _of_client(key, wanted) in self._recent

    def note_error(self, key: bytes, wanted: Wanted, error: AdapterError) -> None:
        """This came in place of an answer, or of its rest."""
        if isinstance(error, OriginDown | ConnectTimeout):
            self._recent.add(key)
        elif isinstance(error, OriginError):
            self._recent.add(_of_client(key, wanted))

    def note_broken(self, key: bytes, reached: int, *, asked_again: bool) -> None:
        """It broke off a body after so many bytes.

        If it was `asked_again`, or came no further than the last time, that was not about any one request.
        """
        before, times = self._vain.pop(key, (-1, 0))
        times = times + 1 if reached <= before else 0
        self._vain[key] = reached, times
        if len(self._vain) > CAPACITY:
            self._vain.popitem(last=False)
        if asked_again or times:
            self._recent.add(key, min(SPARED_FOR * 2.0 ** min(times, 16), SPARED_AT_MOST))

    def note_whole(self, key: bytes) -> None:
        """It has given all of it."""
        self._vain.pop(key, None)

    def note(self, key: bytes, wanted: Wanted, outcome: Outcome) -> None:
        """This came as the head of an answer."""
        if isinstance(outcome, Passed) and outcome.response.status in FAILURES:
            self._recent.add(_of_client(key, wanted))
        else:
            self._recent.discard(key)
            self._recent.discard(_of_client(key, wanted))


def _of_client(key: bytes, wanted: Wanted) -> bytes:
    return key + wanted.request.client.encode("utf-8", "surrogateescape")
