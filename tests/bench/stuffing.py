"""A spool with as many objects as wanted, in minutes: what the adapter would have stored, written in bulk.

The adapter stores one object; the others are made after it, by the spool's own functions for keys, heads and names.
What is left out is what makes it slow: the origin, a sync for each body, a transaction for each row.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import apsw
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.semantics.key import KeyRules, primary_key
from proxy.semantics.purging import Location
from proxy.spool.database import open_database
from proxy.spool.entry import Entry, dump_head, load_head
from proxy.spool.folder import Paths
from tests.bench.origin import slice_of
from tests.bench.requests import Thing

HOST = "bench"
"""Whom clients ask: their port is another one in each run, and would be part of the key."""
SIZE = 100
"""Bytes of each object; on the disk, it takes two blocks."""
BATCH = 2_000
"""Rows of one transaction."""


def thing(number: int) -> Thing:
    return Thing(f"o-{number}.mp4", SIZE)


def only_entry(root: Path) -> Entry:
    """That of the one object that the adapter has stored."""
    [head] = (root / "objects").rglob("*.head")
    return load_head(head.read_bytes())


def made_after(template: Entry, number: int, generation: str) -> Entry:
    """What the adapter would have stored of another object."""
    path, _, query = thing(number).target.partition("?")
    key = primary_key("legacy", HOST, path, query, KeyRules())
    fields = CIMultiDict(template.stored.representation.fields)
    fields["ETag"] = thing(number).tag
    representation = replace(template.stored.representation, fields=CIMultiDictProxy(fields))
    return replace(
        template,
        key=key.digest,
        target=key.digest,
        label=key.text,
        generation=generation,
        location=Location(template.location.host, f"{path}?{query}"),
        stored=replace(template.stored, representation=representation),
    )


def stuff(root: Path, template: Entry, numbers: range, tell: Callable[[int], None]) -> None:
    """Add these objects to a spool that nobody uses just now; `tell` hears how many are there."""
    paths, names = Paths(root), random.Random(numbers.start)
    body = slice_of(0, SIZE)
    database, _ = open_database(paths.index)
    try:
        database.execute("PRAGMA synchronous = OFF")  # nor is any file synced
        database.execute("PRAGMA cache_size = -200000")
        rest = iter(numbers)
        while batch := list(islice(rest, BATCH)):
            with database:
                database.executemany(
                    "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)",
                    _rows(paths, (made_after(template, each, _generation(names)) for each in batch), body),
                )
            tell(batch[-1] + 1)
        database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        database.close()


def _generation(names: random.Random) -> str:
    return f"{names.getrandbits(128):032x}"


def _rows(paths: Paths, entries: Iterator[Entry], body: bytes) -> Iterator[tuple[object, ...]]:
    for each in entries:
        head = write_files(paths, each, body)
        yield each.generation, each.key, each.target, None, each.length, time.time_ns() // 1000, head


def write_files(paths: Paths, entry: Entry, body: bytes) -> str:
    """Put body and head in their places; what the head says."""
    path = paths.body(entry.generation)
    try:
        descriptor = _create(path)
    except FileNotFoundError:
        os.mkdir(path.parent, 0o700)
        descriptor = _create(path)
    os.write(descriptor, body)
    head = dump_head(replace(entry, mtime=os.fstat(descriptor).st_mtime_ns))
    os.close(descriptor)
    descriptor = _create(paths.head(entry.generation))
    os.write(descriptor, head.encode("ascii"))
    os.close(descriptor)
    return head


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
