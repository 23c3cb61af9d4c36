"""A short soak: nothing is left of what was asked for."""

from pathlib import Path

from tests.torture.report import quiet
from tests.torture.soak import soak
from tests.torture.test_kill import ITEMS


async def test_nothing_is_left_of_many_requests(tmp_path: Path) -> None:
    tally = await soak(quiet(), tmp_path, requests=300, seed=1, items=ITEMS)
    assert tally.good, tally.wrong
    assert tally.seen["whole"] > 30
