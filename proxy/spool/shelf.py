"""Complete objects: the files below `objects/` and the index of them, which change together, on one thread.

A row is added after its files are in place and removed before they go, so that a crash leaves files without a row,
never the reverse; `sweep` takes those in again.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from proxy.errors import SpoolError
from proxy.spool.entry import Entry, dump_head, load_head
from proxy.spool.eviction import Candidate
from proxy.spool.folder import Claim, FillingFiles, Paths, claim, write_file
from proxy.spool.index import Index

_log = structlog.stdlib.get_logger("spool")


@dataclass(slots=True)
class Adopted:
    """What a sweep has taken in: how many bytes, and what went for it."""

    size: int = 0
    replaced: list[Candidate] = field(default_factory=list)


class Shelf:
    """`lookup` and `usage` are good for the loop's thread; all else blocks and belongs on one other thread.

    Raises SpoolError.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._index = Index(paths.index)

    @property
    def fresh(self) -> bool:
        """Was the index lost, so that objects lie here which it does not know?"""
        return self._index.fresh

    def lookup(self, key: bytes) -> tuple[Entry, ...]:
        """Every variant under `key`, the newest first."""
        return self._index.lookup(key)

    def in_partition(self, partition: bytes) -> list[Candidate]:
        """What is stored for one credential."""
        return self._index.in_partition(partition)

    def of_target(self, target: bytes) -> list[Candidate]:
        """What is stored of one target, for whichever credential."""
        return self._index.of_target(target)

    def unused_partitions(self, since: int, limit: int) -> list[bytes]:
        """Credentials of which nothing was used `since` then (microseconds since the epoch)."""
        return self._index.unused_partitions(since, limit)

    def usage(self) -> tuple[int, int]:
        """Bytes and objects."""
        return self._index.usage()

    def open(self, entry: Entry) -> int:
        """A descriptor of the entry's body.  Raises OSError.  Any thread may do this."""
        return os.open(self._paths.body(entry.generation), os.O_RDONLY | os.O_CLOEXEC)

    def admit(self, files: FillingFiles, entry: Entry, used: int) -> list[Candidate]:
        """Give a sealed object its place; what it replaces goes, and is returned."""
        try:
            files.move(self._paths.head(entry.generation), self._paths.body(entry.generation))
            gone = self._index.add(entry, used)
        except (OSError, SpoolError) as error:
            self._unlink(entry.generation)
            raise SpoolError(f"cannot complete an object in the spool: {error}") from error
        for each in gone:
            self._unlink(each.generation)
        return gone

    def remove(self, generations: Iterable[str]) -> list[Candidate]:
        """Forget and unlink; returns those that were there.  Who has a body open keeps it."""
        gone = self._index.remove(generations)
        for each in gone:
            self._unlink(each.generation)
        return gone

    def update(self, entry: Entry) -> None:
        """New metadata for an object, if it is still there."""
        if not self._index.contains(entry.generation):
            return
        try:
            write_file(self._paths.head(entry.generation), dump_head(entry))
        except OSError as error:
            raise SpoolError(f"cannot update an object in the spool: {error.strerror}") from error
        self._index.update(entry)

    def touch(self, used: Mapping[str, int]) -> None:
        """Record when objects were last used (microseconds since the epoch)."""
        self._index.touch(used)

    def oldest(self, limit: int) -> list[Candidate]:
        """The least recently used objects, oldest first."""
        return self._index.oldest(limit)

    def folders(self) -> list[Path]:
        """Where objects lie: at most 256 of them."""
        return sorted(path for path in self._paths.objects.glob("??") if path.is_dir())

    def sweep(self, folder: Path) -> Adopted:
        """Take in what lies in `folder` unknown to the index, or unlink it."""
        names: dict[str, list[str]] = {}
        for name in os.listdir(folder):
            if name.endswith((".head", ".body", ".new")):
                names.setdefault(name.partition(".")[0], []).append(name)
        adopted = Adopted()
        for generation, files in names.items():
            if self._index.contains(generation):
                continue
            try:
                self._adopt(generation, adopted)
            except (SpoolError, OSError) as error:
                _log.warning(
                    "dropped an object that cannot be adopted", generation=generation, why=str(error)
                )
                for name in files:
                    _unlink_file(folder / name)
        return adopted

    def _adopt(self, generation: str, adopted: Adopted) -> None:
        head, body = self._paths.head(generation), self._paths.body(generation)
        entry = load_head(head.read_bytes())
        size = body.stat().st_size
        if entry.generation != generation or entry.stored.representation.complete_length != size:
            raise SpoolError("its head is not of its body")
        if not self._index.newest(entry):
            raise SpoolError("a younger one is stored")
        gone = self._index.add(entry, head.stat().st_mtime_ns // 1000)
        for each in gone:
            self._unlink(each.generation)
        adopted.size += size
        adopted.replaced += gone

    def close(self) -> None:
        self._index.close()

    def _unlink(self, generation: str) -> None:
        _unlink_file(self._paths.head(generation))
        _unlink_file(self._paths.body(generation))


def _unlink_file(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        if error.errno != errno.ENOENT:
            _log.warning("cannot delete a file of the spool", path=str(path), why=error.strerror)


def take_over(root: Path) -> tuple[Claim, Shelf]:
    """The folder and what lies in it.  Blocks.  Raises SpoolError, in words for the person who started us."""
    owned = claim(root)
    try:
        return owned, Shelf(owned.paths)
    except BaseException:
        owned.release(orderly=False)
        raise
