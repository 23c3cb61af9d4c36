"""What is being fetched now, and who waits for whom.

Of requests for one target, only the first asks the origin; the others wait for its head, and have the answer too
if it is for them.  Whether it is, nobody knows beforehand.  So that they do not queue up behind each other, a
request waits for at most one of its twins (the same credentials, the same content coding) and for one other; for
no other credentials where an answer was personal a moment ago; and for nobody where the last was not stored.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from proxy.cache.fetch import Fetch, Held, Outcome, Passed, Storing
from proxy.cache.recent import Recent
from proxy.cache.wanted import Wanted
from proxy.fill.fill import Fill
from proxy.semantics.key import CacheKey
from proxy.semantics.purging import Purge, covers

Item = TypeVar("Item", Fetch, Fill)

PERSONAL_FOR = 60.0
"""Seconds for which the last answer tells whom the next one will be for."""
PASSING_FOR = 10.0
"""Seconds for which one that was not stored tells that the next will not be: then nobody waits for its head."""


@dataclass(slots=True)
class Waits:
    """For whose heads one request can still wait."""

    twin: bool = True
    other: bool = True


@dataclass(slots=True)
class Underway:
    """Fetches by their target's shared key, fills by their entry's key."""

    _fetches: defaultdict[bytes, list[Fetch]] = field(default_factory=lambda: defaultdict(list))
    _fills: defaultdict[bytes, list[Fill]] = field(default_factory=lambda: defaultdict(list))
    _personal: Recent = field(default_factory=lambda: Recent(PERSONAL_FOR))
    _passing: Recent = field(default_factory=lambda: Recent(PASSING_FOR))

    def fetches(self) -> Iterator[Fetch]:
        """Those whose head is still to come."""
        for fetches in self._fetches.values():
            yield from fetches

    def fills(self) -> Iterator[Fill]:
        for fills in self._fills.values():
            yield from fills

    def joinable(self, wanted: Wanted) -> list[Held]:
        """What arrives under the keys of `wanted`, the newest first."""
        return [
            Held(fill.entry, fill)
            for key in wanted.keys
            for fill in reversed(self._fills.get(key, ()))
            if fill.joinable
        ]

    def awaited(self, wanted: Wanted, waits: Waits) -> Fetch | None:
        """The fetch whose head `wanted` should wait for, which is noted in `waits`."""
        alone = wanted.is_lonely or wanted.policy.authorize is not None  # a yes is to one's own credentials
        if alone or self.passes(wanted):
            return None
        for fetch in self._fetches.get(wanted.shared_key.digest, ()):
            if not fetch.pending or fetch.retracted or fetch.wanted.is_lonely:
                continue
            own = fetch.wanted.partition == wanted.partition
            if own and fetch.wanted.coding == wanted.coding:
                if waits.twin:
                    waits.twin = False
                    return fetch
            elif waits.other and (own or wanted.shared_key.digest not in self._personal):
                waits.other = False
                return fetch
        return None

    def passes(self, wanted: Wanted) -> bool:
        """Was the last answer not stored?"""
        return wanted.own_key in self._passing

    def learn(self, wanted: Wanted, outcome: Outcome) -> None:
        """What the answer to `wanted` lets us expect of the next ones; a failure says nothing of them."""
        shared_key = wanted.shared_key.digest
        match outcome:
            case Passed() if wanted.policy.authorize is not None:
                pass  # that was for one client
            case Passed(response) if response.status < 300 and not wanted.is_lonely:
                self._passing.add(wanted.own_key)
                if wanted.partition is not None:
                    self._personal.add(shared_key)
            case Storing(fill) if fill.entry.partition is not None:
                self._passing.discard(wanted.own_key)
                self._personal.add(shared_key)
            case Storing():
                self._passing.discard(wanted.own_key)
                if wanted.partition is not None:
                    self._personal.discard(shared_key)

    def retract(self, target: CacheKey, owners: Collection[bytes]) -> None:
        """What is being fetched for a target, or for the partitions of `owners`, is for nobody new any more."""
        for fetch in self.fetches():
            if fetch.wanted.target_key == target or fetch.wanted.partition in owners:
                fetch.retracted = True
        for fill in self.fills():
            if fill.entry.target == target.digest or fill.entry.partition in owners:
                fill.retract()

    def purge(self, what: Purge) -> None:
        """What is being fetched and purged is for nobody new any more.  Tags are not known before the head comes."""
        for fetch in self.fetches():
            if covers(what, fetch.wanted.target_key.digest, fetch.wanted.location, None):
                fetch.retracted = True
        for fill in self.fills():
            if covers(what, fill.entry.target, fill.entry.location, fill.entry.tags):
                fill.retract()

    def supersede(self, fill: Fill) -> None:
        """`fill` is stored: older answers of the same variant that are still arriving shall not replace it."""
        for older in self._fills[fill.entry.key]:
            if older is fill:
                break
            if older.entry.stored.vary == fill.entry.stored.vary:
                older.retract()

    def enter_fetch(self, fetch: Fetch) -> None:
        self._fetches[fetch.wanted.shared_key.digest].append(fetch)

    def leave_fetch(self, fetch: Fetch) -> None:
        _remove(self._fetches, fetch.wanted.shared_key.digest, fetch)

    def enter_fill(self, fill: Fill) -> None:
        self._fills[fill.entry.key].append(fill)

    def leave_fill(self, fill: Fill) -> None:
        _remove(self._fills, fill.entry.key, fill)


def _remove(table: defaultdict[bytes, list[Item]], key: bytes, item: Item) -> None:
    items = table[key]
    items.remove(item)
    if not items:
        del table[key]
