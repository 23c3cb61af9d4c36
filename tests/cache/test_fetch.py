"""Who waits for the head of a fetch, and whose it is."""

import asyncio
from typing import cast

import pytest
from multidict import CIMultiDict

from proxy.cache.fetch import Fetch, Passed, Storing
from proxy.cache.wanted import Wanted
from proxy.errors import OriginTimeout
from proxy.fill.fill import Fill
from proxy.origin import Origin, OriginResponse
from proxy.semantics.key import CacheKey
from proxy.semantics.policy import CachePolicy
from proxy.semantics.purging import Location
from tests.semantics.exchanges import request

WANTED = Wanted(
    request=request(),
    origin=cast("Origin", None),
    target="/v.mp4",
    fields=CIMultiDict,
    policy=CachePolicy(),
    target_key=CacheKey(b"target", "target"),
    location=Location("host", "/v.mp4"),
    shared_key=CacheKey(b"key", "key"),
    partition_key=None,
    partition=None,
)
FILLING = Storing(cast("Fill", None), 200)


class Response:
    closed = False

    def close(self) -> None:
        self.closed = True


def passed() -> tuple[Response, Passed]:
    response = Response()
    return response, Passed(cast("OriginResponse", response), "private")


async def test_everyone_who_waits_gets_the_same() -> None:
    fetch = Fetch(WANTED)
    waiting = [asyncio.create_task(fetch.own_head()), *(asyncio.create_task(fetch.head()) for _ in range(3))]
    await asyncio.sleep(0)
    await fetch.resolve(FILLING)
    assert all(task.done() for task in waiting), "resolve returns when all have been told"
    assert {task.result() for task in waiting} == {FILLING}


async def test_an_error_is_shared_by_all_who_wait() -> None:
    fetch = Fetch(WANTED)
    waiting = [asyncio.create_task(fetch.own_head()), asyncio.create_task(fetch.head())]
    await asyncio.sleep(0)
    fetch.fail(OriginTimeout("too late"))
    for task in waiting:
        with pytest.raises(OriginTimeout):
            await task


async def test_an_error_that_nobody_waits_for_is_no_news() -> None:
    Fetch(WANTED).fail(OriginTimeout("too late"))


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    fetch = Fetch(WANTED)
    first, second = asyncio.create_task(fetch.own_head()), asyncio.create_task(fetch.head())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert fetch.pending
    await fetch.resolve(FILLING)
    assert await second is FILLING


@pytest.mark.parametrize("when", ["before", "at", "never"])
async def test_a_passed_response_is_theirs_or_nobodys(when: str) -> None:
    fetch, (response, outcome) = Fetch(WANTED), passed()
    owner = asyncio.create_task(fetch.own_head())
    await asyncio.sleep(0)
    if when == "before":
        owner.cancel()
        await asyncio.wait({owner})
    resolving = asyncio.create_task(fetch.resolve(outcome))
    await asyncio.sleep(0)
    if when == "at":
        owner.cancel()
    await asyncio.wait({owner, resolving})
    assert response.closed == (when != "never")


async def test_with_nobody_waiting_resolve_returns_at_once() -> None:
    fetch = Fetch(WANTED)
    await asyncio.wait_for(fetch.resolve(FILLING), 1)
