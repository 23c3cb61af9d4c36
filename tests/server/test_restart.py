"""A restart costs nothing that was whole, and keeps nothing that was not."""

from pathlib import Path

from tests.conftest import StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.spool.objects import pattern
from tests.together import until

FILM = pattern(300_000)
HOST = [("Host", "films.example")]  # the port, and so the default, is another after each restart


async def test_a_stored_object_serves_at_once_after_a_restart(
    origin: ScriptedOrigin, start_adapter: StartAdapter
) -> None:
    origin.serve("/film", FILM)
    first = await start_adapter()
    async with first.wire() as wire:
        before = await wire.get("/film", HOST, Range="bytes=1000-1999")
        await wire.get("/film", HOST)
    await first.service.stop()
    second = await start_adapter()
    async with second.wire() as wire:
        after = await wire.get("/film", HOST, Range="bytes=1000-1999", If_Range=before.fields["ETag"])
        assert after.status == 206
        assert after.body == before.body == FILM[1000:2000]
        assert after.fields["ETag"] == before.fields["ETag"]
        assert "hit" in after.cache_status
    assert origin.count("/film") == 1


async def test_an_unfinished_object_is_gone_on_with(
    origin: ScriptedOrigin, start_adapter: StartAdapter
) -> None:
    origin.serve("/film", FILM)
    gate = origin.gate("/film", at=1000)
    first = await start_adapter()
    async with first.wire() as wire:
        await wire.request("GET", "/film", HOST, Range="bytes=0-99")
        before = await wire.response()
        assert before.body == FILM[:100]
    await until(lambda: [fill.written for fill in first.service._cache.fills()] == [1000])
    await first.service.stop()
    gate.open()
    second = await start_adapter()
    gate = origin.gate("/film", at=0)
    async with second.wire() as wire, second.wire() as other:
        await other.request("GET", "/film", HOST)
        await gate.reached()
        after = await wire.get("/film", HOST, Range="bytes=900-999", If_Range=before.fields["ETag"])
        assert (after.status, after.body) == (206, FILM[900:1000]), "what was stored is there at once"
        gate.open()
        assert (await other.response()).body == FILM
    assert origin.count("/film") == 2


async def test_a_body_that_was_cut_meanwhile_is_fetched_anew(
    origin: ScriptedOrigin, start_adapter: StartAdapter, tmp_path: Path
) -> None:
    origin.serve("/film", FILM)
    first = await start_adapter()
    async with first.wire() as wire:
        await wire.get("/film", HOST)
    await first.service.stop()
    [body] = (tmp_path / "spool" / "objects").rglob("*.body")
    with body.open("r+b") as file:
        file.truncate(1000)
    second = await start_adapter()
    async with second.wire() as wire:
        assert (await wire.get("/film", HOST)).body == FILM
    assert origin.count("/film") == 2
