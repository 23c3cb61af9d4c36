"""What keeping the spool takes: the cache over it, the search for rot, the admin listener that tells of them."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry

from proxy.admin.listener import admin_app
from proxy.admin.state import State
from proxy.admin.sums import Workers
from proxy.admin.token import FILE as TOKEN_FILE
from proxy.admin.token import Token
from proxy.cache.cache import Cache
from proxy.config import Config
from proxy.incidents import Incidents
from proxy.origin import Origin
from proxy.server.accepting import Acceptor, Spare, Take
from proxy.server.entrance import Entrance
from proxy.server.handler import Handler
from proxy.server.listening import listen
from proxy.server.purging import Purging
from proxy.spool.epochs import Epochs
from proxy.spool.scrub import Scrub
from proxy.spool.spool import Spool

CUT_WITHIN = 1.0
"""Seconds in which connections close whose answers were cut."""


class Keeping:
    """Made by `begin`, ended by `close`, with whatever is put into `parts` meanwhile."""

    def __init__(self, cache: Cache, scrub: Scrub, parts: AsyncExitStack) -> None:
        self.cache = cache
        self.scrub = scrub
        self.parts = parts
        self.admin_address: str | None = None
        """The URL of the admin listener, if there is one."""

    @classmethod
    async def begin(cls, config: Config, incidents: Incidents, epochs: Epochs) -> Self:
        """Take the folder.  Raises SpoolError, in words for the person who started us."""
        async with AsyncExitStack() as parts:
            spool = await Spool.open(
                Path(config.spool.path),
                max_size=config.spool.max_size,
                max_object_size=config.spool.max_object_size,
                min_free=config.spool.min_free,
                partition_size=config.spool.partition_size,
                epochs=epochs,
            )
            parts.push_async_callback(spool.close)
            epochs.bump_all()  # other workers may remember what the last keeper told them
            scrub = Scrub(spool, rate=config.spool.scrub_rate, interval=config.spool.scrub_interval)
            parts.push_async_callback(scrub.close)
            cache = Cache(
                spool,
                incidents,
                partition_ttl=config.spool.partition_ttl,
                partitions_per_client=config.spool.partitions_per_client,
            )
            parts.push_async_callback(cache.close)
            return cls(cache, scrub, parts.pop_all())

    async def close(self) -> None:
        """Let go of the folder."""
        await self.parts.aclose()


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin listener of whoever keeps the spool, and all that it tells of besides.

    `inherited` are the sockets that it listens on, if it is not to open them itself.
    """

    config: Config
    registry: CollectorRegistry
    handler: Handler
    entrance: Entrance
    purging: Purging
    origins: Collection[Origin]
    spare: Spare
    incidents: Incidents
    workers: Workers | None
    inherited: Sequence[Sequence[socket.socket]]

    async def begin_and_open(self, begin: Callable[[], Awaitable[Keeping]]) -> Keeping:
        """Become the keeper.  Raises SpoolError, OSError."""
        keeping = await begin()
        try:
            await self.open(keeping)
        except BaseException:
            await keeping.close()
            raise
        return keeping

    async def open(self, keeping: Keeping) -> None:
        """Raises OSError."""
        if self.config.admin.listen is None:
            return
        state = State(
            keeping.cache,
            keeping.scrub,
            self.registry,
            started=time.monotonic(),
            in_progress=lambda: len(self.handler.running),
            origins=self.origins,
            connections=self.entrance.report,
            draining=lambda: self.handler.draining,
            workers=self.workers,
        )
        app = admin_app(state, self.purging, await self._token(keeping.cache.spool))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CUT_WITHIN)
        keeping.parts.push_async_callback(runner.cleanup)
        door = partial(
            Acceptor,
            take=_take(runner),
            spare=self.spare,
            incidents=self.incidents,
            about="admin",
            keep=0,
        )
        addresses = [self.config.admin.listen]
        [keeping.admin_address] = await listen(runner, addresses, door, door, self.inherited)

    async def _token(self, spool: Spool) -> Token:
        if self.config.admin.token is not None:
            return Token.configured(self.config.admin.token)
        token = await asyncio.to_thread(Token.fresh, spool.paths.root)
        spool.keep(TOKEN_FILE, token.text)
        return token


def _take(admin: web.BaseRunner) -> Take:
    def take(sock: socket.socket, peer: str) -> asyncio.Protocol:
        assert admin.server is not None, "it is set up before it listens"
        return admin.server()

    return take
