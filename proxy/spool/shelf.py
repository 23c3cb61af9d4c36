"""Complete objects: the files below `objects/` and the index of them, which change together, on one thread.

A row is added after its files are in place.  What is removed loses its body first: wherever a crash stops that, no
body is left that anything could bring back, neither the row (whoever opens it finds nothing) nor the head (`adopt`
takes in what lies here unknown to the index, but only what is whole).  The power's failure could: see `Removals`.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from proxy.errors import SpoolError
from proxy.spool import calls
from proxy.spool.ban_file import BanFile
from proxy.spool.bans import Bans
from proxy.spool.entry import Entry, dump_head, load_head, with_stale_since
from proxy.spool.eviction import Candidate
from proxy.spool.folder import FillingFiles, Paths, is_there, write_file
from proxy.spool.index import Index
from proxy.spool.removals import Removals

_log = structlog.stdlib.get_logger("spool")


class _Unfit(Exception):
    """What lies here is no object."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of objects that are to go: those that went, and those that the disk did not let go."""

    gone: list[Candidate]
    kept: frozenset[str]


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
        self._ban_file = BanFile(paths)
        self.bans = self._ban_file.found
        """As they were found."""
        self._index = Index(paths.index)
        self.last_use = self._index.last_use()
        """When anything had been used last then (microseconds since the epoch)."""
        self._removals = Removals()
        self._usage, self._partition_bytes = (0, 0), 0

    @property
    def fresh(self) -> bool:
        """Was the index lost, so that objects lie here which it does not know?"""
        return self._index.fresh

    def reopen(self, *, anew: bool) -> None:
        """Look for the index again, or make it `anew`: for when it failed, or the folder is another one."""
        self._index.reopen(anew=anew)

    def prove(self) -> None:
        """Write something to the index that changes nothing, and delete what could not be deleted."""
        self._index.prove()
        with suppress(OSError):  # one file that nobody can delete shall not stop everything
            self._removals.retry()

    @property
    def left(self) -> int:
        """How many files could not be deleted."""
        return len(self._removals.left)

    def in_place(self) -> bool:
        """Is the index still the file of its name?"""
        return self._index.in_place()

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
        """Bytes and objects; as they were last where the index cannot tell."""
        with suppress(SpoolError):
            self._usage = self._index.usage()
        return self._usage

    def partition_bytes(self) -> int:
        """Bytes of what is stored for single credentials, in the same way.  Good for the loop's thread."""
        with suppress(SpoolError):
            self._partition_bytes = self._index.partition_bytes()
        return self._partition_bytes

    def open(self, entry: Entry) -> int:
        """A descriptor of the entry's body.  Raises OSError.  Any thread may do this."""
        return calls.open_file(self._paths.body(entry.generation), os.O_RDONLY)

    def admit(
        self, files: FillingFiles, entry: Entry, used: int, wanted: Callable[[], bool]
    ) -> list[Candidate] | None:
        """Give a sealed object its place; what it replaces goes, and is returned.

        None if it is not `wanted` any more.  That is asked here, on the thread of the shelf: whoever does not want
        it has it removed from here after that, so that it is found by then.
        """
        if not wanted():
            return None
        try:
            if not files.move(self._paths.head(entry.generation), self._paths.body(entry.generation)):
                return None
            gone = self._index.add(entry, used)
        except (OSError, SpoolError) as error:
            self._unlink(entry.generation, entry.target)
            raise SpoolError(f"cannot complete an object in the spool: {error}") from error
        for each in gone:
            self._unlink(each.generation, entry.target)
        return gone

    def remove(self, generations: Iterable[str]) -> Removed:
        """Unlink and forget; tells which were there.  Who has a body open keeps it."""
        names = list(generations)
        targets: dict[str, bytes] = {}
        with suppress(SpoolError):
            targets = self._index.targets(names)
        bodies = {name: self._paths.body(name) for name in names}
        kept = {name for name in names if not self._removals.unlink(bodies[name], targets.get(name))}
        names = [name for name in names if name not in kept]
        gone = self._index.remove(names)
        for name in names:
            self._removals.unlink(self._paths.head(name), targets.get(name))
        return Removed(gone, frozenset(kept))

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
        digest = entry.digest or stored.digest
        self._write(replace(entry, checksum=stored.checksum, mtime=stored.mtime, digest=digest))

    def set_digest(self, generation: str, digest: bytes) -> None:
        """Record what an object's bytes come to, if it is still there, and nothing else."""
        stored = self._index.find(generation)
        if stored is not None:
            self._write(replace(stored, digest=digest))

    def _write(self, entry: Entry) -> None:
        try:
            # Not durable: what the power's failure takes is fetched or asked for again.
            write_file(self._paths.head(entry.generation), dump_head(entry), durable=False)
        except OSError as error:
            self._removals.unlink(self._paths.head(entry.generation).with_suffix(".head.new"), None)
            raise SpoolError(f"cannot update an object in the spool: {error.strerror}") from error
        self._index.update(entry)

    def page(self, after: str, limit: int) -> list[tuple[Candidate, Entry | None]]:
        """The next few objects after a generation; None for what cannot be read."""
        return self._index.page(after, limit)

    def contains(self, generation: str) -> bool:
        """Does the index know it?"""
        return bool(self._index.targets([generation]))

    # Purges

    def add_ban(self, bans: Bans) -> None:
        """Make the newest of them durable."""
        self._ban_file.add(bans)

    def write_bans(self, bans: Bans) -> None:
        """Make them durable, and forget others."""
        self._ban_file.write(bans)

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
                head = self._paths.head(each.generation)
                # A head that the power's failure spoils is no head.  An old one would be: `settle` sees to that.
                write_file(head, dump_head(each), durable=False)
                self._removals.note(head.parent, each.target)
        except OSError as error:
            raise SpoolError(f"cannot update an object in the spool: {error.strerror}") from error
        self._index.update(*stale)
        return gone

    def settle(self, target: bytes | None = None) -> None:
        """What has gone, or was made stale, stays so even if the power fails: all of it, or of one target."""
        try:
            self._removals.settle(target)
        except OSError as error:
            raise SpoolError(f"cannot sync the spool: {error.strerror}") from error
        if target is None:
            self._index.settle()

    def touch(self, used: Mapping[str, int]) -> None:
        """Record when objects were last used (microseconds since the epoch)."""
        self._index.touch(used)

    def oldest(self, limit: int) -> list[Candidate]:
        """The least recently used objects, oldest first."""
        return self._index.oldest(limit)

    def is_empty(self) -> bool:
        """Does nothing lie here?"""
        return not calls.listdir(self._paths.objects) and self.usage() == (0, 0)

    def prefixes(self) -> list[str]:
        """What the generations begin with that are stored, or lie here: at most 256 pairs of hex digits."""
        lying = set(calls.listdir(self._paths.objects))
        pairs = (f"{number:02x}" for number in range(256))
        return [pair for pair in pairs if pair in lying or self._index.has_any(pair)]

    def survey(self, prefix: str) -> list[str]:
        """The generations in whose files and rows something is amiss, of the folder of that name."""
        folder = self._paths.objects / prefix
        files: defaultdict[str, set[str]] = defaultdict(set)
        with suppress(FileNotFoundError):
            for name in calls.listdir(folder):  # others in it are not ours
                generation, _, suffix = name.partition(".")
                if suffix in {"head", "body", "head.new"}:
                    files[generation].add(suffix)
        known = self._index.beginning_with(prefix)
        unknown = {name for name, found in files.items() if name not in known or "head.new" in found}
        return sorted(unknown | {name for name in known if "body" not in files.get(name, ())})

    def adopt(self, generations: Iterable[str], now: int) -> list[Candidate]:
        """Take in what lies here unknown to the index, or unlink it; forget what has lost its body.

        Returns what went for it, or had gone before.
        """
        gone: list[Candidate] = []
        for generation in generations:
            head, body = self._paths.head(generation), self._paths.body(generation)
            self._removals.unlink(head.with_suffix(".head.new"), None)
            try:
                if not self._index.targets([generation]):
                    gone += self._adopt(generation, now)
                elif not is_there(body):
                    gone += self.remove([generation]).gone
            except _Unfit as error:
                _log.info("dropped an object that cannot be adopted", generation=generation, why=str(error))
                self._unlink(generation, None)
            except OSError as error:
                raise SpoolError(f"cannot look through the spool: {error.strerror}") from error
        return gone

    def _adopt(self, generation: str, now: int) -> list[Candidate]:
        head, body = self._paths.head(generation), self._paths.body(generation)
        try:
            entry = load_head(calls.read_file(head))
            size = calls.stat(body).st_size
        except (FileNotFoundError, SpoolError) as error:
            raise _Unfit(str(error)) from error
        if entry.generation != generation or entry.stored.representation.complete_length != size:
            raise _Unfit("its head is not of its body")
        if entry.checksum is None:
            raise _Unfit("its head is of an unfinished body")
        if entry.partition is not None:
            raise _Unfit("a credential begins anew after each start")
        if not self._index.newest(entry):
            raise _Unfit("a younger one is stored")
        gone = self._index.add(entry, min(now, calls.stat(head).st_mtime_ns // 1000))
        for each in gone:
            self._unlink(each.generation, entry.target)
        return gone

    def close(self) -> None:
        """Raises SpoolError where something may come back if the power fails now."""
        try:
            self.settle()
        finally:
            self._index.close()

    def _unlink(self, generation: str, target: bytes | None) -> None:
        self._removals.unlink(self._paths.body(generation), target)
        self._removals.unlink(self._paths.head(generation), target)
