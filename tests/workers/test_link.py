"""Messages and open files between two processes; here, both ends are in one."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.errors import OriginTruncated
from proxy.workers.link import NO_FILE, Link
from tests.together import until


class End:
    """One end, and what has come there."""

    def __init__(self, sock: socket.socket) -> None:
        self.came: list[tuple[Any, int | None]] = []
        self.lost = 0
        self.link = Link(sock, lambda message, file: self.came.append((message, file)), self._lose)

    def _lose(self) -> None:
        self.lost += 1


@pytest.fixture
async def ends() -> AsyncIterator[list[End]]:
    pair = [End(sock) for sock in socket.socketpair()]
    yield pair
    for end in pair:
        end.link.close()


async def test_messages_come_in_order_whatever_their_size(ends: list[End]) -> None:
    here, there = ends
    sent = [b"x" * size for size in (0, 1, 5_000_000, 2, 300_000)]
    for message in sent:
        here.link.send(message)
    await here.link.drained()
    await until(lambda: len(there.came) == len(sent))
    assert there.came == [(message, None) for message in sent]


async def test_each_file_comes_with_its_message_and_is_the_one_that_it_was(
    ends: list[End], tmp_path: Path
) -> None:
    """Although the sender closes it at once, and its number means another file then."""
    here, there = ends
    names = []
    for number in range(20):
        path = tmp_path / str(number)
        path.write_text(str(number))
        file = os.open(path, os.O_RDONLY)
        here.link.send((number, b"x" * 200_000), file)
        here.link.send("no file")
        os.close(file)
        names.append(number)
    await until(lambda: len(there.came) == 40)
    for (message, received), number in zip(there.came[::2], names, strict=True):
        assert received is not None
        assert (message[0], os.read(received, 9)) == (number, str(number).encode())
        os.close(received)
    assert all(came == ("no file", None) for came in there.came[1::2])


async def test_where_no_descriptor_is_left_the_message_says_so(ends: list[End], tmp_path: Path) -> None:
    here, there = ends
    (tmp_path / "file").touch()
    file = os.open(tmp_path / "file", os.O_RDONLY)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    here.link.send("before", file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (file + 1, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(file)
        await until(lambda: len(there.came) == 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    here.link.send("after", file)
    os.close(file)
    await until(lambda: len(there.came) == 2)
    assert there.came[0] == ("before", NO_FILE)
    message, received = there.came[1]
    assert message == "after"
    assert received is not None
    os.close(received)


async def test_fields_and_errors_stay_what_they_are(ends: list[End]) -> None:
    here, there = ends
    fields = CIMultiDictProxy(CIMultiDict([("Set-Cookie", "a"), ("set-cookie", "b\udcff")]))
    here.link.send((fields, OriginTruncated("it broke off", reason="odd")))
    await until(lambda: len(there.came) == 1)
    came, error = there.came[0][0]
    assert isinstance(came, CIMultiDictProxy)
    assert list(came.items()) == list(fields.items())
    assert (type(error), str(error), error.reason) == (OriginTruncated, "it broke off", "odd")


async def test_the_end_of_one_is_told_to_the_other_once(ends: list[End]) -> None:
    here, there = ends
    here.link.send("last")
    here.link.close()
    await until(lambda: there.lost == 1)
    assert there.came == [("last", None)]
    there.link.send("nobody hears this")
    assert (here.lost, there.lost) == (0, 1)


async def test_who_waits_for_a_reader_that_ends_waits_no_longer(ends: list[End]) -> None:
    here, there = ends
    asyncio.get_running_loop().remove_reader(there.link._sock)
    here.link.send(b"x" * 5_000_000)
    waiting = asyncio.create_task(here.link.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    there.link.close()
    await waiting
    await until(lambda: here.lost == 1)
