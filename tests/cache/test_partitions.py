"""How much is kept for single credentials: by client, and in all."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.cache.partitions import Census, Partitions
from proxy.cache.recent import Recent
from proxy.errors import SpoolFull
from proxy.spool.spool import Spool
from tests.spool.objects import begin, entry, opened, store

MOST = 3
SECONDS = 10.0
CLIENTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "unix"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- The count ------------------------------------------------------------------------------------


def test_a_client_has_so_many_and_keeps_them(clock: Clock) -> None:
    census = Census(2, SECONDS, clock=clock)
    for _ in range(3):
        assert census.admit(b"one", "192.0.2.1")
        assert census.admit(b"two", "192.0.2.1")
        assert not census.admit(b"three", "192.0.2.1")
    assert census.admit(b"three", "192.0.2.2"), "another client"


def test_where_none_are_wanted_there_are_none(clock: Clock) -> None:
    assert not Census(0, SECONDS, clock=clock).admit(b"one", "192.0.2.1")


def test_it_counts_for_the_client_that_began_it(clock: Clock) -> None:
    census = Census(1, SECONDS, clock=clock)
    assert census.admit(b"telephone", "192.0.2.1")
    assert census.admit(b"telephone", "192.0.2.2"), "somebody has moved to another network"
    assert census.admit(b"other", "192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "unix", True),
    ],
)
def test_what_one_client_is(clock: Clock, one: str, other: str, same: bool) -> None:
    census = Census(1, SECONDS, clock=clock)
    assert census.admit(b"one", one)
    assert census.admit(b"two", other) is not same


def test_an_ended_one_makes_room(clock: Clock) -> None:
    census = Census(1, SECONDS, clock=clock)
    census.admit(b"one", "192.0.2.1")
    census.leave(b"one")
    census.leave(b"one")
    assert census.admit(b"two", "192.0.2.1")
    assert not census.admit(b"one", "192.0.2.1")


def test_an_idle_one_makes_room_and_one_in_use_does_not(clock: Clock) -> None:
    census = Census(2, SECONDS, clock=clock)
    census.admit(b"idle", "192.0.2.1")
    census.admit(b"used", "192.0.2.1")
    clock.now = SECONDS - 1
    census.note_use(b"used")
    assert not census.admit(b"new", "192.0.2.1")
    clock.now = SECONDS
    assert census.admit(b"new", "192.0.2.1")
    assert not census.admit(b"newer", "192.0.2.1")


class CensusMachine(RuleBasedStateMachine):
    """The model: whose each is, and when it was used last."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.census = Census(MOST, SECONDS, capacity=8, clock=self.clock)
        self.owner: dict[bytes, str] = {}
        self.used: dict[bytes, float] = {}

    def alive(self) -> list[bytes]:
        """Those in use, the one that is idle longest first."""
        now = self.clock.now
        return [each for each, when in self.used.items() if when + SECONDS > now]

    def forget(self, partition: bytes) -> None:
        self.used.pop(partition, None)
        self.owner.pop(partition, None)

    @rule(partition=st.binary(min_size=1, max_size=1), client=st.sampled_from(CLIENTS))
    def admit(self, partition: bytes, client: str) -> None:
        for idle in set(self.used) - set(self.alive()):
            self.forget(idle)
        known = partition in self.used
        free = Counter(self.owner.values())[client] < MOST
        assert self.census.admit(partition, client) is (known or free)
        if free and not known:
            self.owner[partition], self.used[partition] = client, self.clock.now
            if len(self.used) > 8:
                self.forget(next(iter(self.used)))

    @rule(partition=st.binary(min_size=1, max_size=1))
    def use(self, partition: bytes) -> None:
        self.census.note_use(partition)
        if partition in self.used:
            del self.used[partition]
            self.used[partition] = self.clock.now

    @rule(partition=st.binary(min_size=1, max_size=1))
    def leave(self, partition: bytes) -> None:
        self.census.leave(partition)
        self.forget(partition)

    @rule(seconds=st.floats(0, SECONDS))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def nothing_piles_up(self) -> None:
        assert len(self.census._kept) <= 8
        assert sum(self.census._counts.values()) == len(self.census._kept)
        assert all(0 < count <= MOST for count in self.census._counts.values())


