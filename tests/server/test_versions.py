"""An object that keeps changing, an origin that breaks off, clients that come, leave, reload and resume, purges in
between: no tag ever stands for two bodies, nothing is spliced, and nothing is left behind.
"""

import asyncio
import random

import pytest

from proxy.semantics.purging import Everything
from tests.conftest import Adapter
from tests.scripted_origin import Body, Chunk, Cut, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import until
from tests.wire import Response, Truncated, Wire

SIZE = 200_000
CLIENTS, REQUESTS = 6, 30


def version(number: int) -> bytes:
    """Bodies that share prefixes and lengths, as versions of one file do."""
    return b"the same beginning " * 4000 + bytes([number % 5]) * (SIZE - 76_000 + number % 3)


class Changing:
    """Each version stays for a few requests.  It is told apart by nothing, or by a tag, and framed in every way."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._number = 0
        self.settled = False

    def __call__(self, request: OriginRequest) -> Script:
        self._number += not self.settled and self._dice.random() < 0.3
        body = self.current
        fields = {
            "Content-Type": "video/mp4",
            "Cache-Control": self._dice.choice(("max-age=60", "max-age=0")),
        }
        fields |= self._dice.choice(
            ({}, {"Age": "60"}, {"Cache-Control": "max-age=60, stale-while-revalidate=9", "Age": "60"})
        )
        if self.settled:  # what is not stored does not take the place of what is
            fields["Cache-Control"] = "max-age=60"
        if request.method == "HEAD":
            return [Head(200, fields | {"Content-Length": str(len(body))})]
        broken = not self.settled and self._dice.random() < 0.1
        match self._dice.randrange(3):
            case 0:
                end = [Cut()] if broken else [Chunk(b"")]
                return [
                    Head(200, fields | {"Transfer-Encoding": "chunked"}),
                    Chunk(body[:70_000]),
                    Chunk(body[70_000:]),
                    *end,
                ]
            case 1:
                return [Head(200, fields | {"Connection": "close"}), Body(body)]
            case _:
                rest = [Cut()] if broken else [Body(body[90_000:])]
                return [Head(200, fields | {"Content-Length": str(len(body))}), Body(body[:90_000]), *rest]

    @property
    def current(self) -> bytes:
        return version(self._number)


class Client:
    """What one client has seen."""

    def __init__(self, adapter: Adapter, dice: random.Random, bodies: dict[str, bytes]) -> None:
        self._adapter = adapter
        self._dice = dice
        self._bodies = bodies
        self._tag = '"none"'

    async def run(self) -> None:
        for _ in range(REQUESTS):
            try:
                async with asyncio.timeout(20), self._adapter.wire() as wire:
                    await self._once(wire)
            except (Truncated, ConnectionError, asyncio.IncompleteReadError):
                pass  # cut off: the client knows, and comes again

    async def _once(self, wire: Wire) -> None:
        kind, first = self._dice.randrange(7), self._dice.randrange(SIZE - 10)
        match kind:
            case 0:
                self._check(await wire.get("/film"))
            case 1:
                self._check(await wire.get("/film", Cache_Control="no-cache"))
            case 2:
                self._check(await wire.get("/film", Range=f"bytes={first}-", If_Range=self._tag), first)
            case 3:
                self._check(await wire.get("/film", Range=f"bytes={first}-{first + 9}"), first)
            case 4:
                response = await wire.get("/film", If_None_Match=self._tag)
                assert response.status != 304 or response.fields["ETag"] == self._tag
                self._check(response)
            case 5:
                assert (await wire.head("/film")).body == b""
            case _:
                await wire.request("GET", "/film")  # and leaves

    def _check(self, response: Response, first: int = 0) -> None:
        """Whatever stands under a tag is cut from one body."""
        if response.status not in {200, 206}:
            assert response.status in {304, 416, 502, 504}
            return
        tag = response.fields.get("ETag")
        if response.status == 200:
            assert any(response.body == version(number) for number in range(15)), "spliced"
        if tag is None:  # not stored
            return
        self._tag = tag
        start = first if response.status == 206 else 0
        known = self._bodies.get(tag)
        if response.status == 200:
            assert known is None or response.body == known
            self._bodies[tag] = response.body
        elif known is not None:
            assert response.body == known[start : start + len(response.body)]


@pytest.mark.parametrize("seed", range(8))
async def test_no_tag_stands_for_two_bodies(adapter: Adapter, origin: ScriptedOrigin, seed: int) -> None:
    dice, bodies = random.Random(seed), dict[str, bytes]()
    film = Changing(dice)
    origin.on("/film", film)
    cache = adapter.service._cache

    async def purging() -> None:
        for number in range(10):
            await origin.requested("/film", number * 5)
            await cache.purge(Everything(), soft=number % 2 == 0)

    clients = [Client(adapter, random.Random(seed * 100 + number), bodies) for number in range(CLIENTS)]
    purger = asyncio.create_task(purging())
    await asyncio.gather(*(client.run() for client in clients))
    purger.cancel()
    await until(lambda: cache.idle and adapter.service.in_progress == 0)
    await cache.spool.purged()
    film.settled = True
    async with adapter.wire() as wire:
        for wish in ("no-cache", "no-cache", "max-age=5"):
            assert (await wire.get("/film", Cache_Control=wish)).body == film.current
            await until(lambda: cache.idle)
    assert len(bodies) > 3
    assert cache.spool.being_read == 0
    assert cache.spool.room.used == cache.spool.usage()[0]
