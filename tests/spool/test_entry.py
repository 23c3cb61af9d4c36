"""A head file says what it was told, or is refused."""

import json
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import SpoolError
from proxy.semantics.freshness import Scope, Stored
from proxy.semantics.own_tags import own_tag
from proxy.semantics.purging import Location
from proxy.semantics.representation import Representation
from proxy.semantics.validators import origin_validators
from proxy.spool.entry import Entry, dump_head, load_head, new_generation
from tests.spool.objects import entry

FIELDS = st.lists(st.tuples(st.sampled_from(["A", "ETag", "X-Odd"]), st.text(st.characters(), max_size=20)))


@given(fields=FIELDS, length=st.none() | st.integers(0, 2**62), partition=st.none() | st.binary(min_size=1))
def test_what_is_dumped_is_loaded(
    fields: list[tuple[str, str]], length: int | None, partition: bytes | None
) -> None:
    generation = new_generation()
    proxy = CIMultiDictProxy(CIMultiDict(fields))
    written = Entry(
        key=b"key",
        target=b"target",
        generation=generation,
        label="http://host/\udcff",
        partition=partition,
        stored=Stored(
            representation=Representation(200, proxy, origin_validators(proxy, own_tag(generation)), length),
            request_time=1,
            response_time=2,
            vary=(("accept", None), ("cookie", "a=b")),
            scope=Scope.SHARED if partition is None else Scope.PARTITION,
            stale_since=None if length is None else length,
        ),
        location=Location(None if partition else "host", "/\udcff?a"),
        tags=("a", "\udcff"),
        epoch=3,
        checksum=None if length is None else length % 2**32,
        digest=partition,
    )
    assert load_head(dump_head(written)) == written


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"generation": "../../../etc/passwd"},
        {"generation": "short"},
        {"generation": 5},
        {"key": "no hex"},
        {"target": "no hex"},
        {"fields": [["one"]]},
        {"complete_length": "many"},
        {"complete_length": float("inf")},
        {"vary": 5},
        {"stale_since": "now"},
        {"location": "/film"},
        {"tags": 5},
        {"epoch": None},
        {"checksum": "no number"},
        {"digest": "no hex"},
    ],
)
def test_what_is_not_a_head_is_refused(change: dict[str, object]) -> None:
    head = json.loads(dump_head(entry()))
    del head["crc32"]
    load_head(sealed(json.dumps(head)))
    with pytest.raises(SpoolError):
        load_head(sealed(json.dumps(head | change)))


def sealed(text: str) -> str:
    return f'{text[:-1]}, "crc32": {crc32(text.encode())}}}'


@given(at=st.integers(0), bit=st.integers(0, 6))
def test_each_bit_of_a_head_counts(at: int, bit: int) -> None:
    text = bytearray(dump_head(entry(tags=("a", "b")).completed(5)), "ascii")
    text[at % len(text)] ^= 1 << bit
    with pytest.raises(SpoolError):
        load_head(bytes(text))
    with pytest.raises(SpoolError):
        load_head(text.decode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b"[" * 100_000])
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(SpoolError):
        load_head(text)
