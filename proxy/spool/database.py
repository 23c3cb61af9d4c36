"""The index' file: a SQLite database, opened, made, and made away with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from proxy.errors import SpoolError
from proxy.spool import calls

FORMAT = 5
"""Of the tables; an index of another format is made anew."""
BUSY_TIMEOUT = 5_000
"""Milliseconds to wait for another process that looks into the file."""

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
def mapped() -> Iterator[None]:
    """SQLite's errors, those of its file, and what cannot be in it, as ours."""
    try:
        yield
    except (apsw.Error, OSError, ValueError, TypeError) as error:
        raise SpoolError(f"the spool's index failed: {error}") from error


class OtherFormat(Exception):
    """The file is an index of another version."""


def discard_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            calls.unlink(Path(f"{path}{suffix}"))


def connect(path: Path) -> apsw.Connection:
    calls.close(calls.open_file(path, os.O_RDWR | os.O_CREAT))  # as one of ours, before SQLite creates it
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT)
        connection.execute("PRAGMA journal_mode = WAL")
        # The newest rows may be lost with the power.  A row that should be gone comes back without its body.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 256")  # pages: the log stays small on a full disk
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(path: Path) -> tuple[apsw.Connection, bool]:
    """A connection to the index, and whether it was made just now."""
    connection = connect(path)
    try:
        with connection:
            [(version,)] = connection.execute("PRAGMA user_version")
            [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema")
            if tables == 0:
                connection.execute(_SCHEMA)
                connection.pragma("user_version", FORMAT)
            elif version != FORMAT:
                raise OtherFormat
    except BaseException:
        connection.close()
        raise
    return connection, tables == 0
