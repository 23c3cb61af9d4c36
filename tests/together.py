"""Many clients at once, and waiting for what only the adapter knows."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import ScriptedOrigin
from tests.wire import Wire


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of the adapter."""
    while not condition():  # noqa: ASYNC110  # nothing rings when it comes
        await asyncio.sleep(0.001)


async def nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until the loop runs nothing for a while: what was begun before may still come to its end."""
    while await _callbacks_in(0.2, monkeypatch) > 2:  # the end of that sleep, and nothing else
        pass


async def _callbacks_in(seconds: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many callbacks the loop runs while we sleep, the end of the sleep included."""
    count = 0
    real = asyncio.Handle._run

    def counted(handle: asyncio.Handle) -> None:
        nonlocal count
        count += 1
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", counted)
        await asyncio.sleep(seconds)
        return count


async def busy(adapter: Adapter, count: int) -> None:
    """Wait until the adapter answers `count` requests at once."""
    await until(lambda: adapter.service.in_progress == count)


async def stored(adapter: Adapter, objects: int = 1) -> None:
    """Wait until `objects` are stored complete, whatever is arriving besides."""
    while (await _report(adapter))["spool"]["objects"] != objects:
        pass


async def settled(adapter: Adapter, origin: ScriptedOrigin, objects: int = 1) -> None:
    """Wait until nothing is being fetched any more, and `objects` are stored complete."""
    await origin.idle()
    while (await _report(adapter))["fills"]:
        pass
    await stored(adapter, objects)


async def _report(adapter: Adapter) -> dict[str, Any]:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        return json.loads((await wire.get("/status.json")).body)  # type: ignore[no-any-return]


@asynccontextmanager
async def wires(adapter: Adapter, count: int) -> AsyncIterator[list[Wire]]:
    """`count` connections."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(adapter.wire()) for _ in range(count)]
