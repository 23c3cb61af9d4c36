"""Starting and ending: whatever fails on the way, nothing is left behind."""

import resource
import socket
from pathlib import Path

import pytest

from proxy.cache.cache import Cache
from proxy.errors import SpoolError
from proxy.origin import Origin
from proxy.server import app, process
from proxy.spool.spool import Spool
from tests.conftest import StartAdapter


async def is_free(path: Path) -> bool:
    try:
        spool = await Spool.open(path, max_size=1 << 20, max_object_size=1 << 20, min_free=0)
    except SpoolError:
        return False
    await spool.close()
    return True


async def test_an_end_that_fails_leaves_the_spool_unlocked(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    close = Cache.close

    async def broken(self: Cache) -> None:
        await close(self)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Cache, "close", broken)
    adapter = await start_adapter()
    assert not await is_free(tmp_path / "spool")
    with pytest.raises(RuntimeError, match="a bug"):
        await adapter.service.stop()
    assert await is_free(tmp_path / "spool")
    adapter.service._stopping = None  # the fixture stops it once more: there is nothing left to end


@pytest.mark.parametrize("where", ["public", "admin"])
async def test_a_start_that_fails_leaves_nothing(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    closed = []
    close = Origin.close

    async def closing(self: Origin) -> None:
        closed.append(self.name)
        await close(self)

    monkeypatch.setattr(Origin, "close", closing)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        section = {"server": {"listen": address}} if where == "public" else {"admin": {"listen": address}}
        with pytest.raises(OSError, match="in use"):
            await start_adapter(**section)
    assert closed == ["legacy"]
    assert await is_free(tmp_path / "spool")


async def test_a_bug_in_the_wiring_leaves_the_spool_unlocked(
    start_adapter: StartAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(app, "_public_side", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        await start_adapter()
    assert await is_free(tmp_path / "spool")


@pytest.mark.parametrize("error", [ValueError("current limit exceeds maximum limit"), OSError("no")])
def test_a_limit_that_cannot_be_raised_prevents_no_start(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*args: object) -> None:
        raise error

    monkeypatch.setattr(resource, "setrlimit", refuse)
    process._raise_descriptor_limit()
