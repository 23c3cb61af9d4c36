"""What is in the page cache is read at once; for what is not, nobody waits."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.spool import calls, resident
from proxy.spool.resident import STRIDE, is_resident, read_resident
from tests.spool.objects import pattern

DATA = pattern(3 * STRIDE)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "body"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_what_was_just_written_is_there(fd: int) -> None:
    room = bytearray(1000)
    assert read_resident(fd, room, 5)
    assert room == DATA[5:1005]
    assert is_resident(fd, 0, len(DATA))


def test_what_lies_beyond_the_end_is_not(fd: int) -> None:
    assert not read_resident(fd, bytearray(10), len(DATA) - 9)
    assert not is_resident(fd, 0, len(DATA) + 1)


@pytest.mark.parametrize("absent", [0, STRIDE, 2 * STRIDE, 3 * STRIDE - 1])
def test_each_stretch_and_the_end_are_looked_at(
    fd: int, absent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.preadv

    def preadv(fd: int, rooms: list[bytearray], start: int, flags: int) -> int:
        if start <= absent < start + len(rooms[0]):
            raise BlockingIOError(errno.EAGAIN, "not now")
        return int(real(fd, rooms, start, flags))

    monkeypatch.setattr(calls, "preadv", preadv)
    assert not is_resident(fd, 0, len(DATA))
    assert not read_resident(fd, bytearray(10), absent)


def test_a_file_system_that_cannot_tell(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "a tmpfs")

    monkeypatch.setattr(calls, "preadv", preadv)
    assert not read_resident(fd, bytearray(1), 0)
    monkeypatch.setattr(resident, "_NOWAIT", 0)
    assert not is_resident(fd, 0, 1)


def test_a_broken_disk_is_told(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(calls, "preadv", preadv)
    with pytest.raises(OSError, match="broken"):
        read_resident(fd, bytearray(1), 0)
