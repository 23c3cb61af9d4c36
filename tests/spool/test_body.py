"""A body is read to the byte, and its descriptor lives as long as its last holder, a thread included."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.errors import SpoolError
from proxy.spool.body import Body
from tests.spool.objects import MIB, eventually, pattern


@pytest.fixture
def disk() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "body", os.O_RDWR | os.O_CREAT)
    yield descriptor
    assert not is_open(descriptor)


async def test_bytes_go_in_and_come_out(fd: int, disk: ThreadPoolExecutor) -> None:
    body = Body(fd, disk)
    await body.write(pattern(MIB), 0)
    await body.write(b"xyz", 5)
    assert await body.read(3, 10) == pattern(MIB)[3:5] + b"xyz" + pattern(MIB)[8:10]
    with pytest.raises(AssertionError):
        await body.read(5, 5)
    with pytest.raises(SpoolError):
        await body.read(MIB - 1, MIB + 1)
    assert not body.intact(MIB), "a file that was too short is not trusted again"
    body.release()


async def test_intact_means_named_and_of_that_length(
    fd: int, disk: ThreadPoolExecutor, tmp_path: Path
) -> None:
    body = Body(fd, disk)
    await body.write(b"abc", 0)
    assert body.intact(3)
    assert not body.intact(2)
    (tmp_path / "body").unlink()
    assert not body.intact(3)
    body.release()


async def test_each_hold_is_released_once(fd: int, disk: ThreadPoolExecutor) -> None:
    body = Body(fd, disk)
    assert not body.shared
    assert body.hold().shared
    body.release()
    body.release()
    with pytest.raises(AssertionError):
        body.hold()
    with pytest.raises(AssertionError):
        body.release()


async def test_its_keeper_hears_when_it_is_idle(fd: int, disk: ThreadPoolExecutor) -> None:
    body, heard = Body(fd, disk), list[str]()
    body.kept(lambda: heard.append("used"), lambda: heard.append("idle"))
    body.hold()
    body.hold()
    body.release()
    assert heard == ["used"]
    body.release()
    assert heard == ["used", "idle"]
    body.kept()
    body.release()


async def test_an_unlinked_file_is_freed_in_a_thread(fd: int, disk: ThreadPoolExecutor) -> None:
    body, gone = Body(fd, disk), []
    body.hold()
    body.unlinked(lambda: gone.append(1))
    body.release()
    assert not gone
    body.release()
    await eventually(lambda: bool(gone))
