"""After a 101: bytes both ways, as they are, until either side closes (RFC 9110 section 7.8), or we do."""

import asyncio

from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from proxy.patience import Patience, give_up_after

BUFFER = 64 << 10
"""Bytes held for each direction before its sender is paused."""


class _Inlet:
    """What aiohttp feeds the bytes of an upgraded connection to; `reader` pauses it when too many wait."""

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = StreamReader(protocol, BUFFER, loop=loop)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self.reader.feed_eof()


async def tunnel(
    client: RequestHandler,
    origin: ResponseHandler,
    *,
    send_idle: float,
    send_rate: float,
    ending: asyncio.Event,
) -> tuple[int, int]:
    """Carry bytes between two upgraded connections.  Returns how many went to the client and to the origin.

    Either side may be silent for as long as it likes, but must take what the other sends within `send_idle`
    seconds, and `send_rate` bytes of it in a second.  Nothing tells when a tunnel would be done: it ends at once
    when `ending` is set.
    """
    loop = asyncio.get_running_loop()
    from_client, from_origin = _Inlet(client, loop), _Inlet(origin, loop)
    client.set_parser(from_client)  # type: ignore[arg-type]  # it wants a WebSocketReader, and uses these two methods
    origin.set_parser(from_origin, from_origin.reader)
    to_client = asyncio.create_task(_carry(from_origin.reader, client, send_idle, send_rate))
    to_origin = asyncio.create_task(_carry(from_client.reader, origin, send_idle, send_rate))
    tasks = {to_client, to_origin, asyncio.create_task(ending.wait())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (client, origin):
            give_up_after(end.transport, send_idle)  # what is still on its way has its limit too
    return _carried(to_client), _carried(to_origin)


async def _carry(reader: StreamReader, outlet: BaseProtocol, send_idle: float, send_rate: float) -> int:
    writer = StreamWriter(outlet, asyncio.get_running_loop())
    patience = Patience(outlet.transport, send_idle, rate=send_rate)
    try:
        while data := await reader.readany():
            await writer.write(data, drain=False)
            if outlet.writing_paused:
                async with patience:
                    await writer.drain()
    except TimeoutError:
        if outlet.transport is not None:
            outlet.transport.abort()  # it takes nothing: closing would wait for it
    except (ConnectionError, asyncio.CancelledError):
        pass  # either side has gone: the tunnel ends
    return writer.output_size


def _carried(task: asyncio.Task[int]) -> int:
    return 0 if task.cancelled() or task.exception() is not None else task.result()
