"""Under which key a response is stored: its target, its owner and its variant (RFC 9111, 2 and 4.1)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from proxy.semantics.fields import OWS, Fields, end_to_end, joined, list_members
from proxy.semantics.normalization import any_of, authority, normalised, reduced
from proxy.semantics.policy import CachePolicy, is_media_path
from proxy.semantics.purging import Location
from proxy.semantics.request import ClientRequest

DIGEST_SIZE: Final = 16
"""Bytes in a key's digest and in a partition."""

WITHHELD: Final = frozenset(
    {
        "accept-encoding",  # a fill has one of its own; CGI origins would take `Accept_Encoding` for it
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
        "want-content-digest",
        "want-digest",
        "want-repr-digest",
        # Hints that make some origins answer another method, path, host or scheme than the one in our key.
        "a-im",
        "base-url",
        "destination",
        "front-end-https",
        "http-url",
        "request-uri",
        "surrogate-capability",
        "translate",
        "x-accel-redirect",
        "x-envoy-original-path",
        "x-host",
        "x-http-host-override",
        "x-http-method",
        "x-http-method-override",
        "x-http-path-override",
        "x-method",
        "x-method-override",
        "x-middleware-subrequest",
        "x-original-host",
        "x-original-uri",
        "x-original-url",
        "x-override-url",
        "x-proxy-url",
        "x-rewrite-url",
        "x-scheme",
        "x-sendfile",
        "x-ssl",
        "x-url-scheme",
        # Addresses that anyone may claim: X-Forwarded-For has the one that we believe.
        "cf-connecting-ip",
        "client-ip",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
    }
)
"""Fields of a client that a fill does not pass on, in lower case: they cannot have selected its answer."""

KeyPart = Literal["host", "path", "query"]

LONGEST_VALUE: Final = 1024
"""Characters of a field's value that a variant or a key keeps as they are; of a longer one it keeps a hash."""

FieldValues: TypeAlias = tuple[tuple[str, str | None], ...]
"""Names in lower case, each with the normal form of its value, None for a field that is absent."""

# The codings worth a variant each; three of them make at most eight variants, whatever clients send.
_CODINGS: Final = ("br", "gzip", "zstd")
_REFUSED: Final = re.compile(r";[ \t]*q=0(?:\.0*)?[ \t]*(?:;|\Z)", re.IGNORECASE)
# A comma in them separates nothing.
_SINGLETONS: Final = frozenset({"date", "from", "origin", "referer", "user-agent"})
_UNPRINTABLE: Final = re.compile(rb"[^!-~]")


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What makes the key: these parts of the target, and the scheme and the origin in any case.

    Of the query, the parameters whose name matches a glob of `keep` (None: all) and none of `drop`; with `sort`,
    whatever their order.  Of the request, the values of `fields`, names in lower case.  What is `guarded`, because
    the origin says of each request who may have it, no other route finds, nor this one once it says otherwise.
    """

    parts: tuple[KeyPart, ...] = ("host", "path", "query")
    keep: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    sort: bool = False
    fields: tuple[str, ...] = ()
    guarded: bool = False

    def reduced(self, query: str | None) -> str | None:
        """What the origin is asked for when an object is fetched: nothing that could select it unseen by the key.

        A query that is no part of the key goes on whole all the same: it may carry a signature.
        """
        selects = self.keep is not None or self.drop or self.sort
        if query is None or "query" not in self.parts or not selects:
            return query
        return reduced(query, self.keep, self.drop, sort=self.sort)


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
    scheme: str = "http",
    fields: FieldValues = (),
    partition: bytes | None = None,
) -> CacheKey:
    """The key of a target at an origin, for requests with these `fields`, and within a partition if one is given.

    Two targets share a key if RFC 3986 calls them equal (sections 6.2.2 and 6.2.3) after what the rules leave
    out has been left out.  Nothing else is equal to every origin: a bare `?` is not the same as none.
    """
    named = authority(host, scheme) if "host" in rules.parts else None
    path = normalised(target_path) or "/" if "path" in rules.parts else None
    asked = rules.reduced(query) if "query" in rules.parts else None
    asked = None if asked is None else normalised(asked)
    owner = None if partition is None else partition.hex()
    parts = " ".join((*sorted(set(rules.parts)), *(("guarded",) if rules.guarded else ())))
    target = (origin, scheme, named, path, asked, owner, parts)
    values = (text for field in fields for text in field)
    digest = blake2b(_unambiguous((*target, *values)), digest_size=DIGEST_SIZE)
    # What every request shares, is `*`.
    text = f"{scheme}://{'*' if named is None else named}{'/*' if path is None else path}"
    text += "?*" if "query" not in rules.parts else "" if asked is None else f"?{asked}"
    marks = "".join((" (guarded)" if rules.guarded else "", *_marks(fields, owner)))
    return CacheKey(digest.digest(), f"{_printable(origin)} {_printable(text)}{marks}")


def _marks(fields: FieldValues, owner: str | None) -> Iterator[str]:
    for name, value in fields:  # a value may be a secret, and a key's text stands in logs
        yield f" (no {name})" if value is None else f" ({name} {_hashed((value,))[:8]})"
    if owner is not None:
        yield f" (partition {owner[:8]})"


def key_fields(request: ClientRequest, rules: KeyRules) -> FieldValues:
    """What the fields of the rules say in this request, as the origin hears them."""
    if not rules.fields:
        return ()
    fields = end_to_end(request.fields)
    return tuple((name, _value(name, fields)) for name in rules.fields)


def location(request: ClientRequest, rules: KeyRules) -> Location:
    """Where clients find what answers this request, in the one spelling for all that share its key."""
    query = rules.reduced(request.query) if "query" in rules.parts else None
    path = normalised(request.path) or "/"
    return Location(
        authority(request.host, request.scheme) if "host" in rules.parts else None,
        path if query is None else f"{path}?{normalised(query)}",
    )


def partition(request: ClientRequest, policy: CachePolicy, secret: bytes) -> bytes | None:
    """Whose answers these are: a keyed hash of the credentials, `DIGEST_SIZE` bytes; None if there are none.

    `secret` is at most 64 bytes.  Without it, nobody can tell from a partition's name which credential it is.
    """
    return None if policy.one_copy else credentials(request, policy, secret)


def credentials(request: ClientRequest, policy: CachePolicy, secret: bytes) -> bytes | None:
    """The same of a request's credentials, whether or not they separate answers."""
    authorization = joined(request.fields, "Authorization")
    cookies = counting_cookies(request.fields, policy.ignore_cookies)
    if authorization is None and not cookies:
        return None
    return blake2b(_unambiguous((authorization, *cookies)), digest_size=DIGEST_SIZE, key=secret).digest()


