"""A few SIGKILLs: what comes after them is as right as what came before."""

from pathlib import Path

from tests.torture.items import FOLDERS, Framing, Item, Mark
from tests.torture.kill import kill
from tests.torture.report import quiet

ITEMS = [
    Item(
        f"/{FOLDERS[number % 3]}/{number}.mp4",
        size,
        framing,
        mark,
        fickle=number % 2 == 0,
        stem=stem,
        rate=rate,
    )
    for number, (size, framing, mark, stem, rate) in enumerate(
        [
            (0, Framing.LENGTH, Mark.NOTHING, 0, 0),
            (1000, Framing.LENGTH, Mark.STRONG, 0, 0),
            (65_537, Framing.CHUNKED, Mark.WEAK, 30_000, 0),
            (300_000, Framing.CLOSE, Mark.NOTHING, 0, 1 << 20),
            (2_000_000, Framing.LENGTH, Mark.NOTHING, 1_000_000, 4 << 20),
            (6_000_000, Framing.LENGTH, Mark.DATE, 0, 8 << 20),
            (9_000_000, Framing.CHUNKED, Mark.NOTHING, 4_000_000, 0),
        ]
    )
]


async def test_nothing_wrong_is_served_and_nothing_left_over(tmp_path: Path) -> None:
    tally = await kill(quiet(), tmp_path, kills=3, seed=1, items=ITEMS, longest=0.4)
    assert tally.good, tally.wrong
    assert tally.seen["whole"] > 10
    assert tally.seen["range"] > 10


async def test_nor_where_it_is_one_of_several_workers_that_is_killed(tmp_path: Path) -> None:
    tally = await kill(quiet(), tmp_path, kills=5, seed=2, items=ITEMS, longest=0.4, workers=3)
    assert tally.good, tally.wrong
    assert tally.seen["whole"] > 10
    assert tally.seen["range"] > 10
