"""curl: ranges, resumption, HEAD, conditions."""

import gzip
import os
from email.parser import BytesParser
from pathlib import Path

import pytest
from multidict import CIMultiDict

from tests.clients.conftest import BLOB, Site
from tests.clients.programs import Ran, needs, run
from tests.scripted_origin import Body, Head, OriginRequest, Script
from tests.wire import Response

pytestmark = [pytest.mark.clients, needs("curl")]

MODIFIED = "Tue, 01 Sep 2015 09:30:00 GMT"
MODIFIED_SECONDS = 1441099800


async def curl(folder: Path, *arguments: str, ok: bool = True) -> Ran:
    return await run(folder, "curl", "--silent", "--show-error", *arguments, ok=ok)


def read_head(path: Path) -> Response:
    """The last head that `--dump-header` wrote."""
    status_line, _, lines = path.read_bytes().strip().rpartition(b"\r\n\r\n")[2].partition(b"\r\n")
    return Response(int(status_line.split()[1]), CIMultiDict(BytesParser().parsebytes(lines).items()))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("0-0", BLOB[:1]),
        ("1000-1999", BLOB[1000:2000]),
        ("4194000-", BLOB[4194000:]),
        ("-500", BLOB[-500:]),
        ("4194000-99999999", BLOB[4194000:]),
    ],
)
async def test_range(site: Site, folder: Path, sized: bool, asked: str, expected: bytes) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    for _ in ("cold", "warm"):
        ran = await curl(folder, "--range", asked, "--dump-header", "head", url)
        assert ran.output == expected
        head = read_head(folder / "head")
        assert head.status == 206
        assert head.fields["Content-Range"].endswith(f"/{len(BLOB)}")
        assert head.fields["Accept-Ranges"] == "bytes"
    assert site.origin.count("/blob") == 1


async def test_several_ranges(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    ran = await curl(folder, "--range", "5-9,3000000-3000099,-10", "--dump-header", "head", url)
    response = read_head(folder / "head")
    response.body = ran.output
    assert response.parts() == [
        ("bytes 5-9/4194304", BLOB[5:10]),
        ("bytes 3000000-3000099/4194304", BLOB[3000000:3000100]),
        ("bytes 4194294-4194303/4194304", BLOB[-10:]),
    ]


async def test_resumes_half_a_file(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    (folder / "blob").write_bytes(BLOB[:2_000_000])
    await curl(folder, "--fail", "--continue-at", "-", "--output", "blob", url)
    assert (folder / "blob").read_bytes() == BLOB
    assert site.ranges == ["bytes=2000000-"]


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--fail",), 22)])
async def test_resumes_a_complete_file(
    site: Site, folder: Path, sized: bool, options: tuple[str, ...], status: int
) -> None:
    """curl compares the size in the 416's Content-Range with its own and is content."""
    url = site.serve("/blob", BLOB, sized=sized)
    (folder / "blob").write_bytes(BLOB)
    ran = await curl(folder, *options, "--continue-at", "-", "--output", "blob", url, ok=False)
    assert ran.status == status
    assert (folder / "blob").read_bytes() == BLOB
    assert site.answered[0]["status"] == 416


async def test_head(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    await curl(folder, "--head", "--dump-header", "head", url)
    head = read_head(folder / "head")
    assert head.status == 200
    assert head.fields["Accept-Ranges"] == "bytes"
    assert head.fields["Content-Length"] == str(len(BLOB))


async def test_compressed_beside_range_is_identity(site: Site, folder: Path) -> None:
    def answer(request: OriginRequest) -> Script:
        coded = "gzip" in (request.header("Accept-Encoding") or "")
        body = gzip.compress(BLOB) if coded else BLOB
        fields = {"Content-Type": "video/mp4", "Vary": "Accept-Encoding", "Content-Length": str(len(body))}
        return [Head(200, fields | ({"Content-Encoding": "gzip"} if coded else {})), Body(body)]

    site.origin.on("/film", answer)
    ran = await curl(folder, "--compressed", "--range", "0-99", "--dump-header", "head", f"{site.root}/film")
    assert ran.output == BLOB[:100]
    assert "Content-Encoding" not in read_head(folder / "head").fields


async def test_time_condition(site: Site, folder: Path) -> None:
    site.origin.serve("/blob", BLOB, headers={"Last-Modified": MODIFIED})
    fetch = ("--remote-time", "--dump-header", "head", "--output", "blob", f"{site.root}/blob")
    await curl(folder, *fetch)
    assert os.stat(folder / "blob").st_mtime == MODIFIED_SECONDS
    await curl(folder, "--time-cond", "blob", *fetch)
    assert read_head(folder / "head").status == 304
    assert (folder / "blob").read_bytes() == BLOB


async def test_time_condition_without_a_date_from_the_origin(site: Site, folder: Path) -> None:
    """An object without Last-Modified is as old as the answer that brought it."""
    url = site.serve("/blob", BLOB)
    (folder / "blob").write_bytes(b"other")
    os.utime(folder / "blob", (MODIFIED_SECONDS, MODIFIED_SECONDS))
    await curl(folder, "--time-cond", "blob", "--output", "blob", url)
    assert (folder / "blob").read_bytes() == BLOB


async def test_tag_condition(site: Site, folder: Path) -> None:
    url = site.serve("/blob", BLOB)
    await curl(folder, "--etag-save", "tag", "--output", "blob", url)
    ran = await curl(folder, "--etag-compare", "tag", "--write-out", "%{http_code}", "--output", "new", url)
    assert ran.output == b"304"
    assert site.origin.count("/blob") == 1
