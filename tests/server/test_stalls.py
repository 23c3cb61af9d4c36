"""A watchdog over the loop's thread: whatever is asked for, it waits for no disk, no index, no digest and no name.

What is allowed there takes microseconds: `fstat` and `close` of an open file, a read that is not to wait, the index'
point lookup.
"""

import asyncio
import fcntl
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cache import digesting
from proxy.spool import calls, checksum, residence
from proxy.spool.index import Index
from tests.admin.test_purging import ADMIN, purge
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import Body, Chunk, Cut, Head, ScriptedOrigin
from tests.spool.objects import KIB, MIB, pattern
from tests.together import settled

FILM = pattern(3 * MIB)
HOST = [("Host", "films.example")]
QUICK = {"fstat", "close", "preadv"}
"""Of `proxy.spool.calls`; `preadv` where it is not to wait."""
LOOKUPS = {"lookup", "usage", "partition_bytes"}
"""Of the index."""


class Watchdog:
    """What the loop's thread was caught at."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.caught: list[str] = []
        self.seen: set[str] = set()
        self._patch = patch
        self._loop = threading.get_ident()

    def forbid(self, where: Any, name: str, *, unless: Callable[..., bool] = lambda *_: False) -> None:
        """It is called on other threads only, but for the calls that `unless` allows by their arguments."""
        real = getattr(where, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.seen.add(name)
            if threading.get_ident() == self._loop and not unless(*args):
                self.caught.append(f"{name}\n{''.join(traceback.format_stack(limit=8)[:-1])}")
            return real(*args, **kwargs)

        self._patch.setattr(where, name, watched)


def _in_memory(_: int, fd: int, offset: int, count: int) -> bool:
    """Is all there that is to be sent?  Where nobody can tell, it counts as there."""
    try:
        return os.preadv(fd, [bytearray(count)], offset, os.RWF_NOWAIT) == count
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    dog = Watchdog(monkeypatch)
    for name, call in vars(calls).items():
        if callable(call) and getattr(call, "__module__", "") == calls.__name__ and name not in QUICK:
            dog.forbid(calls, name)
    if hasattr(os, "RWF_NOWAIT"):
        dog.forbid(calls, "preadv", unless=lambda *args: bool(args[3] & os.RWF_NOWAIT))
    for name in vars(Index):
        if not name.startswith("_") and name not in LOOKUPS and callable(getattr(Index, name)):
            dog.forbid(Index, name)
    for where, name in ((checksum, "crc32"), (digesting, "_feed")):
        dog.forbid(where, name)
    for where, name in ((fcntl, "flock"), (socket, "getaddrinfo"), (os, "statvfs")):
        dog.forbid(where, name)
    yield dog
    assert not dog.caught, f"on the loop's thread, {len(dog.caught)} times; the first: {dog.caught[0]}"


def drop(adapter: Adapter) -> int:
    """Have all that is stored leave the page cache; how many files did."""
    dropped = 0
    for path in Path(adapter.service._cache.spool.paths.objects).rglob("*.body"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        dropped += not _in_memory(0, descriptor, os.fstat(descriptor).st_size // 2, 1)
        os.close(descriptor)
    return dropped


async def start(start_adapter: StartAdapter, origin: ScriptedOrigin, **config: Any) -> Adapter:
    named = {"url": f"http://localhost:{origin.port}", "timeouts": {"resume": "2s"}}
    return await start_adapter(admin=ADMIN, origins={"legacy": named}, **config)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="pages cannot be dropped here")
async def test_what_only_the_disk_has(
    watchdog: Watchdog, start_adapter: StartAdapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = await start(start_adapter, origin)
    for name in "abc":
        origin.serve(f"/{name}", FILM)
        async with adapter.wire() as wire:
            await wire.get(f"/{name}", HOST)
    await settled(adapter, origin, objects=3)

    async def read(name: str, start: int, length: int) -> None:
        async with adapter.wire() as wire:
            answer = await wire.get(f"/{name}", HOST, Range=f"bytes={start}-{start + length - 1}")
            assert (answer.status, answer.body) == (206, FILM[start : start + length])
            assert "hit" in answer.cache_status

    monkeypatch.setattr(residence, "REMEMBERED", 0.0)  # else it has just been written
    if not await asyncio.to_thread(drop, adapter):
        pytest.skip("this file system keeps what it is told to drop")
    # Only here: of what is just being written, the kernel does not tell without waiting for the writer.
    watchdog.forbid(os, "sendfile", unless=_in_memory)
    reads = [
        ("a", 100, 100),
        ("b", 70_000, 300_000),
        ("a", 0, 2 * MIB),
        ("c", 1, 3 * MIB - 1),
        ("b", 9, 70_000),
    ]
    await asyncio.gather(*(read(*each) for each in reads))
    assert {"pread", "sendfile"} <= watchdog.seen


async def test_everything_at_once(
    watchdog: Watchdog, start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    """Fills, hits, evictions, digests, a resumed body, one without a length, purges; from the start to the stop."""
    adapter = await start(start_adapter, origin, spool={"max_size": "12MiB"})
    for number in range(8):
        origin.serve(f"/film-{number}", FILM, headers={"Cache-Tag": "all"})
    origin.on("/endless", [Head(200, {"Transfer-Encoding": "chunked"}), Chunk(FILM), Chunk(b"")])
    head = Head(200, {"Content-Length": str(len(FILM)), "Content-Type": "video/mp4", "ETag": '"b"'})
    origin.once("/broken", [head, Body(FILM[:MIB]), Cut()])
    origin.on("/broken", [head, Body(FILM)])

    async def play(target: str) -> None:
        async with adapter.wire() as wire:
            for _ in range(2):
                whole = await wire.get(target, [*HOST, ("Want-Repr-Digest", "sha-256=9")])
                assert (whole.status, whole.body) == (200, FILM)
                part = await wire.get(target, HOST, Range=f"bytes=7-{100 * KIB}")
                assert (part.status, part.body) == (206, FILM[7 : 100 * KIB + 1])
                await wire.get(target, [*HOST, ("If-None-Match", whole.fields.get("ETag", '"b"'))])

    films = [f"/film-{number}" for number in range(8)]
    await asyncio.gather(*map(play, ("/endless", "/broken")))
    await asyncio.gather(*map(play, films))
    assert (await purge(adapter, urls=["http://films.example/film-7"]))[0] == 200
    assert (await purge(adapter, all=True))[0] == 200
    await asyncio.gather(*map(play, films[:3]))
    await adapter.service.stop()
    assert {
        "pwrite",
        "fdatasync",
        "unlink",
        "add",
        "remove",
        "crc32",
        "_feed",
        "getaddrinfo",
    } <= watchdog.seen
