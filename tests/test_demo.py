"""The demo: an origin that is as poor as it says, and a command that cleans up behind itself."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientResponse, ClientSession

from proxy.demo.origin import LegacyOrigin


@pytest.fixture
async def origin() -> AsyncIterator[LegacyOrigin]:
    origin = LegacyOrigin(pace=1 << 30)
    await origin.start()
    yield origin
    await origin.stop()


async def fetch(url: str, fields: dict[str, str] | None = None) -> tuple[ClientResponse, bytes]:
    async with ClientSession() as session, session.get(url, headers=fields) as response:
        return response, await response.read()


async def test_the_origin_knows_only_200(origin: LegacyOrigin) -> None:
    response, film = await fetch(f"{origin.url}/video.mp4", {"Range": "bytes=0-1", "If-None-Match": "*"})
    assert response.status == 200
    assert response.headers["Content-Length"] == str(len(film))
    assert film[4:8] == b"ftyp"
    assert film.index(b"moov") > film.index(b"mdat")
    for name in ("Accept-Ranges", "ETag", "Last-Modified", "Cache-Control", "Expires", "Content-Range"):
        assert name not in response.headers


async def test_the_origin_counts_who_asked(origin: LegacyOrigin) -> None:
    for fields in ({}, {}, {"Via": "1.1 range-adapter"}):
        _, film = await fetch(f"{origin.url}/video.mp4?take=1", fields)
    _, body = await fetch(f"{origin.url}/traffic.json?film=/video.mp4?take=1")
    assert json.loads(body) == {
        "straight": {"requests": 2, "sent": 2 * len(film)},
        "adapter": {"requests": 1, "sent": len(film)},
    }


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/icon.svg"])
async def test_the_page_loads_nothing_from_elsewhere(origin: LegacyOrigin, path: str) -> None:
    response, body = await fetch(f"{origin.url}{path}")
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
    assert b"https://" not in body
    assert b"innerHTML" not in body


async def test_the_command_takes_another_port_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "demo", "--no-open", "--port", port),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        assert process.stdout is not None
        said = b""
        while b"Ctrl-C" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line
        assert f"Port {port} is in use; taking".encode() in said
        (url,) = re.findall(r"Open  (http://127\.0\.0\.1:\d+/) ", said.decode())
        response, film = await fetch(f"{url}video.mp4", {"Range": "bytes=4-7"})
        assert (response.status, film) == (206, b"ftyp")
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    assert os.listdir(tmp_path) == []
