"""A legacy origin in a process of its own: 200 only, at a rate that it sets itself, objects of any size.

    GET /<anything>?size=<bytes>&rate=<bytes per second, 0: as fast as it goes>[&tag=<entity tag>]
                   [&piece=<bytes sent at a time>]

Byte i of every object is byte i % len(BLOCK) of BLOCK, so that any slice can be checked without storing anything.
"""

import asyncio
import random
import sys
from urllib.parse import parse_qs, urlsplit

BLOCK = random.Random(9110).randbytes((1 << 20) + 7)  # no power of two: a shifted slice never looks right
PIECE = 64 << 10
MODIFIED = "Sat, 01 Aug 2026 12:00:00 GMT"
_ROUND = memoryview(BLOCK + BLOCK[:PIECE])


def slice_of(start: int, stop: int) -> bytes:
    """The bytes [start, stop) of any object."""
    first = start % len(BLOCK)
    repeated = BLOCK[first:] + BLOCK * ((stop - start) // len(BLOCK) + 1)
    return repeated[: stop - start]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while asked := await reader.readuntil(b"\r\n\r\n"):
            query = parse_qs(urlsplit(asked.split(b" ", 2)[1].decode()).query)
            size, rate = int(query["size"][0]), int(query["rate"][0])
            print("request", flush=True)
            fields = "".join(
                f'ETag: "{tag}"\r\nLast-Modified: {MODIFIED}\r\nCache-Control: max-age=86400\r\n'
                for tag in query.get("tag", [])
            )
            head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n{fields}Content-Length: {size}\r\n\r\n"
            writer.write(head.encode())
            await send(writer, size, rate, int(query.get("piece", [PIECE])[0]))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the adapter has closed the connection
    finally:
        writer.close()


async def send(writer: asyncio.StreamWriter, size: int, rate: int, piece: int) -> None:
    loop = asyncio.get_running_loop()
    begun, sent = loop.time(), 0
    while sent < size:
        stop = min(sent + piece, size)
        if rate:
            await asyncio.sleep(max(0.0, begun + stop / rate - loop.time()))
        at = sent % len(BLOCK)
        writer.write(_ROUND[at : at + stop - sent])
        await writer.drain()
        sent = stop


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
