"""Delivery sends what was planned, or makes sure that nobody takes it for that."""

import asyncio
from typing import cast

import pytest
from multidict import CIMultiDict

from proxy.errors import OriginTruncated, SpoolError
from proxy.semantics.plan import Part, ResponsePlan, Rest
from proxy.semantics.ranges import Slice
from proxy.semantics.representation import Representation
from proxy.server.delivery import PIECE, deliver
from proxy.server.exchange import Exchange
from proxy.spool.body import Body
from proxy.spool.entry import Entry


class Client:
    """An exchange that remembers."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.sent = b""
        self.ended = ""
        self.largest = 0
        self._fault = fault

    async def start(self, status: int, fields: object, *, length: int | None, now: int) -> None: ...

    async def write(self, data: bytes) -> None:
        if self._fault is not None:
            raise self._fault
        self.largest = max(self.largest, len(data))
        self.sent += data

    async def finish(self) -> None:
        self.ended = "whole"

    def cut_short(self) -> None:
        self.ended = "cut short"

    def abort(self) -> None:
        self.ended = "aborted"

    def can_send_files(self) -> bool:
        return False


class Memory:
    """A source of these bytes, which fails where they end if it has an error."""

    seekable = True
    provisional = False
    file: Body | None = None
    entry: Entry | None = None
    representation = cast("Representation", None)

    def __init__(self, data: bytes, error: BaseException | None = None) -> None:
        self._data = data
        self._error = error

    async def ensure(self, stop: int) -> None:
        pass

    async def wait(self, offset: int) -> int:
        if offset >= len(self._data) and self._error is not None:
            raise self._error
        return len(self._data)

    async def wait_for_end(self) -> int:
        return len(self._data)

    async def read(self, start: int, stop: int) -> bytes:
        return self._data[start:stop]

    def close(self) -> None: ...


async def send(client: Client, source: Memory, *parts: Part) -> None:
    plan = ResponsePlan(200, CIMultiDict(), parts, None)
    await deliver(plan, source, cast("Exchange", client), now=0)


async def test_parts_go_out_in_order() -> None:
    client = Client()
    await send(client, Memory(b"0123456789"), b"<", Slice(5, 7), b"|", Slice(0, 2), b">", Rest(8))
    assert client.sent == b"<56|01>89"
    assert client.ended == "whole"


async def test_no_more_than_a_piece_at_once() -> None:
    client = Client()
    await send(client, Memory(bytes(3 * PIECE + 5)), Slice(0, 3 * PIECE + 5), Rest(1))
    assert client.largest == PIECE
    assert len(client.sent) == 6 * PIECE + 9


@pytest.mark.parametrize(
    ("source", "raised"),
    [
        (Memory(b"0123"), OriginTruncated),
        (Memory(b"0123", OriginTruncated("reset")), OriginTruncated),
        (Memory(b"0123", SpoolError("lost")), SpoolError),
        (Memory(b"0123", asyncio.CancelledError()), asyncio.CancelledError),
        (Memory(b"0123", ZeroDivisionError()), ZeroDivisionError),
    ],
)
async def test_what_falls_short_is_cut_short(source: Memory, raised: type[BaseException]) -> None:
    client = Client()
    with pytest.raises(raised):
        await send(client, source, Slice(0, 10))
    assert client.ended == "cut short"


@pytest.mark.parametrize("fault", [ConnectionResetError(), TimeoutError()])
async def test_a_client_that_takes_no_more_is_reset(fault: BaseException) -> None:
    client = Client(fault)
    with pytest.raises(type(fault)):
        await send(client, Memory(b"0123"), Slice(0, 4))
    assert client.ended == "aborted"
