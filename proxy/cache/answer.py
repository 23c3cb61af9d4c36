"""What came of a request to an origin, as far as its head."""

from dataclasses import dataclass

from proxy.origin import OriginResponse


@dataclass(frozen=True, slots=True)
class Answer:
    """An origin's response, whose body is still to come.

    `request_time` is when it was asked for, in seconds since the epoch, and `epoch` that of the spool then: purges
    since are about it.
    """

    response: OriginResponse
    request_time: int
    epoch: int
