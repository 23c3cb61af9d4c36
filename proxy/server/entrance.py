"""What becomes of each connection of a client: a place, or a refusal; and what is told of those."""

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from proxy.incidents import Incidents
from proxy.semantics.forward import Network
from proxy.server.accepting import SPARE, Spare
from proxy.server.connection import Connection
from proxy.server.limits import Crowd, Gate, Limit, Place, affordable
from proxy.server.memory import give_back
from proxy.server.metrics import Metrics
from proxy.server.refusing import Refusing

OWN_DESCRIPTORS = 48
"""Open files besides those of clients and origins: the index, the log, listeners, the admin listener's clients."""
REFUSED_AT_ONCE = 256
"""Connections that are told so at the same time; more are closed without a word."""

CROWD = 64
"""Connections at once that leave much behind, ..."""
CROWD_GONE = 10.0
"""... and how often we look whether most of them have gone, in seconds."""

TIME_LIMITS = ("head", "keep_alive", "send_idle", "send_rate")

_log = structlog.stdlib.get_logger("server")


class Entrance:
    """At most `connections`, or as many as the open files of each process allow beside `others` (descriptors that are
    not ours).

    `per_client`, `trusted` and `crowd` are as for `Gate`, `name` is ours in Cache-Status.
    """

    def __init__(
        self,
        spare: Spare,
        metrics: Metrics,
        incidents: Incidents,
        *,
        name: str,
        connections: int,
        per_client: int,
        trusted: Sequence[Network],
        others: int,
        crowd: Crowd | None = None,
    ) -> None:
        self._spare = spare
        self._metrics = metrics
        self._incidents = incidents
        self._timed_out = Counter(dict.fromkeys(TIME_LIMITS, 0))
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        workers = 1 if crowd is None else crowd.workers
        refused, here = REFUSED_AT_ONCE, connections
        if descriptors != resource.RLIM_INFINITY:
            refused = min(refused, descriptors // 8)
            here = affordable(connections, descriptors, others + OWN_DESCRIPTORS + SPARE + refused, workers)
        most = min(connections, workers * here)
        if most < connections:
            _log.warning(
                "fewer connections than server.limits.connections: raise the limit of open files",
                connections=most,
                configured=connections,
                open_files=descriptors,
            )
        self._gate = Gate(
            most,
            here=here,
            per_client=per_client,
            trusted=trusted,
            on_refused=self._note_refused,
            crowd=crowd,
        )
        self._refusing = Refusing(name, refused)
        metrics.connections.set_function(lambda: self._gate.open)
        metrics.max_connections.set(most / workers)  # they are summed up
        for limit in Limit:
            metrics.refused_connections.labels(limit.value)
        for each in TIME_LIMITS:
            metrics.timed_out_connections.labels(each)

    def take(
        self, make: Callable[[Place], Connection], sock: socket.socket, peer: str, *, tls: bool = False
    ) -> Connection | None:
        """What talks to this client; None: it has been refused.  Without a word where `tls` would come before it."""
        place = self._gate.enter(peer, short=not self._spare.complete())
        if isinstance(place, Limit):
            if tls:
                sock.close()
            else:
                self._refusing.refuse(sock, place)
            return None
        return make(place)

    def leaves_it(self) -> bool:
        """Is the next connection better taken by another worker?"""
        return self._gate.leaves_it()

    async def watch(self) -> None:
        """When a crowd has gone, give its memory back.  Runs until it is cancelled."""
        gate = self._gate
        while True:
            await asyncio.sleep(CROWD_GONE)
            if gate.peak >= CROWD and gate.open <= gate.peak // 4:
                gate.peak = gate.open
                await asyncio.to_thread(give_back)

    def note_timeout(self, limit: str) -> None:
        """A connection has ended by this limit of time."""
        self._timed_out[limit] += 1
        self._metrics.timed_out_connections.labels(limit).inc()

    def _note_refused(self, limit: Limit, client: str) -> None:
        self._metrics.refused_connections.labels(limit.value).inc()
        self._incidents.note(
            "connections are refused",
            about="clients",
            reason=limit.value,
            why=_ADVICE[limit],
            client=client if limit is Limit.PER_CLIENT else None,
            open=self._gate.open,
        )

    def report(self) -> dict[str, Any]:
        """For a person or a program that looks."""
        return {
            "open": self._gate.open,
            "max": self._gate.most,
            "refused": {limit.value: count for limit, count in self._gate.refused.items()},
            "timed_out": dict(self._timed_out),
        }

    def close(self) -> None:
        self._refusing.close()


_ADVICE = {
    Limit.CONNECTIONS: "as many are open as server.limits.connections, or the limit of open files, allows",
    Limit.PER_CLIENT: "this client has as many as server.limits.connections_per_client allows; if it is a proxy, "
    "it belongs into server.trusted_proxies",
    Limit.DESCRIPTORS: "no descriptor is left; raise the limit of open files, or lower server.limits.connections",
}
