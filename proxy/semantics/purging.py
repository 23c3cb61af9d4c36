"""What a purge means: which stored answers it is about, whatever key they are stored under."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """Where clients find a stored answer.

    `host` is in lower case, None for an answer that is the same for all hosts.  `path` is path and query in the
    normal form of keys (RFC 3986 section 6.2.2).
    """

    host: str | None
    path: str
