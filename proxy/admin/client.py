"""The client of the admin listener, for the commands that talk to a running service."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from proxy.admin.token import read_token
from proxy.errors import SpoolError

TIMEOUT: Final = aiohttp.ClientTimeout(total=300, sock_connect=5)
"""In seconds.  Many purges take a while on a slow disk."""


class Failed(Exception):
    """The service refused, or is not there.  `str()` says so to the person at the terminal."""


def purge(address: str | None, token: str | None, spool: str, order: Mapping[str, object]) -> list[str]:
    """Have the service at `address`, `host:port` or `unix:/path`, purge; what it has purged.

    Without a `token`, it is that of the service with this spool folder.  Raises Failed.
    """
    if address is None:
        raise Failed("the config has no admin listener (admin.listen: null), so the service cannot be told")
    try:
        answer = asyncio.run(_post(address, "/purge", token or read_token(Path(spool)), order))
    except SpoolError as error:
        raise Failed(str(error)) from None
    return [str(thing) for thing in answer["purged"]]


def status(address: str | None) -> dict[str, Any]:
    """What the service at `address` tells of itself, as in /status.json.  Raises Failed."""
    if address is None:
        raise Failed("the config has no admin listener (admin.listen: null), so the service cannot be asked")
    return asyncio.run(_get(address, "/status.json"))


async def _get(address: str, path: str) -> dict[str, Any]:
    async with _session(address) as (session, url), session.get(url.join(URL(path))) as response:
        try:
            report = json.loads(await response.read())
            if response.status == 200 and {"version", "spool", "fills"} <= report.keys():
                return dict(report)
        except (ValueError, AttributeError):
            pass
        raise Failed(_not_admin(address, response.status))


@asynccontextmanager
async def _session(address: str) -> AsyncIterator[tuple[aiohttp.ClientSession, URL]]:
    """For talking to the service at `address`, and its URL.  Raises Failed where that is not to be had."""
    host, connector = address, None
    if address.startswith("unix:"):
        host, connector = "localhost", aiohttp.UnixConnector(address.removeprefix("unix:"))
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
            yield session, URL(f"http://{host}")
    except aiohttp.ClientConnectorError as error:
        why = error.os_error.strerror or error.os_error
        raise Failed(f"no service at {address}: {why}; is it running, is this its admin address?") from None
    except TimeoutError:
        raise Failed(f"{address} has not answered in time") from None
    except aiohttp.ClientError as error:
        raise Failed(f"{address} has not answered: {error}") from None


async def _post(address: str, path: str, token: str, body: Mapping[str, object]) -> dict[str, Any]:
    if not token.isascii() or not token.isprintable():
        raise Failed("the token has characters that no request carries")
    async with _session(address) as (session, base):
        url = base.join(URL(path))
        async with session.get(url) as response:  # no token for whoever is there instead
            if response.status != 405 or response.headers.get("Allow") != "POST":
                raise Failed(_not_admin(address, response.status))
        authorization = {"Authorization": f"Bearer {token}"}
        async with session.post(url, json=body, headers=authorization) as response:
            return _read(address, response.status, await response.read())


def _read(address: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
        if status == 200 and isinstance(answer["purged"], list):
            return dict(answer)
        raise Failed(f"{address} answered {status}: {answer['error']}")
    except (ValueError, KeyError, TypeError):
        raise Failed(_not_admin(address, status)) from None


def _not_admin(address: str, status: int) -> str:
    return f"what answered {status} at {address} is not range-adapter's admin listener"
