"""`range-adapter demo`: a legacy origin with a film, the adapter before it, and a page that shows both side by side.

    origin.py      the origin: 200 and whole bodies only; serves the film and the page
    page.html, app.js, style.css, icon.svg
    video.mp4      the film, made by make_video.sh

Everything listens on loopback, lives in one process and leaves nothing behind.
"""

import asyncio
import signal
import socket
import tempfile
import webbrowser

import click

from proxy.config import Config, Document, parse
from proxy.demo.origin import LegacyOrigin
from proxy.server import logs
from proxy.server.app import start

DEFAULT_PORT = 8080

GREETING = """
  {origin:<24}  a legacy origin: 200 and the whole file, whatever is asked for
  {adapter:<24}  range-adapter, in front of it

  Open  {adapter}/  and press "Seek both to 90 %".

  The same in another terminal:

    curl -s -D - -o /dev/null -r 0-1 {origin}/video.mp4   # 200, the whole film
    curl -s -D - -o /dev/null -r 0-1 {adapter}/video.mp4   # 206, two bytes

  Ctrl-C ends the demo and deletes its temporary spool.
"""


def run_demo(port: int | None, open_browser: bool) -> int:
    """Run the demo until Ctrl-C or SIGTERM; `port` is the adapter's (default 8080).  Returns the exit status."""
    log = logs.configure(level="warning", style="auto")
    try:
        asyncio.run(_demo(port or DEFAULT_PORT, open_browser))
    finally:
        log.stop()
    return 0


async def _demo(wanted: int, open_browser: bool) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    port = _free_port(wanted)
    if port != wanted:
        click.echo(f"Port {wanted} is in use; taking {port} instead.")
    origin = LegacyOrigin()
    with tempfile.TemporaryDirectory(prefix="range-adapter-demo-") as folder:
        await origin.start()
        try:
            service = await start(_config(origin.url, port, folder))
            try:
                adapter = service.addresses[0].rstrip("/")
                click.echo(GREETING.format(origin=origin.url, adapter=adapter))
                if open_browser:
                    await asyncio.to_thread(webbrowser.open, adapter)
                await ended.wait()
            finally:
                await service.stop()
        finally:
            await origin.stop()


def _config(origin: str, port: int, folder: str) -> Config:
    """What stands in the demo's config file, if it had one."""
    sections = {
        "server": {"listen": f"127.0.0.1:{port}", "timeouts": {"drain": "1s"}},
        "admin": {"listen": None},
        "spool": {"path": folder, "min_free": "0B"},
        "origins": {"legacy": {"url": origin}},
        "logging": {"access": False},
    }
    return parse(Document("the demo's config", sections), {})


def _free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else some port that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
