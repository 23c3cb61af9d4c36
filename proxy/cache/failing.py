"""What an origin has failed at a moment ago."""

from proxy.cache.fetch import Outcome, Passed
from proxy.cache.recent import Recent
from proxy.cache.wanted import Wanted
from proxy.errors import AdapterError, ConnectTimeout, OriginDown, OriginError
from proxy.semantics.freshness import FAILURES

SPARED_FOR = 5.0
"""Seconds for which an origin is not asked again for what it has just failed at, if there is something to serve."""


class Failing:
    """By the key of what is stored.

    An origin that cannot be reached is spared for everybody.  Other failures may be due to the one request, and spare
    it that client's: nobody shall keep the others from it.
    """

    def __init__(self) -> None:
        self._recent = Recent(SPARED_FOR)

    def holds(self, key: bytes, wanted: Wanted) -> bool:
        """Has it failed at what is stored under `key`, as far as this request should know?"""
        return key in self._recent or _of_client(key, wanted) in self._recent

    def note_error(self, key: bytes, wanted: Wanted, error: AdapterError) -> None:
        """This came in place of an answer, or of its rest."""
        if isinstance(error, OriginDown | ConnectTimeout):
            self._recent.add(key)
        elif isinstance(error, OriginError):
            self._recent.add(_of_client(key, wanted))

    def note_broken(self, key: bytes) -> None:
        """It broke off a body, and did not come back: that was not about any one request."""
        self._recent.add(key)

    def note(self, key: bytes, wanted: Wanted, outcome: Outcome) -> None:
        """This came as the head of an answer."""
        if isinstance(outcome, Passed) and outcome.response.status in FAILURES:
            self._recent.add(_of_client(key, wanted))
        else:
            self._recent.discard(key)
            self._recent.discard(_of_client(key, wanted))


def _of_client(key: bytes, wanted: Wanted) -> bytes:
    return key + wanted.request.client.encode("utf-8", "surrogateescape")
