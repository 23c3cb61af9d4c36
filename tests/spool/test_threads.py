"""Whatever makes some threads wait for the disk, those of another kind go on."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.spool import calls
from proxy.spool.spool import Spool
from proxy.spool.threads import EACH
from tests.spool.objects import KIB, begin, content, entry, eventually, opened, pattern, store

DATA = pattern(64 * KIB)
MORE = EACH + 2


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path) as open_spool:
        yield open_spool


class Stuck:
    """A call of the disk that does not return before it is let go."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.gate = threading.Event()
        self.inside = 0

    def __call__(self, *args: Any) -> Any:
        self.inside += 1
        assert self.gate.wait(30)
        return self._call(*args)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Stuck]]:
    all_stuck: list[Stuck] = []

    def one(name: str) -> Stuck:
        all_stuck.append(Stuck(getattr(calls, name)))
        monkeypatch.setattr(calls, name, all_stuck[-1])
        return all_stuck[-1]

    yield one
    for each in all_stuck:
        each.gate.set()


def not_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(calls, "preadv", preadv)


async def test_those_who_read_what_only_the_disk_has_hold_up_no_fill(
    spool: Spool, stuck: Callable[[str], Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await store(spool, entry("/slow"), DATA)
    not_in_memory(monkeypatch)
    reading = stuck("pread")
    readers = [asyncio.create_task(content(spool, slow)) for _ in range(MORE)]
    await eventually(lambda: reading.inside == EACH)
    await store(spool, entry("/quick"), DATA)
    reading.gate.set()
    assert await asyncio.gather(*readers) == [DATA] * MORE


async def test_objects_being_synced_hold_up_no_others(
    spool: Spool, stuck: Callable[[str], Stuck], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await store(spool, entry("/old"), DATA)
    going_on = await begin(spool, entry("/quick", 2 * len(DATA)), DATA)
    syncing = stuck("fdatasync")
    storing = [asyncio.create_task(store(spool, entry(f"/slow-{n}"), DATA)) for n in range(MORE)]
    await eventually(lambda: syncing.inside == EACH)
    not_in_memory(monkeypatch)
    await going_on.write(DATA, len(DATA))
    assert await content(spool, old) == DATA
    syncing.gate.set()
    await asyncio.gather(*storing)
    await going_on.discard()
