"""What one spool costs by itself, in a process of its own: no HTTP, nobody else's threads.

    python -m tests.bench.inside FOLDER STORED BLOCKS

prints a `Reading` as JSON.  The folder is left with some objects more than the STORED ones it had.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import median

from proxy.spool.entry import Entry, new_generation
from proxy.spool.spool import Spool
from tests.bench.origin import slice_of
from tests.bench.stuffing import SIZE, made_after

LOOKUPS = 500
ADMISSIONS = 25
ENDLESS = 1 << 50
NEW = 10**9
"""Objects from this number on have been stored by nobody else."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Processor seconds: medians, of each in a block."""

    opened: float
    lookup: float
    admission: float
    eviction: float
    """An admission that has another object evicted."""


async def read(root: Path, stored: int, blocks: int) -> Reading:
    opened = []
    for _ in range(blocks):
        begun = time.process_time()
        spool = await _open(root)
        opened.append(time.process_time() - begun)
        await spool.close()
    spool = await _open(root)
    try:
        [(_, some)] = await spool.page("", 1)
        assert some is not None
        lookups, admissions, evictions = list[float](), list[float](), list[float]()
        dice, new = random.Random(stored), count(NEW + stored)
        for _ in range(blocks):
            # The first ones are evicted here.
            keys = [made_after(some, dice.randrange(stored // 10, stored), "").key for _ in range(LOOKUPS)]
            lookups.append(_of_each(keys, spool.lookup))
            for costs, is_full in ((admissions, False), (evictions, True)):
                spool.room.max_size = spool.room.used + SIZE // 2 if is_full else ENDLESS
                entries = [made_after(some, next(new), new_generation()) for _ in range(ADMISSIONS)]
                evicted = spool.evictions
                costs.append(await _admit_all(spool, entries))
                assert spool.evictions - evicted == (ADMISSIONS if is_full else 0)
    finally:
        await spool.close()
    return Reading(median(opened), median(lookups), median(admissions), median(evictions))


async def _open(root: Path) -> Spool:
    return await Spool.open(root, max_size=ENDLESS, max_object_size=1 << 20, min_free=0)


def _of_each(keys: Sequence[bytes], lookup: Callable[[bytes], object]) -> float:
    begun = time.process_time()
    found = [lookup(key) for key in keys]
    used = time.process_time() - begun
    assert all(found), "nobody has stored that"
    return used / len(keys)


async def _admit_all(spool: Spool, entries: Sequence[Entry]) -> float:
    begun = time.process_time()
    for entry in entries:
        await _admit(spool, entry)
    return (time.process_time() - begun) / len(entries)


async def _admit(spool: Spool, entry: Entry) -> None:
    filling = await spool.create(entry, SIZE)
    await filling.write(slice_of(0, SIZE), 0)
    await filling.commit(entry)


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(read(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))))
