"""The index of complete objects: SQLite through APSW, because it brings a SQLite whose WAL is safe with several
writers.  It is derived from the head files; a broken one is put aside and made anew.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import structlog

from proxy.errors import SpoolError
from proxy.spool.entry import Entry, dump_head, load_head
from proxy.spool.eviction import Candidate

FORMAT = 4
"""Of the tables; an index of another format is made anew."""
MAX_VARIANTS = 64
"""Entries under one key.  An origin that varies by User-Agent has no end of them, and a lookup reads them all."""
BUSY_TIMEOUT = 5_000
"""Milliseconds to wait for another process that looks into the file."""

_log = structlog.stdlib.get_logger("spool")

_SCHEMA = """
CREATE TABLE objects (
    generation TEXT PRIMARY KEY,
    key        BLOB NOT NULL,
    target     BLOB NOT NULL,
    partition  BLOB,
    size       INTEGER NOT NULL,
    used       INTEGER NOT NULL,  -- microseconds since the epoch
    head       TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX objects_by_key ON objects (key);
CREATE INDEX objects_by_target ON objects (target);
CREATE INDEX objects_by_partition ON objects (partition, used) WHERE partition IS NOT NULL;
CREATE INDEX objects_by_use ON objects (used, key, size);
CREATE TABLE usage (bytes INTEGER NOT NULL, objects INTEGER NOT NULL, partition_bytes INTEGER NOT NULL);
INSERT INTO usage VALUES (0, 0, 0);
CREATE TRIGGER object_added AFTER INSERT ON objects
    BEGIN UPDATE usage SET bytes = bytes + new.size, objects = objects + 1,
        partition_bytes = partition_bytes + iif(new.partition IS NULL, 0, new.size); END;
CREATE TRIGGER object_removed AFTER DELETE ON objects
    BEGIN UPDATE usage SET bytes = bytes - old.size, objects = objects - 1,
        partition_bytes = partition_bytes - iif(old.partition IS NULL, 0, old.size); END;
"""


@contextmanager
def _mapped() -> Iterator[None]:
    """SQLite's errors, and those of its file, as ours."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise SpoolError(f"the spool's index failed: {error}") from error


class Index:
    """`lookup` and `usage` read on a connection of their own (microseconds, good for the loop's thread);
    everything else belongs on one other thread.  All raise SpoolError where SQLite fails.
    """

    @_mapped()
    def __init__(self, path: Path) -> None:
        """Opens or creates; `fresh` tells which."""
        try:
            self._writer, self.fresh = _open(path)
        except (apsw.NotADBError, apsw.CorruptError, _OtherFormat) as error:
            _log.warning("the index is made anew from what is stored", index=str(path), why=str(error))
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").unlink()
            self._writer, self.fresh = _open(path)
        self._reader = _connect(path)

    @_mapped()
    def lookup(self, key: bytes) -> tuple[Entry, ...]:
        """Every stored variant under `key`, the newest first."""
        return tuple(entry for _, entry in _variants(self._reader, key) if entry is not None)

    @_mapped()
    def in_partition(self, partition: bytes) -> list[Candidate]:
        """What is stored for one credential."""
        return _candidates(
            self._writer.execute(
                "SELECT generation, key, size FROM objects WHERE partition = ?", (partition,)
            )
        )

    @_mapped()
    def of_target(self, target: bytes) -> list[Candidate]:
        """What is stored of one target, for whichever credential."""
        return _candidates(
            self._writer.execute("SELECT generation, key, size FROM objects WHERE target = ?", (target,))
        )

    @_mapped()
    def unused_partitions(self, since: int, limit: int) -> list[bytes]:
        """Credentials of which nothing was used `since` then (microseconds since the epoch)."""
        rows = self._writer.execute(
            "SELECT partition FROM objects WHERE partition IS NOT NULL"
            " GROUP BY partition HAVING max(used) < ? LIMIT ?",
            (since, limit),
        )
        return [bytes(partition) for (partition,) in rows]

    @_mapped()
    def usage(self) -> tuple[int, int]:
        """Bytes and objects."""
        [(size, objects)] = self._reader.execute("SELECT bytes, objects FROM usage")
        return int(size), int(objects)

    @_mapped()
    def partition_bytes(self) -> int:
        """Bytes of what is stored for single credentials.  Good for the loop's thread, as `usage` is."""
        [(size,)] = self._reader.execute("SELECT partition_bytes FROM usage")
        return int(size)

    @_mapped()
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

    @_mapped()
    def newest(self, entry: Entry) -> bool:
        """Is there no younger response of the same variant?"""
        return not any(
            other is not None
            and other.stored.vary == entry.stored.vary
            and other.stored.response_time >= entry.stored.response_time
            for _, other in _variants(self._writer, entry.key)
        )

    @_mapped()
    def update(self, *entries: Entry) -> None:
        """New metadata for generations, if they are still there."""
        with self._writer:
            self._writer.executemany(
                "UPDATE objects SET head = ? WHERE generation = ?",
                [(dump_head(entry), entry.generation) for entry in entries],
            )

    @_mapped()
    def remove(self, generations: Iterable[str]) -> list[Candidate]:
        """Those that were there to remove."""
        gone: list[Candidate] = []
        with self._writer:
            for generation in generations:
                rows = self._writer.execute(
                    "DELETE FROM objects WHERE generation = ? RETURNING generation, key, size", (generation,)
                )
                gone += _candidates(rows)
        return gone

    @_mapped()
    def touch(self, used: Mapping[str, int]) -> None:
        """Record when objects were last used (microseconds since the epoch)."""
        with self._writer:
            self._writer.executemany(
                "UPDATE objects SET used = ? WHERE generation = ?",
                [(when, generation) for generation, when in used.items()],
            )

    @_mapped()
    def oldest(self, limit: int) -> list[Candidate]:
        """The least recently used objects, oldest first."""
        return _candidates(
            self._writer.execute("SELECT generation, key, size FROM objects ORDER BY used LIMIT ?", (limit,))
        )

    @_mapped()
    def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """What is stored, in the order of generations and from the next one on; None for what cannot be read."""
        return _rows(
            self._writer.execute(
                "SELECT generation, key, size, head FROM objects WHERE generation > ?"
                " ORDER BY generation LIMIT ?",
                (after, limit),
            )
        )

    @_mapped()
    def page_of_target(self, target: bytes) -> list[tuple[Candidate, Entry | None]]:
        """The same of one target, as a whole."""
        return _rows(
            self._writer.execute(
                "SELECT generation, key, size, head FROM objects WHERE target = ?", (target,)
            )
        )

    @_mapped()
    def settle(self) -> None:
        """What was done holds from now on, even if the power fails."""
        self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)

    @_mapped()
    def find(self, generation: str) -> Entry | None:
        """What is stored as this generation."""
        rows = self._writer.execute("SELECT head FROM objects WHERE generation = ?", (generation,))
        return next((load_head(str(head)) for (head,) in rows), None)

    @_mapped()
    def contains(self, generation: str) -> bool:
        return bool(list(self._writer.execute("SELECT 1 FROM objects WHERE generation = ?", (generation,))))

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class _OtherFormat(Exception):
    """The file is an index of another version."""


def _connect(path: Path) -> apsw.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # URLs may be secrets
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_TIMEOUT)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _open(path: Path) -> tuple[apsw.Connection, bool]:
    """A connection to the index, and whether it was made just now."""
    connection = _connect(path)
    try:
        with connection:
            [(version,)] = connection.execute("PRAGMA user_version")
            [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema")
            if tables == 0:
                connection.execute(_SCHEMA)
                connection.pragma("user_version", FORMAT)
            elif version != FORMAT:
                raise _OtherFormat
    except BaseException:
        connection.close()
        raise
    return connection, tables == 0


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
