"""What the cache hands out: the right to read one representation."""

from collections.abc import Callable
from dataclasses import dataclass, field

from multidict import CIMultiDict, CIMultiDictProxy

from proxy.cache.sources import Passing, Source
from proxy.origin import OriginResponse
from proxy.semantics.cache_status import CacheStatus
from proxy.semantics.fields import Fields, end_to_end, format_http_date
from proxy.semantics.representation import Representation
from proxy.semantics.validators import origin_validators

PASSING_READ_AHEAD = 256 << 10
"""Bytes read at once, ahead of a client whose answer is not stored: it may be slow, and one of many."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to read one representation until `close`, which is called once.

    `age` is None for what is not reused.  The `withheld` fields are for this client, and are not kept.
    """

    source: Source
    status: CacheStatus
    age: int | None
    withheld: Fields = field(default_factory=CIMultiDict)
    on_close: Callable[[], None] | None = None

    @property
    def key(self) -> str | None:
        """The text of the key that it is stored under, if it is."""
        entry = self.source.entry
        return None if entry is None else entry.label

    def close(self) -> None:
        self.source.close()
        if self.on_close is not None:
            self.on_close()


def passing(response: OriginResponse, now: int) -> Passing:
    """A response that is not stored, arrived at `now`."""
    response.read_ahead(PASSING_READ_AHEAD)
    fields = end_to_end(response.fields)
    fields.setdefault("Date", format_http_date(now))
    representation = Representation(
        status=response.status,
        fields=CIMultiDictProxy(fields),
        validators=origin_validators(fields, None),
        complete_length=response.content_length,
    )
    return Passing(response, representation)
