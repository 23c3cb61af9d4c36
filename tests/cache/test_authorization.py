"""The memory of a yes: whose, for what, how long, and what ends it."""

from dataclasses import replace
from typing import cast

import pytest
from multidict import CIMultiDict

from proxy.cache.authorization import Permits
from proxy.cache.wanted import Wanted
from proxy.origin import Origin
from proxy.semantics.key import CacheKey
from proxy.semantics.policy import Authorize, CachePolicy
from proxy.semantics.purging import Location
from proxy.semantics.request import ClientRequest

FIELDS: CIMultiDict[str] = CIMultiDict()
POLICY = CachePolicy(authorize=Authorize(ttl=10.0))


def wanted(who: bytes | None = b"ann", target: str = "/film") -> Wanted:
    key = CacheKey(target.partition("?")[0].encode(), target)
    return Wanted(
        request=ClientRequest("GET", target, target, None, "http", "h", FIELDS, "::1", "::1"),
        origin=cast("Origin", None),
        target=target,
        fields=lambda: FIELDS,
        policy=POLICY,
        target_key=key,
        location=Location("h", target),
        shared_key=key,
        partition_key=None,
        partition=None,
        credentials=who,
    )


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def permits(clock: Clock) -> Permits:
    return Permits(capacity=3, clock=clock)


def test_a_yes_is_to_one_credential_target_and_generation(permits: Permits) -> None:
    permits.add(wanted(), "1")
    assert permits.holds(wanted(), "1")
    assert not permits.holds(wanted(), "2")
    assert not permits.holds(wanted(b"bob"), "1")
    assert not permits.holds(wanted(None), "1")
    assert not permits.holds(wanted(target="/other"), "1")
    assert not permits.holds(wanted(target="/film?sign=1"), "1")


def test_it_ends_by_itself(permits: Permits, clock: Clock) -> None:
    permits.add(wanted(), "1")
    clock.now += 9.9
    assert permits.holds(wanted(), "1")
    clock.now += 0.1
    assert not permits.holds(wanted(), "1")


def test_no_time_is_no_memory(permits: Permits) -> None:
    for authorize in (Authorize(), None):
        each = replace(wanted(), policy=CachePolicy(authorize=authorize))
        permits.add(each, "1")
        assert not permits.holds(each, "1")


def test_a_no_ends_it(permits: Permits) -> None:
    permits.add(wanted(), "1")
    permits.add(wanted(b"bob"), "1")
    permits.discard(wanted(), "1")
    assert not permits.holds(wanted(), "1")
    assert permits.holds(wanted(b"bob"), "1")


def test_an_unsafe_request_ends_those_of_its_credentials_and_those_of_its_target(permits: Permits) -> None:
    permits.add(wanted(), "1")
    permits.add(wanted(b"bob", "/other"), "2")
    permits.add(wanted(b"bob"), "1")
    before = permits.ended
    permits.end(wanted(b"ann", "/other").target_key, {b"ann"})
    assert permits.ended != before
    assert not permits.holds(wanted(), "1")
    assert not permits.holds(wanted(b"bob", "/other"), "2")
    assert permits.holds(wanted(b"bob"), "1")


def test_the_oldest_make_room(permits: Permits) -> None:
    for generation in ("1", "2", "3"):
        permits.add(wanted(), generation)
    permits.add(wanted(), "1")
    permits.add(wanted(), "4")
    assert [permits.holds(wanted(), each) for each in ("1", "2", "3", "4")] == [True, False, True, True]
