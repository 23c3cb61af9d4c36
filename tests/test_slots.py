"""Places that are shared out fairly: who gets one when, and that none is ever lost."""

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Overloaded
from proxy.slots import NOBODY, Slots
from tests.stepping import cancel_everywhere

ALICE, BOB, CAROL = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def slots(total: int, *, per_client: int = 100, max_waiting: int = 100, timeout: float = 20) -> Slots:
    return Slots("media", total, per_client=per_client, max_waiting=max_waiting, timeout=timeout)


class Crowd:
    """Requests that want a place, and who has got one, in order."""

    def __init__(self, places: Slots) -> None:
        self.slots = places
        self.served: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *clients: str) -> None:
        for client in clients:
            self.tasks.append(asyncio.create_task(self._come(client)))
            await asyncio.sleep(0)

    async def _come(self, client: str) -> None:
        try:
            await self.slots.acquire(client)
        except Overloaded as error:
            self.refused.append((client, error.reason))
        else:
            self.served.append(client)

    async def release(self, client: str) -> None:
        self.slots.release(client)
        await asyncio.sleep(0)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


async def test_a_free_place_is_taken_at_once() -> None:
    places = slots(2)
    await places.acquire(ALICE)
    await places.acquire(BOB)
    assert (places.in_use, places.waiting) == (2, 0)
    places.release(ALICE)
    places.release(BOB)
    assert places.in_use == 0


async def test_clients_take_turns_however_many_places_one_of_them_wants() -> None:
    crowd = Crowd(slots(1))
    await crowd.come(*[ALICE] * 50, BOB, CAROL, BOB)
    assert crowd.slots.waiting == 52
    for _ in range(6):
        await crowd.release(crowd.served[-1])
    assert crowd.served == [ALICE, ALICE, BOB, CAROL, ALICE, BOB, ALICE]
    await crowd.end()


async def test_one_client_cannot_have_them_all() -> None:
    crowd = Crowd(slots(3, per_client=2))
    await crowd.come(*[ALICE] * 10)
    assert crowd.served == [ALICE, ALICE]
    await crowd.come(BOB)
    assert crowd.served == [ALICE, ALICE, BOB], "it passes by those who have spent their budget"
    await crowd.release(BOB)
    assert crowd.served == [ALICE, ALICE, BOB], "that gives Alice no budget"
    await crowd.release(ALICE)
    assert crowd.served == [ALICE, ALICE, BOB, ALICE]
    await crowd.end()


async def test_a_network_is_one_client() -> None:
    crowd = Crowd(slots(3, per_client=1))
    await crowd.come("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", NOBODY)
    assert crowd.served == ["2001:db8::1", "2001:db8:0:1::1", NOBODY]
    await crowd.release("2001:db8::3")
    assert crowd.served[3:] == ["2001:db8::2"]
    await crowd.end()


async def test_time_is_up() -> None:
    places = slots(2, per_client=1, timeout=0.05)
    await places.acquire(ALICE)
    with pytest.raises(Overloaded, match="media") as refusal:
        await places.acquire(ALICE)
    assert refusal.value.reason == "fill-budget"
    await places.acquire(BOB)
    with pytest.raises(Overloaded) as refusal:
        await places.acquire(CAROL)
    assert (refusal.value.reason, refusal.value.status) == ("no-fill-slot", 503)
    assert (places.in_use, places.waiting) == (2, 0)
    assert places.refused == {"fill-budget": 1, "no-fill-slot": 1}
    places.release(BOB)
    await places.acquire(CAROL)


async def test_a_place_that_comes_in_the_moment_when_time_is_up_is_kept() -> None:
    places = slots(1, timeout=0.05)
    await places.acquire(ALICE)
    waiting = asyncio.create_task(places.acquire(BOB))
    await asyncio.sleep(0)
    # In the same turn of the loop in which the time-out cancels the wait, and before it:
    asyncio.get_running_loop().call_soon(places.release, ALICE)
    time.sleep(0.1)  # noqa: ASYNC251  # the time-out is due in the next turn, too
    await waiting
    assert (places.in_use, places.waiting) == (1, 0)


