"""Field values, as whoever speaks to us sends them."""

import re
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import http_sf
from multidict import CIMultiDict

from proxy.semantics.cache_status import CacheStatus, Forward, render
from proxy.semantics.fields import (
    MAX_LENGTH,
    OWS,
    Fields,
    end_to_end,
    format_http_date,
    is_coded,
    joined,
    list_members,
    parse_digits,
    parse_directives,
    parse_http_date,
    serialize_head,
)
from proxy.semantics.key import (
    KeyRules,
    accept_encoding,
    credentials,
    key_fields,
    location,
    primary_key,
    selecting,
    told_cookies,
)
from proxy.semantics.normalization import normalised
from proxy.semantics.own_tags import own_tag, without_own_tags
from proxy.semantics.policy import CachePolicy
from proxy.semantics.preconditions import Verdict, evaluate
from proxy.semantics.purging import tags_of
from proxy.semantics.ranges import (
    DEFAULT_LIMITS,
    Ignored,
    IntRange,
    RangeSpec,
    Slice,
    SuffixRange,
    Unsatisfiable,
    parse_range,
    resolve,
)
from proxy.semantics.request import ClientRequest
from proxy.semantics.targeted import governing
from proxy.semantics.validators import EntityTag, Validators, origin_validators, parse_entity_tags

PUMPED: Final = 1 << 15
"""Characters of a value that was made longer."""
LAST: Final = 253_402_300_799
"""The last second that a date can be written for; a leap second after it can be read."""
LONG: Final = 2.0
"""Processor seconds that no reading of so many characters takes, unless it takes more than linear time."""


def text_of(data: bytes) -> str:
    """As aiohttp hands a value over."""
    return data.decode("utf-8", "surrogateescape")


def fields_of(data: bytes) -> CIMultiDict[str]:
    """Lines as fields; a line without a colon has an empty value."""
    pairs = (line.partition(":") for line in text_of(data).split("\n"))
    return CIMultiDict((name, value.strip(OWS)) for name, _, value in pairs)


