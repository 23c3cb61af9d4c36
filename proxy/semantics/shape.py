"""What a request's head is apart from its target, its Range and its conditions: for clients that say it in every one.

Whoever asks for one object after another, or one slice after another, sends the same fields each time, byte for byte.
So these are read once, strictly, and then recognised.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Final

from multidict import CIMultiDict

from proxy.semantics.fields import Fields
from proxy.semantics.key import partition
from proxy.semantics.policy import CachePolicy
from proxy.semantics.request import ClientRequest

MOST_CONDITIONS: Final = 4
"""Lines of conditional fields in one head."""

_LINE: Final = re.compile(rb"([A-Za-z0-9-]+): ([!-~](?:[ -~]*[!-~])?)")

# What may change the answer to a GET that is stored, or who it is for, or where the request ends; `Cookie` and
# `Origin` are looked at by themselves.
_CHANGING: Final = frozenset(
    {
        *(
            "authorization",
            "cache-control",
            "expect",
            "host",
            "keep-alive",
            "max-forwards",
            "pragma",
            "range",
        ),
        *("request-range", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_CHANGING_BEGINNINGS: Final = ("content-", "if-", "proxy-", "want-")


@dataclass(slots=True)
class Shape:
    """Of heads that change nothing about what is stored for everybody.  `count` is how many fields they have."""

    fields: Fields
    count: int
    user_agent: str | None
    referer: str | None
    has_cookies: bool
    has_origin: bool
    _partitions: dict[int, bytes | None] = field(default_factory=dict)

    def partition(self, about: ClientRequest, policy: CachePolicy, secret: bytes) -> bytes | None:
        """As `key.partition`, of a request with these fields; `policy` is one of a few, and lives as long as this."""
        known = self._partitions
        if id(policy) not in known:
            known[id(policy)] = partition(replace(about, fields=self.fields), policy, secret)
        return known[id(policy)]


def read_lines(lines: bytes) -> CIMultiDict[str] | None:
    """Fields, each line with the CRLF before it; None for anything but well-spelled ones, each of them once."""
    fields: CIMultiDict[str] = CIMultiDict()
    for line in lines.split(b"\r\n")[1:]:
        match = _LINE.fullmatch(line)
        if match is None or (name := match[1].decode()) in fields:
            return None
        fields.add(name, match[2].decode())
    return fields


def read_shape(lines: bytes) -> Shape | None:
    """The fields behind the first line and Host, up to the end of the head; None where they may change something."""
    fields = read_lines(lines[:-4]) if lines.endswith(b"\r\n\r\n") else None
    if fields is None or any(_changes(name.lower(), value) for name, value in fields.items()):
        return None
    return Shape(
        fields,
        len(fields),
        fields.get("User-Agent"),
        fields.get("Referer"),
        has_cookies="Cookie" in fields,
        has_origin="Origin" in fields,
    )


def _changes(name: str, value: str) -> bool:
    if name == "connection":
        return value.lower() != "keep-alive"
    return name in _CHANGING or name.startswith(_CHANGING_BEGINNINGS)
