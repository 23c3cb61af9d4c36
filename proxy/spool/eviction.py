"""What to drop when room is needed: the least recently used first, nobody who is being read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.spool.entry import Entry
from proxy.spool.room import Need


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that could go: where it is found, and its bytes on the disk."""

    generation: str
    key: bytes
    size: int

    @classmethod
    def of(cls, entry: Entry) -> "Candidate":
        return cls(entry.generation, entry.key, entry.length)


def choose(
    oldest_first: Iterable[Candidate], need: Need, *, spared: Callable[[str], bool]
) -> list[Candidate]:
    """The fewest candidates, taken in order, that meet the `need`; fewer if there are no more.

    `spared` generations are passed over: unlinking a file that is open frees nothing.
    """
    chosen: list[Candidate] = []
    for candidate in oldest_first:
        if need.met:
            break
        if not spared(candidate.generation):
            chosen.append(candidate)
            need = need.without(candidate.size)
    return chosen
