"""Heads that are recognised: read strictly, and only where they change nothing; one range as the long way has it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.semantics.key import partition
from proxy.semantics.policy import CachePolicy
from proxy.semantics.ranges import (
    DEFAULT_LIMITS,
    Ignored,
    Slice,
    Unsatisfiable,
    parse_range,
    read_slice,
    resolve,
)
from proxy.semantics.request import ClientRequest
from proxy.semantics.shape import read_lines, read_shape

END = b"\r\n\r\n"
ABOUT = ClientRequest("GET", "/", "/", None, "http", "a", CIMultiDict(), "::1", "::1")


def test_what_browsers_send() -> None:
    shape = read_shape(
        b"\r\nUser-Agent: X (Y)\r\nReferer: http://a/\r\nCookie: a=1; _ga=2\r\nSec-Fetch-Mode: cors" + END
    )
    assert shape is not None
    assert (shape.count, shape.user_agent, shape.referer) == (4, "X (Y)", "http://a/")
    assert shape.has_cookies
    assert not shape.has_origin
    assert read_shape(END) is not None


@pytest.mark.parametrize(
    "line",
    [
        *[
            "Authorization: Basic YTpi",
            "Cache-Control: max-age=0",
            "Pragma: x",
            "Connection: close",
            "Host: b",
        ],
        *[
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "TE: trailers",
        ],
        *["range: bytes=0-1", "Range: items=0-1", "if-range: x", "Want-Repr-Digest: sha-256=1", "Proxy-X: 1"],
        *[
            "A:b",
            "A:  b",
            "A: b ",
            "A: ",
            "A : b",
            " A: b",
            "A_B: c",
            ": b",
            "A",
            "A: b\tc",
            "A: b\x7f",
            "A: \xe9",
            "",
        ],
        *["A: b\nC: d", "A: b\rC: d", "A: b\r\n c", "A: b\r\nA: c", "A: b\r\na: c"],
    ],
)
def test_what_changes_something_or_is_spelled_oddly(line: str) -> None:
    assert read_shape(b"\r\n" + line.encode("latin-1") + END) is None


@pytest.mark.parametrize(
    "lines", [b"", b"\r\n", b"\r\nA: b", b"\r\nA: b\r\n", b"\r\nA: b\n\n", b"A: b" + END[2:]]
)
def test_what_does_not_end(lines: bytes) -> None:
    assert read_shape(lines) is None


def test_conditions() -> None:
    assert read_lines(b"") == CIMultiDict()
    assert read_lines(b'\r\nIf-Range: "v1"\r\nIf-Match: *') == CIMultiDict(
        {"If-Range": '"v1"', "If-Match": "*"}
    )
    assert read_lines(b"\r\nIf-Range: a\r\nif-range: b") is None


@pytest.mark.parametrize("cookies", ["a=1", "_ga=1", "a=1; _ga=2"])
def test_a_partition_is_that_of_the_long_way(cookies: str) -> None:
    shape = read_shape(f"\r\nCookie: {cookies}".encode() + END)
    assert shape is not None
    for policy in (CachePolicy(), CachePolicy(shared=True), CachePolicy(ignore_cookies=())):
        request = replace(ABOUT, fields=CIMultiDict({"Cookie": cookies}))
        for _ in range(2):
            assert shape.partition(ABOUT, policy, b"s") == partition(request, policy, b"s")


@given(st.from_regex(rb"[0-9+ _-]{0,12}|[0-9]{0,40}-[0-9]{0,40}", fullmatch=True), st.integers(1, 10**6))
def test_a_range_is_read_as_the_long_way_reads_it(spec: bytes, length: int) -> None:
    found = read_slice(spec, length)
    if found is not None:
        specs = parse_range("bytes=" + spec.decode())
        assert not isinstance(specs, Ignored)
        assert resolve(specs, length, DEFAULT_LIMITS) == (Slice(*found),)
    elif len(spec) <= 32:
        specs = parse_range("bytes=" + spec.decode())
        assert isinstance(specs, Ignored) or isinstance(resolve(specs, length, DEFAULT_LIMITS), Unsatisfiable)
