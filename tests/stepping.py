"""Tests of what cancellation leaves behind: a coroutine is cancelled at its first await, its second, and so on."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class CancelledAt:
    """Awaits `work`, and cancels the task that does so when it suspends for the `step`-th time.

    `late`: not before what it waits for then is done, so that a result is there and cannot be taken.
    `reached` tells whether it came to that.
    """

    def __init__(self, work: Awaitable[Any], step: int, *, late: bool = False) -> None:
        self._work = work
        self._step = step
        self._late = late
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        task = asyncio.current_task()
        assert task is not None
        step = 0
        error: BaseException | None = None
        while True:
            try:
                waited_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            step += 1
            if step == self._step:
                self.reached = True
                if self._late and waited_for is not None:
                    waited_for.add_done_callback(lambda _: task.cancel())
                else:
                    task.cancel()
            try:
                yield waited_for
                error = None
            except BaseException as thrown:
                error = thrown


async def cancel_everywhere(make: Callable[[], Awaitable[Any]], check: Callable[[], Awaitable[None]]) -> int:
    """Run what `make` makes again and again, each time cancelled one await later, and `check` after each.

    Returns how many awaits there were.
    """
    for late in (False, True):
        step = 0
        while True:
            step += 1
            attempt = CancelledAt(make(), step, late=late)

            async def run(attempt: CancelledAt = attempt) -> None:
                await attempt

            task = asyncio.create_task(run())
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]
            await check()
            if not attempt.reached:
                break
    return step - 1
