"""The index finds what was added, and is never worse than empty."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from proxy.errors import SpoolError
from proxy.spool.index import Index
from tests.spool.objects import entry, key_of


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index.sqlite")
    yield made
    made.close()


def test_newest_first(index: Index) -> None:
    for time in (2, 3, 1):
        index.add(entry(time=time, vary=(("v", str(time)),)).completed(10), used=time)
    assert [each.stored.response_time for each in index.lookup(key_of("/film"))] == [3, 2, 1]
    assert index.usage() == (30, 3)


def test_the_same_variant_is_replaced_in_one_step(index: Index) -> None:
    old, new = entry(time=1).completed(10), entry(time=2).completed(20)
    assert index.add(old, used=1) == []
    [gone] = index.add(new, used=2)
    assert (gone.generation, gone.key, gone.size) == (old.generation, old.key, 10)
    assert index.lookup(old.key) == (new,)
    assert index.usage() == (20, 1)


def test_of_too_many_variants_the_least_recently_used_goes(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.spool.index.MAX_VARIANTS", 3)
    first, second, third, fourth = (
        entry(time=time, vary=(("v", str(time)),)).completed(10) for time in range(4)
    )
    for used, each in enumerate((first, second, third)):
        assert index.add(each, used=used) == []
    index.touch({first.generation: 9})
    assert [gone.generation for gone in index.add(fourth, used=10)] == [second.generation]
    assert {each.generation for each in index.lookup(first.key)} == {
        first.generation,
        third.generation,
        fourth.generation,
    }


def test_what_is_removed_twice_is_removed_once(index: Index) -> None:
    stored = entry().completed(10)
    index.add(stored, used=1)
    assert [each.size for each in index.remove([stored.generation])] == [10]
    assert index.remove([stored.generation]) == []
    assert index.usage() == (0, 0)


def test_oldest_by_use(index: Index) -> None:
    stored = [entry(f"/{n}").completed(n) for n in range(4)]
    for number, each in enumerate(stored):
        index.add(each, used=number)
    index.touch({stored[0].generation: 9, "unknown": 1})
    assert [each.size for each in index.oldest(3)] == [1, 2, 3]


def test_a_head_that_cannot_be_read_is_passed_over_and_replaced(index: Index, tmp_path: Path) -> None:
    bad = entry().completed(10)
    index.add(bad, used=1)
    other = apsw.Connection(str(tmp_path / "index.sqlite"))
    other.execute("UPDATE objects SET head = 'spoilt'")
    other.close()
    assert index.lookup(bad.key) == ()
    assert [each.generation for each in index.add(entry().completed(5), used=2)] == [bad.generation]


def test_it_survives(tmp_path: Path) -> None:
    first = Index(tmp_path / "index.sqlite")
    assert first.fresh
    stored = entry().completed(10)
    first.add(stored, used=1)
    first.close()
    second = Index(tmp_path / "index.sqlite")
    assert not second.fresh
    assert second.lookup(stored.key) == (stored,)
    second.close()


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="index"):
        Index(tmp_path)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """URLs may be secrets, and private answers have their heads in it."""
    index = Index(tmp_path / "index.sqlite")
    index.add(entry().completed(10), used=1)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    index.close()


def test_nothing_is_found_by_looking_through_everything(index: Index, tmp_path: Path) -> None:
    asked: set[str] = set()

    def note(_: apsw.Cursor, query: str, __: object) -> bool:
        asked.add(query)
        return True

    stored = entry(partition=b"p" * 16).completed(10)
    connections = [connection for connection in (index._reader, index._writer) if connection is not None]
    for connection in connections:
        connection.exec_trace = note
    index.add(stored, used=1)
    index.lookup(stored.key)
    index.newest(stored)
    index.update(stored)
    index.touch({stored.generation: 2})
    index.oldest(1)
    index.last_use()
    index.page("", 1)
    index.page_of_target(stored.target)
    index.of_target(stored.target)
    index.in_partition(b"p" * 16)
    index.find(stored.generation)
    index.targets([stored.generation])
    index.beginning_with("ab")
    index.has_any("ab")
    index.remove([stored.generation])
    for connection in connections:
        connection.exec_trace = None
    looking = apsw.Connection(str(tmp_path / "index.sqlite"))
    plans = {
        query: [str(step[3]) for step in looking.execute(f"EXPLAIN QUERY PLAN {query}", _nothing(query))]
        for query in asked
        if query.startswith(("SELECT", "UPDATE", "DELETE"))
    }
    looking.close()
    assert len(plans) > 12
    scans = {
        query for query, steps in plans.items() if any(step.startswith("SCAN objects") for step in steps)
    }
    assert [query.rpartition(" ORDER BY")[2] for query in scans] == [" used LIMIT ?"]  # stops at its limit
    assert not [query for query in scans if "USE TEMP B-TREE" in " ".join(plans[query])]


def _nothing(query: str) -> list[None]:
    return [None] * query.count("?")
