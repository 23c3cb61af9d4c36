"""Cache control that is meant for this cache: targeted fields, which win over Cache-Control (RFC 9213)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import http_sf
from multidict import CIMultiDict

from proxy.semantics.fields import Fields, joined

_SECONDS: Final = frozenset({"max-age", "s-maxage", "stale-if-error", "stale-while-revalidate"})
_FLAGS: Final = frozenset(
    {"must-revalidate", "must-understand", "no-store", "no-transform", "proxy-revalidate", "public"}
)
_LIMITABLE: Final = frozenset({"no-cache", "private"})


def governing(fields: Fields, targets: Sequence[str]) -> Fields:
    """A response's fields as its caching goes by them.

    With the first of the `targets` that is there, and valid, that stands in the place of Cache-Control, and Expires
    and Pragma say nothing (section 2.2).  What is stored and sent on are the fields as they came.
    """
    for target in targets:
        if target in fields and (directives := _directives(joined(fields, target) or "")) is not None:
            silenced = {"cache-control", "expires", "pragma", *(name.lower() for name in targets)}
            kept = CIMultiDict(
                (name, value) for name, value in fields.items() if name.lower() not in silenced
            )
            kept["Cache-Control"] = directives
            return kept
    return fields


@lru_cache(maxsize=256)
def _directives(value: str) -> str | None:
    """A structured dictionary in the words of Cache-Control; None where the field is to be ignored (section 2.1).

    It is ignored if it is empty, or no dictionary, or gives a directive that we know an argument of a wrong type.
    """
    try:
        members = http_sf.parse(value.encode("utf-8", "surrogateescape"), tltype="dictionary")
    except (http_sf.StructuredFieldError, UnicodeError):
        return None
    if not isinstance(members, dict) or not members:
        return None
    directives = [
        _directive(name, member[0] if isinstance(member, tuple) else member)
        for name, member in members.items()
    ]
    known = [directive for directive in directives if directive is not None]
    return ", ".join(filter(None, known)) if len(known) == len(directives) else None


def _directive(name: str, argument: object) -> str | None:
    """One member as a directive; "" for one that we do not know, None for one that cannot be."""
    match argument:
        case _ if name not in _SECONDS | _FLAGS | _LIMITABLE:
            return ""
        case True:
            return None if name in _SECONDS else name
        case False:
            return None
        case int() if name in _SECONDS and argument >= 0:
            return f"{name}={argument}"
        case str() if name in _LIMITABLE and type(argument) is str:  # a token is not one
            quoted = argument.replace("\\", "\\\\").replace('"', '\\"')
            return f'{name}="{quoted}"'
        case _:
            return None
