"""A bit of a stored body changes behind the service's back: once that is known, no client gets a byte of it."""

import asyncio
import os
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from proxy.server.exchange import Exchange
from proxy.spool.body import Body
from proxy.spool.spool import Spool
from tests.admin.test_admin import samples, status
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.spool.objects import MIB, pattern
from tests.spool.rot import flip
from tests.together import settled, until

FILM = pattern(300_000)
LONG = pattern(8 * MIB)
HOST = [("Host", "films.example")]  # the port, and so the default, is another after each restart


def spool_of(adapter: Adapter) -> Spool:
    return adapter.service._cache.spool


def spoil(spool: Spool, at: int) -> None:
    """One bit of the one object that is stored."""
    [path] = spool.paths.objects.rglob("*.body")
    flip(path, at)


async def test_the_scrub_finds_it_and_it_is_fetched_anew(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM)
    adapter = await start_adapter()
    async with adapter.wire() as wire:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
    await adapter.service.stop()
    spoil(spool_of(adapter), 200_000)
    spool_of(adapter).paths.scrub.unlink()  # its next pass is due
    adapter = await start_adapter(spool={"scrub_rate": "1TiB"})
    await until(lambda: spool_of(adapter).rotten == 1)
    async with adapter.wire() as wire:
        assert (await wire.get("/film", HOST, Range="bytes=150000-250000")).body == FILM[150_000:250_001]
        await settled(adapter, origin)
        hit = await wire.get("/film", HOST)
        assert hit.body == FILM
        assert re.fullmatch(r"range-adapter;hit;ttl=3(600|5\d\d)", hit.cache_status)
    assert origin.count("/film") == 2
    keeping = adapter.service._keeping
    assert keeping is not None
    await until(lambda: keeping.scrub.progress.ended is not None)
    found = await samples(adapter)
    assert found["range_adapter_rotten_objects_total"] == [({}, 1)]
    assert found["range_adapter_scrub_bytes_total"] == [({}, len(FILM))]
    assert found["range_adapter_scrub_last_pass_timestamp_seconds"][0][1] > 0
    report = await status(adapter)
    assert report["spool"]["rotten"] == 1
    assert report["scrub"]["enabled"] is True
    assert report["scrub"]["read_bytes"] == len(FILM)
    assert report["scrub"]["last_whole_pass"] >= report["scrub"]["pass_begun"]


async def test_a_file_that_others_have_written_to_is_fetched_anew_at_once(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film", FILM)
    adapter = await start_adapter(spool={"scrub_rate": "0B"})
    async with adapter.wire() as wire:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
        hit = await wire.get("/film", HOST)
        assert re.fullmatch(r"range-adapter;hit;ttl=3(600|5\d\d)", hit.cache_status)
        [path] = spool_of(adapter).paths.objects.rglob("*.body")
        flip(path, 200_000)
        os.utime(path, ns=(1, 1))  # somebody else's write, and no rot
        assert (await wire.get("/film", HOST, Range="bytes=150000-250000")).body == FILM[150_000:250_001]
        await settled(adapter, origin)
        assert (await wire.get("/film", HOST)).body == FILM
    assert origin.count("/film") == 2
    assert (await status(adapter))["spool"]["rotten"] == 1


@pytest.mark.parametrize("how", ["read", "sent by the kernel"])
async def test_who_is_reading_it_is_cut_off(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "read":
        monkeypatch.setattr(Exchange, "can_send_files", lambda _: False)
    origin.serve("/film", LONG * 4)
    async with adapter.wire() as wire:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
    async with adapter.wire() as wire, adapter.wire() as slow:
        await slow.request("GET", "/film", HOST)
        await slow.response_head()
        spool = spool_of(adapter)
        spoil(spool, len(LONG) * 4 - 1)
        [(_, stored)] = await spool.page("", 10)
        assert stored is not None
        await spool.condemn(stored, "a test")
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await slow.body(len(LONG) * 4)
        received = caught.value.partial
        assert received == (LONG * 4)[: len(received)]
        assert (await wire.get("/film", HOST)).body == LONG * 4
    assert origin.count("/film") == 2


@pytest.mark.usefixtures("digests_are_waited_for")
async def test_it_gets_no_digest(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
        spoil(spool_of(adapter), 200_000)
        answer = await wire.get("/film", [*HOST, ("Want-Repr-Digest", "sha-256=3")])
        assert answer.body == FILM
        assert "Repr-Digest" not in answer.fields, "it is being fetched anew"
        await settled(adapter, origin)
        answer = await wire.get("/film", [*HOST, ("Want-Repr-Digest", "sha-256=3")])
        told = f"sha-256=:{b64encode(sha256(FILM).digest()).decode()}:"
        assert (answer.body, answer.fields["Repr-Digest"]) == (FILM, told)
    assert origin.count("/film") == 2
    assert spool_of(adapter).rotten == 1


@pytest.mark.usefixtures("heads_wait")
async def test_an_answer_that_has_not_begun_begins_anew(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is condemned between the decision to use it and its first byte."""
    origin.serve("/film", FILM)
    real = Body.read

    async def read(body: Body, start: int, stop: int) -> bytes | bytearray:
        for _, stored in await spool.page("", 10):
            assert stored is not None
            await spool.condemn(stored, "a test")
        return await real(body, start, stop)

    async with adapter.wire() as wire:
        await wire.get("/film", HOST)
        await settled(adapter, origin)
        spool = spool_of(adapter)
        with monkeypatch.context() as patched:
            patched.setattr(Body, "read", read)
            answer = await wire.get("/film", HOST, Range="bytes=5-9")
        assert (answer.status, answer.body) == (206, FILM[5:10])
    assert (origin.count("/film"), spool.rotten) == (2, 1)
