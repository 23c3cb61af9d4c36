"""Clients that ask for everything in every way, and judge each answer by itself."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tests.torture.adapter import HOST, Adapter
from tests.torture.origin import Origin
from tests.torture.report import Tally
from tests.torture.truth import Asked, History, Wish, Wrong, judge, judge_beginning
from tests.wire import Response, Wire

AT_ONCE: Final = 256 << 10
"""Bytes read at a time."""


class Broken(Exception):
    """The answer was cut off; `response` is what came of it, None before its head."""

    def __init__(self, response: Response | None) -> None:
        super().__init__("cut off")
        self.response = response


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: `take` is after how many bytes of the body the client leaves, `slow` whether it dawdles."""

    asked: Asked
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()
    take: int | None = None
    slow: bool = False

    def __str__(self) -> str:
        fields = "".join(f" {name}: {value}" for name, value in self.fields)
        return f"{self.method} {self.asked.history.item.path}{fields}"


async def exchange(wire: Wire, request: Request) -> Response:
    """Send it, and read the whole answer, or as much as is wanted.

    Raises Broken, and AssertionError for bad framing.
    """
    fields = [("Host", HOST), *request.fields]
    response: Response | None = None
    body = bytearray()
    try:
        await wire.request(request.method, request.asked.history.item.path, fields)
        response = await wire.response_head()
        await _read_body(wire, request, response, body)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        if response is not None:
            response.body = bytes(body)
        raise Broken(response) from error
    response.body = bytes(body)
    return response


async def _read_body(wire: Wire, request: Request, response: Response, body: bytearray) -> None:
    if request.method == "HEAD" or response.status in {204, 304}:
        return
    enough = float("inf") if request.take is None else request.take
    if response.fields.get("Transfer-Encoding") == "chunked":
        assert "Content-Length" not in response.fields
        while (data := await wire.chunk()) and len(body) < enough:
            body += data
        return
    assert "Content-Length" in response.fields, "no framing"
    due = int(response.fields["Content-Length"])
    while len(body) < min(due, enough):
        data = await wire.reader.read(min(AT_ONCE, due - len(body)))
        if not data:
            raise ConnectionResetError
        body += data
        if request.slow and len(body) % 7 == 0:
            await asyncio.sleep(0.01)


class Client:
    """One person.  `limit` is in seconds: what takes longer hangs.  `fails`: the origin does, now and then.

    `excused` says of a request whether anything but an answer to the point is no surprise.
    """

    def __init__(
        self,
        adapter: Adapter,
        origin: Origin,
        tally: Tally,
        dice: random.Random,
        *,
        limit: float,
        fails: bool = False,
        excused: Callable[[History], bool] = lambda history: history.item.fickle,
    ) -> None:
        self._adapter = adapter
        self._origin = origin
        self._tally = tally
        self._dice = dice
        self._limit = limit
        self._fails = fails
        self._excused = excused
        self._what = ""
        self.longest = 0.0

    async def run(self, more: Callable[[], bool]) -> None:
        """Go on while there is `more` to do."""
        while more():
            try:
                async with Wire(self._adapter.url) as wire:
                    for _ in range(self._dice.randint(1, 6)):
                        if not (more() and await self.ask(wire, self.some_request())):
                            break
            except OSError:  # killed just now
                self._tally.seen["no connection"] += 1
                await asyncio.sleep(0.05)

    async def ask(self, wire: Wire, request: Request, *, must: bool = False, what: str = "") -> bool:
        """One exchange, judged; can the connection be used again?  `must`: it has to succeed; `what` is going on."""
        self._what = f" ({what})" if what else ""
        incarnation, begun = self._adapter.incarnation, time.monotonic()

        def alive() -> bool:
            return self._adapter.up and self._adapter.incarnation == incarnation

        history = request.asked.history
        excused = not must and (self._fails or self._excused(history))
        try:
            async with asyncio.timeout(self._limit):
                response = await exchange(wire, request)
        except TimeoutError:
            self._tally.fault("hang", f"{request}{self._what}: no end after {self._limit:.0f} s")
            return False
        except Broken as error:
            self._tally.seen["broken"] += 1
            begun_response = error.response
            if begun_response is not None and request.method == "GET":
                self._check_beginning(request, begun_response)
            await asyncio.sleep(0.01)  # a kill is known by then
            if alive() and not excused:
                head = "before its head" if begun_response is None else begun_response.cache_status
                self._tally.fault("broken", f"{request}{self._what}: {head}")
            return False
        except AssertionError as error:
            self._tally.fault("wrong bytes", f"{request}{self._what}: bad framing: {error}")
            return False
        finally:
            self.longest = max(self.longest, time.monotonic() - begun)
        if request.take is not None:
            self._tally.seen["left"] += 1
            self._check_beginning(request, response)
            return False
        self._judge(request, response, refusable=excused or not alive())
        return "close" not in response.fields.get("Connection", "")

    def _judge(self, request: Request, response: Response, *, refusable: bool) -> None:
        try:
            verdict = self._verdict(request, response)
        except Wrong as wrong:
            self._tally.fault("wrong bytes", f"{request}{self._what}: {wrong}")
            return
        self._tally.seen[verdict] += 1
        if verdict == "failed" or (verdict == "refused" and not refusable):
            self._tally.fault(verdict, f"{request}{self._what}: {response.status} {response.cache_status}")

    def _verdict(self, request: Request, response: Response) -> str:
        if request.method == "HEAD" and response.status in {200, 206}:
            length = response.fields.get("Content-Length")
            if length is not None and int(length) not in request.asked.history.lengths:
                raise Wrong(f"HEAD with Content-Length {length}: {request.asked.history.lengths}")
            return "head"
        return judge(request.asked, response)

    def _check_beginning(self, request: Request, response: Response) -> None:
        try:
            judge_beginning(request.asked, response)
        except Wrong as wrong:
            self._tally.fault("wrong bytes", f"{request}{self._what}: {wrong}")

    # What to ask

    def some_request(self) -> Request:
        """Anything."""
        histories = list(self._origin.histories.values())
        history = min(self._dice.choices(histories, k=2), key=lambda each: each.item.size)
        return self.request(history)

    def request(self, history: History) -> Request:
        """Anything of one item."""
        dice = self._dice
        asked = self.asked(history)
        plain = Request(asked, slow=history.item.size < 300_000 and dice.random() < 0.1)
        length = history.item.length(history.generation)
        tag = dice.choice(list(history.tags)) if history.tags else '"none"'
        match dice.choices(range(9), (20, 30, 6, 6, 8, 8, 6, 4, 5))[0]:
            case 0:
                return plain
            case 1 | 2 | 3 as kind:
                return with_ranges(plain, (some_wish(dice, length, kind),))
            case 4:
                wishes = tuple(
                    some_wish(dice, length, dice.choice((1, 1, 1, 3))) for _ in range(dice.randint(2, 4))
                )
                return with_ranges(plain, wishes)
            case 5:
                first = dice.randrange(max(1, length))
                ranged = with_ranges(plain, ((first, None),))
                asked = replace(ranged.asked, if_range=tag)
                return replace(ranged, asked=asked, fields=(*ranged.fields, ("If-Range", tag)))
            case 6:
                asked = replace(asked, if_none_match=tag)
                return replace(plain, asked=asked, fields=(("If-None-Match", tag),))
            case 7:
                return replace(plain, method="HEAD")
            case _:
                return replace(plain, take=dice.randrange(length + 1))

    def asked(self, history: History) -> Asked:
        """A request for an item, begun now."""
        return Asked(history, history.floor, history.oldest(time.monotonic(), fails=self._fails))


