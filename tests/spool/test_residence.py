"""What is not in the page cache is brought there by a thread, before the loop sends it."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import BodyLost
from proxy.spool import calls, residence
from proxy.spool.body import Body
from proxy.spool.residence import UNIT, WINDOW, Residence
from proxy.spool.threads import Threads
from tests.spool.objects import MIB, pattern

SIZE = MIB + 1000


@pytest.fixture
def fd(tmp_path: Path) -> int:
    """Of a file that nobody has written by our own calls; closed by its body."""
    descriptor = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, pattern(SIZE), 0)
    return descriptor


@pytest.fixture
def body(fd: int) -> Iterator[Body]:
    threads = Threads()
    yield (body := Body(fd, threads))
    body.release()
    threads.shutdown()


class Disk:
    """Remembers who asked for what; `has` says what is in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.read: list[range] = []
        self.refusal = errno.EAGAIN
        self.has = range(0)
        self._preadv, self._pread = calls.preadv, calls.pread
        monkeypatch.setattr(calls, "preadv", self._asked_for)
        monkeypatch.setattr(calls, "pread", self._fetched)

    def _asked_for(self, fd: int, buffers: list[Any], offset: int, flags: int) -> int:
        if not flags:
            return int(self._preadv(fd, buffers, offset, flags))
        self.asked += 1
        there = min(self.has.stop - offset, len(buffers[0])) if offset in self.has else 0
        if there <= 0:
            raise OSError(self.refusal, os.strerror(self.refusal))
        return int(self._preadv(fd, [buffers[0][:there]], offset, flags))

    def _fetched(self, fd: int, size: int, offset: int) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        self.read.append(range(offset, offset + size))
        return self._pread(fd, size, offset)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="only Linux tells what is in memory")
async def test_the_kernel_tells(fd: int, body: Body) -> None:
    known = Residence(fd)
    if known.reach(0, 10) < 10:
        pytest.skip("this file system does not tell what is in memory")
    assert known.reach(SIZE - 10, SIZE) == SIZE
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if Residence(fd).reach(0, WINDOW):
        pytest.skip("this file system keeps what it is told to drop")
    await body.bring(0, SIZE)
    assert Residence(fd).reach(0, SIZE) == SIZE


async def test_a_window_of_which_something_is_missing_is_fetched(body: Body, disk: Disk) -> None:
    disk.has = range(2 * WINDOW - 4096)
    await body.bring(5, 2 * WINDOW)
    assert disk.read == [range(WINDOW, 2 * WINDOW)], "the first window is there"


async def test_what_is_there_ends_with_the_window_of_which_something_is_missing(
    body: Body, disk: Disk
) -> None:
    disk.has = range(2 * WINDOW - 4096)
    assert body.at_hand(5, SIZE) == 5 + WINDOW
    assert body.at_hand(7, 100) == 100
    assert body.at_hand(2 * WINDOW, SIZE) == 2 * WINDOW, "nothing"
    assert disk.read == []


async def test_it_is_fetched_once_for_a_moment(
    body: Body, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await body.bring(0, WINDOW)
    await body.bring(100, WINDOW - 100)
    assert (disk.asked, len(disk.read)) == (1, 1)
    monkeypatch.setattr(residence, "REMEMBERED", -1.0)
    await body.bring(0, WINDOW)
    assert (disk.asked, len(disk.read)) == (2, 2)


async def test_what_has_just_been_written_is_there(body: Body, disk: Disk) -> None:
    await body.write(b"abc" * 1000, SIZE)
    await body.bring(SIZE, SIZE + 3000)
    assert (disk.asked, disk.read) == (0, [])


async def test_where_nobody_can_tell_a_thread_looks(body: Body, disk: Disk) -> None:
    disk.refusal = errno.EOPNOTSUPP  # a tmpfs
    await body.bring(0, 10)
    assert disk.read == [range(UNIT)]
    room = memoryview(bytearray(10))
    assert body.read_now(room, 20)
    assert room == pattern(SIZE)[20:30]
    assert body.at_hand(5, UNIT) == UNIT
    assert not body.read_now(room, UNIT), "that would be more than has been looked for"


@pytest.mark.parametrize("remembered", [1.0, -1.0])
async def test_where_nobody_can_tell_all_around_is_read_with_what_is_wanted(
    body: Body, disk: Disk, monkeypatch: pytest.MonkeyPatch, remembered: float
) -> None:
    """Even if its moment is over before it is looked at."""
    monkeypatch.setattr(residence, "REMEMBERED", remembered)
    disk.refusal = errno.EOPNOTSUPP
    room = memoryview(bytearray(10))
    assert not body.read_now(room, 20)
    assert await body.read(20, 30) == pattern(SIZE)[20:30]
    assert disk.read == [range(UNIT), range(20, 30)]
    assert body.read_now(room, 40) == (remembered > 0)


async def test_a_file_that_is_too_short_is_lost(body: Body, disk: Disk) -> None:
    with pytest.raises(BodyLost, match="shorter than its"):
        await body.bring(SIZE - 10, SIZE + 1)
    assert body.broken


async def test_a_disk_that_cannot_read_it_has_lost_it(body: Body, disk: Disk) -> None:
    disk.refusal = errno.EIO
    with pytest.raises(BodyLost, match="Input/output error"):
        await body.bring(0, 10)
    assert body.broken
