"""Work that is never left half-way."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def whole(
    work: Coroutine[Any, Any, T] | asyncio.Future[T],
    *,
    undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """Await `work` to its end, even if the caller is cancelled meanwhile: the cancellation is raised after that.

    For what changes the books and the disk together, and takes a thread or two, not a peer's time.  `undo` gets
    the result that a cancelled caller cannot take.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if task.exception() is None and undo is not None:
        await whole(undo(task.result()))
    raise cancelled
