"""Complete objects: the files below `objects/` and the index of them, which change together, on one thread.

A row is added after its files are in place.  What is removed loses its body first: wherever a crash stops that, no
body is left that anything could bring back, neither the row (whoever opens it finds nothing) nor the head (`sweep`
takes in what lies here unknown to the index, but only what is whole).
"""

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from proxy.errors import SpoolError
from proxy.spool.bans import Bans, read_bans, write_bans
from proxy.spool.entry import Entry, dump_head, load_head, with_stale_since
from proxy.spool.eviction import Candidate
from proxy.spool.folder import Claim, FillingFiles, Paths, claim, find_unfinished, write_file
from proxy.spool.index import Index

_log = structlog.stdlib.get_logger("spool")


@dataclass(slots=True)
class Adopted:
    """What a sweep has taken in: how many bytes, and what went for it."""

    size: int = 0
    replaced: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects that purges were carried out on: those to remove, and the last one if there may be more."""

    gone: list[Candidate]
    last: str | None


class Shelf:
    """`lookup` and `usage` are good for the loop's thread; all else blocks and belongs on one other thread.

    Raises SpoolError.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.bans = read_bans(paths)
        """As they were found."""
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

    def partition_bytes(self) -> int:
        """Bytes of what is stored for single credentials.  Good for the loop's thread."""
        return self._index.partition_bytes()

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
        """Unlink and forget; returns those that were there.  Who has a body open keeps it."""
        names = list(generations)
        for name in names:
            _unlink_file(self._paths.body(name))
        gone = self._index.remove(names)
        for name in names:
            _unlink_file(self._paths.head(name))
        return gone

    def update(self, entry: Entry, bans: Bans) -> None:
        """New metadata for an object, if it is still there.  What is known of its bytes stays: they are the same.

        What a purge has written into it since the request for that metadata was sent, stays too; and what is to be
        removed is not called back by any.
        """
        stored = self._index.find(entry.generation)
        if stored is None or bans.judged(stored) is None:
            return
        if stored.epoch > entry.epoch:
            entry = replace(with_stale_since(entry, stored.stored.stale_since), epoch=stored.epoch)
        self._write(replace(entry, checksum=stored.checksum, digest=entry.digest or stored.digest))

    def set_digest(self, generation: str, digest: bytes) -> None:
        """Record what an object's bytes come to, if it is still there, and nothing else."""
        stored = self._index.find(generation)
        if stored is not None:
            self._write(replace(stored, digest=digest))

    def _write(self, entry: Entry) -> None:
        try:
            write_file(self._paths.head(entry.generation), dump_head(entry))
        except OSError as error:
            raise SpoolError(f"cannot update an object in the spool: {error.strerror}") from error
        self._index.update(entry)

    def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """The next few objects after a generation; None for what cannot be read."""
        return self._index.page(after, limit)

    def contains(self, generation: str) -> bool:
        return self._index.contains(generation)

    # Purges

    def write_bans(self, bans: Bans) -> None:
        """Make them durable."""
        write_bans(self._paths, bans)

    def carry_out(self, bans: Bans, after: str, limit: int) -> Page:
        """Write soft bans into the next few objects, in the order of generations, that they are about.

        Tells which objects the hard ones are about: they are for the caller to remove.
        """
        rows = self._index.page(after, limit)
        last = rows[-1][0].generation if len(rows) == limit else None
        return Page(self._carry_out(bans, rows), last)

    def carry_out_on(self, target: bytes, bans: Bans) -> list[Candidate]:
        """The same with all objects of one target."""
        return self._carry_out(bans, self._index.page_of_target(target))

    def _carry_out(self, bans: Bans, rows: Iterable[tuple[Candidate, Entry | None]]) -> list[Candidate]:
        gone, stale = [], []
        for candidate, entry in rows:
            judged = entry and bans.judged(entry)
            if judged is None:  # or it cannot be read, and nobody can tell
                gone.append(candidate)
            elif judged is not entry:
                stale.append(replace(judged, epoch=bans.epoch))
        try:
            for each in stale:
                # Not synced one by one: a head that the power's failure spoils is no head, and its object is dropped.
                write_file(self._paths.head(each.generation), dump_head(each), durable=False)
        except OSError as error:
            raise SpoolError(f"cannot update an object in the spool: {error.strerror}") from error
        self._index.update(*stale)
        return gone

    def settle(self) -> None:
        """What was done holds from now on, even if the power fails."""
        self._index.settle()

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
        """Take in what lies in `folder` unknown to the index, or unlink it; forget what has lost its body."""
        names: dict[str, list[str]] = {}
        for name in os.listdir(folder):
            if name.endswith(".new"):  # a head that was being replaced; nobody does that now but this thread
                _unlink_file(folder / name)
            elif name.endswith((".head", ".body")):
                names.setdefault(name.partition(".")[0], []).append(name)
        adopted = Adopted()
        for generation, files in names.items():
            if self._index.contains(generation):
                if f"{generation}.body" not in files:
                    adopted.replaced += self.remove([generation])
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
        if entry.checksum is None:
            raise SpoolError("its head is of an unfinished body")
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
        _unlink_file(self._paths.body(generation))
        _unlink_file(self._paths.head(generation))


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
        shelf = Shelf(owned.paths)
        unfinished = find_unfinished(owned.paths, shelf.bans.epoch)
        return replace(owned, unfinished=unfinished), shelf
    except OSError as error:
        owned.release(orderly=False)
        raise SpoolError(f"cannot take over the spool folder {root}: {error.strerror}") from error
    except BaseException:
        owned.release(orderly=False)
        raise
