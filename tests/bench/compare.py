"""The comparison: what the adapter costs beside nginx and Varnish, in one run, each round all of them in turn."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from itertools import product

from tests.bench.figures import Figure, Missing
from tests.bench.load import Load, Order, Outcome
from tests.bench.machine import clocks, used
from tests.bench.origin import slice_of
from tests.bench.requests import VISITORS, KiB, MiB, Thing, film, head, known, segment, slices
from tests.bench.servers import OURS, TWO_WORKERS, Server

SLICES = {"1 KiB": KiB, "64 KiB": 64 * KiB, "1 MiB": MiB, "8 MiB": 8 * MiB}
THUMBNAIL, SEGMENT = 8 * KiB, 200 * KiB
SMALL = {"thumbnail, 8 KiB": THUMBNAIL, "segment, 200 KiB": SEGMENT}
ENCRYPTED = {name: SLICES[name] for name in ("1 KiB", "64 KiB", "1 MiB")}
FILM = Thing("film.mp4", 128 * MiB)
OTHER = Thing("other.mp4", 128 * MiB + 8 * MiB)
"""Of another size, so that its file can be told from that of the first."""
GB = 1e9
WARMING = 800
"""Requests before a figure: so many that each of two workers meets each browser."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How many `rounds`, of how many `seconds` each server, and how many cold objects a round (of 64 MiB)."""

    rounds: int
    seconds: float
    fills: int


FULL = Effort(rounds=11, seconds=0.5, fills=3)
QUICK = Effort(rounds=3, seconds=0.2, fills=2)

Requests = Callable[[Server, int], list[str]]
"""What a server is asked for in a round."""

Tell = Callable[[str], None]
"""Told what is being measured."""


