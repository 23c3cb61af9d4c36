"""Epochs: no change is lost on whoever remembers what was there before it."""

import mmap
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SpoolError
from proxy.semantics.purging import Everything, Targets
from proxy.spool.entry import Entry
from proxy.spool.epochs import SIZE, Epochs
from proxy.spool.spool import Spool
from tests.spool.objects import MIB, entry, key_of, opened, store

DIGESTS = st.binary(min_size=16, max_size=16)


@given(digest=DIGESTS)
def test_a_bump_changes_what_is_read(digest: bytes) -> None:
    epochs = Epochs()
    seen = epochs.read(epochs.slot(digest))
    assert epochs.read(epochs.slot(digest)) == seen
    epochs.bump(digest)
    assert epochs.read(epochs.slot(digest)) != seen


@given(digest=DIGESTS)
def test_all_are_bumped_at_once(digest: bytes) -> None:
    epochs = Epochs()
    seen = epochs.read(epochs.slot(digest))
    epochs.bump_all()
    assert epochs.read(epochs.slot(digest)) != seen


def test_others_are_left_alone() -> None:
    epochs = Epochs()
    one, other = bytes(16), b"\x01" * 16
    assert epochs.slot(one) != epochs.slot(other)
    seen = epochs.read(epochs.slot(other))
    epochs.bump(one)
    assert epochs.read(epochs.slot(other)) == seen


@given(
    digest=DIGESTS, writers=st.lists(st.integers(0, 1), min_size=1, max_size=20), all_of_them=st.booleans()
)
def test_whoever_writes_to_a_shared_table_is_heard(
    digest: bytes, writers: list[int], all_of_them: bool
) -> None:
    shared = memoryview(mmap.mmap(-1, SIZE))
    tables = Epochs(shared), Epochs(shared)
    slot = tables[0].slot(digest)
    seen = {tables[0].read(slot)}
    for writer in writers:
        if all_of_them:
            tables[writer].bump_all()
        else:
            tables[writer].bump(digest)
        found = tables[1 - writer].read(slot)
        assert found not in seen, "no number comes twice, whoever writes it"
        seen.add(found)


def test_a_buffer_of_another_size_is_refused() -> None:
    with pytest.raises(AssertionError):
        Epochs(memoryview(bytearray(SIZE - 8)))


# --- The spool's ----------------------------------------------------------------------------------

FILM = bytes(1000)

Change = Callable[[Spool, Entry], Awaitable[object]]


async def _replace(spool: Spool, _: Entry) -> None:
    await store(spool, entry("/film", len(FILM), time=1_000_001), FILM)


async def _store_for_one(spool: Spool, _: Entry) -> None:
    await store(spool, entry("/film", len(FILM), partition=b"p" * 16), FILM)


async def _evict(spool: Spool, _: Entry) -> None:
    for number in range(3):
        await store(spool, entry(f"/{number}", 4 * MIB), bytes(4 * MIB))


async def _freshen(spool: Spool, stored: Entry) -> None:
    await spool.update(replace(stored, stored=replace(stored.stored, response_time=2_000_000)))


async def _damage(spool: Spool, stored: Entry) -> None:
    os.truncate(spool.paths.body(stored.generation), 5)
    with pytest.raises(SpoolError):
        await spool.open_body(stored)


CHANGES: dict[str, Change] = {
    "replacement": _replace,
    "a copy for one credential": _store_for_one,
    "eviction": _evict,
    "freshening": _freshen,
    "digest": lambda spool, stored: spool.set_digest(stored, bytes(32)),
    "removal": lambda spool, stored: spool.drop([stored]),
    "rot": lambda spool, stored: spool.condemn(stored, "a test says so"),
    "damage": _damage,
    "ban": lambda spool, _: spool.ban(Everything(), soft=False, now=0),
    "soft ban": lambda spool, _: spool.ban(Everything(), soft=True, now=0),
    "ban of the target": lambda spool, stored: spool.ban(
        Targets(frozenset({stored.target})), soft=False, now=0
    ),
    "invalidation": lambda spool, stored: spool.drop_target(stored.target),
    "another index": lambda spool, _: spool._catalogue.reopen(anew=False),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_whatever_changes_a_stored_object_is_told(tmp_path: Path, what: str) -> None:
    async with opened(tmp_path) as spool:
        await store(spool, entry("/film", len(FILM)), FILM)
        [stored] = spool.lookup(key_of("/film"))
        slot = spool.epochs.slot(key_of("/film"))
        (await spool.open_body(stored)).release()
        before = spool.epochs.read(slot)
        assert spool.lookup(key_of("/film")) == (stored,)
        assert spool.epochs.read(slot) == before, "to look changes nothing"
        await CHANGES[what](spool, stored)
        assert spool.epochs.read(slot) != before