async def test_the_queue_is_full() -> None:
    crowd = Crowd(slots(1, max_waiting=3))
    await crowd.come(*[ALICE] * 6)
    assert crowd.refused == [(ALICE, "queue-full")] * 2
    assert crowd.slots.waiting == 3
    await crowd.end()


async def test_a_full_queue_keeps_nobody_out_but_who_has_filled_it() -> None:
    crowd = Crowd(slots(1, max_waiting=3))
    await crowd.come(*[ALICE] * 4, BOB)
    assert crowd.slots.waiting == 3
    assert crowd.refused == [], "the one that leaves for Bob has not noticed yet"
    await crowd.come(CAROL, BOB)
    assert Counter(crowd.refused) == {(ALICE, "queue-full"): 2, (BOB, "queue-full"): 1}
    for _ in range(3):
        await crowd.release(crowd.served[-1])
    assert crowd.served == [ALICE, ALICE, BOB, CAROL]
    await crowd.end()


async def test_no_queue_at_all() -> None:
    crowd = Crowd(slots(1, max_waiting=0))
    await crowd.come(ALICE, BOB)
    assert crowd.served == [ALICE]
    assert crowd.refused == [(BOB, "queue-full")]
    await crowd.end()


async def test_those_who_have_left_get_none() -> None:
    crowd = Crowd(slots(1))
    await crowd.come(ALICE, *[BOB] * 500, CAROL)
    for task in crowd.tasks[1:-1]:
        task.cancel()
    await crowd.release(ALICE)  # they have not noticed yet that they are cancelled
    assert crowd.served == [ALICE, CAROL]
    await asyncio.sleep(0)
    assert crowd.slots.waiting == 0
    await crowd.end()


async def test_cancelled_anywhere_no_place_is_lost() -> None:
    places = slots(1)

    async def come(client: str) -> None:
        await places.acquire(client)
        try:
            await asyncio.sleep(0)
        finally:
            places.release(client)

    async def work() -> None:
        others = [asyncio.create_task(come(client)) for client in (BOB, CAROL)]
        try:
            await asyncio.sleep(0)
            await come(ALICE)
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def check() -> None:
        assert (places.in_use, places.waiting) == (0, 0)
        assert not places._queues
        assert not places._held

    assert await cancel_everywhere(work, check) > 2


STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "release", "cancel", "run"]), st.integers(0, 20)), max_size=60
)


@settings(max_examples=200)
@given(steps=STEPS, total=st.integers(1, 4), per_client=st.integers(1, 4), max_waiting=st.integers(0, 6))
def test_whatever_happens(
    steps: list[tuple[str, int]], total: int, per_client: int, max_waiting: int
) -> None:
    """No place is lost or given twice, no budget exceeded, and nobody waits for a place that is there."""

    async def run() -> None:
        places = slots(total, per_client=per_client, max_waiting=max_waiting)
        crowd = Crowd(places)
        for what, number in steps:
            match what:
                case "come":
                    crowd.tasks.append(asyncio.create_task(crowd._come(f"192.0.2.{number % 4}")))
                case "release" if crowd.served:
                    places.release(crowd.served.pop(number % len(crowd.served)))
                case "cancel" if crowd.tasks:
                    crowd.tasks[number % len(crowd.tasks)].cancel()
                case "run":
                    await asyncio.sleep(0)
            assert places.in_use <= total
            assert places.waiting <= max_waiting
            assert all(count <= per_client for count in places._held.values())
            assert not any(places._may_have(client) for client in places._queues)
        for _ in range(4):
            await asyncio.sleep(0)
        assert places.in_use == len(crowd.served)
        assert places.waiting == sum(map(len, places._queues.values())) == _unfinished(crowd)
        if crowd.tasks:
            await crowd.end()
        for client in crowd.served:
            places.release(client)
        assert (places.in_use, places.waiting, dict(places._held)) == (0, 0, {})

    asyncio.run(run())


def _unfinished(crowd: Crowd) -> int:
    return sum(not task.done() for task in crowd.tasks)
