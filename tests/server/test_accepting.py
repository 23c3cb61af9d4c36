"""Connections that wait for another process, as long as there is no place in this one."""

import socket

from proxy.incidents import Incidents
from proxy.server.accepting import Acceptor, Spare
from tests.together import until


async def test_they_wait_as_long_as_they_are_left_to_others() -> None:
    full, taken, spare = True, list[socket.socket](), Spare(1)

    def take(sock: socket.socket, _: str) -> None:
        taken.append(sock)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        door = Acceptor(listening, take, spare, Incidents(), about="clients", keep=0, leaves_it=lambda: full)
        with socket.create_connection(listening.getsockname()):
            await until(lambda: door._retry is not None)
            assert not taken
            again = door._retry
            await until(lambda: door._retry is not again)
            assert not taken
            full = False
            await until(lambda: bool(taken))
        door.close()
    spare.close()
    for sock in taken:
        sock.close()
