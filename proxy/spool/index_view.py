"""The index, for another process than the one that it belongs to: nothing here writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from proxy.errors import SpoolError
from proxy.spool.database import BUSY_TIMEOUT, FORMAT
from proxy.spool.entry import Entry, load_head

PAGE = 256
"""Rows read at once: a long transaction would keep the service's log from being folded in."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object; `used` last in seconds since the epoch; no `entry` where that cannot be read."""

    generation: str
    size: int
    used: float
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Totals:
    """`size` and `partition_size` in bytes, `objects`, `partitions` and what is in them."""

    objects: int
    size: int
    partitions: int
    partition_size: int


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise SpoolError(f"the spool's index cannot be read: {error}") from error


class IndexView:
    """Raises SpoolError."""

    @_mapped()
    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise SpoolError(f"there is no index {path}; the service makes one when it starts")
        # Without its log, nobody has it open: a reader would have to make one, which stayed behind.
        alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
        self._connection = apsw.Connection(
            f"file:{quote(str(path.absolute()))}?mode=ro{alone}",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        self._connection.set_busy_timeout(BUSY_TIMEOUT)
        [(version,)] = self._connection.execute("PRAGMA user_version")
        if version != FORMAT:
            raise SpoolError(f"{path} is of another version of range-adapter")

    @_mapped()
    def totals(self) -> Totals:
        [(size, objects, partition_size)] = self._connection.execute(
            "SELECT bytes, objects, partition_bytes FROM usage"
        )
        [(partitions,)] = self._connection.execute(
            "SELECT count(DISTINCT partition) FROM objects WHERE partition IS NOT NULL"
        )
        return Totals(int(objects), int(size), int(partitions), int(partition_size))

    @_mapped()
    def used(self) -> tuple[float, float] | None:
        """When the objects used longest ago and last were used, in seconds since the epoch."""
        [(first, last)] = self._connection.execute("SELECT min(used), max(used) FROM objects")
        return None if first is None else (first / 1e6, last / 1e6)

    def rows(self) -> Iterator[Row]:
        """All objects, the last used first."""
        last = (2**62, b"", 0, "")
        while page := self._page(last):
            for used, _, size, generation, head in page:
                yield Row(generation, size, used / 1e6, _entry(head))
            last = page[-1][:4]

    @_mapped()
    def _page(self, before: tuple[int, bytes, int, str]) -> list[tuple[int, bytes, int, str, str]]:
        return list(
            self._connection.execute(
                "SELECT used, key, size, generation, head FROM objects"
                " WHERE (used, key, size, generation) < (?, ?, ?, ?)"
                " ORDER BY used DESC, key DESC, size DESC, generation DESC LIMIT ?",
                (*before, PAGE),
            )
        )

    @_mapped()
    def unknown(self, generations: list[str]) -> list[str]:
        """Those of them that it does not know."""
        known = {
            str(generation)
            for each in generations
            for (generation,) in self._connection.execute(
                "SELECT generation FROM objects WHERE generation = ?", (each,)
            )
        }
        return [each for each in generations if each not in known]

    def close(self) -> None:
        self._connection.close()


def _entry(head: str) -> Entry | None:
    try:
        return load_head(head)
    except SpoolError:
        return None
