"""The fewest, the oldest, and nobody who is being read."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.spool.eviction import Candidate, choose
from proxy.spool.room import BLOCK, Need

CANDIDATES = [Candidate(name, b"k", size) for name, size in [("a", 5), ("b", 10), ("c", 1)]]


def names(need: int, spared: str = "", *, blocks: int = 0) -> str:
    """Of those chosen where `need` bytes are missing, and so many blocks of the disk."""
    missing = Need(need, blocks * BLOCK)
    return "".join(
        each.generation for each in choose(CANDIDATES, missing, spared=lambda name: name in spared)
    )


def test_the_oldest_that_suffice() -> None:
    assert names(0) == ""
    assert names(5) == "a"
    assert names(6) == "ab"
    assert names(100) == "abc"


def test_small_ones_give_the_disk_more_than_their_size() -> None:
    assert names(0, blocks=2) == "a"
    assert names(0, blocks=3) == "ab"
    assert names(6, blocks=1) == "ab"


def test_who_is_spared_is_passed_over() -> None:
    assert names(5, "a") == "b"
    assert names(11, "b") == "ac"
    assert names(1, "abc") == ""


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())), st.integers(-5, 100))
def test_enough_is_enough(objects: list[tuple[int, bool]], need: int) -> None:
    candidates = [Candidate(str(number), b"k", size) for number, (size, _) in enumerate(objects)]
    chosen = choose(candidates, Need(need, 0), spared=lambda name: objects[int(name)][1])
    assert not any(objects[int(each.generation)][1] for each in chosen)
    assert sum(each.size for each in chosen[:-1]) < max(need, 1)
    if sum(each.size for each in chosen) < need:
        assert len(chosen) == sum(not spared for _, spared in objects)
