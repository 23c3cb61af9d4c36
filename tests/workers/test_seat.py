"""What workers share: notes that outlive who wrote them, and how many connections there are."""

import os
import signal

from proxy.workers.seat import PAGE, Board, Crowd


def test_the_last_note_of_each_worker_stands() -> None:
    board = Board(3)
    assert board.read(2) == b""
    for number in range(3):
        for note in (b"first", b"second, and longer", b"3"):
            assert board.write(number, note + b"%d" % number)
    assert [board.read(number) for number in range(3)] == [b"30", b"31", b"32"]


def test_a_note_that_is_too_long_is_not_taken_and_the_largest_is() -> None:
    board = Board(2)
    largest = b"x" * (PAGE // 2 - 64)
    for _ in range(2):  # either half
        assert board.write(0, largest)
        assert board.read(0) == largest
        assert board.read(1) == b""
        assert not board.write(0, largest + b"x")
    assert board.write(1, largest)
    assert board.read(0) == largest


def test_whoever_is_killed_in_the_middle_of_writing_leaves_the_last_note_whole() -> None:
    board = Board(1)
    notes = {letter * 100_000 for letter in (b"a", b"b", b"c")}
    writer = os.fork()
    if not writer:
        while True:
            for note in sorted(notes):
                board.write(0, note)
    while not board.read(0):
        pass
    assert {board.read(0) for _ in range(1000)} <= notes
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    assert board.read(0) in notes


def test_connections_of_the_others() -> None:
    counts = memoryview(bytearray(24)).cast("q")
    crowds = [Crowd(counts, number) for number in range(3)]
    for number, crowd in enumerate(crowds):
        crowd.note(10**number)
    assert [crowd.elsewhere() for crowd in crowds] == [110, 101, 11]
