"""Places for what is fetched from one origin, shared out fairly among the clients that want it.

Who finds no place waits, in a queue of its client's; a place that becomes free goes to the clients in turn.  So one
client that asks for a thousand objects delays its own requests, and hardly those of others.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from contextlib import suppress

from proxy.errors import Overloaded
from proxy.semantics.request import network

NOBODY = "nobody"
"""The client of what no request waits for.  No address is spelled so."""


class Slots:
    """`total` places, of which one client has at most `per_client` at a time; and at most `max_waiting` requests that
    wait for one, each at most `timeout` seconds.  A client is a network, as in `network`.
    """

    def __init__(self, name: str, total: int, *, per_client: int, max_waiting: int, timeout: float) -> None:
        self._name = name
        self.total = total
        self._per_client = per_client
        self._max_waiting = max_waiting
        self._timeout = timeout
        self._held: Counter[str] = Counter()
        self._queues: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()  # whose turn is next
        self.in_use = 0
        self.waiting = 0
        """Requests that wait for a place: who holds one in vain should leave it to them."""
        self.refused: Counter[str] = Counter()
        """Requests that got none, by reason."""

    def __repr__(self) -> str:
        return f"<Slots {self._name} {self.in_use}/{self.total} waiting={self.waiting}>"

    async def acquire(self, client: str) -> None:
        """Take a place for `client`, an address or NOBODY; `release` gives it back.

        Raises Overloaded: `queue-full` at once, or when the queue is full of this client's and another one comes;
        `fill-budget` in time, if the client's own fetches are in the way; else `no-fill-slot`.
        """
        client = network(client)
        if self._may_have(client):
            self._take(client)
            return
        if self.waiting >= self._max_waiting:
            self._make_room(client)
        queue = self._queues.setdefault(client, deque())
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self.waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await turn
        except BaseException:
            if _given(turn):
                self.release(client)
            else:
                self._leave(client, turn)
            raise
        if _given(turn):  # maybe in the moment when time was up
            return
        if turn.cancelled():
            self._leave(client, turn)
            raise self._late(client)
        raise self._refusal(reason="queue-full")

    def is_free_for(self, client: str) -> bool:
        """Would `acquire` give it a place at once?"""
        return self._may_have(network(client))

    def release(self, client: str) -> None:
        """The place is free again."""
        client = network(client)
        self.in_use -= 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        while (turn := self._next_turn()) is not None:
            turn.set_result(True)

    def _may_have(self, client: str) -> bool:
        # Whoever waits while there is a place has spent its budget: nobody is passed by.
        return self.in_use < self.total and self._held[client] < self._per_client

    def _take(self, client: str) -> None:
        self.in_use += 1
        self._held[client] += 1

    def _next_turn(self) -> asyncio.Future[bool] | None:
        """Take the place for whose turn it is; None if there is no place, or nobody who may have it."""
        while client := next((each for each in self._queues if self._may_have(each)), None):
            turn = self._queues[client].popleft()
            self.waiting -= 1
            self._queues.move_to_end(client)
            self._drop_if_empty(client)
            if not turn.done():  # else it has just gone
                self._take(client)
                return turn
        return None

    def _make_room(self, client: str) -> None:
        """The queue is full: the latest of whoever has most in it goes.  Raises Overloaded if that is `client`."""
        most = max(self._queues, key=lambda each: len(self._queues[each]), default=client)
        if len(self._queues.get(client, ())) + 1 >= len(self._queues.get(most, ())):
            raise self._refusal(reason="queue-full")
        turn = self._queues[most].pop()
        self.waiting -= 1
        if not turn.done():
            turn.set_result(False)

    def _leave(self, client: str, turn: asyncio.Future[bool]) -> None:
        """Nobody waits for this turn any more."""
        queue = self._queues.get(client)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self.waiting -= 1
            self._drop_if_empty(client)

    def _drop_if_empty(self, client: str) -> None:
        if not self._queues[client]:
            del self._queues[client]

    def _late(self, client: str) -> Overloaded:
        spent = self._per_client < self.total and self._held[client] >= self._per_client
        return self._refusal(reason="fill-budget" if spent else "no-fill-slot")

    def _refusal(self, *, reason: str) -> Overloaded:
        self.refused[reason] += 1
        return Overloaded(f"too much is being fetched from origin {self._name}", reason=reason)


def _given(turn: asyncio.Future[bool]) -> bool:
    return turn.done() and not turn.cancelled() and turn.result()
