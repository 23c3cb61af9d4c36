"""What an origin sends beyond its response belongs to nobody: least of all to the next client."""

import asyncio

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import Gate, OriginRequest, Pause, Raw, Script, ScriptedOrigin, Stall

EVIL = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 4\r\n\r\ngood"


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (GOOD, 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n", 200),
    ],
)
@pytest.mark.parametrize("later", [False, True], ids=["at once", "once the connection is idle"])
async def test_a_second_response_answers_nobody(
    adapter: Adapter, origin: ScriptedOrigin, response: bytes, status: int, later: bool
) -> None:
    idle, sent = Gate(), asyncio.Event()

    def script(_: OriginRequest) -> Script:
        yield Raw(response)
        if later:
            yield Pause(idle)
        yield Raw(EVIL)
        sent.set()
        yield Stall()  # the connection stays open

    origin.on("/first", script)
    origin.serve("/second", b"mine")
    async with adapter.wire() as wire:
        assert (await wire.get("/first")).status == status
        idle.open()
        await sent.wait()
        for _ in range(2):
            assert (await wire.get("/second")).body == b"mine"


async def test_a_chunk_that_breaks_after_the_head_ends_the_answer(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    gate = Gate()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n"
    origin.on("/broken", [Raw(head), Pause(gate), Raw(b"no chunk\r\n")])
    async with adapter.wire() as wire:
        await wire.request("GET", "/broken")
        assert (await wire.response_head()).status == 200
        assert await wire.chunk() == b"good"
        gate.open()
        assert await wire.closed()