TestCensus = CensusMachine.TestCase


@pytest.fixture
async def partitions(tmp_path: Path, clock: Clock) -> AsyncIterator[Partitions]:
    async with opened(tmp_path) as spool:
        made = Partitions(spool, SECONDS, 1)
        made._seen = Recent(SECONDS, clock=clock)
        made._census = Census(1, SECONDS, clock=clock)
        yield made
        await made.close()


async def test_whoever_comes_back_in_time_stays_counted(partitions: Partitions, clock: Clock) -> None:
    await partitions.enter(b"one")
    assert partitions.admit(b"one", "192.0.2.1")
    for _ in range(3):
        clock.now += SECONDS - 1
        await partitions.enter(b"one")
        assert not partitions.admit(b"two", "192.0.2.1")
    clock.now += SECONDS - 1
    partitions.note_use(b"one")
    clock.now += SECONDS - 1
    assert not partitions.admit(b"two", "192.0.2.1")


async def test_whoever_comes_back_too_late_counts_anew(partitions: Partitions) -> None:
    await partitions.enter(b"one")
    assert partitions.admit(b"one", "192.0.2.1")
    partitions._seen.discard(b"one")
    await partitions.enter(b"one")
    assert partitions.admit(b"two", "192.0.2.1")
    assert not partitions.admit(b"one", "192.0.2.1")


# --- The bytes ------------------------------------------------------------------------------------


def left(spool: Spool) -> int:
    return spool.room.partition_room()


def lose(index: Path) -> None:
    for path in index.parent.glob(f"{index.name}*"):
        path.unlink()


async def test_what_is_stored_and_what_is_arriving_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        spool.room.partition_size = 100
        await store(spool, entry("/all"), bytes(500))
        assert left(spool) == 100
        mine = await store(spool, entry("/mine", partition=b"me"), bytes(30))
        assert left(spool) == 70
        filling = await begin(spool, entry("/yours", partition=b"you"), bytes(60))
        assert left(spool) == 10
        with pytest.raises(SpoolFull) as refused:
            await spool.create(entry("/third", partition=b"me"), 11)
        assert refused.value.reason == "partition-quota"
        assert left(spool) == 10, "who is refused takes nothing"
        await store(spool, entry("/more for all"), bytes(500))
        await filling.discard()
        assert left(spool) == 70
        await spool.drop([mine])
        assert left(spool) == 100


async def test_an_unknown_length_grows_up_to_the_limit(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        spool.room.partition_size = 100
        filling = await begin(spool, entry("/mine", partition=b"me"), bytes(60), length_known=False)
        assert left(spool) == 0, "room is asked for in large steps, but not past the limit"
        await filling.reserve(100)
        with pytest.raises(SpoolFull) as refused:
            await filling.reserve(101)
        assert refused.value.reason == "partition-quota"
        await filling.commit(filling.entry.completed(60))
        assert left(spool) == 40


async def test_the_sum_stays_right_by_whichever_way_they_go(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=1000) as spool:
        await store(spool, entry("/old", partition=b"me", time=1), bytes(300))
        await store(spool, entry("/old", partition=b"me", time=2), bytes(200))
        assert spool.room.partition_bytes() == 200, "replaced"
        await store(spool, entry("/yours", partition=b"you"), bytes(100))
        await spool.drop_partition(b"you")
        assert spool.room.partition_bytes() == 200, "ended"
        await store(spool, entry("/all"), bytes(900))
        assert spool.room.partition_bytes() == 0, "evicted"


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_the_sum_outlives_a_restart(tmp_path: Path, index: str) -> None:
    async with opened(tmp_path) as spool:
        await store(spool, entry("/mine", partition=b"me"), bytes(300))
        await store(spool, entry("/all"), bytes(200))
    if index == "lost":
        lose(spool.paths.index)
    async with opened(tmp_path) as spool:
        await spool.swept()
        # Nobody knows any more who may have it, nor what has ended meanwhile.
        assert spool.usage() == ((500, 2) if index == "kept" else (200, 1))
        assert spool.room.partition_bytes() == (300 if index == "kept" else 0)
