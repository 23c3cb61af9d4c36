"""The stage: an origin and an adapter, each a process of its own, and a client that takes times."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.bench.origin import slice_of

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one client saw.  Seconds since the request was sent; `right`: every byte was."""

    first_byte: float
    last_byte: float
    count: int
    right: bool


@dataclass(slots=True)
class Stage:
    """`requests` counts what reached the origin."""

    adapter: asyncio.subprocess.Process
    port: int
    requests: int = 0
    _object: int = field(default=0)

    def new_object(self, size: int, rate: int) -> str:
        """The target of an object that nobody has asked for yet."""
        self._object += 1
        return f"/film-{self._object}.mp4?size={size}&rate={rate}"

    async def read(self, target: str, start: int = 0, stop: int | None = None, *, size: int) -> Reading:
        """Ask for the bytes [start, stop) as a range, read them all and check each."""
        last = "" if stop is None else str(stop - 1)
        stop = size if stop is None else stop
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        begun = time.perf_counter()
        request = f"GET {target} HTTP/1.1\r\nHost: bench\r\nRange: bytes={start}-{last}\r\n\r\n"
        writer.write(request.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        right = head.startswith(b"HTTP/1.1 206 ") and f"bytes {start}-{stop - 1}/{size}".encode() in head
        at, first_byte = start, 0.0
        while at < stop and (data := await reader.read(1 << 20)):
            first_byte = first_byte or time.perf_counter() - begun
            right = right and data == slice_of(at, at + len(data))
            at += len(data)
        writer.close()
        return Reading(first_byte, time.perf_counter() - begun, at - start, right and at == stop)

    def cpu_seconds(self) -> float:
        """Processor time that the adapter has used so far."""
        fields = Path(f"/proc/{self.adapter.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_memory(self) -> int:
        """The most the adapter was ever resident with, in bytes."""
        status = Path(f"/proc/{self.adapter.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def adapter_config(
    folder: str, origin: int, *, max_object_size: str = "8GiB"
) -> dict[str, dict[str, object]]:
    """Defaults, but for the addresses, a spool in `folder` and room in it."""
    return {
        "server": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "spool": {
            "path": f"{folder}/spool",
            "max_size": "16GiB",
            "max_object_size": max_object_size,
            "min_free": "0B",
        },
        "origins": {"legacy": {"url": f"http://127.0.0.1:{origin}"}},
        "logging": {"format": "json"},
    }


@asynccontextmanager
async def set_stage(max_object_size: str = "8GiB") -> AsyncIterator[Stage]:
    """Start both; end both, and remove the spool."""
    origin = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.origin", stdout=asyncio.subprocess.PIPE
    )
    assert origin.stdout is not None
    port = int(await origin.stdout.readline())
    with tempfile.TemporaryDirectory(prefix="range-adapter-bench-") as folder:
        listen = Path(folder) / "listen"
        config = adapter_config(folder, port, max_object_size=max_object_size)
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        with listen.open("wb") as log:
            adapter = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", str(path), stderr=log
            )
        stage = Stage(adapter, await _listening_port(listen))
        counting = asyncio.create_task(_count(stage, origin.stdout))
        try:
            yield stage
        finally:
            adapter.terminate()
            origin.terminate()
            await adapter.wait()
            await origin.wait()
            await counting


async def _listening_port(log: Path) -> int:
    """The port the adapter says it serves on."""
    while True:
        for line in (await asyncio.to_thread(log.read_text)).splitlines():
            event = json.loads(line)
            if event["event"] == "serving":
                return int(event["addresses"][0].rstrip("/").rpartition(":")[2])
        await asyncio.sleep(0.05)


async def _count(stage: Stage, lines: asyncio.StreamReader) -> None:
    while await lines.readline():
        stage.requests += 1
