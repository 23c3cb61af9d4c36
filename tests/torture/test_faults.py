"""Some faults of each kind: nobody takes a part for the whole, and when all is well again everybody gets it."""

from pathlib import Path

import pytest

from tests.torture.faults import faults
from tests.torture.report import quiet


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_fault_of_the_origin_is_seen_as_wrong_bytes(tmp_path: Path, seed: int) -> None:
    tally = await faults(quiet(), tmp_path, count=32, seed=seed, patience=0.5)
    assert tally.good, tally.wrong
    assert len(tally.seen_faults) > 16
