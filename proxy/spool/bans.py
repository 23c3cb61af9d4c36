"""The bans in force: which purge is about which entry, and how they are written down."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, assert_never

import structlog

from proxy.errors import Overloaded, SpoolError
from proxy.semantics.purging import Ban, Everything, Purge, Tagged, Targets, Under, covers, includes
from proxy.spool import calls
from proxy.spool.entry import Entry, with_stale_since
from proxy.spool.folder import Paths, sync_folder, write_file

FORMAT = 1
"""Of the file."""
MAX_BANS = 1000
"""In force at once: each lookup may have to look at all of them."""

_log = structlog.stdlib.get_logger("spool")


class Bans:
    """`epoch` is the number of the newest ban that ever was; the older ones in `bans` are in force yet.

    Never changed: `with_ban` and `without` make others.
    """

    def __init__(self, epoch: int = 0, bans: tuple[Ban, ...] = ()) -> None:
        self.epoch = epoch
        self.bans = bans
        self._targets: defaultdict[bytes, list[Ban]] = defaultdict(list)
        self._tags: defaultdict[str, list[Ban]] = defaultdict(list)
        self._others: list[Ban] = []
        for ban in bans:
            match ban.what:
                case Targets(digests):
                    for digest in digests:
                        self._targets[digest].append(ban)
                case Tagged(tag):
                    self._tags[tag].append(ban)
                case _:
                    self._others.append(ban)

    def __repr__(self) -> str:
        return f"<Bans epoch={self.epoch} {len(self.bans)} in force>"

    def judged(self, entry: Entry) -> Entry | None:
        """The entry, stale where a soft ban has made it so; None if a hard one is about it.  Costs microseconds."""
        if not self.bans or entry.epoch >= self.epoch:
            return entry
        since = entry.stored.stale_since
        for ban in self._perhaps_about(entry):
            if is_about(ban, entry):
                if not ban.soft:
                    return None
                since = ban.since if since is None else min(since, ban.since)
        return entry if since == entry.stored.stale_since else with_stale_since(entry, since)

    def _perhaps_about(self, entry: Entry) -> Iterator[Ban]:
        yield from self._others
        yield from self._targets.get(entry.target, ())
        for tag in entry.tags:
            yield from self._tags.get(tag, ())

    def with_ban(self, what: Purge, *, soft: bool, since: int) -> "Bans":
        """One more, in the place of those that it repeats or widens.  Raises Overloaded if there are too many."""
        ban = Ban(self.epoch + 1, what, soft, since)
        # A soft one cannot stand for a hard one.
        kept = [old for old in self.bans if not includes(what, old.what) or (soft and not old.soft)]
        if len(kept) >= MAX_BANS:
            raise Overloaded(
                f"{MAX_BANS} purges are in force already: wait until the sweep has carried them out, "
                "or purge more at once: a prefix, a tag, everything",
                reason="too-many-purges",
            )
        return Bans(ban.epoch, (*kept, ban))

    def without(self, done: tuple[Ban, ...]) -> "Bans":
        """Those that are not carried out yet."""
        gone = set(done)
        return Bans(self.epoch, tuple(ban for ban in self.bans if ban not in gone))


def is_about(ban: Ban, entry: Entry) -> bool:
    """Is the entry of before the ban, and covered by it?"""
    return entry.epoch < ban.epoch and covers(ban.what, entry.target, entry.location, entry.tags)


# On the disk


def write_bans(paths: Paths, bans: Bans) -> None:
    """Write them down, to hold even if the power fails.  Blocks.  Raises SpoolError."""
    lines = [[ban.epoch, ban.soft, ban.since, *_dump(ban.what)] for ban in bans.bans]
    try:
        write_file(
            paths.bans, json.dumps({"format": FORMAT, "epoch": bans.epoch, "bans": lines}), durable=True
        )
        sync_folder(paths.root)
    except OSError as error:
        raise SpoolError(f"cannot write down a purge in {paths.bans}: {error.strerror}") from error


def read_bans(paths: Paths) -> Bans:
    """Those of a folder.  Blocks.  Raises SpoolError if a file that was missing or unreadable cannot be made anew.

    Without the file, nobody knows what has been purged: then everything that is stored counts as purged.
    """
    try:
        return _load(calls.read_file(paths.bans))
    except FileNotFoundError as error:
        new, why = not calls.listdir(paths.objects), str(error)
    except (OSError, ValueError, KeyError, TypeError) as error:
        new, why = False, str(error)
    bans = Bans()
    if not new:
        _log.error("lost the purges; what is stored is fetched anew", bans=str(paths.bans), why=why)
        # Later than any count of purges: no epoch that was lost reaches it.
        bans = Bans(time.time_ns() // 1000).with_ban(Everything(), soft=False, since=0)
    write_bans(paths, bans)
    return bans


def _load(text: bytes) -> Bans:
    head: dict[str, Any] = json.loads(text)
    if head["format"] != FORMAT:
        raise ValueError(f"format {head['format']}, not {FORMAT}")
    bans = (
        Ban(int(epoch), _loaded(*what), bool(soft), int(since)) for epoch, soft, since, *what in head["bans"]
    )
    return Bans(int(head["epoch"]), tuple(bans))


def _dump(what: Purge) -> list[str | None]:
    match what:
        case Everything():
            return ["everything"]
        case Under(host, prefix):
            return ["under", host, prefix]
        case Tagged(tag):
            return ["tagged", tag]
        case Targets(digests):
            return ["targets", *(digest.hex() for digest in digests)]
        case _:
            assert_never(what)


def _loaded(kind: str, *what: Any) -> Purge:
    match kind, what:
        case "everything", ():
            return Everything()
        case "under", (str() | None as host, str() as prefix):
            return Under(host, prefix)
        case "tagged", (str() as tag,):
            return Tagged(tag)
        case "targets", digests:
            return Targets(frozenset(map(bytes.fromhex, digests)))
        case _:
            raise ValueError(f"no purge: {kind}")
