"""Download managers: resumption, and one file over several connections."""

from pathlib import Path

import pytest

from tests.clients.conftest import BLOB, Site
from tests.clients.programs import needs, run

pytestmark = pytest.mark.clients

HALF = 2_000_000


@needs("wget")
async def test_wget_resumes_half_a_file(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    (folder / "blob").write_bytes(BLOB[:HALF])
    await run(folder, "wget", "--continue", "--no-verbose", url)
    assert (folder / "blob").read_bytes() == BLOB
    assert site.ranges == [f"bytes={HALF}-"]


@needs("wget")
async def test_wget_resumes_a_complete_file(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    (folder / "blob").write_bytes(BLOB)
    ran = await run(folder, "wget", "--continue", url)
    assert "already fully retrieved" in ran.errors
    assert (folder / "blob").read_bytes() == BLOB


@needs("aria2c")
async def test_aria2_in_segments(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    await run(folder, "aria2c", "--quiet", "-x4", "-s4", "-k1M", "--out=blob", url)
    assert (folder / "blob").read_bytes() == BLOB
    assert site.origin.count("/blob") == 1
    if sized:
        assert len(site.ranges) >= 3


@needs("aria2c")
async def test_aria2_in_segments_of_what_is_stored(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    await run(folder, "aria2c", "--quiet", "--out=first", url)
    await run(folder, "aria2c", "--quiet", "-x4", "-s4", "-k1M", "--out=second", url)
    assert (folder / "second").read_bytes() == BLOB
    assert len(site.ranges) >= 3
    assert site.origin.count("/blob") == 1


@needs("axel")
async def test_axel(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    await run(folder, "axel", "--quiet", "--num-connections=4", "--output=blob", url)
    assert (folder / "blob").read_bytes() == BLOB
    assert len(site.ranges) >= 4
    assert site.origin.count("/blob") == 1


@needs("lftp")
async def test_lftp_pget(site: Site, folder: Path, sized: bool) -> None:
    """Opens without Range, and splits what has not come by the time it knows the size."""
    url = site.serve("/blob", BLOB, sized=sized)
    for name in ("cold", "warm"):
        await run(folder, "lftp", "-c", f"pget -n 4 {url} -o {name}")
        assert (folder / name).read_bytes() == BLOB
    assert site.origin.count("/blob") == 1


@needs("lftp")
async def test_lftp_resumes_half_a_file(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    (folder / "blob").write_bytes(BLOB[:HALF])
    await run(folder, "lftp", "-c", f"get -c {url} -o blob")
    assert (folder / "blob").read_bytes() == BLOB
    assert site.ranges == [f"bytes={HALF}-"]


@needs("rclone")
async def test_rclone_reads_from_an_offset(site: Site, folder: Path, sized: bool) -> None:
    """Where a Range is answered by a 200, rclone silently takes the wrong bytes."""
    site.serve("/blob", BLOB, sized=sized)
    site.serve("/", b'<a href="blob">blob</a>', content_type="text/html")
    where = ("--config", "", "--http-url", site.root)
    ran = await run(folder, "rclone", *where, "cat", "--offset", str(HALF), "--count", "1000", ":http:blob")
    assert ran.output == BLOB[HALF : HALF + 1000]


@needs("rclone")
async def test_rclone_copies_in_streams(site: Site, folder: Path, sized: bool) -> None:
    site.serve("/blob", BLOB, sized=sized)
    streams = ("--multi-thread-cutoff", "1M", "--multi-thread-streams", "4")
    await run(
        folder, "rclone", "--config", "", "--http-url", site.root, *streams, "copyto", ":http:blob", "blob"
    )
    assert (folder / "blob").read_bytes() == BLOB
    assert len(site.ranges) == 4
