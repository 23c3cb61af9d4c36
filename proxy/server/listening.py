"""Addresses that are listened on: bound here, or inherited from the process that started this one."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import assert_never

from aiohttp import web
from yarl import URL

from proxy.config.addresses import Address, TcpAddress, UnixAddress
from proxy.server.accepting import Acceptor, Site


async def listen(
    runner: web.BaseRunner,
    addresses: Sequence[Address],
    accept: Callable[[socket.socket], Acceptor],
    accept_tls: Callable[[socket.socket], Acceptor],
    inherited: Sequence[Sequence[socket.socket]] = (),
) -> list[str]:
    """Open the listeners, or use those that are `inherited`; their URLs."""
    await runner.setup()
    urls = []
    for place, address in enumerate(addresses):
        servers = [await _server(sock) for sock in inherited[place]] if inherited else [await bind(address)]
        is_tls = isinstance(address, TcpAddress) and address.tls
        for server in servers:
            await Site(runner, server, accept_tls if is_tls else accept).start()
        urls.append(_url(address, runner))
    return urls


async def bound(addresses: Sequence[Address]) -> list[list[socket.socket]]:
    """Sockets for each address, for other processes to listen on.  Raises OSError."""
    servers = [await bind(address) for address in addresses]
    sockets = [[sock.dup() for sock in server.sockets] for server in servers]
    for server in servers:
        server.close()
    return sockets


async def _server(sock: socket.socket) -> asyncio.Server:
    """One that does not serve, for a socket that others have, too."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(asyncio.Protocol, sock=sock, start_serving=False)


async def bind(address: Address) -> asyncio.Server:
    """A server that does not serve: it knows how to bind to all that a name stands for."""
    loop = asyncio.get_running_loop()
    match address:
        case TcpAddress(host, port):
            return await loop.create_server(
                asyncio.Protocol, host, port, reuse_address=True, start_serving=False
            )
        case UnixAddress(path):
            return await loop.create_unix_server(asyncio.Protocol, path, start_serving=False)
        case _:
            assert_never(address)


def _url(address: Address, runner: web.BaseRunner) -> str:
    if isinstance(address, UnixAddress):
        return str(address)
    bound = runner.addresses[-1]
    scheme = "https" if address.tls else "http"
    return str(URL.build(scheme=scheme, host=address.host, port=bound[1], path="/"))
