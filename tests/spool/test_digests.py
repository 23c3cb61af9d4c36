"""A digest that has become known is recorded for its generation, whatever else happens to that meanwhile."""

import asyncio
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from proxy.spool.entry import Entry
from tests.spool.objects import entry, files, opened, store

DIGEST = sha256(b"abc").digest()


def freshened(stored: Entry, time: int) -> Entry:
    """As a 304 leaves it, that was asked for before the digest was known."""
    return replace(stored, stored=replace(stored.stored, response_time=time))


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_it_survives(tmp_path: Path, index: str) -> None:
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
        assert spool.lookup(stored.key)[0].digest is None
        await spool.set_digest(stored, DIGEST)
        assert spool.lookup(stored.key) == (replace(stored, digest=DIGEST),)
    if index == "lost":
        _lose(spool.paths.index)
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.lookup(stored.key) == (replace(stored, digest=DIGEST),)


def _lose(index: Path) -> None:
    """What is known then stands in the head files."""
    index.unlink()
    for suffix in ("-wal", "-shm"):
        Path(f"{index}{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("first", ["update", "digest"])
async def test_neither_it_nor_a_validation_is_lost_to_the_other(tmp_path: Path, first: str) -> None:
    """Both begin with the same entry, and end in either order."""
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(time=1), b"abc")
        works = [spool.update(freshened(stored, 9)), spool.set_digest(stored, DIGEST)]
        await asyncio.gather(*(works if first == "update" else reversed(works)))
        assert spool.lookup(stored.key) == (replace(freshened(stored, 9), digest=DIGEST),)
    async with opened(tmp_path) as spool:
        assert spool.lookup(stored.key) == (replace(freshened(stored, 9), digest=DIGEST),)


async def test_it_is_of_its_generation_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        old = await store(spool, entry(time=1), b"abc")
        new = await store(spool, entry(time=2), b"abcd")
        await spool.set_digest(old, DIGEST)
        assert spool.lookup(new.key) == (new,)
        await spool.drop([new])
        await spool.set_digest(new, sha256(b"abcd").digest())
        assert spool.lookup(new.key) == ()
        assert files(tmp_path) == set()
