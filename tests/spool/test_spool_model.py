"""Whatever is done to a spool, in whatever order: it is a dictionary of bytes that may forget, and never lies."""

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from proxy.errors import OriginTruncated, SpoolError, SpoolFull
from proxy.semantics.purging import Everything, Purge, Tagged, Targets, Under, covers
from proxy.spool import bodies
from proxy.spool.body import Body
from proxy.spool.entry import Entry, with_stale_since
from proxy.spool.epochs import Epoch
from proxy.spool.filling import Filling
from proxy.spool.spool import Spool
from tests.spool.objects import content, descriptors, entry, eventually, files, key_of, pattern

T = TypeVar("T")

NAMES = ["/a", "/b", "/c"]
MAX_SIZE = 4000


class SpoolMachine(RuleBasedStateMachine):
    """The model: what was committed under each name and variant last, and what the open readers may see."""

    fillings = Bundle("fillings")
    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.loop = asyncio.new_event_loop()
        self.committed: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.unfinished: dict[str, tuple[Filling, bytes]] = {}
        self.begun: dict[str, bytes] = {}
        self.reading: dict[int, tuple[Body, bytes]] = {}
        self.entries: dict[str, Entry] = {}
        self.purged: set[str] = set()
        self.stale: dict[str, int] = {}
        self.time = 0
        self.seen: dict[str, tuple[Epoch, tuple[Entry, ...]]] = {}
        self.idle, bodies.IDLE = bodies.IDLE, 2

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def open(self) -> None:
        self.spool = self.run(Spool.open(self.root, max_size=MAX_SIZE, max_object_size=3000, min_free=0))
        self.run(self.spool.swept())

    @rule(
        target=fillings,
        name=st.sampled_from(NAMES),
        variant=st.sampled_from(["x", "y"]),
        size=st.integers(0, 2000),
        known=st.booleans(),
        tags=st.sampled_from([(), ("p",), ("p", "q")]),
    )
    def create(self, name: str, variant: str, size: int, known: bool, tags: tuple[str, ...]) -> str:
        self.time += 1
        data = pattern(size, self.time)
        new = entry(
            name,
            size if known else None,
            vary=(("v", variant),),
            time=self.time,
            tags=tags,
            epoch=self.spool.epoch,
        )
        try:
            filling = self.run(self.spool.create(new, size if known else None))
        except SpoolFull:
            return ""
        self.unfinished[new.generation] = (filling, data)
        self.begun[new.generation] = data
        return new.generation

    @rule(generation=fillings, share=st.floats(0, 1))
    def write(self, generation: str, share: float) -> None:
        if generation not in self.unfinished:
            return
        filling, data = self.unfinished[generation]
        begin, end = filling.reservation.written, round(len(data) * share)
        if end <= begin:
            return
        try:
            self.run(filling.reserve(end))
        except SpoolFull:
            return
        self.run(filling.write(data[begin:end], begin))

    @rule(generation=consumes(fillings))
    def commit(self, generation: str) -> None:
        if generation not in self.unfinished:
            return
        filling, data = self.unfinished.pop(generation)
        whole = data[: filling.reservation.written]
        self.run(filling.commit(filling.entry.completed(len(whole))))
        if generation not in self.purged:  # then it comes to nothing, and what was there stays
            self.committed[filling.entry.label, str(filling.entry.stored.vary[0][1])] = (generation, whole)
            self.entries[generation] = filling.entry

    @rule(generation=consumes(fillings))
    def discard(self, generation: str) -> None:
        if generation in self.unfinished:
            self.run(self.unfinished.pop(generation)[0].discard())

    @rule(generation=fillings, confirmed=st.booleans())
    def suspend(self, generation: str, confirmed: bool) -> None:
        if generation in self.unfinished and generation not in self.purged:
            filling, _ = self.unfinished.pop(generation)
            written, error = filling.reservation.written, OriginTruncated("it broke off")
            self.run(filling.suspend(filling.entry, written, error, confirmed=confirmed))

    @rule(name=st.sampled_from(NAMES))
    def go_on(self, name: str) -> None:
        for partial in self.spool.partials.lookup(key_of(name)):
            assert self.spool.partials.take(partial)
            self.unfinished[partial.entry.generation] = partial.filling, self.begun[partial.entry.generation]

    def found(self, name: str) -> dict[str, Entry]:
        return {str(each.stored.vary[0][1]): each for each in self.spool.lookup(key_of(name))}

    @rule(target=readers, name=st.sampled_from(NAMES), variant=st.sampled_from(["x", "y"]))
    def take(self, name: str, variant: str) -> int:
        stored = self.found(name).get(variant)
        if stored is None:
            return 0
        body = self.run(self.spool.open_body(stored))
        self.time += 1
        self.reading[self.time] = (body, self.committed[name, variant][1])
        return self.time

    @rule(reader=readers, ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def read(self, reader: int, ends: tuple[float, float]) -> None:
        if reader in self.reading:
            body, data = self.reading[reader]
            start, stop = sorted(round(len(data) * end) for end in ends)
            if start < stop:
                assert self.run(body.read(start, stop)) == data[start:stop]

    @rule(reader=consumes(readers))
    def leave(self, reader: int) -> None:
        if reader in self.reading:
            self.run(self.let_go(self.reading.pop(reader)[0]))

    @staticmethod
    async def let_go(body: Body) -> None:
        body.release()

    @rule(name=st.sampled_from(NAMES))
    def drop(self, name: str) -> None:
        self.run(self.spool.drop(self.spool.lookup(key_of(name))))
        assert self.spool.lookup(key_of(name)) == ()

    @rule(name=st.sampled_from(NAMES))
    def drop_target(self, name: str) -> None:
        if any(filling.entry.target == key_of(name) for filling, _ in self.unfinished.values()):
            return  # it is disowned on the disk, which is somebody else's test
        self.purged |= {each.generation for each in self.found(name).values()}
        self.purged |= {each.entry.generation for each in self.spool.partials.lookup(key_of(name))}
        self.run(self.spool.drop_target(key_of(name)))
        assert self.spool.lookup(key_of(name)) == ()

    @rule(name=st.sampled_from(NAMES))
    def condemn(self, name: str) -> None:
        reading = {data for _, data in self.reading.values()}
        for variant, stored in self.found(name).items():
            if self.committed[name, variant][1] not in reading:
                self.run(self.spool.condemn(stored, "a test says so"))
                assert stored.generation not in {each.generation for each in self.found(name).values()}

    @rule(name=st.sampled_from(NAMES), digest=st.binary(min_size=32, max_size=32))
    def digest(self, name: str, digest: bytes) -> None:
        for stored in self.found(name).values():
            self.run(self.spool.set_digest(stored, digest))

    @rule(
        what=st.sampled_from([Everything(), Under("host", "/a"), Under(None, "/"), Tagged("p"), Tagged("q")])
        | st.sampled_from(NAMES).map(key_of).map(lambda key: Targets(frozenset({key}))),
        soft=st.booleans(),
        swept=st.booleans(),
    )
    def purge(self, what: Purge, soft: bool, swept: bool) -> None:
        self.time += 1
        arriving = {name: filling.entry for name, (filling, _) in self.unfinished.items()}
        arriving |= {partial.entry.generation: partial.entry for partial in self.spool.partials}
        for generation, each in (self.entries | arriving).items():
            if covers(what, each.target, each.location, each.tags):
                if soft and generation not in arriving:
                    self.stale.setdefault(generation, self.time)
                else:
                    self.purged.add(generation)
        self.run(self.spool.ban(what, soft=soft, now=self.time))
        self.never_lies()
        if swept:
            self.run(self.spool.purged())
            assert self.spool._catalogue.bans.bans == ()

    @rule(name=st.sampled_from(NAMES))
    def freshen(self, name: str) -> None:
        """A 304 makes fresh again what a soft purge has made stale."""
        for stored in self.found(name).values():
            fresh = with_stale_since(replace(stored, epoch=self.spool.epoch), None)
            self.run(self.spool.update(fresh))
            self.stale.pop(stored.generation, None)

    @rule(name=st.sampled_from(NAMES), length=st.integers(0, 2500))
    def damage(self, name: str, length: int) -> None:
        """Someone else is at the files: never wrong bytes, only a loss."""
        for variant, stored in self.found(name).items():
            if stored.length != length and all(
                data != self.committed[name, variant][1] for _, data in self.reading.values()
            ):
                os.truncate(self.spool.paths.body(stored.generation), length)
                try:
                    body = self.run(self.spool.open_body(stored))
                except SpoolError:
                    pass
                else:
                    body.release()
                    raise AssertionError("a body of another size was opened")

    @rule(orderly=st.booleans(), index=st.booleans())
    def reopen(self, orderly: bool, index: bool) -> None:
        for body, _ in self.reading.values():
            self.run(self.let_go(body))
        self.reading.clear()
        for filling, _ in self.unfinished.values():
            filling.body.release()  # unfinished when the process ends
        self.unfinished.clear()
        self.run(self.spool.close())
        if not orderly:
            self.spool.paths.orderly.unlink(missing_ok=True)
        if not index:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.spool.paths.index}{suffix}").unlink(missing_ok=True)
        before = dict(self.committed)
        self.seen.clear()  # of another process
        self.open()
        assert self.committed == before

    @invariant()
    def never_lies(self) -> None:
        if not hasattr(self, "spool"):
            return
        for name in NAMES:
            for variant, stored in self.found(name).items():
                generation, data = self.committed[name, variant]
                assert stored.generation == generation, "only the last one committed is found"
                assert stored.length == len(data)
                assert generation not in self.purged, "what was purged is gone for good"
                assert (stored.stored.stale_since is not None) == (generation in self.stale)
            for partial in self.spool.partials.lookup(key_of(name)):
                generation, written = partial.entry.generation, partial.written
                assert generation not in self.purged
                if written:
                    assert self.run(partial.filling.body.read(0, written)) == self.begun[generation][:written]

    @invariant()
    def epochs_tell_of_each_change(self) -> None:
        """Whatever was done: under an epoch that is the same, the same is found, if one looks at the index again."""
        if not hasattr(self, "spool"):
            return
        for name in NAMES:
            epoch = self.spool.epochs.read(self.spool.epochs.slot(key_of(name)))
            self.spool._catalogue._known.clear()
            # A thread may just be writing down what purges have made of it, which is found as that already.
            found = tuple(replace(each, epoch=0) for each in self.spool.lookup(key_of(name)))
            before = self.seen.get(name)
            assert before is None or before[0] != epoch or before[1] == found
            self.seen[name] = epoch, found

    @invariant()
    def keeps_its_books(self) -> None:
        if not hasattr(self, "spool"):
            return
        spool = self.spool
        kept = {partial.entry.generation for partial in spool.partials}
        held = len(self.unfinished) + len(self.reading) + len(kept)
        self.run(eventually(lambda: descriptors(self.root) <= held + 2))
        if spool._catalogue.bans.bans:
            return  # until they are swept, there is more on the disk than is found
        stored = [each for name in NAMES for each in self.found(name).values()]
        assert spool.usage() == (sum(each.length for each in stored), len(stored))
        assert spool.room.used <= MAX_SIZE + sum(len(data) for _, data in self.reading.values())
        names = {each.generation for each in stored} | set(self.unfinished) | kept
        assert files(self.root) == {f"{name}{suffix}" for name in names for suffix in (".head", ".body")}
        if not self.reading:
            self.run(eventually(lambda: spool.room.lingering == 0))

    def teardown(self) -> None:
        try:
            for name in NAMES:
                for variant, stored in self.found(name).items():
                    assert self.run(content(self.spool, stored)) == self.committed[name, variant][1]
            for filling, _ in self.unfinished.values():
                self.run(filling.discard())
            for body, _ in self.reading.values():
                self.run(self.let_go(body))
            self.run(self.spool.close())
            assert descriptors(self.root) == 0
        finally:
            bodies.IDLE = self.idle
            self.loop.close()
            self.folder.cleanup()


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=60, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
