"""`range-adapter serve` as a process, for what only a process shows: signals, log lines, exit status."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.scripted_origin import ScriptedOrigin


class Process:
    """`range-adapter serve`, with a notify socket like a service manager's."""

    def __init__(self, process: asyncio.subprocess.Process, notices: socket.socket) -> None:
        self.process = process
        self.errors = ""
        self._notices = notices
        self._reading = asyncio.create_task(self._read())

    @property
    def url(self) -> str:
        """Where it listens; known once it is ready."""
        return self._urls()[0]

    @property
    def admin_url(self) -> str:
        return self._urls()[1]

    def _urls(self) -> list[str]:
        found = re.findall(r"https?://127\.0\.0\.1:\d+/", self.errors)
        assert found, self.errors
        return found

    async def ready(self) -> None:
        assert await self.notice() == "READY=1"
        while "serving" not in self.errors:  # noqa: ASYNC110  # its log has a thread of its own
            await asyncio.sleep(0.001)

    async def notice(self) -> str:
        """The next word to the service manager; "" if the process ends without one."""
        receiving = asyncio.create_task(asyncio.get_running_loop().sock_recv(self._notices, 1000))
        await asyncio.wait({receiving, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            receiving.cancel()
            return ""
        return receiving.result().decode()

    async def ended(self) -> tuple[int, str]:
        """Exit status and all that it wrote."""
        await self._reading
        return await self.process.wait(), self.errors

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(1 << 16):
            self.errors += data.decode()


@asynccontextmanager
async def serving(
    origin: ScriptedOrigin,
    folder: Path,
    *,
    drain: str = "5s",
    style: str = "json",
    admin: str | None = None,
    limits: dict[str, int] | None = None,
    ulimit: str = "",
    spool: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
    **server: Any,
) -> AsyncIterator[Process]:
    """`ulimit` are options of the shell's, `spool`, `defaults` and `server` other keys of those sections."""
    config = {
        "server": {"listen": "127.0.0.1:0", "timeouts": {"drain": drain}, "limits": limits or {}, **server},
        "admin": {"listen": admin},
        "spool": {"path": str(folder / "spool"), "min_free": "0B"} | (spool or {}),
        "origins": {"legacy": {"url": origin.url}},
        "defaults": defaults or {},
        "logging": {"format": style},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(folder / "notify"))
        notices.setblocking(False)
        limited = ("sh", "-c", f'ulimit {ulimit} && exec "$@"', "sh") if ulimit else ()
        process = await asyncio.create_subprocess_exec(
            *limited,
            sys.executable,
            *("-X", "dev", "-W", "error", "-m", "proxy", "serve", str(path)),
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stderr=asyncio.subprocess.PIPE,
        )
        running = Process(process, notices)
        try:
            yield running
        finally:
            await running.kill()
