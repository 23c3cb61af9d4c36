"""Cases drawn from RFC 9110 and from the range tests of other servers, each through a whole plan.

`range_cases.json`, one case a line: a stored 200 of `size` bytes with the fields `stored` beside the usual
ones, and a request; then what to answer.  `also` are other statuses as good, `coalesced` is another set of
parts as good; `level` is must, should or choice (see `note`).
"""

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from proxy.semantics.plan import ResponsePlan, plan
from proxy.semantics.ranges import DEFAULT_LIMITS
from proxy.semantics.representation import Representation
from tests.semantics.exchanges import BOUNDARY, LAST_MODIFIED, body, parse_byteranges, request, stored

Case: TypeAlias = dict[str, Any]

CASES: list[Case] = json.loads((Path(__file__).parent / "range_cases.json").read_text())
PRECONDITIONS = {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}

# Where the cases leave a choice, this house says 200, but for this one: the origin's `Accept-Ranges: none` is
# not about us.
CHOICES = {"10-19": 206}


def content(size: int) -> bytes:
    return bytes((n * 31 + n // 256) % 251 for n in range(size))


def representation(case: Case) -> Representation:
    lines = {
        "Content-Type": "application/octet-stream",
        "Cache-Control": "max-age=3600",
        "Accept-Ranges": "bytes",
    }
    if not PRECONDITIONS & {name.lower() for name in case.get("headers", {})}:
        lines |= {"ETag": '"v1"', "Last-Modified": LAST_MODIFIED}
    lines |= case.get("stored", {})
    return stored(lines, case["size"])


def answer(case: Case) -> ResponsePlan:
    lines = dict(case.get("headers", {}))
    if case["range"] is not None:
        lines["Range"] = case["range"]
    asked = request(lines, method=case.get("method", "GET"))
    return plan(asked, representation(case), limits=DEFAULT_LIMITS, boundary=BOUNDARY)


def parts_sent(response: ResponsePlan, data: bytes) -> list[list[int]]:
    """The [first, last] of each part of a 206, after a look at the bytes."""
    sent = body(response, data)
    if "Content-Range" not in response.fields:
        assert response.fields["Content-Type"] == f"multipart/byteranges; boundary={BOUNDARY}"
        parts = parse_byteranges(sent, BOUNDARY)
        assert len(parts) > 1
    else:
        unit, _, positions = response.fields["Content-Range"].partition(" ")
        first, last, complete_length = positions.replace("/", "-").split("-")
        assert (unit, complete_length) == ("bytes", str(len(data)))
        parts = parse_byteranges(
            f"\r\n--x\r\nContent-Range: {response.fields['Content-Range']}\r\n\r\n".encode()
            + sent
            + b"\r\n--x--\r\n",
            "x",
        )
        assert (parts[0].first, parts[0].last) == (int(first), int(last))
    for part in parts:
        assert part.content == data[part.first : part.last + 1]
        assert part.complete_length == str(len(data))
    return [[part.first, part.last] for part in parts]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{n}: {str(case['range'])[:40]}") for n, case in enumerate(CASES)]
)
def test_case(case: Case) -> None:
    data = content(case["size"])
    response = answer(case)
    assert response.status in {case["status"], *case.get("also", ())}
    match response.status:
        case 206:
            sent = parts_sent(response, data)
            assert case["parts"] is None or sent in (case["parts"], case.get("coalesced"))
            if case["content_range"] is not None:
                assert response.fields["Content-Range"] == case["content_range"]
        case 416:
            assert response.fields["Content-Range"] == f"bytes */{case['size']}"
        case 200:
            assert "Content-Range" not in response.fields
            assert response.length == case["size"]
            assert body(response, data) == (b"" if case.get("method") == "HEAD" else data)
        case status:
            assert status == 304
            assert response.parts == ()
    if response.status != 304:
        assert response.fields.getall("Accept-Ranges") == ["bytes"]


@pytest.mark.parametrize("case", [case for case in CASES if case["status"] != 200])
def test_what_can_be_honoured_is(case: Case) -> None:
    """Where the cases would have 206, 304 or 416, this house does not fall back to 200."""
    assert answer(case).status == (200 if case["level"] == "choice" else case["status"])


def test_choices() -> None:
    for case in CASES:
        members = str(case["range"]).removeprefix("bytes=")
        if case["level"] == "choice":
            assert answer(case).status == CHOICES.get(members, 200)
