"""What to drop when room is needed: the least recently used first, nobody who is being read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.spool.entry import Entry


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that could go: where it is found, and its bytes on the disk."""

    generation: str
    key: bytes
    size: int

    @classmethod
    def of(cls, entry: Entry) -> "Candidate":
        return cls(entry.generation, entry.key, entry.length)


def choose(oldest_first: Iterable[Candidate], need: int, *, spared: Callable[[str], bool]) -> list[Candidate]:
    """The fewest candidates, taken in order, that give `need` bytes; fewer if there are no more.

    `spared` generations are passed over: unlinking a file that is open frees nothing.
    """
    chosen: list[Candidate] = []
    for candidate in oldest_first:
        if need <= 0:
            break
        if not spared(candidate.generation):
            chosen.append(candidate)
            need -= candidate.size
    return chosen
