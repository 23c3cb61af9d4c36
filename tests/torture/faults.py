"""An origin that breaks off, stalls, lies and changes: one episode for each fault, several at the same time.

In an episode an item is new, the origin's first response is injured, the next is as `After` says, and all others are
good.  Some clients want the item meanwhile, in different ways; and one when all is well again.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from rich.console import Console

from proxy.health import LONGEST_PAUSE
from tests.torture.adapter import RESUMES, Adapter
from tests.torture.client import Client, Request, some_wish, with_ranges
from tests.torture.injuries import CUTS, LIES, Cut, End, Injury, Lie, Place, fits
from tests.torture.items import Framing, Item, Mark
from tests.torture.kill import settle
from tests.torture.origin import Origin
from tests.torture.report import Show, Tally
from tests.torture.truth import History
from tests.wire import Wire

AT_ONCE: Final = 8
"""Episodes at the same time."""
SIZES: Final = (1, 100, 5000, 65_536, 65_537, 200_000, 700_000, 3_000_000)
SLACK: Final = 5.0
"""Seconds that a request may take beyond what the time-outs of the config say, on a busy machine."""
INJURIES: Final[tuple[Injury, ...]] = (*CUTS, *CUTS, *LIES)


class After(Enum):
    """What the origin's next response is."""

    SAME = "then good"
    AGAIN = "then broken again, then good"
    ERROR = "then 503, then good"
    BYTES = "then other bytes"
    LENGTH = "then another length"
    TYPE = "then another type"
    CODING = "then another coding"
    TAG = "then another tag"


SURVIVED: Final = frozenset({After.SAME, After.AGAIN, After.ERROR})
"""After these, every client has all there is."""
MENDED: Final = frozenset({Place.IN_BODY, Place.IN_FRAMING, Lie.NO_CHUNK})
"""What a client does not learn of where broken fills are resumed."""
HARMLESS: Final = frozenset({Lie.SURPLUS})
"""What no client ever learns of."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault."""

    item: Item
    injury: Injury
    after: After

    def __str__(self) -> str:
        return f"{self.injury if isinstance(self.injury, Cut) else self.injury.value}, {self.after.value}"

    @property
    def must_succeed(self) -> bool:
        """Has every client of the episode to get what it asked for?"""
        if self.injury in HARMLESS:
            return self.after in SURVIVED
        kind = self.injury.place if isinstance(self.injury, Cut) else self.injury
        if isinstance(self.injury, Cut) and kind in {Place.BEFORE_HEAD, Place.IN_HEAD}:
            # It is asked again; not after a time-out, and a 503 then is an answer like any other.
            return self.injury.end is not End.STALL and self.after in {After.SAME, After.AGAIN}
        return RESUMES and kind in MENDED and self.after in SURVIVED

    def injuries(self) -> Iterator[Injury | None]:
        """What is wrong with the origin's responses, from the first on."""
        yield self.injury
        if self.after is After.AGAIN:
            yield self.injury
        elif self.after is After.ERROR:
            yield Lie.ERROR


