"""The verdict on how costs grow."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import spool
from tests.bench.inside import Reading
from tests.bench.spool import GROWTH, MEMORY, Row, Start, table

INSIDE = Reading(opened=0.001, lookup=2e-5, admission=1e-3, eviction=1e-3)
FEW = Row(10, INSIDE, Start(1.0, 0.5), Start(1.0, 0.5), 3e-4, 2.0, 80_000_000, True)
MANY = replace(FEW, stored=1000, sweep=90.0)


def said(rows: list[Row]) -> tuple[str, bool]:
    console = Console(width=140)
    shown, good = table(rows)
    with console.capture() as captured:
        console.print(shown)
    return captured.get(), good


def test_where_nothing_could_be_measured_nothing_is_wrong() -> None:
    assert said([])[1]


def test_the_sweep_may_grow() -> None:
    text, good = said([FEW, MANY])
    assert good
    assert "90.0 s" in text


@pytest.mark.parametrize(
    "row",
    [
        replace(MANY, memory=MEMORY + 1),
        replace(MANY, hit=GROWTH * FEW.hit * 1.01),
        replace(MANY, start_killed=Start(1.0, GROWTH * 0.51)),
        replace(MANY, inside=replace(INSIDE, eviction=GROWTH * 1.01e-3)),
    ],
)
def test_what_is_to_stay_as_it_is_may_not(row: Row) -> None:
    text, good = said([FEW, row])
    assert not good
    assert text.count(" no ") == 1


def test_a_disk_without_room_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spool._no_room(tmp_path, 10) is None
    assert "GB of disk" in str(spool._no_room(tmp_path, 10**12)) or "files" in str(
        spool._no_room(tmp_path, 10**12)
    )
    full = os.statvfs_result((4096, 4096, 100, 100, 100, 1000, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert spool._no_room(tmp_path, 10) == "they need 20 files, and the disk has room for 10"
