"""The comparison: what the adapter costs beside nginx and Varnish, in one run, each round all of them in turn."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from tests.bench.figures import Figure, Missing, percentile
from tests.bench.load import Load, Order, Outcome
from tests.bench.machine import clocks, forget, used
from tests.bench.origin import slice_of
from tests.bench.requests import KiB, MiB, Thing, film, head, known, segment, slices
from tests.bench.servers import Server

SLICES = {"1 KiB": KiB, "64 KiB": 64 * KiB, "1 MiB": MiB, "8 MiB": 8 * MiB}
SMALL = {"4 KiB": 4 * KiB, "40 KiB": 40 * KiB}
FILM = Thing("film.mp4", 128 * MiB)
OTHER = Thing("other.mp4", 128 * MiB + 8 * MiB)
GB = 1e9


@dataclass(frozen=True, slots=True)
class Effort:
    """How many `rounds`, of how many `seconds` each server, and how many cold objects a round (of 64 MiB)."""

    rounds: int
    seconds: float
    fills: int


FULL = Effort(rounds=11, seconds=0.5, fills=3)
QUICK = Effort(rounds=3, seconds=0.2, fills=2)

Tell = Callable[[str], None]
"""Told what is being measured."""


class Comparison:
    """Measures the servers that run; each public method makes figures."""

    def __init__(self, servers: Mapping[str, Server], load: Load, effort: Effort, tell: Tell) -> None:
        self._servers, self._load, self._effort, self._tell = dict(servers), load, effort, tell
        self.load_share: dict[str, float] = {}
        """For each figure, the load's own processor time over that of the cheapest server."""

    @property
    def _all(self) -> list[Server]:
        return list(self._servers.values())

    def prepare(self) -> dict[str, Missing]:
        """Have every server store what is asked for later, and see that it answers right.

        Who does not is left out from now on, and told of.
        """
        wrong = {}
        things = [FILM, OTHER, *(thing for size in SMALL.values() for thing in _small(size))]
        for name, server in list(self._servers.items()):
            self._tell(f"{name} stores")
            for thing in things:
                answer = server.get(thing.target, segment())
                if answer[0] != HTTPStatus.OK or answer[2] != slice_of(0, thing.size):
                    wrong[name] = Missing(f"wrong answer for {thing.name}: {answer[0]} {answer[1]}")
            for length in SLICES.values():
                start = FILM.size - length - 1001
                answer = server.get(FILM.target, film(FILM, start, start + length))
                if answer[0] != HTTPStatus.PARTIAL_CONTENT or answer[2] != slice_of(start, start + length):
                    wrong[name] = Missing(f"wrong answer to a range: {answer[0]} {answer[1]}")
            if name in wrong:
                del self._servers[name]
        return wrong

    def warm_slices(self) -> Iterator[Figure]:
        for name, size in SLICES.items():

            def requests(server: Server, seed: int, length: int = size) -> list[str]:
                asked = slices(FILM, length, 1000, seed)
                return [head(server.port, FILM, fields) for fields in asked]

            yield self._per_request(f"warm slice, {name}", requests, HTTPStatus.PARTIAL_CONTENT)

    def not_modified(self) -> Iterator[Figure]:
        def requests(server: Server, _: int) -> list[str]:
            return [head(server.port, thing, known(thing)) for thing in _small(SMALL["40 KiB"])]

        yield self._per_request("304", requests, HTTPStatus.NOT_MODIFIED)

    def small_objects(self) -> Iterator[Figure]:
        for name, size in SMALL.items():

            def requests(server: Server, _: int, size: int = size) -> list[str]:
                return [head(server.port, thing, segment()) for thing in _small(size)]

            yield self._per_request(f"whole object, {name}", requests, HTTPStatus.OK)

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

    def stalls(self) -> Iterator[Figure]:
        """Seven clients read warm slices of 64 KiB while one more reads 8 MiB slices of another object that is not in
        the page cache; and the same while it is.
        """
        in_files = [server for server in self._all if server.files]
        rows: dict[str, list[tuple[float, float, float]]] = {server.name: [] for server in in_files}
        missing = {
            name: Missing("it keeps its objects in memory") for name in self._servers if name not in rows
        }
        for number, server in self._alternating("stalls", in_files):
            beside = [head(server.port, OTHER, film(OTHER, at, at + 8 * MiB)) for at in _shuffled(number)]
            asked = [head(server.port, FILM, each) for each in slices(FILM, 64 * KiB, 1000, number)]
            order = Order(server.port, asked, 206, server.processes, 7, self._effort.seconds, beside=beside)
            warm = self._ask(order).latencies
            if not forget(server.file_of(OTHER.size)):
                missing[server.name] = Missing("the page cache keeps what it is told to drop (tmpfs?)")
                continue
            cold = self._ask(replace(order, seconds=0.0)).latencies  # one lap: the second would be warm
            rows[server.name].append((percentile(warm, 0.99), percentile(cold, 0.99), max(cold)))
        for index, what in enumerate(
            ("wait (99 %), all warm", "wait (99 %), one reads cold", "longest wait, one reads cold")
        ):
            waits = {name: [1e3 * row[index] for row in found] for name, found in rows.items()}
            yield Figure(what, "ms", {**waits, **missing})

    def _per_request(
        self, what: str, requests: Callable[[Server, int], list[str]], status: HTTPStatus
    ) -> Figure:
        found: dict[str, list[float]] = {name: [] for name in self._servers}
        own: dict[str, list[float]] = {name: [] for name in self._servers}
        for number, server in self._alternating(what, self._all):
            order = Order(
                server.port,
                requests(server, number),
                status,
                server.processes,
                seconds=self._effort.seconds,
            )
            outcome = self._ask(order)
            found[server.name].append(1e6 * outcome.cpu / outcome.requests)
            own[server.name].append(1e6 * outcome.own_cpu / outcome.requests)
        cheapest = min(found, key=lambda name: sum(found[name]))
        self.load_share[what] = sum(own[cheapest]) / sum(found[cheapest])
        return Figure(what, "us", found)

    def _alternating(self, what: str, servers: Sequence[Server]) -> Iterator[tuple[int, Server]]:
        """Each round all of them, another one first each time."""
        for number in range(self._effort.rounds):
            self._tell(f"{what}, round {number + 1} of {self._effort.rounds}")
            for place in range(len(servers)):
                yield number, servers[(number + place) % len(servers)]

    def _ask(self, order: Order) -> Outcome:
        return self._load.carry_out(order)


def _small(size: int) -> list[Thing]:
    return [Thing(f"segment-{size}-{number}.mp4", size) for number in range(100)]


def _shuffled(seed: int) -> list[int]:
    """Where the slices of 8 MiB of the other object start; not in order, against read-ahead."""
    count = OTHER.size // (8 * MiB)
    return [(5 * number + seed) % count * 8 * MiB for number in range(count)]


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
