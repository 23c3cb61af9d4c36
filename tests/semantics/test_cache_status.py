"""The Cache-Status field."""

import re
from dataclasses import replace
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.cache_status import CacheStatus, Forward, _member, render

NAME = "range-adapter"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (CacheStatus(hit=True), "range-adapter;hit"),
        (CacheStatus(hit=True, ttl=376), "range-adapter;hit;ttl=376"),
        (CacheStatus(hit=True, ttl=-12), "range-adapter;hit;ttl=-12"),
        (CacheStatus(forward=Forward.URI_MISS, stored=True), "range-adapter;fwd=uri-miss;stored"),
        (CacheStatus(forward=Forward.URI_MISS, collapsed=True), "range-adapter;fwd=uri-miss;collapsed"),
        (CacheStatus(forward=Forward.STALE, forward_status=304), "range-adapter;fwd=stale;fwd-status=304"),
        (
            CacheStatus(forward=Forward.URI_MISS, detail="no-store"),
            "range-adapter;fwd=uri-miss;detail=no-store",
        ),
        (
            CacheStatus(forward=Forward.BYPASS, detail='it said "no"'),
            'range-adapter;fwd=bypass;detail="it said \\"no\\""',
        ),
        (CacheStatus(hit=True, ttl=2**63), "range-adapter;hit;ttl=999999999999999"),
        (CacheStatus(hit=True, ttl=9, key="http://a/b?c"), 'range-adapter;hit;ttl=9;key="http://a/b?c"'),
        (
            CacheStatus(key='a "b" \\c (partition 0123)'),
            'range-adapter;key="a \\"b\\" \\\\c (partition 0123)"',
        ),
        (
            CacheStatus(
                forward=Forward.STALE,
                forward_status=200,
                ttl=-1,
                stored=True,
                collapsed=True,
                key="k",
                detail="it said so",
            ),
            'range-adapter;fwd=stale;fwd-status=200;ttl=-1;stored;collapsed;key="k";detail="it said so"',
        ),
    ],
)
def test_a_member_says_what_this_cache_did(status: CacheStatus, expected: str) -> None:
    assert render(NAME, status) == expected


def test_upstream_members_stand_before_ours() -> None:
    upstream = 'ExampleCache; hit; ttl=376, "CDN Company"; fwd=uri-miss'
    assert render(NAME, CacheStatus(hit=True), upstream) == f"{upstream}, range-adapter;hit"


@pytest.mark.parametrize("upstream", ["", "HIT from squid", "a; ;", "ä", "\udcff", "a,"])
def test_an_upstream_value_that_is_no_list_does_not_spoil_ours(upstream: str) -> None:
    assert render(NAME, CacheStatus(hit=True), upstream) == "range-adapter;hit"


def test_a_name_that_is_no_token_is_a_string() -> None:
    assert render("my cache", CacheStatus(hit=True)) == '"my cache";hit'


@given(
    name=st.text(),
    detail=st.none() | st.text(),
    ttl=st.none() | st.integers(),
    forward=st.none() | st.sampled_from(Forward),
    upstream=st.none() | st.text(),
    key=st.none() | st.text(),
)
def test_whatever_happens_the_field_is_a_list_whose_last_member_is_ours(
    name: str,
    detail: str | None,
    ttl: int | None,
    forward: Forward | None,
    upstream: str | None,
    key: str | None,
) -> None:
    status = CacheStatus(hit=forward is None, forward=forward, ttl=ttl, key=key, detail=detail)
    members: Any = http_sf.parse(render(name, status, upstream).encode(), tltype="list")
    _, parameters = members[-1]
    assert parameters.get("hit", False) is (forward is None)
    assert str(parameters.get("fwd", "")) == (forward.value if forward else "")
    printable = None if key is None else re.sub("[^ -~]", "?", key)
    assert parameters.get("key") == printable
    without = render(name, replace(status, key=None), upstream)
    assert parameters == {**_own(without), **({} if key is None else {"key": printable})}


def _own(value: str) -> dict[str, Any]:
    members: Any = http_sf.parse(value.encode(), tltype="list")
    return dict(members[-1][1])


def test_keys_push_nothing_out_of_what_is_remembered() -> None:
    before = _member.cache_info().currsize
    for number in range(1000):
        render(NAME, CacheStatus(hit=True, ttl=77, key=f"/{number}", detail=None))
    assert _member.cache_info().currsize <= before + 1
