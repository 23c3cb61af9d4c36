"""What a follower and the keeper say to each other.

Whoever asks gives what it asks a number of its own, and the answer bears that.  A lease keeps the number that it was
asked for with.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from proxy.errors import AdapterError
from proxy.fill.fill import FillState
from proxy.semantics.cache_status import CacheStatus
from proxy.semantics.fields import Fields
from proxy.semantics.key import CacheKey
from proxy.semantics.purging import Purge
from proxy.semantics.representation import Representation
from proxy.semantics.request import ClientRequest
from proxy.spool.entry import Entry

# A follower


@dataclass(frozen=True, slots=True)
class Acquire:
    """A lease for this request, please."""

    number: int
    request: ClientRequest


@dataclass(frozen=True, slots=True)
class Succeed:
    """One on what has replaced the object of another lease of ours, for the same request."""

    number: int
    lease: int
    request: ClientRequest


@dataclass(frozen=True, slots=True)
class Call:
    """What a source of that lease says to this."""

    number: int
    lease: int
    method: Literal["ensure", "wait", "wait_for_end", "read"]
    arguments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody wants this number any more: the answer, or the lease."""

    number: int


@dataclass(frozen=True, slots=True)
class Invalidate:
    number: int
    target: CacheKey
    owners: Collection[bytes]


@dataclass(frozen=True, slots=True)
class Remove:
    """A purge."""

    number: int
    what: Purge
    soft: bool


@dataclass(frozen=True, slots=True)
class HasOthers:
    """Is something else of its target stored?  A failure where something is arriving."""

    number: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Used:
    """These generations are read by those who do not ask for them."""

    generations: Collection[str]


@dataclass(frozen=True, slots=True)
class Doubt:
    """The disk has refused us something."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Noted:
    """Our figures stand on the board."""

    number: int


Request = Acquire | Succeed | Call | Drop | Invalidate | Remove | HasOthers | Used | Doubt | Noted

# The keeper


@dataclass(frozen=True, slots=True)
class Welcome:
    """`secret` is the spool's."""

    secret: bytes


@dataclass(frozen=True, slots=True)
class Interim:
    """A 1xx for the one who asks by this number."""

    number: int
    status: int
    reason: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The origin is asked, and why."""

    number: int
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class Growth:
    """How far a fill has come.  Of its bytes, the first `on_disk` lie in the file for good.  No `entry`: as before.

    If it `slides`, the others come from a window, and only for who asks for them.
    """

    fill: int
    entry: Entry | None
    on_disk: int
    state: FillState
    slides: bool
    provisional: bool
    error: AdapterError | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete object."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first `written` bytes of one, and why there are no more."""

    entry: Entry
    written: int
    error: AdapterError


@dataclass(frozen=True, slots=True)
class Through:
    """What is not stored."""

    representation: Representation


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease; but for `Through`, the body's file comes with it."""

    number: int
    status: CacheStatus
    age: int | None
    withheld: Fields
    source: Whole | Growth | Beginning | Through


@dataclass(frozen=True, slots=True)
class Answer:
    number: int
    value: int | bytes | bytearray | bool | None


@dataclass(frozen=True, slots=True)
class Failure:
    number: int
    error: AdapterError


@dataclass(frozen=True, slots=True)
class Condemned:
    """This generation has rotted: nobody is to get another byte of it."""

    generation: str


@dataclass(frozen=True, slots=True)
class Note:
    """Write your figures on the board."""

    number: int


Reply = Welcome | Interim | Forwarded | Granted | Answer | Failure | Growth | Condemned | Note
