"""What a request asks of the cache, and what it may have."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.origin import InterimHandler, Origin
from proxy.semantics import reuse
from proxy.semantics.cache_status import CacheStatus
from proxy.semantics.fields import Fields, parse_directives
from proxy.semantics.key import CacheKey, accept_encoding
from proxy.semantics.policy import CachePolicy
from proxy.semantics.purging import Location
from proxy.semantics.request import ClientRequest
from proxy.slots import NOBODY
from proxy.spool.entry import Entry


def _untold(status: CacheStatus) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a GET or HEAD asks for, routed: which origin, which target and fields to ask it with, which keys.

    `fields` makes them when the origin is asked: a hit needs none.  `partition` names the request's credentials,
    if it has any that count, and `partition_key` is the key of what is stored for them alone.  `target_key` is the
    same for all answers of the target, whatever fields of the request are in the others; `location` is where clients
    find them.  `interim` takes the interim responses that the origin sends before its answer, `forwarded` why the
    origin is asked, as soon as it is: there may be no answer.  `credentials` names those of the request even where
    they do not partition.  `for_nobody`: no request waits for the answer.
    """

    request: ClientRequest
    origin: Origin
    target: str
    fields: Callable[[], Fields]
    policy: CachePolicy
    target_key: CacheKey
    location: Location
    shared_key: CacheKey
    partition_key: CacheKey | None
    partition: bytes | None
    interim: InterimHandler | None = None
    forwarded: Callable[[CacheStatus], None] = _untold
    credentials: bytes | None = None
    for_nobody: bool = False

    @property
    def causer(self) -> str:
        """On whose account the origin is asked, for limits."""
        return NOBODY if self.for_nobody else self.request.client

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of all that may be for this request."""
        if self.partition_key is None:
            return (self.shared_key.digest,)
        return self.shared_key.digest, self.partition_key.digest

    @property
    def own_key(self) -> bytes:
        """The key of what is for the senders of the same credentials; without any, for everyone."""
        return self.keys[-1]

    @property
    def coding(self) -> str:
        """The content codings that the origin is asked for."""
        return accept_encoding(self.request)

    @property
    def is_lonely(self) -> bool:
        """Does its answer belong to this client alone, whatever the origin says (RFC 9111 section 5.2.1.5)?"""
        return "no-store" in parse_directives(self.request.fields)

    def may_have(self, entry: Entry) -> bool:
        """May this request be answered with what another one fetched?  By its credentials, and by Vary."""
        return (
            entry.partition in {None, self.partition}
            and reuse.usable_shared(entry.stored, self.request, self.policy)
            and reuse.matches(entry.stored, self.request, self.policy)
        )
