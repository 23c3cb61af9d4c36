"""A service of several workers, as processes, and how to talk to a certain one of them."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from tests.scripted_origin import ScriptedOrigin
from tests.server.process import Process, serving
from tests.wire import Response, Wire


class Crew:
    """`workers` processes and their supervisor, which is `process`."""

    def __init__(self, process: Process, workers: int, stack: AsyncExitStack) -> None:
        self.process = process
        self.url = process.url
        self._workers = workers
        self._stack = stack
        self._names = count()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What the log has of this kind, as far as it is written."""
        whole = self.process.errors.rpartition("\n")[0].splitlines()
        found = (json.loads(line) for line in whole if line.startswith("{"))
        return [line for line in found if line["event"] == event]

    async def wire(self) -> Wire:
        """A connection to one of them."""
        return await self._stack.enter_async_context(Wire(self.url))

    async def pinned(self) -> dict[int, Wire]:
        """A connection to each worker."""
        found: dict[int, Wire] = {}
        while len(found) < self._workers:
            wires = {f"/who/{next(self._names)}": await self.wire() for _ in range(4)}
            for path, wire in wires.items():
                assert (await wire.get(path)).status == 404
            found |= {await self.who(path): wire for path, wire in wires.items()}
        return found

    async def who(self, path: str) -> int:
        """The worker that has answered the request for this path."""
        while True:
            found = [line["worker"] for line in self.lines("request") if line["target"] == path]
            if found:
                return int(found[-1])
            await asyncio.sleep(0.001)

    async def admin(self, path: str) -> Response:
        async with asyncio.timeout(20), Wire(self.process.admin_url) as wire:
            return await wire.get(path)

    async def status(self) -> dict[str, Any]:
        return dict(json.loads((await self.admin("/status.json")).body))

    async def settled(self) -> None:
        """Wait until nothing is being fetched any more: what has come whole is stored."""
        while (await self.status())["fills"]:
            pass

    async def keeper(self) -> int:
        """The number of the worker that keeps the spool."""
        while True:
            for worker in (await self.status())["workers"]:
                if worker["keeper"]:
                    return int(worker["worker"])

    async def pids(self) -> dict[int, int]:
        """All of them, once all are there."""
        while True:
            pids = {worker["worker"]: worker["pid"] for worker in (await self.status())["workers"]}
            if len(pids) == self._workers:
                return pids

    async def kill(self, worker: int) -> None:
        os.kill((await self.pids())[worker], signal.SIGKILL)

    async def figure(self, name: str, **labels: str) -> float:
        """A metric of all, series with these labels added up."""
        total = 0.0
        for line in (await self.admin("/metrics")).body.decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{labels[key]}"' in series for key in labels):
                total += float(value)
        return total

    def answered(self) -> Counter[int]:
        """How many requests each worker has answered, as far as the log is written."""
        return Counter(line["worker"] for line in self.lines("request"))

    def holds_deleted(self, pid: int) -> bool:
        """Has this process an object open that has lost its name?"""
        return any(" (deleted)" in link and "/objects/" in link for link in _open_files(pid))


def _open_files(pid: int) -> Iterator[str]:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{fd}")


@asynccontextmanager
async def crew(
    origin: ScriptedOrigin, folder: Path, workers: int = 3, *, drain: str = "5s", **more: Any
) -> AsyncIterator[Crew]:
    async with (
        serving(origin, folder, drain=drain, admin="127.0.0.1:0", workers=workers, **more) as process,
        AsyncExitStack() as stack,
    ):
        await process.ready()
        yield Crew(process, workers, stack)