class Comparison:
    """Measures the servers that run; each public method makes figures."""

    def __init__(self, servers: Mapping[str, Server], load: Load, effort: Effort, tell: Tell) -> None:
        self._servers, self._load, self._effort, self._tell = dict(servers), load, effort, tell
        self._two = self._servers.pop(TWO_WORKERS, None)
        self.load_share: dict[str, float] = {}
        """For each figure, the load's own processor time over that of the cheapest server."""

    @property
    def _all(self) -> list[Server]:
        return list(self._servers.values())

    def prepare(self) -> dict[str, Missing]:
        """Have every server store what is asked for later, and see that it answers right.

        Who does not is left out from now on, and told of.
        """
        wrong: dict[str, Missing] = {}
        things = [FILM, *(thing for size in SMALL.values() for thing in _small(size))]
        for server in [*self._all, *([self._two] if self._two else [])]:
            self._tell(f"{server.name} stores")
            for thing in things:
                answer = server.get(thing.target, segment())
                if answer[0] != HTTPStatus.OK or answer[2] != slice_of(0, thing.size):
                    wrong[server.name] = Missing(f"wrong answer for {thing.name}: {answer[0]} {answer[1]}")
            for tls, length in product((False, True) if server.tls else (False,), SLICES.values()):
                start = FILM.size - length - 1001
                answer = server.get(FILM.target, film(FILM, start, start + length), tls=tls)
                if answer[0] != HTTPStatus.PARTIAL_CONTENT or answer[2] != slice_of(start, start + length):
                    wrong[server.name] = Missing(f"wrong answer to a range: {answer[0]} {answer[1]}")
        for name in wrong:
            self._servers.pop(name, None)
        if TWO_WORKERS in wrong:
            self._two = None
        return wrong

    def warm_slices(self) -> Iterator[Figure]:
        for name, size in SLICES.items():
            asked = partial(_asked, length=size)
            yield self._per_request(f"warm slice, {name}", asked, HTTPStatus.PARTIAL_CONTENT)

    def encrypted(self) -> Iterator[Figure]:
        """The same over TLS 1.3, without the handshakes."""
        missing = {name: Missing("it has no TLS") for name, each in self._servers.items() if each.tls is None}
        spoken = {name: each for name, each in self._servers.items() if name not in missing}
        for name, size in ENCRYPTED.items():
            asked = partial(_asked, length=size)
            figure = self._per_request(
                f"TLS: warm slice, {name}", asked, HTTPStatus.PARTIAL_CONTENT, servers=spoken, tls=True
            )
            yield replace(figure, servers={**figure.servers, **missing})

    def not_modified(self) -> Iterator[Figure]:
        def requests(server: Server, _: int) -> list[str]:
            return [
                head(server.port, thing, known(thing, visitor % VISITORS))
                for visitor, thing in enumerate(_small(SEGMENT))
            ]

        yield self._per_request("304", requests, HTTPStatus.NOT_MODIFIED)

    def small_objects(self) -> Iterator[Figure]:
        for name, size in SMALL.items():

            def requests(server: Server, _: int, size: int = size) -> list[str]:
                return [
                    head(server.port, thing, segment(visitor % VISITORS))
                    for visitor, thing in enumerate(_small(size))
                ]

            yield self._per_request(f"whole {name}", requests, HTTPStatus.OK)

    def cold_fills(self) -> Iterator[Figure]:
        """Fetch, store and send; and apart from that, what is done about it when the clients have gone."""
        during: dict[str, list[float]] = {name: [] for name in self._servers}
        after: dict[str, list[float]] = {name: [] for name in self._servers}
        size = 64 * MiB
        for number, server in self._alternating("cold fills", self._all):
            things = [Thing(f"fill-{number}-{each}.mp4", size) for each in range(self._effort.fills)]
            requests = [head(server.port, thing, segment()) for thing in things]
            outcome = self._ask(Order(server.port, requests, 200, server.processes, len(things), once=True))
            gigabytes = size * len(things) / GB
            during[server.name].append(outcome.cpu / gigabytes)
            after[server.name].append(_until_quiet(server) / gigabytes)
        yield Figure("cold fill", "s/GB", during)
        yield Figure("cold fill, afterwards", "s/GB", after)

    def two_workers(self) -> Iterator[Figure]:
        """Of one process, and of two that share its core; how much more they get done on cores of their own is not
        told: our load is one process, and would be the limit.
        """
        if self._two is None or OURS not in self._servers:
            return
        both = {OURS: self._servers[OURS], TWO_WORKERS: self._two}
        for name in ("1 KiB", "64 KiB"):
            asked = partial(_asked, length=SLICES[name])
            yield self._per_request(f"warm slice, {name}", asked, HTTPStatus.PARTIAL_CONTENT, servers=both)

    def _per_request(
        self,
        what: str,
        requests: Requests,
        status: HTTPStatus,
        *,
        servers: Mapping[str, Server] | None = None,
        tls: bool = False,
    ) -> Figure:
        servers = self._servers if servers is None else servers
        found: dict[str, list[float]] = {name: [] for name in servers}
        own: dict[str, list[float]] = {name: [] for name in servers}
        for server in servers.values():
            self._warm_up(server, requests(server, 0)[:WARMING], status, tls=tls)
        asked, before = 0, _lane(servers)
        for number, server in self._alternating(what, list(servers.values())):
            port, asked_for, seconds = _port(server, tls=tls), requests(server, number), self._effort.seconds
            order = Order(port, asked_for, status, server.processes, seconds=seconds, tls=tls)
            outcome = self._ask(order)
            found[server.name].append(1e6 * outcome.cpu / outcome.requests)
            own[server.name].append(1e6 * outcome.own_cpu / outcome.requests)
            asked += outcome.requests if server.name == OURS else 0
        if not found:
            return Figure(what, "us")
        cheapest = min(found, key=lambda name: sum(found[name]))
        self.load_share[what] = sum(own[cheapest]) / sum(found[cheapest])
        after = _lane(servers)
        share = (after - before) / asked if asked and after is not None and before is not None else None
        return Figure(what, "us", found, share)

    def _warm_up(self, server: Server, requests: Sequence[str], status: HTTPStatus, *, tls: bool) -> None:
        """What each browser asks for first, and each object, is not counted.  Nor is the disk: what has been asked of
        others since, or stored by them, may have pushed the film out of the page cache.
        """
        whole = [head(server.port, FILM, segment())]
        self._ask(Order(server.port, whole, HTTPStatus.OK, [], 1, once=True))
        self._ask(Order(_port(server, tls=tls), requests, status, [], once=True, tls=tls))

    def _alternating(self, what: str, servers: Sequence[Server]) -> Iterator[tuple[int, Server]]:
        """Each round all of them, another one first each time."""
        for number in range(self._effort.rounds):
            self._tell(f"{what}, round {number + 1} of {self._effort.rounds}")
            for place in range(len(servers)):
                yield number, servers[(number + place) % len(servers)]

    def _ask(self, order: Order) -> Outcome:
        return self._load.carry_out(order)


def _asked(server: Server, seed: int, *, length: int) -> list[str]:
    return [head(server.port, FILM, fields) for fields in slices(FILM, length, 1000, seed)]


def _port(server: Server, *, tls: bool) -> int:
    port = server.tls if tls else server.port
    assert port is not None, "only those are asked that speak it"
    return port


def _lane(servers: Mapping[str, Server]) -> float | None:
    """Requests that the adapter's warm lane has answered so far."""
    return servers[OURS].metric("range_adapter_warm_lane_requests_total") if OURS in servers else None


def _small(size: int) -> list[Thing]:
    return [Thing(f"segment-{size}-{number}.mp4", size) for number in range(100)]


def _until_quiet(server: Server) -> float:
    """Processor seconds it uses until it has done next to nothing for a while; at most ten seconds are waited."""
    first = last = clocks(server.processes)
    for _ in range(50):
        time.sleep(0.2)
        now = clocks(server.processes)
        if used(last, now) < 0.002:
            break
        last = now
    return used(first, now)
