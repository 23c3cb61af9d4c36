"""A body that is not to the bit what was stored has a flaw, wherever that is; and looking for it leaves no trace."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.spool import calls, rereading
from proxy.spool.rereading import PIECE, Rereading
from tests.spool.objects import entry, pattern
from tests.spool.rot import flip

DATA = pattern(2 * PIECE + 5)
STORED = replace(entry(length=len(DATA)), checksum=crc32(DATA))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("spool") / "body"
    path.write_bytes(DATA)
    yield path
    assert path.read_bytes() == DATA


def flaw_of(path: Path, most: int = PIECE) -> str | None:
    reading = Rereading(path, STORED)
    try:
        while reading.step(most):
            assert reading.flaw is None
        return reading.flaw
    finally:
        reading.close()


@pytest.mark.parametrize("most", [1000, PIECE, PIECE + 1, 10 * PIECE])
def test_what_is_as_it_was_is_sound(path: Path, most: int) -> None:
    assert flaw_of(path, most) is None


@settings(max_examples=50)
@given(at=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7))
def test_each_bit_counts(path: Path, at: int, bit: int) -> None:
    flip(path, at, bit)
    try:
        assert "checksum" in (flaw_of(path) or "")
    finally:
        flip(path, at, bit)


@pytest.mark.parametrize("length", [0, 1, len(DATA) - 1, len(DATA) + 1])
def test_each_byte_counts(tmp_path: Path, length: int) -> None:
    (tmp_path / "body").write_bytes((DATA + b"x")[:length])
    assert flaw_of(tmp_path / "body") == f"it has {length} bytes instead of {len(DATA)}"


def test_what_ends_while_it_is_read_has_a_flaw(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(DATA)
    reading = Rereading(tmp_path / "body", STORED)
    assert reading.step(PIECE)
    os.truncate(tmp_path / "body", PIECE + 7)
    assert not reading.step(10 * PIECE)
    assert reading.flaw == f"it ends after {PIECE + 7} bytes of {len(DATA)}"
    reading.close()


def test_what_has_lost_its_name_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(DATA)
    reading = Rereading(tmp_path / "body", STORED)
    assert reading.step(PIECE)
    (tmp_path / "body").unlink()
    assert not reading.step(10 * PIECE)
    assert reading.flaw is None
    reading.close()


def test_an_empty_body_has_a_checksum_too(tmp_path: Path) -> None:
    (tmp_path / "body").touch()
    for checksum, flawed in ((0, False), (1, True)):
        reading = Rereading(tmp_path / "body", replace(entry(length=0), checksum=checksum))
        assert not reading.step(PIECE)
        assert (reading.flaw is not None) is flawed
        reading.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_the_disk_says_whose_fault_it_is(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(rereading, "_read", refuse)
    if number == errno.EIO:
        assert flaw_of(path) == "it cannot be read at 0: Input/output error"
    else:
        with pytest.raises(OSError, match="Too many"):
            flaw_of(path)


@pytest.mark.parametrize("cached", [0, 1000, PIECE, None])
def test_only_what_it_brought_in_leaves_the_page_cache(
    path: Path, monkeypatch: pytest.MonkeyPatch, cached: int | None
) -> None:
    """`cached` bytes of each piece are there; None: the file system does not tell."""
    advice: list[tuple[int, int]] = []

    def read_cached(fd: int, buffers: list[bytearray], start: int, _: int) -> int:
        if cached is None:
            raise OSError(errno.EOPNOTSUPP, "")
        if cached == 0:
            raise OSError(errno.EAGAIN, "")
        piece = os.pread(fd, min(cached, len(buffers[0])), start)
        buffers[0][: len(piece)] = piece
        return len(piece)

    def advise(fd: int, start: int, length: int, what: int) -> None:
        if what == os.POSIX_FADV_DONTNEED:
            advice.append((start, length))

    monkeypatch.setattr(calls, "preadv", read_cached)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    assert flaw_of(path) is None
    match cached:
        case 0:
            assert advice == [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 5)]
        case 1000:
            assert advice == [(1000, PIECE - 1000), (PIECE + 1000, PIECE - 1000)]
        case _:
            assert advice == []
