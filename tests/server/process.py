"""`range-adapter serve` as a process, for what only a process shows: signals, log lines, exit status."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from tests.scripted_origin import ScriptedOrigin


class Process:
    """`range-adapter serve`, with a notify socket like a service manager's."""

    def __init__(self, process: asyncio.subprocess.Process, notices: socket.socket) -> None:
        self.process = process
        self._notices = notices
        self.url = ""

    async def notice(self) -> str:
        return (await asyncio.get_running_loop().sock_recv(self._notices, 1000)).decode()

    async def ended(self) -> tuple[int, str]:
        _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@asynccontextmanager
async def serving(
    origin: ScriptedOrigin, folder: Path, *, drain: str = "5s", style: str = "json"
) -> AsyncIterator[Process]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "server": {"listen": f"127.0.0.1:{port}", "timeouts": {"drain": drain}},
        "admin": {"listen": None},
        "spool": {"path": str(folder / "spool"), "min_free": "0B"},
        "origins": {"legacy": {"url": origin.url}},
        "logging": {"format": style},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(folder / "notify"))
        notices.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-X", "dev", "-W", "error", "-m", "proxy", "serve", str(path)),
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stderr=asyncio.subprocess.PIPE,
        )
        running = Process(process, notices)
        running.url = f"http://127.0.0.1:{port}"
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
