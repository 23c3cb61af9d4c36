"""`range-adapter serve` as a process that is killed and started again: same ports, same spool."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import yaml

from proxy.config.model import OriginTimeouts
from tests.wire import Wire

TOKEN = "torture-torture-torture"
HOST = "torture.example"
START_WITHIN = 20.0
"""Seconds after which a start is a failure."""
RESUMES: Final = "resume" in OriginTimeouts.model_fields
"""Is a broken fill fetched again, for those who follow it, and after a restart?"""
LOOPBACK = "127.0.0.1"


class Adapter:
    """`settings` are sections of the config.  `incarnation` counts starts; `up` while it is ready.

    With several `workers`, it is not as a whole that it is killed.
    """

    def __init__(self, folder: Path, *, workers: int = 1, **settings: Any) -> None:
        self.folder = folder
        self._count = workers
        self.spool = Path(settings["spool"]["path"])
        self.log = folder / "log"
        self.incarnation = 0
        self.up = False
        port, admin = _free_ports(2)
        self.url, self.admin = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{admin}"
        config = {
            "server": {"listen": f"{LOOPBACK}:{port}", "workers": workers},
            "admin": {"listen": f"{LOOPBACK}:{admin}", "token": TOKEN},
            "logging": {"format": "json", "access": False},
            **settings,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> float:
        """Start it; how many seconds it took to be ready.  Raises RuntimeError where it does not come up."""
        self.incarnation += 1
        begun = time.monotonic()
        notify = self.folder / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, self.log.open("ab") as log:
            notices.bind(str(notify))
            notices.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy", "serve", str(self.folder / "config.yaml")),
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
                stdout=log,
                stderr=log,
            )
            ready = asyncio.create_task(asyncio.get_running_loop().sock_recv(notices, 100))
            ended = asyncio.create_task(self._process.wait())
            await asyncio.wait({ready, ended}, timeout=START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not ready.done():
                ready.cancel()
                tail = self.log.read_text("utf-8", "replace")[-1000:]
                raise RuntimeError(f"the service did not start ({self._process.returncode}): {tail}")
        self.up = True
        return time.monotonic() - begun

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self.up = False
        self._process.kill()
        await self._process.wait()

    async def kill_worker(self, dice: random.Random) -> float:
        """SIGKILL to one of several; how many seconds it took until all were there again."""
        while len(before := await self._workers()) < self._count:  # noqa: ASYNC110  # nobody rings
            await asyncio.sleep(0.01)
        self.up = False
        self.incarnation += 1
        begun = time.monotonic()
        os.kill(dice.choice(sorted(before)), signal.SIGKILL)
        async with asyncio.timeout(START_WITHIN):
            while len(now := await self._workers()) < self._count or now == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        self.up = True
        return time.monotonic() - begun

    async def _workers(self) -> set[int]:
        while True:
            try:
                return {worker["pid"] for worker in (await self.status())["workers"]}
            except (OSError, EOFError):  # of all, it was the one that answers
                await asyncio.sleep(0.01)

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self._process is None:
            return 0
        self.up = False
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(60):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def status(self) -> dict[str, Any]:
        """What the admin listener tells."""
        async with asyncio.timeout(10), Wire(self.admin) as wire:
            return json.loads((await wire.get("/status.json")).body)  # type: ignore[no-any-return]

    async def purge(self, *paths: str, soft: bool = False) -> bool:
        """Purge these paths, or all that begins with one that ends with `*`; was it acknowledged?"""
        order = {"urls": [f"http://{HOST}{path}" for path in paths], "soft": soft}
        fields = [("Authorization", f"Bearer {TOKEN}"), ("Content-Type", "application/json")]
        try:
            async with asyncio.timeout(10), Wire(self.admin) as wire:
                await wire.request("POST", "/purge", fields, json.dumps(order).encode())
                return (await wire.response()).status == 200
        except (OSError, EOFError, TimeoutError):
            return False

    def complaints(self, *, errors: bool = True) -> Counter[str]:
        """What the log has that nobody should ever read there: tracebacks, warnings of Python, and `errors`."""
        found: Counter[str] = Counter()
        block = ""
        for line in [*self.log.read_text("utf-8", "replace").splitlines(), "{}"]:
            try:
                event = json.loads(line)
            except ValueError:
                block += f"{line}\n"
                continue
            if block:
                found[block[-1500:]] += 1
                block = ""
            expected = event.get("event") == "a worker has ended, and is started again"
            bad = errors and event.get("level") in {"error", "critical"} and not expected
            if "exception" in event or bad:
                told = {
                    name: value for name, value in event.items() if name not in {"timestamp", "exception"}
                }
                found[json.dumps(told) + event.get("exception", "")[-1500:]] += 1
        return found


def _free_ports(count: int) -> list[int]:
    """Ports that no outgoing connection takes while the service is down."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as sock:
            try:
                sock.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
    return found
