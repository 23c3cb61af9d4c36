"""A spool that is full makes room, and whoever is reading keeps its bytes."""

import socket

from tests.conftest import StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.spool.objects import MIB, eventually, pattern

SMALL = {"spool": {"max_size": "16MiB", "max_object_size": "8MiB"}}


async def test_the_least_recently_used_make_room(origin: ScriptedOrigin, start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(spool={"max_size": "1MB", "max_object_size": "1MB"})
    spool = adapter.service._cache.spool
    films = {f"/{number}": pattern(300_000, number) for number in range(8)}
    for path, film in films.items():
        origin.serve(path, film)
    async with adapter.wire() as wire:
        for path, film in films.items():
            assert (await wire.get(path)).body == film
            await eventually(lambda: adapter.service._cache.idle)
            assert (await wire.get("/0", Range="bytes=5-9")).body == films["/0"][5:10]
            assert spool.room.used <= 1_000_000
    assert origin.count("/0") == 1, "used all the time"
    assert spool.evictions == 5


async def test_a_reader_keeps_what_it_reads(origin: ScriptedOrigin, start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(**SMALL)
    film = pattern(8 * MIB)
    origin.serve("/film", film)
    for number in range(4):
        origin.serve(f"/{number}", pattern(4 * MIB, number))
    async with adapter.wire() as wire, adapter.wire() as slow:
        await wire.get("/film")
        await eventually(lambda: adapter.service._cache.idle)
        # Else the kernel may take all of it in the client's place, and nobody reads it any more.
        slow.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await slow.request("GET", "/film")
        await slow.response_head()
        for number in range(4):
            assert (await wire.get(f"/{number}")).body == pattern(4 * MIB, number)
            await eventually(lambda: adapter.service._cache.idle)
        assert await slow.body(len(film)) == film
    assert origin.count("/film") == 1
    assert adapter.service._cache.spool.evictions >= 2
