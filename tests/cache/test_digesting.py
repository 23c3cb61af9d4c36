"""A digest is reckoned once, behind everything else, and given up with its object.  The oracle is hashlib."""

import asyncio
import hashlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.cache import digesting
from proxy.cache.digesting import Digesting
from proxy.spool.background import NICENESS
from proxy.spool.checksum import Checksum
from proxy.spool.entry import Entry
from proxy.spool.spool import Spool
from tests.spool.objects import KIB, MIB, descriptors, entry, eventually, opened, pattern, store

pytestmark = pytest.mark.usefixtures("digests_are_waited_for")

LARGE = pattern(5 * MIB)


class Hashing:
    """Stands in for `sha256`: keeps count, and stops before the first byte until `gate` is set."""

    def __init__(self) -> None:
        self.made = 0
        self.reading = threading.Event()
        self.gate = threading.Event()
        self.pieces: list[int] = []
        self.niceness: set[int] = set()

    def __call__(self) -> "Hashing.Hash":
        self.made += 1
        return Hashing.Hash(self)

    class Hash:
        def __init__(self, hashing: "Hashing") -> None:
            self._hashing = hashing
            self._hash = hashlib.sha256()

        def update(self, data: bytes) -> None:
            self._hashing.reading.set()
            self._hashing.gate.wait()
            self._hashing.pieces.append(len(data))
            self._hashing.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            self._hash.update(data)

        def digest(self) -> bytes:
            return self._hash.digest()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened(tmp_path, max_size=30 * MIB, max_object_size=10 * MIB) as spool:
        yield spool


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    hashing = Hashing()
    monkeypatch.setattr(digesting, "sha256", hashing)
    return hashing


@pytest.fixture
async def under_test(spool: Spool, hashing: Hashing) -> AsyncIterator[Digesting]:
    under_test = Digesting(spool)
    yield under_test
    hashing.gate.set()
    await under_test.close()


def digest_of(spool: Spool, stored: Entry) -> bytes | None:
    [found] = spool.lookup(stored.key)
    return found.digest


@pytest.mark.parametrize("length", [0, 1, MIB, MIB + 1, 4 * MIB])
async def test_a_small_object_has_its_digest_at_once(
    spool: Spool, hashing: Hashing, under_test: Digesting, length: int
) -> None:
    hashing.gate.set()
    data = pattern(length)
    stored = await store(spool, entry(), data)
    told = await under_test.with_digest(stored)
    assert told == replace(stored, digest=hashlib.sha256(data).digest())
    assert spool.lookup(stored.key) == (told,)
    assert await under_test.with_digest(stored) == told, "known, though this entry is of before"
    assert hashing.made == 1


async def test_however_many_ask_it_is_reckoned_once(
    spool: Spool, hashing: Hashing, under_test: Digesting
) -> None:
    stored = await store(spool, entry(), pattern(KIB))
    asking = [asyncio.create_task(under_test.with_digest(stored)) for _ in range(10)]
    await eventually(hashing.reading.is_set)
    asking.append(asyncio.create_task(under_test.with_digest(stored)))
    asking[0].cancel()  # who asked first may leave
    hashing.gate.set()
    told = await asyncio.gather(*asking[1:])
    assert {each.digest for each in told} == {hashlib.sha256(pattern(KIB)).digest()}
    assert hashing.made == 1


async def test_nobody_waits_for_a_large_object(spool: Spool, hashing: Hashing, under_test: Digesting) -> None:
    stored = await store(spool, entry(), LARGE)
    for _ in range(3):
        assert await under_test.with_digest(stored) == stored
    hashing.gate.set()
    await eventually(lambda: digest_of(spool, stored) is not None)
    assert digest_of(spool, stored) == hashlib.sha256(LARGE).digest()
    assert hashing.made == 1


async def test_nobody_waits_long_for_a_small_one(
    spool: Spool, hashing: Hashing, under_test: Digesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digesting, "WAIT", 0)
    stored = await store(spool, entry(), b"abc")
    assert (await under_test.with_digest(stored)).digest is None
    hashing.gate.set()
    await eventually(lambda: digest_of(spool, stored) == hashlib.sha256(b"abc").digest())


async def test_a_small_object_is_digested_between_the_steps_of_a_large_one(
    spool: Spool, hashing: Hashing, under_test: Digesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digesting, "STEP", 3 * MIB)
    steps = 0
    real = Digesting._step

    def counted(self: Digesting, work: Callable[[], Checksum]) -> Awaitable[Checksum]:
        nonlocal steps
        steps += 1
        return real(self, work)

    monkeypatch.setattr(Digesting, "_step", counted)
    large = [await store(spool, entry(f"/{name}"), LARGE) for name in "ab"]
    small = await store(spool, entry("/small"), b"abc")
    for each in large:
        await under_test.with_digest(each)
    await eventually(hashing.reading.is_set)
    asking = asyncio.create_task(under_test.with_digest(small))
    await eventually(lambda: steps == 2)
    hashing.gate.set()
    assert (await asking).digest is not None
    await eventually(lambda: all(digest_of(spool, each) is not None for each in large))
    assert hashing.pieces == [MIB] * 3 + [3] + [MIB] * 2 + [MIB] * 5, "large ones after each other"


@pytest.mark.parametrize("how", ["dropped", "replaced", "cut"])
async def test_it_is_given_up_with_its_object(
    spool: Spool,
    hashing: Hashing,
    under_test: Digesting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(digesting, "STEP", MIB)
    stored = await store(spool, entry(time=1), LARGE)
    await under_test.with_digest(stored)
    await eventually(hashing.reading.is_set)
    match how:
        case "dropped":
            await spool.drop([stored])
        case "replaced":
            await store(spool, entry(time=2), b"other")
        case _:
            os.truncate(spool.paths.body(stored.generation), MIB)
    hashing.gate.set()
    await eventually(lambda: not spool.being_read)
    assert {each.digest for each in spool.lookup(stored.key)} <= {None}
    await eventually(lambda: descriptors(tmp_path) == (0 if how == "dropped" else 1))
    assert hashing.pieces == [MIB], "not the rest of what nobody will have"


async def test_it_is_given_up_at_the_end(spool: Spool, hashing: Hashing, under_test: Digesting) -> None:
    stored = [await store(spool, entry(f"/{name}"), LARGE) for name in "ab"]
    for each in stored:
        await under_test.with_digest(each)
    await eventually(hashing.reading.is_set)
    closing = asyncio.create_task(under_test.close())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not closing.done()
    assert spool.being_read == 1, "its thread still reads"
    hashing.gate.set()
    await closing
    assert spool.being_read == 0
    assert [digest_of(spool, each) for each in stored] == [None, None]


async def test_so_many_at_most(
    spool: Spool, hashing: Hashing, under_test: Digesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digesting, "MOST", 1)
    first, second = [await store(spool, entry(f"/{name}"), LARGE) for name in "ab"]
    await under_test.with_digest(first)
    assert await under_test.with_digest(second) == second
    hashing.gate.set()
    await eventually(lambda: digest_of(spool, first) is not None)
    assert hashing.made == 1
    while digest_of(spool, second) is None:  # asked again, it has its turn
        await under_test.with_digest(second)
        await asyncio.sleep(0)


async def test_it_gives_way_to_the_rest(spool: Spool, hashing: Hashing, under_test: Digesting) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has priorities of threads")
    hashing.gate.set()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    await under_test.with_digest(await store(spool, entry(), b"abc"))
    assert hashing.niceness == {min(before + NICENESS, 19)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
