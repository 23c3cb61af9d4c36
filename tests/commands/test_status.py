"""`range-adapter status`, as a process."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests import command
from tests.admin.test_client import address, write_config
from tests.conftest import Adapter
from tests.scripted_origin import Body, Gate, Head, Pause, ScriptedOrigin
from tests.together import until

run = partial(command.run, "status")


async def test_it_tells_what_is_going_on(adapter: Adapter, origin: ScriptedOrigin, tmp_path: Path) -> None:
    gate = Gate()
    length = {"Content-Type": "video/mp4", "Content-Length": "1000"}
    origin.on("/film", [Head(200, length), Body(b"x" * 250), Pause(gate), Body(b"x" * 750)])
    async with adapter.wire() as wire:
        await wire.request("GET", "/film", [("Host", "films.example")])
        await wire.response_head()
        await until(lambda: [fill.written for fill in adapter.service._cache.fills()] == [250])
        write_config(tmp_path / "config.yaml", adapter, tmp_path / "spool")
        status, output, errors = await run(tmp_path)
        assert (status, errors) == (0, "")
        lines = {line[:10].strip(): line[10:] for line in output.splitlines()[:5]}
        assert lines["ready"] == "yes"
        assert lines["requests"] == "1 being answered"
        assert lines["spool"] == str(tmp_path / "spool")
        assert "legacy http://films.example/film: 250 B of 1000 B (25%), 1 following" in output
        status, output, _ = await run(tmp_path, "--json", "--admin", address(adapter))
        assert (status, json.loads(output)["fills"][0]["written_bytes"]) == (0, 250)
        gate.open()


async def test_a_service_that_is_not_ready_is_a_failure(adapter: Adapter, tmp_path: Path) -> None:
    adapter.service._handler.drain()
    status, output, _ = await run(tmp_path, "--admin", address(adapter))
    assert (status, "no: draining" in output) == (1, True)


async def test_nobody_is_there(tmp_path: Path) -> None:
    status, output, errors = await run(tmp_path, "--admin", "127.0.0.1:1")
    assert (status, output) == (1, "")
    assert errors.startswith("error: no service at 127.0.0.1:1: ")


@pytest.mark.parametrize("body", [b"ok", b"[]", b"{}", b"null"])
async def test_somebody_else_is_there(origin: ScriptedOrigin, tmp_path: Path, body: bytes) -> None:
    origin.on("/status.json", [Head(200, {"Content-Length": str(len(body))}), Body(body)])
    where = origin.url.removeprefix("http://").rstrip("/")
    status, output, errors = await run(tmp_path, "--admin", where)
    assert (status, output) == (1, "")
    assert errors == f"error: what answered 200 at {where} is not range-adapter's admin listener\n"
