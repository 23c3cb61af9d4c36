"""The bans in force: which purge is about which entry."""

from collections import defaultdict
from collections.abc import Iterator

from proxy.errors import Overloaded
from proxy.semantics.purging import Ban, Purge, Tagged, Targets, covers, includes
from proxy.spool.entry import Entry, with_stale_since

MAX_BANS = 1000
"""In force at once: each lookup may have to look at all of them."""


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