def counting_cookies(fields: Fields, ignored: Sequence[str]) -> tuple[str, ...]:
    """The cookie-pairs of a request whose name matches no ignored glob, sorted by name."""
    return tuple(pair for _, pair in sorted(_counting(fields, ignored), key=lambda item: item[0]))


def told_cookies(fields: Fields, ignored: Sequence[str]) -> str | None:
    """The Cookie of a fill: the pairs that count, as they came.

    Those that do not must not select what is stored for everybody, and some parsers find two in what others take for
    one.
    """
    return "; ".join(pair for _, pair in _counting(fields, ignored)) or None


def _counting(fields: Fields, ignored: Sequence[str]) -> Iterator[tuple[str, str]]:
    pairs = (pair.strip() for line in fields.getall("Cookie", ()) for pair in line.split(";"))
    named = ((pair.partition("=")[0].rstrip(), pair) for pair in pairs if pair)
    is_ignored = any_of(tuple(ignored)).match
    return (item for item in named if not is_ignored(item[0]))


def selecting(
    vary_names: Iterable[str], request: ClientRequest, *, ignore_cookies: Sequence[str] = ()
) -> FieldValues:
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
            return authority(request.host, request.scheme)
        case "x-forwarded-proto":
            return request.scheme
        case "x-forwarded-for" | "forwarded":
            return request.client
        case _ if name in WITHHELD or name == "x-real-ip" or name.startswith("x-forwarded-"):
            return None
        case _:
            return _value(name, fields)


def _value(name: str, fields: Fields) -> str | None:
    """The normal form of a field, `name` in lower case; None if it is absent.

    CGI and WSGI origins read `X_Lang` as `X-Lang`: where a client sends such a spelling, the value is one of its own.
    """
    value = joined(fields, name)
    normal = None if value is None else _normal_form(name, value)
    others = [(other.lower(), text) for other, text in fields.items() if _is_alias(other, name)]
    if others:
        return f" {_hashed((normal, *(text for other in others for text in other)))}"
    # No value begins with a space, so that nobody can send what stands for a long one.
    return f" {_hashed((normal,))}" if normal is not None and len(normal) > LONGEST_VALUE else normal


def _normal_form(name: str, value: str) -> str:
    """Members of a list joined by ", ", in their order: legacy servers take the first.

    Empty members go only from the lists we know: an unknown field need not be one, and what its origin tells
    apart must not become the same here.
    """
    if name in _SINGLETONS:
        return value.strip(OWS)
    if name.startswith("accept"):
        normal = ", ".join(list_members(value))
        return normal.lower() if name in {"accept-charset", "accept-language"} else normal
    if '"' in value:  # a comma may be part of a quoted-string
        return value.strip(OWS)
    return ", ".join(member.strip(OWS) for member in value.split(","))


def _is_alias(other: str, name: str) -> bool:
    other = other.lower()
    return other != name and other.replace("_", "-") == name.replace("_", "-")


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


def _unambiguous(parts: Iterable[str | None]) -> bytes:
    """Parts joined so that no two different sequences look the same: each behind its length, None as `-`."""
    encoded = (None if part is None else part.encode("utf-8", "surrogateescape") for part in parts)
    return b"".join(b"-" if part is None else b"%d:%b" % (len(part), part) for part in encoded)


def _hashed(parts: Iterable[str | None]) -> str:
    return blake2b(_unambiguous(parts), digest_size=DIGEST_SIZE).hexdigest()


def _printable(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return _UNPRINTABLE.sub(lambda match: b"%%%02X" % ord(match[0]), raw).decode("ascii")
