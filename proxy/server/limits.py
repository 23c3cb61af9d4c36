"""How many connections clients may have open: in all, and one client of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from proxy.semantics.forward import UNIX, Network, is_trusted
from proxy.semantics.request import network


class Limit(Enum):
    """Why a connection is not taken on, as metrics name it."""

    CONNECTIONS = "connections"
    PER_CLIENT = "connections_per_client"
    DESCRIPTORS = "descriptors"


OnRefused = Callable[[Limit, str], None]
"""Told of each connection that is refused: why, and whose it is."""


def affordable(wanted: int, descriptors: int, others: int, workers: int = 1) -> int:
    """How many connections one of so many `workers` can have with so many `descriptors`, of which `others` are for
    something else (but at most half of them).

    A client costs a socket, and the body that it is sent: this one the keeper has open for all workers.
    """
    return max(1, min(wanted, (descriptors - min(others, descriptors // 2)) // (1 + workers)))


class Place:
    """One connection's, from when it is taken on to its end."""

    __slots__ = ("_client", "_gate")

    def __init__(self, gate: "Gate", client: str) -> None:
        self._gate: Gate | None = gate
        self._client = client

    def leave(self) -> None:
        """The connection is gone.  May be said more than once."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.left(self._client)


class Crowd(Protocol):
    """The connections of all workers."""

    @property
    def workers(self) -> int: ...
    def note(self, count: int) -> None: ...
    def elsewhere(self) -> int: ...


class Gate:
    """At most `most` connections in all, `here` of them in this process, and `per_client` of one client: of one
    network, as in `network`.  In a `crowd`, the first limit is for all workers together.

    Who comes by a Unix socket or from a `trusted` proxy may be many clients, and has not the last limit.
    """

    def __init__(
        self,
        most: int,
        *,
        here: int,
        per_client: int,
        trusted: Sequence[Network],
        on_refused: OnRefused,
        crowd: Crowd | None = None,
    ) -> None:
        self.most = most
        self._here = here
        self.open = 0
        self.peak = 0
        """The most that were open since somebody set this back."""
        self.refused = dict.fromkeys(Limit, 0)
        self._per_client = per_client
        self._trusted = trusted
        self._on_refused = on_refused
        self._crowd = crowd
        self._clients: Counter[str] = Counter()

    def enter(self, peer: str, *, short: bool = False) -> Place | Limit:
        """A place for a connection of this address, or why there is none; `short`: of descriptors."""
        client = "" if peer == UNIX or is_trusted(peer, self._trusted) else network(peer)
        limit = Limit.DESCRIPTORS if short else self._limit(client)
        if limit is not None:
            self.refused[limit] += 1
            self._on_refused(limit, client or peer)
            return limit
        self._note(self.open + 1)
        self.peak = max(self.peak, self.open)
        if client:
            self._clients[client] += 1
        return Place(self, client)

    def _limit(self, client: str) -> Limit | None:
        elsewhere = 0 if self._crowd is None else self._crowd.elsewhere()
        if self.open >= self._here or self.open + elsewhere >= self.most:
            return Limit.CONNECTIONS
        if client and self._clients[client] >= self._per_client:
            return Limit.PER_CLIENT
        return None

    def leaves_it(self) -> bool:
        """Is there no place here, but with another worker?"""
        return self._crowd is not None and self._here <= self.open < self.most - self._crowd.elsewhere()

    def _note(self, count: int) -> None:
        self.open = count
        if self._crowd is not None:
            self._crowd.note(count)

    def left(self, client: str) -> None:
        self._note(self.open - 1)
        if client:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