def some_episode(dice: random.Random, number: int) -> Episode:
    """A fault of any kind, for an item that it fits."""
    while True:
        after, injury = dice.choice(tuple(After)), dice.choice(INJURIES)
        size = dice.choice(SIZES)
        framing = dice.choice(tuple(Framing))
        strong = after is After.TAG
        marks = [mark for mark in Mark if framing is not Framing.CLOSE or mark is not Mark.STRONG]
        item = Item(
            path=f"/f/{number}.mp4",
            size=size,
            framing=framing,
            mark=Mark.STRONG if strong else dice.choice(marks),
            fickle=after is not After.SAME,
            stem=0
            if after is After.BYTES
            else dice.choice((0, size // 2))
            if after is After.LENGTH
            else size + 3,
            guises={After.TYPE: "Content-Type", After.CODING: "Content-Encoding"}.get(after),
        )
        if fits(injury, item) and not (strong and framing is Framing.CLOSE):
            return Episode(item, injury, after)


class Sick:
    """Injures responses as the episodes have it."""

    def __init__(self) -> None:
        self._scripts: dict[str, Iterator[Injury | None]] = {}
        self._afters: dict[str, After] = {}

    def enter(self, episode: Episode) -> None:
        self._scripts[episode.item.path] = episode.injuries()
        self._afters[episode.item.path] = episode.after

    def leave(self, episode: Episode) -> None:
        """From now on its item is well."""
        del self._scripts[episode.item.path]
        del self._afters[episode.item.path]

    def __call__(self, history: History) -> Injury | None:
        path = history.item.path
        if path not in self._scripts:
            return None
        injury = next(self._scripts[path], None)
        if injury is None and history.generation == 0:
            match self._afters[path]:
                case After.BYTES:
                    history.change(by=3)  # of the same length
                case After.LENGTH | After.TYPE | After.CODING | After.TAG:
                    history.change()
                case _:
                    pass
        return injury


class Ward:
    """Where the episodes happen."""

    def __init__(self, adapter: Adapter, origin: Origin, down: Origin, tally: Tally, limit: float) -> None:
        self._adapter = adapter
        self._origin = origin
        self._down = down
        self._tally = tally
        self._limit = limit
        self._one = asyncio.Lock()
        self.longest = 0.0

    async def run(self, episode: Episode, sick: Sick, dice: random.Random) -> None:
        """The whole of it."""
        if episode.injury is Lie.NO_CONNECTION:
            item = replace(episode.item, path=f"/down{episode.item.path}")
            async with self._one:
                await self._refused(replace(episode, item=item), dice)
            return
        self._origin.add([episode.item])
        history = self._origin.histories[episode.item.path]
        sick.enter(episode)
        await self._meanwhile(episode, history, dice)
        sick.leave(episode)
        await self._afterwards(episode, history, dice)
        self._tally.seen_faults[str(episode)] += 1

    async def _refused(self, episode: Episode, dice: random.Random) -> None:
        self._down.add([episode.item])
        history = self._down.histories[episode.item.path]
        self._down.refuse()
        opening = asyncio.get_running_loop().call_later(
            dice.uniform(0, 0.5), lambda: asyncio.ensure_future(self._down.listen())
        )
        await self._meanwhile(episode, history, dice)
        opening.cancel()
        await self._down.listen()
        await asyncio.sleep(LONGEST_PAUSE)  # for so long it may be held for down
        self._down.injured += 1
        await self._afterwards(episode, history, dice)
        self._tally.seen_faults[str(episode)] += 1

    async def _meanwhile(self, episode: Episode, history: History, dice: random.Random) -> None:
        client = self._client(dice)
        plain = Request(client.asked(history))
        ranged = [with_ranges(plain, (some_wish(dice, episode.item.size, kind),)) for kind in (1, 1, 2, 3)]
        requests = [dice.choice((plain, *ranged)), plain, *dice.sample(ranged, 2)]
        asking = []
        for request in requests:
            must = episode.must_succeed
            asking.append(asyncio.create_task(self._ask(client, request, must=must, what=str(episode))))
            await asyncio.sleep(dice.choice((0, 0, 0.01, 0.1)))
        await asyncio.gather(*asking)
        self.longest = max(self.longest, client.longest)

    async def _afterwards(self, episode: Episode, history: History, dice: random.Random) -> None:
        """All is well: so is every answer."""
        client = self._client(dice)
        plain = Request(client.asked(history))
        for request in (plain, with_ranges(plain, ((0, 0),))):
            await self._ask(client, request, must=True, what=f"all is well after: {episode}")
        self.longest = max(self.longest, client.longest)

    async def _ask(self, client: Client, request: Request, *, must: bool, what: str) -> None:
        async with Wire(self._adapter.url) as wire:
            await client.ask(wire, request, must=must, what=what)

    def _client(self, dice: random.Random) -> Client:
        return Client(self._adapter, self._origin, self._tally, dice, limit=self._limit, fails=True)


async def faults(
    console: Console,
    folder: Path,
    *,
    count: int,
    seed: int,
    seconds: float = float("inf"),
    patience: float = 1.0,
) -> Tally:
    """So many faults of the origin; each time-out is `patience` seconds."""
    dice, tally, sick = random.Random(seed), Tally("faults", seed), Sick()
    timeouts = {name: f"{int(patience * 1000)}ms" for name in ("connect", "first_byte", "idle")}
    if RESUMES:
        timeouts["resume"] = f"{int(patience * 8000)}ms"
    # For a slot, a connection, a head, bytes, the length of what has none; and to resume.
    limit = patience * (4 + 2 + 8 * RESUMES) + SLACK
    async with Origin([], dice, sick) as origin, Origin([], dice) as down:
        adapter = Adapter(
            folder,
            spool={"path": str(folder / "spool"), "max_size": "100MiB", "min_free": "0B"},
            origins={
                each: {"url": o.url, "timeouts": timeouts} for each, o in (("sick", origin), ("down", down))
            },
            defaults={"ranges": {"unknown_length_wait": f"{int(patience * 2000)}ms"}},
            routes=[{"match": {"path_prefix": "/down"}, "origin": "down"}, {"origin": "sick"}],
        )
        await adapter.start()
        ward = Ward(adapter, origin, down, tally, limit)
        try:
            with Show(console, "faults", count) as show:
                await _run_episodes(ward, sick, dice, show, tally, count, seconds)
            await settle(adapter, tally)
        finally:
            await adapter.stop()
        for text, times in adapter.complaints().items():
            tally.fault("log", f"{times} times: {text}")
        injured = origin.injured + down.injured
    tally.figures = {
        "episodes": str(sum(tally.seen_faults.values())),
        "faults of the origin": str(injured),
        "kinds of episode": str(len(tally.seen_faults)),
        "request, the longest": f"{ward.longest:.1f} s of {limit:.1f} s",
        "broken fills are resumed": "yes" if RESUMES else "no",
    }
    return tally


async def _run_episodes(
    ward: Ward, sick: Sick, dice: random.Random, show: Show, tally: Tally, count: int, seconds: float
) -> None:
    numbers = iter(range(count))

    async def nurse() -> None:
        for number in numbers:
            if time.monotonic() - tally.begun > seconds:
                return
            own = random.Random(dice.random())
            await ward.run(some_episode(own, number), sick, own)
            show.step(tally)

    async with asyncio.TaskGroup() as nurses:
        for _ in range(AT_ONCE):
            nurses.create_task(nurse())
