"""The index of complete objects: SQLite through APSW, because it brings a SQLite whose WAL is safe with several
writers.  It is derived from the head files; a broken one is put aside and made anew.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import apsw
import structlog

from proxy.errors import SpoolError
from proxy.spool import calls
from proxy.spool.database import OtherFormat, connect, discard_database, mapped, open_database
from proxy.spool.entry import Entry, dump_head, load_head
from proxy.spool.eviction import Candidate

MAX_VARIANTS = 64
"""Entries under one key.  An origin that varies by User-Agent has no end of them, and a lookup reads them all."""
ROWS: Final = 64
"""Rows that one transaction changes at most: on a full disk its log must have room, and nobody waits for it long."""
T = TypeVar("T")
_log = structlog.stdlib.get_logger("spool")


class Index:
    """`lookup` and `usage` read on a connection of their own (microseconds, good for the loop's thread);
    everything else belongs on one other thread.  All raise SpoolError where SQLite fails.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates; `fresh` tells which."""
        self._path = path
        self._reading = (
            threading.Lock()
        )  # for the instant of a lookup: a connection must not be closed under it
        self._reader: apsw.Connection | None = None
        self._open()

    @mapped()
    def _open(self) -> None:
        try:
            self._writer, self.fresh = open_database(self._path)
        except (apsw.NotADBError, apsw.CorruptError, OtherFormat) as error:
            _log.warning("the index is made anew from what is stored", index=str(self._path), why=str(error))
            discard_database(self._path)
            self._writer, self.fresh = open_database(self._path)
        try:
            reader = connect(self._path)
            self._file = calls.stat(self._path)
        except BaseException:
            self._writer.close()
            raise
        with self._reading:
            self._reader = reader

    @mapped()
    def reopen(self, *, anew: bool) -> None:
        """Let go of the file, and open what lies there now, or make it `anew`.  Meanwhile lookups fail."""
        # First of all: closing a SQLite database deletes its log by name, be it another database's by then.
        self.close()
        if anew:
            discard_database(self._path)
        self._open()

    @mapped()
    def in_place(self) -> bool:
        """Is it still the file of that name?"""
        try:
            return os.path.samestat(self._file, calls.stat(self._path))
        except FileNotFoundError:
            return False

    @mapped()
    def prove(self) -> None:
        """Write something that changes nothing."""
        self._writer.execute("UPDATE usage SET bytes = bytes")

    @contextmanager
    def _readable(self) -> Iterator[apsw.Connection]:
        with self._reading:
            if self._reader is None:
                raise SpoolError("the spool's index is not open")
            yield self._reader

    @mapped()
    def lookup(self, key: bytes) -> tuple[Entry, ...]:
        """Every stored variant under `key`, the newest first."""
        with self._readable() as reader:
            return tuple(entry for _, entry in _variants(reader, key) if entry is not None)

    @mapped()
    def in_partition(self, partition: bytes) -> list[Candidate]:
        """What is stored for one credential."""
        return _candidates(
            self._writer.execute(
                "SELECT generation, key, size FROM objects WHERE partition = ?", (partition,)
            )
        )

    @mapped()
    def of_target(self, target: bytes) -> list[Candidate]:
        """What is stored of one target, for whichever credential."""
        return _candidates(
            self._writer.execute("SELECT generation, key, size FROM objects WHERE target = ?", (target,))
        )

    @mapped()
    def unused_partitions(self, since: int, limit: int) -> list[bytes]:
        """Credentials of which nothing was used `since` then (microseconds since the epoch)."""
        rows = self._writer.execute(
            "SELECT partition FROM objects WHERE partition IS NOT NULL"
            " GROUP BY partition HAVING max(used) < ? LIMIT ?",
            (since, limit),
        )
        return [bytes(partition) for (partition,) in rows]

    @mapped()
    def usage(self) -> tuple[int, int]:
        """Bytes and objects."""
        with self._readable() as reader:
            [(size, objects)] = reader.execute("SELECT bytes, objects FROM usage")
        return int(size), int(objects)

    @mapped()
    def partition_bytes(self) -> int:
        """Bytes of what is stored for single credentials.  Good for the loop's thread, as `usage` is."""
        with self._readable() as reader:
            [(size,)] = reader.execute("SELECT partition_bytes FROM usage")
        return int(size)

    @mapped()
    def add(self, entry: Entry, used: int) -> list[Candidate]:
        """Take in `entry`, last used when (microseconds since the epoch); what it replaces is removed, and returned.

        That is the same variant, and the least recently used of too many.
        """
        with self._writer:
            replaced = [
                generation
                for generation, other in _variants(self._writer, entry.key)
                if other is None or other.stored.vary == entry.stored.vary
            ]
            gone = self.remove(replaced)
            rows = self._writer.execute(
                "SELECT generation FROM objects WHERE key = ? ORDER BY used DESC LIMIT -1 OFFSET ?",
                (entry.key, MAX_VARIANTS - 1),
            )
            gone += self.remove([str(generation) for (generation,) in rows])
            self._writer.execute(
                "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.generation,
                    entry.key,
                    entry.target,
                    entry.partition,
                    entry.length,
                    used,
                    dump_head(entry),
                ),
            )
        return gone

    @mapped()
    def newest(self, entry: Entry) -> bool:
        """Is there no younger response of the same variant?"""
        return not any(
            other is not None
            and other.stored.vary == entry.stored.vary
            and other.stored.response_time >= entry.stored.response_time
            for _, other in _variants(self._writer, entry.key)
        )

    @mapped()
    def update(self, *entries: Entry) -> None:
        """New metadata for generations, if they are still there."""
        with self._writer:
            self._writer.executemany(
                "UPDATE objects SET head = ? WHERE generation = ?",
                [(dump_head(entry), entry.generation) for entry in entries],
            )

    @mapped()
    def remove(self, generations: Iterable[str]) -> list[Candidate]:
        """Those that were there to remove."""
        gone: list[Candidate] = []
        for some in _batches(generations):
            with self._writer:
                for generation in some:
                    rows = self._writer.execute(
                        "DELETE FROM objects WHERE generation = ? RETURNING generation, key, size",
                        (generation,),
                    )
                    gone += _candidates(rows)
        return gone

    @mapped()
    def touch(self, used: Mapping[str, int]) -> None:
        """Record when objects were last used (microseconds since the epoch)."""
        for some in _batches(used.items()):
            with self._writer:
                self._writer.executemany(
                    "UPDATE objects SET used = ? WHERE generation = ?",
                    [(when, generation) for generation, when in some],
                )

    @mapped()
    def oldest(self, limit: int) -> list[Candidate]:
        """The least recently used objects, oldest first."""
        return _candidates(
            self._writer.execute("SELECT generation, key, size FROM objects ORDER BY used LIMIT ?", (limit,))
        )

    @mapped()
    def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """What is stored, in the order of generations and from the next one on; None for what cannot be read."""
        return _rows(
            self._writer.execute(
                "SELECT generation, key, size, head FROM objects WHERE generation > ?"
                " ORDER BY generation LIMIT ?",
                (after, limit),
            )
        )

    @mapped()
    def page_of_target(self, target: bytes) -> list[tuple[Candidate, Entry | None]]:
        """The same of one target, as a whole."""
        return _rows(
            self._writer.execute(
                "SELECT generation, key, size, head FROM objects WHERE target = ?", (target,)
            )
        )

    @mapped()
    def settle(self) -> None:
        """What was done holds from now on, even if the power fails."""
        self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)

    @mapped()
    def find(self, generation: str) -> Entry | None:
        """What is stored as this generation."""
        rows = self._writer.execute("SELECT head FROM objects WHERE generation = ?", (generation,))
        return next((load_head(str(head)) for (head,) in rows), None)

    @mapped()
    def targets(self, generations: Iterable[str]) -> dict[str, bytes]:
        """Of those generations that are stored."""
        query = "SELECT target FROM objects WHERE generation = ?"
        return {name: bytes(row[0]) for name in generations for row in self._writer.execute(query, (name,))}

    @mapped()
    def beginning_with(self, prefix: str) -> set[str]:
        """The stored generations whose names begin with these hex digits."""
        rows = self._writer.execute(
            "SELECT generation FROM objects WHERE generation >= ? AND generation < ?", (prefix, prefix + "g")
        )
        return {str(generation) for (generation,) in rows}

    @mapped()
    def has_any(self, prefix: str) -> bool:
        """Is there any of those?"""
        query = "SELECT 1 FROM objects WHERE generation >= ? AND generation < ? LIMIT 1"
        return bool(list(self._writer.execute(query, (prefix, prefix + "g"))))

    @mapped()
    def last_use(self) -> int:
        """When anything was used last (microseconds since the epoch)."""
        [(used,)] = self._writer.execute("SELECT max(used) FROM objects")
        return int(used or 0)

    def close(self) -> None:
        with self._reading:
            reader, self._reader = self._reader, None
        for connection in (reader, self._writer):
            try:
                if connection is not None:
                    connection.close()
            except apsw.Error as error:  # it is closed all the same; what was written is in its log
                _log.info("the index was not closed in order", why=str(error))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, ROWS)):
        yield some


def _variants(connection: apsw.Connection, key: bytes) -> list[tuple[str, Entry | None]]:
    """Generations and entries under `key`, the newest first; None for a row that cannot be read."""
    found: list[tuple[str, Entry | None]] = []
    for generation, head in connection.execute("SELECT generation, head FROM objects WHERE key = ?", (key,)):
        try:
            found.append((str(generation), load_head(str(head))))
        except SpoolError:
            found.append((str(generation), None))
    return sorted(found, key=lambda pair: 0 if pair[1] is None else -pair[1].stored.response_time)


def _rows(rows: Iterable[tuple[object, ...]]) -> list[tuple[Candidate, Entry | None]]:
    found: list[tuple[Candidate, Entry | None]] = []
    for *columns, head in rows:
        [candidate] = _candidates([tuple(columns)])
        try:
            found.append((candidate, load_head(str(head))))
        except SpoolError:
            found.append((candidate, None))
    return found


def _candidates(rows: Iterable[tuple[object, ...]]) -> list[Candidate]:
    return [Candidate(str(generation), bytes(key), int(size)) for generation, key, size in rows]  # type: ignore[call-overload]