def some_wish(dice: random.Random, length: int, kind: int) -> Wish:
    """1: a closed range, 2: one to the end, 3: a suffix; satisfiable unless there is nothing."""
    first = dice.choice((0, dice.randrange(max(1, length)), max(0, length - 1)))
    match kind:
        case 1:
            return first, first + dice.choice((0, 99, 70_000, length))
        case 2:
            return first, None
        case _:
            return None, dice.choice((1, 1000, length + 1))


def with_ranges(request: Request, wishes: tuple[Wish, ...]) -> Request:
    """The same, for ranges only."""
    texts = (f"{'' if first is None else first}-{'' if last is None else last}" for first, last in wishes)
    asked = replace(request.asked, wishes=wishes)
    return replace(request, asked=asked, fields=(*request.fields, ("Range", f"bytes={','.join(texts)}")))


async def change(adapter: Adapter, origin: Origin, dice: random.Random, tally: Tally) -> None:
    """The origin changes something; and whoever did that purges it, or it was a request that says so itself."""
    history = dice.choice(list(origin.histories.values()))
    folder = history.item.path[:3]
    concerned = {
        "purge": [history],
        "prefix": [each for path, each in origin.histories.items() if path.startswith(folder)],
    }
    match dice.choices(("post", "purge", "soft purge", "prefix", "change"), (4, 4, 2, 1, 4))[0]:
        case "post":
            await _post(adapter, history, tally)
        case "change":
            history.change()
        case "prefix":
            await _purge(adapter, tally, "prefix purge", concerned["prefix"], f"{folder}*")
        case "purge" | "soft purge" as kind:
            await _purge(adapter, tally, kind, [history], history.item.path)


async def _purge(adapter: Adapter, tally: Tally, kind: str, concerned: list[History], path: str) -> None:
    soft = kind == "soft purge"
    for history in concerned:
        history.change()
    floors = [history.generation for history in concerned]
    if await adapter.purge(path, soft=soft):
        tally.seen[kind] += 1
        for history, floor in zip(concerned, floors, strict=True):
            if not (soft and "while-revalidate" in (history.item.control or "")):
                (history.doubt if soft else history.forbid)(floor)


async def _post(adapter: Adapter, history: History, tally: Tally) -> None:
    try:
        async with asyncio.timeout(10), Wire(adapter.url) as wire:
            await wire.request("POST", history.item.path, [("Host", HOST)], b"change")
            response = await wire.response()
    except (OSError, EOFError, TimeoutError):
        return
    if response.status == 200:
        tally.seen["post"] += 1
        history.forbid(int(response.body))
