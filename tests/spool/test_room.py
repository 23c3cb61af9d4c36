"""The books: what counts against the limits, and what is left."""

from collections.abc import Callable

import pytest

from proxy.errors import SpoolFull
from proxy.spool.room import BLOCK, Room


def room(
    *,
    max_size: int = 100,
    min_free: int = 0,
    partition_size: int = 100,
    stored: Callable[[], int] = int,
    partition_bytes: Callable[[], int] = int,
    free: int = 1 << 20,
) -> Room:
    made = Room(
        max_size=max_size,
        min_free=min_free,
        partition_size=partition_size,
        stored=stored,
        partition_bytes=partition_bytes,
    )
    made.free = free
    return made


def test_everything_counts_against_the_size() -> None:
    books = room(stored=lambda: 30)
    books.reserve().size = 30
    books.linger(10)
    assert books.used == 70
    assert books.need(30).bytes == 0
    assert books.need(31).bytes == 1
    assert books.need(10).bytes == -20
    books.lingered(10)
    assert books.used == 60


def test_the_disk_keeps_its_free_room_and_what_is_promised() -> None:
    books = room(max_size=1 << 20, min_free=100, free=100 + 5 * BLOCK)
    assert books.need(4 * BLOCK).blocks == 0
    assert books.need(4 * BLOCK + 1).blocks == BLOCK, "its last byte takes a block"
    reservation = books.reserve()
    reservation.size = BLOCK + 1
    assert books.need(4 * BLOCK).blocks == 3 * BLOCK, "two blocks, and one for its head"
    books.wrote(reservation, 50)
    assert books.free == 100 + 3 * BLOCK
    assert books.need(4 * BLOCK).blocks == 3 * BLOCK, "written or still to be written is the same"
    books.wrote(reservation, 40)
    assert reservation.written == 50, "a window is written over"


def test_what_we_delete_is_believed_to_be_free() -> None:
    books = room(max_size=1 << 20, min_free=100, free=50)
    assert books.need(0).blocks == 50
    books.freed(60)
    assert books.need(0).blocks == 50 - 2 * BLOCK


def test_a_fill_that_ends_gives_back_what_it_did_not_need() -> None:
    stored = 0
    books = room(stored=lambda: stored)
    reservation = books.reserve()
    reservation.size = 80
    stored = 30
    books.settle(reservation)
    books.settle(reservation)
    assert (books.used, books.reserved) == (30, 0)


def test_what_is_for_single_credentials_has_a_limit_of_its_own() -> None:
    books = room(max_size=1000, stored=lambda: 60, partition_bytes=lambda: 60)
    shared, mine = books.reserve(), books.reserve(personal=True)
    shared.size, mine.size = 500, 30
    assert books.spare(shared, 5000, 8) == 8
    assert books.spare(mine, 5, 8) == 5
    assert books.spare(mine, 10, 8) == 0
    with pytest.raises(SpoolFull):
        books.spare(mine, 11, 8)
    books.settle(mine)
    assert books.partition_room() == 40
