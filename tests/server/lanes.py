"""The warm lane, as tests look at it: how many it has answered, and connections that it does not serve."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from proxy.server.connection import Listener
from proxy.server.warm import Lane
from tests.conftest import Adapter
from tests.scripted_origin import ScriptedOrigin
from tests.together import settled
from tests.wire import Wire


def listener_of(adapter: Adapter) -> Listener:
    listener = adapter.service._public.server
    assert isinstance(listener, Listener)
    return listener


def lane_of(adapter: Adapter) -> Lane:
    lane = listener_of(adapter).lane
    assert lane is not None
    return lane


def served(adapter: Adapter) -> int:
    """Requests that the lane has answered, or begun to and ended."""
    return lane_of(adapter)._access._metrics.lane_requests


@contextmanager
def closed_lane(adapter: Adapter) -> Iterator[None]:
    """Connections that begin now go the long way."""
    listener, lane = listener_of(adapter), lane_of(adapter)
    listener.lane = None
    yield
    listener.lane = lane


@asynccontextmanager
async def long_way(adapter: Adapter) -> AsyncIterator[Wire]:
    """One such connection."""
    with closed_lane(adapter):
        async with adapter.wire() as wire:
            await wire.get("/nothing")
            yield wire


async def warm(
    adapter: Adapter, origin: ScriptedOrigin, target: str, objects: int = 1, **fields: Any
) -> Wire:
    """A connection on which the lane has answered one request for `target`, which is stored."""
    async with adapter.wire() as wire:
        await wire.get(target)
        await settled(adapter, origin, objects)
        await wire.get(target)
    before = served(adapter)
    wire = await adapter.wire().__aenter__()
    await wire.get(target, **fields)
    assert served(adapter) == before + 1
    return wire
