"""A spool made in bulk is what the adapter makes itself."""

from dataclasses import replace
from pathlib import Path

import apsw
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.spool.entry import Entry, load_head
from tests.bench.servers import alone
from tests.bench.stuffing import HOST, SIZE, only_entry, stuff, thing


def store(folder: Path, numbers: range) -> Path:
    """What the adapter stores, once it has ended."""
    folder.mkdir()
    with alone(folder) as server:
        for number in numbers:
            assert server.get(thing(number).target, {"Host": HOST})[0] == 200
    return folder / "spool"


def comparable(entry: Entry) -> Entry:
    """Without what is another one each time."""
    fields = CIMultiDict(entry.stored.representation.fields)
    fields.popall("Date", None)
    representation = replace(
        entry.stored.representation,
        fields=CIMultiDictProxy(fields),
        validators=None,  # type: ignore[arg-type]
    )
    stored = replace(entry.stored, request_time=0, response_time=0, representation=representation)
    return replace(entry, generation="", mtime=None, stored=stored)


def found(root: Path) -> dict[str, tuple[Entry, tuple[object, ...], bytes, int]]:
    """By label: the head, the row without the name and the times, the body, and the mode of its file."""
    connection = apsw.Connection(str(root / "index.sqlite"))
    rows = list(connection.execute("SELECT * FROM objects"))
    assert list(connection.execute("SELECT bytes, objects, partition_bytes FROM usage")) == [
        (sum(row[4] for row in rows), len(rows), 0)
    ]
    connection.close()
    result: dict[str, tuple[Entry, tuple[object, ...], bytes, int]] = {}
    for generation, key, target, partition, size, _, head in rows:
        files = root / "objects" / generation[:2] / generation
        entry, body = load_head(head), files.with_suffix(".body")
        assert files.with_suffix(".head").read_text() == head
        assert entry.generation == generation
        assert entry.mtime == body.stat().st_mtime_ns
        row = (key, target, partition, size)
        result[entry.label] = (comparable(entry), row, body.read_bytes(), body.stat().st_mode)
    return result


def test_it_is_what_the_adapter_stores_and_serves(tmp_path: Path) -> None:
    own = store(tmp_path / "own", range(3))
    bulk = store(tmp_path / "bulk", range(1))
    told: list[int] = []
    stuff(bulk, only_entry(bulk), range(1, 3), told.append)
    assert told == [3]
    assert found(bulk) == found(own)
    with alone(tmp_path / "bulk") as server:
        status, fields, body = server.get(thing(2).target, {"Host": HOST})
        assert (status, len(body), fields["etag"]) == (200, SIZE, thing(2).tag)
        assert ";hit" in fields["cache-status"]
        assert server.metric("range_adapter_spool_objects") == 3
