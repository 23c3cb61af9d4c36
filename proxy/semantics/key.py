"""Under which key a response is stored: its target, its owner and its variant (RFC 9111, 2 and 4.1)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal

from proxy.semantics.fields import Fields, end_to_end, joined, list_members
from proxy.semantics.policy import CachePolicy, is_media_path
from proxy.semantics.purging import Location
from proxy.semantics.request import ClientRequest

DIGEST_SIZE: Final = 16
"""Bytes in a key's digest and in a partition."""

WITHHELD: Final = frozenset(
    {
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "max-forwards",
        "pragma",
        "range",
        "request-range",
        # Hints that make some origins answer another method, path or host than the one in our key.
        "x-host",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-url",
        "x-rewrite-url",
    }
)
"""Fields of a client that a fill does not pass on, in lower case: they cannot have selected its answer."""

KeyPart = Literal["host", "path", "query"]

# The codings worth a variant each; three of them make at most eight variants, whatever clients send.
_CODINGS: Final = ("br", "gzip", "zstd")
_REFUSED: Final = re.compile(r";[ \t]*q=0(?:\.0*)?[ \t]*(?:;|\Z)", re.IGNORECASE)
_PERCENT_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_UNPRINTABLE: Final = re.compile(rb"[^!-~]")


@dataclass(frozen=True, slots=True)
class KeyRules:
    """Which parts of the target make the key; the origin always does."""

    parts: tuple[KeyPart, ...] = ("host", "path", "query")


@dataclass(frozen=True, slots=True)
class CacheKey:
    """`digest` is the key, `DIGEST_SIZE` bytes; `text` says the same to a person, in printable ASCII."""

    digest: bytes
    text: str


def primary_key(
    origin: str,
    host: str,
    target_path: str,
    query: str | None,
    rules: KeyRules,
    *,
    scheme: str | None = None,
    partition: bytes | None = None,
) -> CacheKey:
    """The key of a target at an origin, within a partition if one is given.

    Two targets share a key if they are equal after the percent-encoding normalisation of RFC 3986 (sections
    6.2.2.1 and 6.2.2.2): nothing else is equal to every origin.  A bare `?` is not the same as none.
    """
    authority = host.lower() if "host" in rules.parts else None
    path = _normalised(target_path) if "path" in rules.parts else None
    asked = _normalised(query) if query is not None and "query" in rules.parts else None
    owner = None if partition is None else partition.hex()
    digest = blake2b(_unambiguous((origin, scheme, authority, path, asked, owner)), digest_size=DIGEST_SIZE)
    base = origin if authority is None else f"{scheme or 'http'}://{authority}"
    text = f"{base}{path or ''}" + ("" if asked is None else f"?{asked}")
    return CacheKey(
        digest.digest(), _printable(text) + ("" if owner is None else f" (partition {owner[:8]})")
    )


def location(request: ClientRequest, rules: KeyRules) -> Location:
    """Where clients find what answers this request."""
    path = request.path if request.query is None else f"{request.path}?{request.query}"
    return Location(request.host.lower() if "host" in rules.parts else None, _normalised(path))


def partition(request: ClientRequest, policy: CachePolicy, secret: bytes) -> bytes | None:
    """Whose answers these are: a keyed hash of the credentials, `DIGEST_SIZE` bytes; None if there are none.

    `secret` is at most 64 bytes.  Without it, nobody can tell from a partition's name which credential it is.
    """
    if policy.shared:
        return None
    authorization = joined(request.fields, "Authorization")
    cookies = counting_cookies(request.fields, policy.ignore_cookies)
    if authorization is None and not cookies:
        return None
    return blake2b(_unambiguous((authorization, *cookies)), digest_size=DIGEST_SIZE, key=secret).digest()


def counting_cookies(fields: Fields, ignored: Sequence[str]) -> tuple[str, ...]:
    """The cookie-pairs of a request whose name matches no ignored glob, sorted by name."""
    pairs = [pair.strip() for line in fields.getall("Cookie", ()) for pair in line.split(";")]
    named = [(pair.partition("=")[0].rstrip(), pair) for pair in pairs if pair]
    is_ignored = _any_of(tuple(ignored)).match
    counting = (item for item in named if not is_ignored(item[0]))
    return tuple(pair for _, pair in sorted(counting, key=lambda item: item[0]))


@lru_cache
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    # One pattern for all: a head has room for thousands of cookies.
    return re.compile("|".join(map(translate, globs)) if globs else r"(?!)")


def selecting(
    vary_names: Iterable[str], request: ClientRequest, *, ignore_cookies: Sequence[str] = ()
) -> tuple[tuple[str, str | None], ...]:
    """The nominated fields, lower-case and sorted, each with the normalised value the origin saw (4.1).

    None stands for a field that was absent, or that a fill withholds.  Credentials appear only as a hash.
    """
    fields = end_to_end(request.fields)
    names = sorted({name.lower() for name in vary_names})
    return tuple((name, _selecting_value(name, fields, request, ignore_cookies)) for name in names)


def _selecting_value(
    name: str, fields: Fields, request: ClientRequest, ignore_cookies: Sequence[str]
) -> str | None:
    # Fields that we rewrite count as rewritten: no client may file an answer under what it merely claimed.
    match name:
        case "accept-encoding":
            return accept_encoding(request)
        case "authorization":
            value = joined(fields, name)
            return None if value is None else _hashed((value,))
        case "cookie":
            cookies = counting_cookies(fields, ignore_cookies)
            return _hashed(cookies) if cookies else None
        case "host" | "x-forwarded-host":
            return request.host
        case "x-forwarded-proto":
            return request.scheme
        case "x-forwarded-for" | "forwarded":
            return request.client
        case _ if name in WITHHELD or name.startswith("x-forwarded-"):
            return None
    value = joined(fields, name)
    if value is not None and name.startswith("accept"):
        return ", ".join(list_members(value))
    return value if value is None else value.strip()


def accept_encoding(request: ClientRequest) -> str:
    """The Accept-Encoding of a fill for this request: `identity`, or the client's in a normal form.

    Ranges count bytes of the coded representation, so whoever asks for a range, or for something that is read
    by ranges, gets bytes without a coding.
    """
    if "Range" in request.fields or is_media_path(request.path):
        return "identity"
    members = list_members(joined(request.fields, "Accept-Encoding") or "")
    wanted = {member.partition(";")[0].rstrip().lower() for member in members if not _REFUSED.search(member)}
    return ", ".join(coding for coding in _CODINGS if coding in wanted) or "identity"


def _normalised(text: str) -> str:
    def replacement(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    return _PERCENT_ENCODED.sub(replacement, text)


def _unambiguous(parts: Iterable[str | None]) -> bytes:
    """Parts joined so that no two different sequences look the same: each behind its length, None as `-`."""
    encoded = (None if part is None else part.encode("utf-8", "surrogateescape") for part in parts)
    return b"".join(b"-" if part is None else b"%d:%b" % (len(part), part) for part in encoded)


def _hashed(parts: Iterable[str]) -> str:
    return blake2b(_unambiguous(parts), digest_size=DIGEST_SIZE).hexdigest()


def _printable(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _UNPRINTABLE.sub(lambda match: b"%%%02X" % ord(match[0]), raw).decode("ascii")
