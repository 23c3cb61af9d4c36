"""Whichever calls fail, wherever the process ends: right bytes or none, no leak, and all is well once the disk is."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.errors import BodyLost, OriginTruncated, Overloaded, SpoolError
from proxy.semantics.purging import Everything, Purge, Tagged, Targets, covers
from proxy.spool import bodies, condition
from proxy.spool.entry import Entry
from proxy.spool.spool import Spool
from tests.spool.faults import Killed, faulty
from tests.spool.objects import begin, content, descriptors, entry, eventually, files, key_of, pattern

T = TypeVar("T")

NAMES = ["/a", "/b", "/c"]
NAMES_ONLY = ("create", "rename", "unlink", "mkdir")
"""What fails where folders are immutable, or the disk has no inode left: files that are there can be written."""
ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE]


class FailingDisk(RuleBasedStateMachine):
    """`gone` is what somebody has been told is gone; `firm` what holds after a crash, too, as the disk took it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "spool"
        self.bytes: dict[str, bytes] = {}
        self.entries: dict[str, Entry] = {}
        self.gone: set[str] = set()
        self.firm: set[str] = set()
        self.sick = False
        self.takes_writes = True
        self.faulty = faulty(self.root)
        self.faults = self.faulty.__enter__()
        self.before = bodies.IDLE, condition.PAUSES
        bodies.IDLE, condition.PAUSES = 2, (0.001,)  # type: ignore[misc, assignment]
        self.strange: list[dict[str, Any]] = []

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.note)
        self.spool = self.loop.run_until_complete(
            Spool.open(self.root, max_size=6000, max_object_size=3000, min_free=0)
        )

    def note(self, _: object, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Killed):
            self.strange.append(context)

    def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Its result; None if the process ended on the way, and another has begun."""
        try:
            result = self.loop.run_until_complete(work)
        except Killed:
            result = None
        if self.faults.dead:  # that may have been felt by some task that nobody waits for
            self.crash()
            return None
        return result

    def crash(self) -> None:
        """What a process' end does: memory and descriptors go, and not one call more is made."""
        self.faults.dead = True
        running = asyncio.all_tasks(self.loop)
        for task in running:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*running, return_exceptions=True))
        spool = self.spool
        spool._catalogue._thread.shutdown()
        spool._threads.shutdown()
        for body in spool._bodies.pop_all():
            os.close(body.fileno())
        spool._shelf._index.close()
        os.close(spool._upkeep._claim.lock)
        self.loop.close()
        for fd in os.listdir("/proc/self/fd"):  # of fills, which died with their process
            try:
                if os.readlink(f"/proc/self/fd/{fd}").startswith(str(self.root)):
                    os.close(int(fd))
            except FileNotFoundError:
                pass
        self.faults.dead = False
        self.faults.heal()
        self.sick, self.takes_writes = False, True
        self.gone = set(self.firm)
        self.open()

    # What is done

    @rule(name=st.sampled_from(NAMES), size=st.integers(0, 2500), tags=st.sampled_from([(), ("t",)]))
    def store(self, name: str, size: int, tags: tuple[str, ...]) -> None:
        self.run(self._store(name, size, tags))

    async def _store(self, name: str, size: int, tags: tuple[str, ...]) -> None:
        new = entry(name, time=len(self.bytes) + 1, tags=tags, epoch=self.spool.epoch)
        self.bytes[new.generation] = data = pattern(size, len(self.bytes))
        self.entries[new.generation] = new
        try:
            filling = await begin(self.spool, new, data)
        except SpoolError:
            return
        try:
            await filling.commit(new.completed(size))
        except SpoolError:
            pass
        finally:
            await filling.discard()

    # What breaks off

    @rule(name=st.sampled_from(NAMES), size=st.integers(1, 1000), confirmed=st.booleans())
    def put_aside(self, name: str, size: int, confirmed: bool) -> None:
        """The first `size` bytes of twice as many."""
        self.run(self._put_aside(name, size, confirmed))

    async def _put_aside(self, name: str, size: int, confirmed: bool) -> None:
        new = entry(name, 2 * size, time=len(self.bytes) + 1, epoch=self.spool.epoch)
        self.bytes[new.generation] = data = pattern(2 * size, len(self.bytes))
        self.entries[new.generation] = new
        try:
            filling = await begin(self.spool, new, data[:size])
        except SpoolError:
            return
        await filling.suspend(new, size, OriginTruncated("it broke off"), confirmed=confirmed)

    @rule(name=st.sampled_from(NAMES), far=st.sampled_from(["not at all", "half", "whole"]))
    def take_up(self, name: str, far: str) -> None:
        self.run(self._take_up(name, far))

    async def _take_up(self, name: str, far: str) -> None:
        for partial in self.spool.partials.lookup(key_of(name)):
            if partial.taken:  # the one before has come whole, or made room
                continue
            generation, start = partial.entry.generation, partial.written
            assert generation not in self.gone
            data = self.bytes[generation]
            try:
                assert await partial.filling.body.read(0, start) == data[:start]
            except BodyLost:
                assert self.sick
            if not self.spool.partials.take(partial):
                continue
            stop = {"not at all": start, "half": (start + len(data)) // 2, "whole": len(data)}[far]
            filling, error = partial.filling, OriginTruncated("again")
            try:
                if start < stop:
                    await filling.reserve(stop)
                    await filling.write(data[start:stop], start)
                if stop == len(data):
                    await filling.commit(partial.entry.completed(stop))
                else:
                    await filling.suspend(partial.entry, stop, error, confirmed=partial.confirmed)
            except (SpoolError, BodyLost):
                await filling.discard()

    @rule(name=st.sampled_from(NAMES))
    def read(self, name: str) -> None:
        self.run(self._read(name))

    async def _read(self, name: str) -> None:
        for partial in self.spool.partials.lookup(key_of(name)):
            assert partial.entry.generation not in self.gone
        for found in self.spool.lookup(key_of(name)):
            assert found.generation not in self.gone
            try:
                assert await content(self.spool, found) == self.bytes[found.generation]
            except (SpoolError, Overloaded):
                assert self.sick or found.generation not in {
                    each.generation for each in self.spool.lookup(key_of(name))
                }

    @rule(name=st.sampled_from(NAMES))
    def freshen(self, name: str) -> None:
        async def freshen() -> None:
            for found in self.spool.lookup(key_of(name)):
                try:
                    await self.spool.update(found)
                except SpoolError:
                    assert self.sick

        self.run(freshen())

    @rule(name=st.sampled_from(NAMES))
    def invalidate(self, name: str) -> None:
        crashes = self.loop
        self.run(self.spool.drop_target(key_of(name)))
        if self.loop is crashes:
            self.promise(Targets(frozenset({key_of(name)})), firm=self.takes_writes)

    @rule(what=st.sampled_from([Everything(), Tagged("t")]), swept=st.booleans())
    def purge(self, what: Purge, swept: bool) -> None:
        async def purge() -> bool:
            try:
                await self.spool.ban(what, soft=False, now=1)
            except (SpoolError, Overloaded):
                assert self.sick
                return False
            self.promise(what, firm=True)
            if swept:
                await self.spool.purged()
            return True

        self.run(purge())

    def promise(self, what: Purge, *, firm: bool) -> None:
        for generation, each in self.entries.items():
            if covers(what, each.target, each.location, each.tags):
                self.gone.add(generation)
                if firm:
                    self.firm.add(generation)

    @rule()
    def restart(self) -> None:
        if self.sick:
            return
        self.run(self.spool.close())
        self.loop.close()
        assert descriptors(self.root) == 0
        self.open()

    # What the disk does

    @rule(
        at=st.integers(0, 40),
        errors=st.lists(st.sampled_from(ERRORS), min_size=1, max_size=3),
        calls=st.sampled_from([1, 2, 5, 10**9]),
        only=st.sampled_from(
            [
                (),
                (),
                ("unlink",),
                NAMES_ONLY,
                NAMES_ONLY,
                ("fsync", "fdatasync"),
                ("open_file", "create"),
                ("pwrite",),
            ]
        ),
    )
    def fault(self, at: int, errors: list[int], calls: int, only: tuple[str, ...]) -> None:
        self.sick = True
        self.takes_writes = self.takes_writes and set(only) <= set(NAMES_ONLY) and only != ()
        self.faults.refuse(at, *errors, calls=calls, only=only)

    @rule(at=st.integers(0, 60))
    def kill(self, at: int) -> None:
        self.sick, self.takes_writes = True, True
        self.faults.kill_at(at)

    @rule()
    def heal(self) -> None:
        self.faults.heal()
        self.run(asyncio.sleep(0))  # it may be dead by then, although nobody has felt it
        self.run(self._heal_soon())

    async def _heal_soon(self) -> None:
        try:
            async with asyncio.timeout(20):
                await self._heal()
        except TimeoutError as error:
            spool = self.spool
            state = spool.condition.trouble, spool, spool._purges, spool.partials, spool._catalogue.owed
            raise AssertionError(f"it does not get well: {state}") from error

    async def _heal(self) -> None:
        spool = self.spool
        await eventually(lambda: spool.condition.trouble is None)
        await spool.swept()
        await spool.purged()
        await eventually(lambda: spool.condition.trouble is None)
        await spool.purged()
        self.sick, self.takes_writes = False, True
        self.firm |= self.gone
        assert not spool._catalogue.owed
        assert not spool._catalogue.bans.bans
        found = [each for name in NAMES for each in spool.lookup(key_of(name))]
        assert spool.usage() == (sum(each.length for each in found), len(found))
        begun = [each for name in NAMES for each in spool.partials.lookup(key_of(name))]
        assert len(begun) == len(spool.partials)
        reserved = sum(each.written for each in begun)
        await eventually(lambda: spool.room.used == spool.usage()[0] + reserved)
        names = {each.generation for each in found}
        names |= {each.entry.generation for each in begun}
        lying = {f"{name}{suffix}" for name in names for suffix in (".head", ".body")}
        # Of what is put aside, the head may be an older one, with the next one beside it: it goes with the object.
        unwritten = {f"{each.entry.generation}.head.new" for each in begun}
        assert lying <= files(self.root) <= lying | unwritten, files(self.root) ^ lying
        await eventually(lambda: descriptors(self.root) <= 2 + len(begun))
        await self._store("/a", 10, ())
        assert await content(spool, spool.lookup(key_of("/a"))[0]) == self.bytes[list(self.bytes)[-1]]

    @invariant()
    def nothing_strange(self) -> None:
        assert not self.strange

    def teardown(self) -> None:
        try:
            if hasattr(self, "spool"):
                self.heal()
                self.run(self.spool.close())
                assert descriptors(self.root) == 0
                self.loop.close()
                assert not self.strange
        finally:
            bodies.IDLE, condition.PAUSES = self.before  # type: ignore[misc]
            self.faulty.__exit__(None, None, None)
            self.folder.cleanup()


TestFailingDisk = FailingDisk.TestCase
TestFailingDisk.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
