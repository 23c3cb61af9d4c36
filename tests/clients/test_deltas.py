"""Programs that fetch only the blocks that are new: several ranges in each request."""

from pathlib import Path

import pytest

from tests.clients.conftest import BLOB, Site
from tests.clients.programs import needs, run

pytestmark = pytest.mark.clients

CHANGED = range(100_000, len(BLOB), 300_000)


@pytest.fixture
def old(folder: Path) -> Path:
    """The file as it was before a few of its blocks changed."""
    content = bytearray(BLOB)
    for start in CHANGED:
        content[start : start + 1000] = bytes(1000)
    path = folder / "old"
    path.write_bytes(content)
    return path


@needs("zsync", "zsyncmake")
async def test_zsync(site: Site, folder: Path, old: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    (folder / "new").write_bytes(BLOB)
    await run(folder, "zsyncmake", "-u", url, "-o", "blob.zsync", "new")
    await run(folder, "zsync", "-q", "-i", str(old), "-o", "blob", "blob.zsync")
    assert (folder / "blob").read_bytes() == BLOB
    assert max(asked.count(",") for asked in site.ranges) + 1 == len(CHANGED)
    assert sum(event["bytes"] for event in site.answered) < len(BLOB) / 20
    assert site.origin.count("/blob") == 1


@needs("zck", "zckdl")
async def test_zchunk(site: Site, folder: Path, old: Path, sized: bool) -> None:
    (folder / "new").write_bytes(BLOB)
    await run(folder, "zck", "-o", "new.zck", "new")
    await run(folder, "zck", "-o", "old.zck", str(old))
    expected = (folder / "new.zck").read_bytes()
    url = site.serve("/blob.zck", expected, sized=sized)
    await run(folder, "zckdl", "-q", "--fail-no-ranges", "-s", "old.zck", url)
    assert (folder / "blob.zck").read_bytes() == expected
    assert max(asked.count(",") for asked in site.ranges) >= 9
    assert sum(event["bytes"] for event in site.answered) < len(expected) / 2
    assert site.origin.count("/blob.zck") == 1
