"""A plan and the source of its bytes, onto the socket: at the client's speed, and cut off where it falls short."""

import asyncio
from typing import assert_never

from proxy.cache.sources import Source
from proxy.errors import OriginTruncated
from proxy.semantics.plan import ResponsePlan, Rest
from proxy.semantics.ranges import Slice
from proxy.server.exchange import Exchange

TURN = 1 << 20
"""Bytes of a file sent at a time.  They touch no memory of ours; but after so many it is others' turn."""
PIECE = 64 << 10
"""Bytes read and written at a time: what one reader may hold in memory."""
SENDFILE_FROM = 64 << 10
"""Below this many bytes, reading and writing is cheaper than setting up a sendfile."""


async def deliver(plan: ResponsePlan, source: Source, exchange: Exchange, now: int) -> None:
    """Send the answer.  Once it has begun, whatever stops it ends the connection, and is raised for the log."""
    await exchange.start(plan.status, plan.fields, length=plan.length, now=now)
    try:
        for part in plan.parts:
            match part:
                case bytes():
                    await exchange.write(part)
                case Slice(start, stop):
                    await _send(source, exchange, start, stop)
                case Rest(start):
                    await _send_rest(source, exchange, start)
                case _:
                    assert_never(part)
        await exchange.finish()
    except (ConnectionError, TimeoutError):  # the client's fault: it takes no more
        exchange.abort()
        raise
    except BaseException:  # the source's, or we are told to stop: the client must not take it for whole
        exchange.cut_short()
        raise


async def _send(source: Source, exchange: Exchange, start: int, stop: int) -> None:
    by_file = stop - start >= SENDFILE_FROM and exchange.can_send_files()
    while start < stop:
        there = min(await source.wait(start), stop)
        if there <= start:
            raise OriginTruncated(f"the body ends at {there}, {stop - start} bytes too early")
        file = source.file if by_file else None
        if file is not None and there - start >= SENDFILE_FROM:
            if exchange.can_be_taken_back:  # can it be read at all?
                await source.read(start, start + 1)
            until = min(there, start + TURN)
            await exchange.send_file(file, start, until)
            start = until
            if start < there:
                await asyncio.sleep(0)
        else:
            start += await _copy(source, exchange, start, there)


async def _send_rest(source: Source, exchange: Exchange, start: int) -> None:
    while (available := await source.wait(start)) > start:
        start += await _copy(source, exchange, start, available)


async def _copy(source: Source, exchange: Exchange, start: int, stop: int) -> int:
    """Write a piece, and forget it before the client has taken it; how many bytes that were."""
    data = await source.read(start, min(stop, start + PIECE))
    count, writing = len(data), exchange.write(data)
    del data
    await writing
    return count
