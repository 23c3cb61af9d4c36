"""The Cache-Status response field: how this cache handled a request (RFC 9211)."""

import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final

import http_sf
from http_sf.types import ParamsType, Token


class Forward(Enum):
    """Why a request went forward to the origin (RFC 9211 section 2.2)."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    REQUEST = "request"
    STALE = "stale"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Our member of the field.

    A hit has no `forward`.  `ttl` is in seconds, negative if stale.  `forward_status` is what the origin
    answered, where it was asked.  `key` is a cache key's text, if it is to be told.  `detail` is a reason token of
    ours.
    """

    hit: bool = False
    forward: Forward | None = None
    forward_status: int | None = None
    ttl: int | None = None
    stored: bool = False
    collapsed: bool = False
    key: str | None = None
    detail: str | None = None


# What a structured field's integer can hold (RFC 9651 section 3.3.1).
_LARGEST_INTEGER: Final = 999_999_999_999_999
_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_NOT_IN_STRING: Final = re.compile(r"[^ -~]")


def render(name: str, status: CacheStatus, upstream: str | None = None) -> str:
    """The field's value: our member, called `name`, behind those of upstream caches (section 2).

    An upstream value that is not a list of structured fields is left out: it would spoil ours too.
    """
    own = _member(name, status) if status.key is None else _member_with_key(name, status, status.key)
    return f"{upstream}, {own}" if upstream is not None and _is_list(upstream) else own


@lru_cache(maxsize=256)  # in one second, most hits are the same
def _member(name: str, status: CacheStatus) -> str:
    return http_sf.ser([(_token_or_string(name), _parameters(status))])


def _member_with_key(name: str, status: CacheStatus, key: str) -> str:
    # There is one for each object: it would push the others out of what is remembered.
    own = _member(name, replace(status, key=None, detail=None)) + f";key={http_sf.ser(_string(key))}"
    return own if status.detail is None else f"{own};detail={http_sf.ser(_token_or_string(status.detail))}"


def _parameters(status: CacheStatus) -> ParamsType:
    parameters: ParamsType = {}
    if status.hit:
        parameters["hit"] = True
    if status.forward is not None:
        parameters["fwd"] = Token(status.forward.value)
    if status.forward_status is not None:
        parameters["fwd-status"] = status.forward_status
    if status.ttl is not None:
        parameters["ttl"] = max(-_LARGEST_INTEGER, min(status.ttl, _LARGEST_INTEGER))
    if status.stored:
        parameters["stored"] = True
    if status.collapsed:
        parameters["collapsed"] = True
    if status.detail is not None:
        parameters["detail"] = _token_or_string(status.detail)
    return parameters


def _token_or_string(text: str) -> str | Token:
    return Token(text) if _TOKEN.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    return _NOT_IN_STRING.sub("?", text)


def _is_list(value: str) -> bool:
    try:
        return bool(http_sf.parse(value.encode(), tltype="list"))
    except (http_sf.StructuredFieldError, UnicodeEncodeError):
        return False
