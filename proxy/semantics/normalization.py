"""Spellings that mean the same: normal forms of hosts, paths and queries (RFC 3986 sections 6.2.2 and 6.2.3).

Only what is equal to every origin is made equal: the case of a path, doubled slashes, `+` beside `%20` and a bare
`?` may mean something, and stay.  Every function here takes as good as linear time, whatever a client sends.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from operator import itemgetter
from typing import Final

_PERCENT_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_PERCENT_ENCODED_BYTE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_OWN_PORTS: Final = {"http": "80", "https": "443"}


def normalised(text: str) -> str:
    """A raw path or query in the normal form of keys: unreserved characters decoded, other `%xx` in upper case."""

    def replacement(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    return _PERCENT_ENCODED.sub(replacement, text)


def authority(host: str, scheme: str) -> str:
    """A host, with its port if it has one, in the normal form of keys.

    That is in lower case, without the port that `scheme` has anyway, without an empty one, and without the last
    dot of a fully qualified name.  Percent-encoding in it stays: no route decodes it either.
    """
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host.lower(), ""
    # With two dots at its end it is no name, and none shall be made of it.
    if name.endswith(".") and not name.endswith(".."):
        name = name[:-1]
    return name if port in ("", _OWN_PORTS.get(scheme)) else f"{name}:{port}"


# --- Queries --------------------------------------------------------------------------------------


def reduced(query: str, keep: Sequence[str] | None, drop: Sequence[str], *, sort: bool) -> str | None:
    """The parameters of `query` whose name matches a glob of `keep` and none of `drop`; None if none is left.

    `keep` as None means all.  Names are compared decoded; parameters stay as they were written.  Only `&` stands
    between them: whoever takes `;` for a separator, too, finds in each what the key has in it.  What is empty
    between two `&` is a parameter with an empty name.  `sort` is by name; equal names keep their order.
    """
    is_kept = any_of(("*",) if keep is None else tuple(keep)).match
    is_dropped = any_of(tuple(drop)).match
    named = ((_decoded(parameter.partition("=")[0]), parameter) for parameter in query.split("&"))
    left = [(name, parameter) for name, parameter in named if is_kept(name) and not is_dropped(name)]
    if sort:
        left.sort(key=itemgetter(0))
    return "&".join(parameter for _, parameter in left) if left else None


def parameter_names(query: str) -> Iterable[str]:
    """Each name in a query once, decoded, in the order of the query."""
    return dict.fromkeys(_decoded(parameter.partition("=")[0]) for parameter in query.split("&"))


@lru_cache
def any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    """What fnmatchcase takes for one of these globs: one pattern, as a head has room for thousands of names."""
    return re.compile("|".join(map(translate, globs)) if globs else r"(?!)")


def _decoded(name: str) -> str:
    if "%" not in name:
        return name
    raw = name.encode("utf-8", "surrogateescape")
    decoded = _PERCENT_ENCODED_BYTE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), raw)
    return decoded.decode("utf-8", "surrogateescape")