def linear(read: Callable[[str], object], text: str) -> None:
    """A long repetition of what was sent takes no time.  Every sixteenth input is tried: it costs."""
    if text and zlib.crc32(text.encode("utf-8", "surrogateescape")) % 16 == 0:
        half = len(text) // 2
        for pumped in (text * (PUMPED // len(text)), text[:half] * (PUMPED // max(1, half)) + text[half:]):
            begun = time.process_time()
            read(pumped)
            assert time.process_time() - begun < LONG, "more than linear time"


def lexing(data: bytes) -> None:
    """Lists, digits, dates, directives, and which fields end here."""
    text = text_of(data)
    members = list_members(text)
    assert all(member and member == member.strip(OWS) for member in members)
    if '"' not in text:
        assert list_members(", ".join(members)) == members
    number = parse_digits(text)
    assert number is None or (0 <= number <= MAX_LENGTH and (number == MAX_LENGTH or number == int(text)))
    moment = parse_http_date(text)
    assert moment is None or moment > LAST or parse_http_date(format_http_date(moment)) == moment
    fields = CIMultiDict({"Cache-Control": text, "Content-Encoding": text, "Connection": text, "X": "y"})
    directives = parse_directives(fields)
    for name in (*directives, "max-age", "no-cache", "private"):
        seconds = directives.seconds(name)
        assert seconds is None or 0 <= seconds <= MAX_LENGTH
        assert all(each == each.lower() for each in directives.names(name))
    assert "Connection" not in end_to_end(fields)
    is_coded(fields)
    assert serialize_head("HTTP/1.1 200 OK", CIMultiDict({"x": text})).endswith(b"x: " + data + b"\r\n\r\n")
    tags_of(fields, ("Cache-Control",))
    linear(list_members, text)
    linear(parse_http_date, text)
    linear(lambda value: parse_directives(CIMultiDict({"Cache-Control": value})), text)


def ranges(data: bytes) -> None:
    """A `Range` value, for bodies of all sizes."""
    text = text_of(data)
    specs = parse_range(text)
    linear(parse_range, text)
    if isinstance(specs, Ignored):
        return
    written = "bytes=" + ",".join(map(_spelling, specs))
    assert parse_range(written) == specs, written
    for length in (0, 1, 2, 10, 1000, 1 << 40, MAX_LENGTH):
        match resolve(specs, length, DEFAULT_LIMITS):
            case Ignored():
                pass
            case Unsatisfiable():
                assert all(_misses(spec, length) for spec in specs)
            case slices:
                assert len(slices) <= len(specs)
                assert all(0 <= each.start < each.stop <= length for each in slices)
                assert sum(each.stop - each.start for each in slices) <= length
                _reread(slices[0], length)


def _spelling(spec: RangeSpec) -> str:
    if isinstance(spec, SuffixRange):
        return f"-{spec.suffix_length}"
    return f"{spec.first_pos}-{'' if spec.last_pos is None else spec.last_pos}"


def _misses(spec: RangeSpec, length: int) -> bool:
    return spec.first_pos >= length if isinstance(spec, IntRange) else spec.suffix_length == 0


def _reread(piece: Slice, length: int) -> None:
    unit, _, rest = piece.content_range(length).partition(" ")
    assert (unit, rest) == ("bytes", f"{piece.start}-{piece.stop - 1}/{length}")


def tags(data: bytes) -> None:
    """Entity tags, alone and in lists."""
    text = text_of(data)
    one = EntityTag.parse(text)
    assert one is None or EntityTag.parse(str(one)) == one
    many = parse_entity_tags(text)
    if isinstance(many, tuple):
        assert many
        assert parse_entity_tags(", ".join(map(str, many))) == many
        assert all(tag.weakly_matches(tag) and tag.strongly_matches(tag) is not tag.weak for tag in many)
    if one is not None:
        assert many == (one,), "one tag is a list of one"
    validators = origin_validators(CIMultiDict({"ETag": text}), own_tag("0" * 32))
    assert validators.etag is not None
    assert not validators.etag.weak
    linear(parse_entity_tags, text)
    linear(EntityTag.parse, text)


_VALIDATORS: Final = Validators(EntityTag("a"), (EntityTag("a", weak=True),), 784111777, 784111778)


def preconditions(data: bytes) -> None:
    """All conditional fields, with each method."""
    fields = fields_of(data)
    for method in ("GET", "HEAD", "PUT"):
        request = _request(fields, method=method)
        for validators in (_VALIDATORS, Validators(None)):
            verdict = evaluate(request, validators)
            assert not verdict.range_applies or (method == "GET" and verdict.verdict is Verdict.PROCEED)
            assert evaluate(request, validators, 404).verdict is Verdict.PROCEED
    kept = without_own_tags(fields)
    assert kept is None or len(kept) <= len(fields)


_RULES: Final = (
    KeyRules(),
    KeyRules(keep=("a", "b*"), drop=("b1",), sort=True, fields=("x-tenant", "accept-language"), guarded=True),
    KeyRules(parts=("path",)),
)
_MALFORMED: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_POLICY: Final = CachePolicy(ignore_cookies=("_ga*",))


def keys(data: bytes) -> None:
    """The first line is a host, the second a target, the rest are fields."""
    host, _, rest = data.partition(b"\n")
    target, _, lines = rest.partition(b"\n")
    path, mark, query = text_of(target).partition("?")
    request = _request(fields_of(lines), host=text_of(host).lower(), path=path, query=query if mark else None)
    for rules in _RULES:
        said = key_fields(request, rules)
        key = primary_key("o", request.host, request.path, request.query, rules, fields=said)
        assert key.text.isascii()
        assert key.text.isprintable()
        if not _MALFORMED.search(path):  # decoding behind a lone % could make what looks encoded
            again = primary_key("o", request.host, normalised(path), request.query, rules, fields=said)
            assert key == again, "the normal form has another key"
        location(request, rules)
    selecting(("Cookie", "Authorization", "X-A", "Accept", *request.fields), request)
    owner = credentials(request, _POLICY, b"secret")
    assert (owner is None) == (
        "Authorization" not in request.fields and told_cookies(request.fields, ("_ga*",)) is None
    )
    assert set(accept_encoding(request).split(", ")) <= {"br", "gzip", "zstd", "identity"}
    linear(normalised, path)
    linear(lambda value: told_cookies(CIMultiDict({"Cookie": value}), ("_ga*",)), path)


def structured(data: bytes) -> None:
    """What other caches say in Cache-Status, and what the origin says in targeted fields."""
    text = text_of(data)
    status = CacheStatus(forward=Forward.STALE, ttl=-5, key=text, detail=text or None)
    assert len(_list(render("range-adapter", status))) == 1
    assert _list(render("range-adapter", status, text))
    assert _list(render(text or "x", CacheStatus(hit=True)))
    before: Fields = CIMultiDict({"CDN-Cache-Control": text, "Cache-Control": "max-age=5", "X": "y"})
    after = governing(before, ("CDN-Cache-Control",))
    assert after["X"] == "y"
    if after is not before:
        value = joined(after, "Cache-Control") or ""
        directives = parse_directives(after)
        assert all(directives.seconds(name) is not None for name in directives), value
    linear(lambda value: governing(CIMultiDict({"A": value}), ("A",)), text)
    linear(lambda value: render("x", CacheStatus(), value), text)


def _list(value: str) -> Sequence[object]:
    parsed = http_sf.parse(value.encode(), tltype="list")
    assert isinstance(parsed, list)
    return parsed


def _request(
    fields: Fields, *, method: str = "GET", host: str = "h", path: str = "/", query: str | None = None
) -> ClientRequest:
    return ClientRequest(
        method=method,
        target=path if query is None else f"{path}?{query}",
        path=path,
        query=query,
        scheme="http",
        host=host,
        fields=fields,
        peer="192.0.2.1",
        client="192.0.2.1",
    )
