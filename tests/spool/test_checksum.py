"""A body's checksum is reckoned as it is written, wherever that was interrupted, and stored with it."""

import os
import threading
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SpoolError
from proxy.spool import calls
from proxy.spool.checksum import PIECE, Checksum, read_checksum
from proxy.spool.entry import dump_head, load_head
from tests.spool.objects import KIB, MIB, begin, entry, files, opened, pattern, store


@given(st.lists(st.binary()))
def test_piece_by_piece_it_is_that_of_the_whole(pieces: list[bytes]) -> None:
    checksum = Checksum()
    for piece in pieces:
        checksum = checksum.followed_by(piece)
    whole = b"".join(pieces)
    assert checksum == Checksum(len(whole), crc32(whole))


@pytest.mark.parametrize("known", [0, 1, PIECE, PIECE + 1, 2 * PIECE + 5])
def test_it_is_read_on_from_where_it_is_known(tmp_path: Path, known: int) -> None:
    data = pattern(2 * PIECE + 5)
    (tmp_path / "body").write_bytes(data + b"and more")
    fd = os.open(tmp_path / "body", os.O_RDONLY)
    try:
        whole = Checksum(len(data), crc32(data))
        assert read_checksum(fd, len(data), Checksum(known, crc32(data[:known]))) == whole
        assert read_checksum(fd, len(data)) == whole
        assert read_checksum(fd, 10 * MIB).length == len(data) + len(b"and more"), "no further than the file"
    finally:
        os.close(fd)


@pytest.mark.parametrize("length", [0, 1, 300 * KIB])
@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_it_is_stored_with_its_body(tmp_path: Path, length: int, index: str) -> None:
    data = pattern(length)
    async with opened(tmp_path) as spool:
        filling = await spool.create(entry(), None)
        await filling.reserve(length)
        for start in range(0, length, 100 * KIB):
            await filling.write(data[start : start + 100 * KIB], start)
        assert filling.checksum == Checksum(length, crc32(data))
        await filling.commit(filling.entry.completed(length))
        [stored] = spool.lookup(entry().key)
        assert stored.checksum == crc32(data)
    if index == "lost":
        spool.paths.index.unlink()
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.lookup(stored.key) == (stored,)


async def test_it_is_reckoned_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    class Watched(Checksum):
        def followed_by(self, data: bytes | bytearray) -> Checksum:
            threads.add(threading.current_thread())
            return Checksum.followed_by(self, data)

    monkeypatch.setattr("proxy.spool.filling.Checksum", Watched)
    async with opened(tmp_path) as spool:
        await store(spool, entry(), b"abc")
    assert threads
    assert threading.main_thread() not in threads


async def test_what_could_not_be_written_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as spool:
        filling = await begin(spool, entry(), b"abc", length_known=False)
        with monkeypatch.context() as patched:
            patched.setattr(calls, "write_all", _refuse)
            with pytest.raises(SpoolError):
                await filling.write(b"def", 3)
        told = [filling.checksum]
        await filling.write(b"DEF", 3)
        told.append(filling.checksum)
        for offset in (0, 1):  # the window of what is too large to store: it is never whole
            await filling.write(b"x", offset)
            told.append(filling.checksum)
        assert told == [Checksum(3, crc32(b"abc")), Checksum(6, crc32(b"abcDEF")), None, None]
        await filling.discard()


def _refuse(fd: int, data: bytes, offset: int) -> None:
    raise OSError(5, "Input/output error")


async def test_a_validation_leaves_it_as_it_is(tmp_path: Path) -> None:
    """A fill's followers have an entry of before it was known."""
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
        await spool.update(replace(stored, checksum=None))
        assert spool.lookup(stored.key) == (stored,)


async def test_a_head_without_it_is_not_taken_in(tmp_path: Path) -> None:
    """It is of an unfinished body, whatever that body's length says."""
    async with opened(tmp_path) as spool:
        stored = await store(spool, entry(), b"abc")
        head = spool.paths.head(stored.generation)
    head.write_text(dump_head(replace(load_head(head.read_bytes()), checksum=None)))
    spool.paths.index.unlink()
    async with opened(tmp_path) as spool:
        await spool.swept()
        assert spool.lookup(stored.key) == ()
        assert files(tmp_path) == set()
