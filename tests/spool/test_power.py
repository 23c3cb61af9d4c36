"""Whenever the power fails, what is found then has the right bytes, and what was purged or made invalid stays so."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from proxy.errors import OriginTruncated, SpoolError
from proxy.semantics.purging import Everything, Tagged, Targets, Under
from proxy.spool import folder
from proxy.spool.entry import Entry, with_stale_since
from proxy.spool.spool import Spool
from tests.spool.faults import Disk, Faults, faulty
from tests.spool.objects import begin, content, entry, key_of, opened, pattern, store

NAMES = ("/a", "/b", "/c", "/d", "/e", "/f", "/g")


@dataclass
class Told:
    """What was promised, and since which operation: a generation's bytes, its end, that it is stale."""

    faults: Faults
    bytes: dict[str, bytes] = field(default_factory=dict)
    gone: list[tuple[int, str]] = field(default_factory=list)
    stale: list[tuple[int, str]] = field(default_factory=list)

    async def store(self, spool: Spool, name: str, size: int, **details: object) -> Entry:
        new = entry(name, time=len(self.bytes) + 1, epoch=spool.epoch, **details)  # type: ignore[arg-type]
        self.bytes[new.generation] = pattern(size, len(self.bytes))
        return await store(spool, new, self.bytes[new.generation])

    def went(self, *names: str, spool: Spool) -> list[str]:
        return [each.generation for name in names for each in spool.lookup(key_of(name))]

    def note_gone(self, generations: list[str]) -> None:
        self.gone += [(len(self.faults.log), each) for each in generations]

    def note_stale(self, generations: list[str]) -> None:
        self.stale += [(len(self.faults.log), each) for each in generations]


def generations(told: Told, name: str) -> list[str]:
    """All that there ever was of one name."""
    return [each for each, label in LABELS.items() if label == name and each in told.bytes]


LABELS: dict[str, str] = {}


async def scenario(root: Path, told: Told) -> None:
    """A day in a spool's life."""
    labels = LABELS

    async def put(name: str, size: int, **details: object) -> Entry:
        made = await told.store(spool, name, size, **details)
        labels[made.generation] = name
        return made

    async def begin_to(name: str, size: int, *, break_off: bool = True) -> None:
        """Half of it."""
        new = entry(name, size, time=len(told.bytes) + 1, epoch=spool.epoch)
        labels[new.generation] = name
        told.bytes[new.generation] = data = pattern(size, len(told.bytes))
        filling = await begin(spool, new, data[: size // 2])
        if break_off:
            error = OriginTruncated("it broke off")
            await filling.suspend(new, size // 2, error, confirmed=True)

    async with opened(root, max_size=20_000) as spool:
        await put("/a", 3000)
        await put("/b", 2000, tags=("t",))
        await put("/a", 3001)  # replaces
        stored = await put("/c", 100)
        await spool.update(replace(stored, stored=replace(stored.stored, response_time=99)))
        await spool.drop_target(key_of("/a"))
        told.note_gone(generations(told, "/a"))
        await put("/a", 500)
        before = generations(told, "/b")
        await spool.ban(Tagged("t"), soft=True, now=50)
        told.note_stale(before)
        await spool.purged()
        fresh = spool.lookup(key_of("/b"))[0]
        await spool.update(with_stale_since(replace(fresh, epoch=spool.epoch), None))
        told.stale = [(at, each) for at, each in told.stale if each != fresh.generation]
        await put("/d", 9000)
        await put("/e", 9000)  # evicts
        before = generations(told, "/c") + generations(told, "/b")
        await spool.drop_target(key_of("/c"))
        await spool.drop_target(key_of("/b"))
        told.note_gone(before)
        await begin_to("/c", 1500)
        await spool.drop_target(key_of("/c"))
        told.note_gone(generations(told, "/c"))
        await begin_to("/g", 1500)
        await begin_to("/g", 700, break_off=False)
        await put("/f", 100, partition=b"me")
        await spool.drop_partition(b"me")
        before = generations(told, "/d")
        await spool.ban(Targets(frozenset({key_of("/d")})), soft=False, now=60)
        told.note_gone(before)
    async with opened(root, max_size=20_000) as spool:  # and another, after an orderly end
        await spool.purged()
        await put("/c", 700)
        before = generations(told, "/e")
        await spool.ban(Under("host", "/e"), soft=True, now=70)
        told.note_stale(before)
        await put("/d", 800)
        await spool.purged()
        before = list(told.bytes)
        await spool.ban(Everything(), soft=False, now=80)
        told.note_gone(before)
        await put("/a", 900)
        await spool.purged()
        await spool.drop_target(key_of("/a"))
        told.note_gone(generations(told, "/a"))
        await put("/b", 10)


@contextmanager
def another_boot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(folder, "boot_id", lambda: "another")
        yield


async def check(root: Path, told: Told, at: int) -> None:
    gone = {each for since, each in told.gone if since <= at}
    stale = {each for since, each in told.stale if since <= at}

    async def look() -> None:
        for name in NAMES:
            for key in (key_of(name), entry(name, partition=b"me").key):
                for found in spool.lookup(key):
                    try:
                        got = await content(spool, found)
                    except SpoolError:  # the row of something that has no body
                        assert found not in spool.lookup(key)
                        continue
                    assert got == told.bytes[found.generation]
                    assert found.generation not in gone, "it was promised to be gone"
                    assert found.stored.stale_since is not None or found.generation not in stale

    async with opened(root, max_size=20_000) as spool:
        begun = len(spool.partials)
        # What was invalidated may be among them: nobody gets it before the origin has sent the same now.
        assert not any(partial.confirmed for partial in spool.partials), "its bytes may be others"
        await look()
        await spool.swept()
        await look()
        await spool.purged()
        await look()
        assert spool.condition.trouble is None
        assert spool.usage() == spool._shelf.usage(), "what is remembered is what the index counts"
    if begun:
        async with opened(root, max_size=20_000) as spool:
            assert not any(partial.confirmed for partial in spool.partials), "nobody has compared it"


@pytest.mark.parametrize(("how", "seed"), [("least", 0), ("latest", 0), ("any", 1)])
@pytest.mark.parametrize("share", range(4))
async def test_it_holds_at_each_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, seed: int, share: int
) -> None:
    LABELS.clear()
    with faulty(tmp_path / "spool") as faults:
        told = Told(faults)
        await scenario(tmp_path / "spool", told)
    chance, disk = random.Random(seed), Disk()
    with another_boot(monkeypatch):
        for at, operation in enumerate([*faults.log, None]):
            if at % 4 == share:
                with tempfile.TemporaryDirectory(dir=tmp_path) as left:
                    disk.rebuild(tmp_path / "spool", Path(left), chance, how)
                    await check(Path(left), told, at)
            if operation is not None:
                disk.take(operation)
