"""Epochs: no change is lost on whoever remembers what was there before it."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.spool.epochs import SIZE, Epochs

DIGESTS = st.binary(min_size=16, max_size=16)


@given(digest=DIGESTS)
def test_a_bump_changes_what_is_read(digest: bytes) -> None:
    epochs = Epochs()
    seen = epochs.read(epochs.slot(digest))
    assert epochs.read(epochs.slot(digest)) == seen
    epochs.bump(digest)
    assert epochs.read(epochs.slot(digest)) != seen


@given(digest=DIGESTS)
def test_all_are_bumped_at_once(digest: bytes) -> None:
    epochs = Epochs()
    seen = epochs.read(epochs.slot(digest))
    epochs.bump_all()
    assert epochs.read(epochs.slot(digest)) != seen


def test_others_are_left_alone() -> None:
    epochs = Epochs()
    one, other = bytes(16), b"\x01" * 16
    assert epochs.slot(one) != epochs.slot(other)
    seen = epochs.read(epochs.slot(other))
    epochs.bump(one)
    assert epochs.read(epochs.slot(other)) == seen


@given(
    digest=DIGESTS, writers=st.lists(st.integers(0, 1), min_size=1, max_size=20), all_of_them=st.booleans()
)
def test_whoever_writes_to_a_shared_table_is_heard(
    digest: bytes, writers: list[int], all_of_them: bool
) -> None:
    shared = memoryview(mmap.mmap(-1, SIZE))
    tables = Epochs(shared), Epochs(shared)
    slot = tables[0].slot(digest)
    seen = {tables[0].read(slot)}
    for writer in writers:
        if all_of_them:
            tables[writer].bump_all()
        else:
            tables[writer].bump(digest)
        found = tables[1 - writer].read(slot)
        assert found not in seen, "no number comes twice, whoever writes it"
        seen.add(found)


def test_a_buffer_of_another_size_is_refused() -> None:
    with pytest.raises(AssertionError):
        Epochs(memoryview(bytearray(SIZE - 8)))
