"""The books: what counts against the limits, and what is left."""

import pytest

from proxy.errors import SpoolFull
from proxy.spool.room import Room


def room(*, max_size: int = 100, min_free: int = 0, stored: int = 0, free: int = 10_000) -> Room:
    made = Room(max_size=max_size, min_free=min_free, stored=stored)
    made.free = free
    return made


def test_everything_counts_against_the_size() -> None:
    books = room(stored=40)
    books.reserve().size = 30
    books.forgot(10)
    books.linger(10)
    assert books.used == 70
    assert books.shortfall(30) == 0
    assert books.shortfall(31) == 1
    assert books.shortfall(10) == -20
    books.lingered(10)
    assert books.used == 60


def test_the_disk_keeps_its_free_room_and_what_is_promised() -> None:
    books = room(max_size=10_000, min_free=100, free=200)
    assert books.shortfall(100) == 0
    reservation = books.reserve()
    reservation.size = 60
    assert books.shortfall(100) == 60
    books.wrote(reservation, 50)
    assert books.free == 150
    assert books.shortfall(100) == 60, "written or still to be written is the same"
    books.wrote(reservation, 40)
    assert reservation.written == 50, "a window is written over"


def test_what_we_delete_is_believed_to_be_free() -> None:
    books = room(max_size=10_000, min_free=100, stored=500, free=50)
    assert books.shortfall(0) == 50
    books.forgot(60)
    books.freed(60)
    assert books.shortfall(0) == -10


def test_a_fill_that_ends_gives_back_what_it_did_not_need() -> None:
    books = room()
    reservation = books.reserve()
    reservation.size = 80
    books.settle(reservation, stored=30)
    books.settle(reservation)
    assert (books.used, books.reserved, books.stored) == (30, 0, 30)


def test_what_is_for_single_credentials_has_a_limit_of_its_own() -> None:
    books = Room(max_size=1000, min_free=0, stored=60)
    books.limit_partitions(100, lambda: 60)
    shared, mine = books.reserve(), books.reserve(personal=True)
    shared.size, mine.size = 500, 30
    assert books.spare(shared, 5000, 8) == 8
    assert books.spare(mine, 5, 8) == 5
    assert books.spare(mine, 10, 8) == 0
    with pytest.raises(SpoolFull):
        books.spare(mine, 11, 8)
    books.settle(mine)
    assert books.partition_room() == 40
