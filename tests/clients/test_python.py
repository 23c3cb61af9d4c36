"""Python's clients: HTTP libraries, and those that read files by ranges.  Each script is what a user would write."""

import io
import random
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.clients.conftest import BLOB, Site
from tests.clients.programs import needs_modules, run_python

pytestmark = pytest.mark.clients

NUMBER = random.Random(7).randbytes(200_000)


def archive() -> bytes:
    """A zip of twenty members that do not compress, so that its directory is a small part at the end."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for number in range(20):
            packed.writestr(f"member-{number}", NUMBER + bytes([number]))
    return content.getvalue()


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=needs_modules(name)) for name in ("requests", "httpx")]
)
async def test_accept_encoding_beside_range(site: Site, folder: Path, sized: bool, library: str) -> None:
    """Both offer gzip with every request, and would decode what says it is coded."""
    url = site.serve("/blob", BLOB, sized=sized)
    script = f"""
import sys, {library} as http
answer = http.get(sys.argv[1], headers={{"Range": "bytes=1000-1999"}})
assert "gzip" in answer.request.headers["Accept-Encoding"]
assert answer.status_code == 206, answer
assert "Content-Encoding" not in answer.headers
sys.stdout.buffer.write(answer.content)
"""
    assert await run_python(folder, script, url) == BLOB[1000:2000]
    assert {request.header("Accept-Encoding") for request in site.origin.requests} == {"identity"}


@needs_modules("requests")
async def test_requests_resumes(site: Site, folder: Path, sized: bool) -> None:
    """A download that is left in its middle goes on in a second request, if nothing has changed."""
    url = site.serve("/blob", BLOB, sized=sized)
    script = """
import sys, requests
url = sys.argv[1]
with requests.get(url, stream=True) as first:
    begin = first.raw.read(1_000_000)
fields = {"Range": f"bytes={len(begin)}-", "If-Range": first.headers["ETag"]}
rest = requests.get(url, headers=fields)
assert rest.status_code == 206, rest
sys.stdout.buffer.write(begin + rest.content)
"""
    assert await run_python(folder, script, url) == BLOB
    assert site.origin.count("/blob") == 1


@needs_modules("remotezip")
async def test_remotezip(site: Site, folder: Path, sized: bool) -> None:
    """Learns the size from its first 206, which is a suffix."""
    url = site.serve("/archive.zip", archive(), sized=sized, content_type="application/zip")
    script = """
import sys, remotezip
with remotezip.RemoteZip(sys.argv[1]) as packed:
    assert len(packed.namelist()) == 20
    sys.stdout.buffer.write(packed.read("member-3"))
"""
    assert await run_python(folder, script, url) == NUMBER + b"\3"
    assert site.ranges[0].startswith("bytes=-")
    assert sum(event["bytes"] for event in site.answered) < len(archive()) / 4
    assert site.origin.count("/archive.zip") == 1


@needs_modules("fsspec", "aiohttp")
async def test_zip_over_fsspec(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/archive.zip", archive(), sized=sized, content_type="application/zip")
    script = """
import sys, zipfile, fsspec
with fsspec.open(sys.argv[1], block_size=100_000, cache_type="readahead") as file:
    assert file.size == int(sys.argv[2])
    sys.stdout.buffer.write(zipfile.ZipFile(file).read("member-3"))
"""
    assert await run_python(folder, script, url, str(len(archive()))) == NUMBER + b"\3"
    assert sum(event["bytes"] for event in site.answered) < len(archive()) / 4
    assert site.origin.count("/archive.zip") == 1


@needs_modules("fsspec", "aiohttp")
async def test_fsspec_reads_many_pieces_at_once(site: Site, folder: Path, sized: bool) -> None:
    url = site.serve("/blob", BLOB, sized=sized)
    script = """
import sys, fsspec
files = fsspec.filesystem("http")
starts = list(range(0, 4_000_000, 200_000))
pieces = files.cat_ranges([sys.argv[1]] * len(starts), starts, [start + 1000 for start in starts])
sys.stdout.buffer.write(b"".join(pieces))
"""
    expected = b"".join(BLOB[start : start + 1000] for start in range(0, 4_000_000, 200_000))
    assert await run_python(folder, script, url) == expected
    assert site.origin.count("/blob") == 1


@needs_modules("smart_open")
async def test_smart_open_seeks(site: Site, folder: Path, sized: bool) -> None:
    """Opens without Range, decides by Accept-Ranges, and sends If-Match when it seeks."""
    url = site.serve("/blob", BLOB, sized=sized)
    script = """
import sys, smart_open
with smart_open.open(sys.argv[1], "rb") as file:
    begin = file.read(100)
    file.seek(3_000_000)
    sys.stdout.buffer.write(begin + file.read(100))
"""
    assert await run_python(folder, script, url) == BLOB[:100] + BLOB[3_000_000:3_000_100]
    assert site.origin.count("/blob") == 1


async def test_urllib_reads_what_its_range_asks_for(site: Site, folder: Path, sized: bool) -> None:
    """Nothing but the standard library: HEAD, then all of it in pieces, on one connection."""
    url = site.serve("/blob", BLOB, sized=sized)
    script = """
import hashlib, http.client, sys, urllib.parse
parts = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(parts.netloc)
def ask(method, **fields):
    connection.request(method, parts.path, headers=fields)
    answer = connection.getresponse()
    return answer, answer.read()
head, _ = ask("HEAD", Range="bytes=0-0")
assert head.status == 200, head.status
size, digest = int(head.headers["Content-Length"]), hashlib.sha256()
for start in range(0, size, 300_000):
    answer, piece = ask("GET", Range=f"bytes={start}-{start + 299_999}")
    assert answer.status == 206, answer.status
    digest.update(piece)
print(digest.hexdigest())
"""
    assert (await run_python(folder, script, url)).decode().strip() == sha256(BLOB).hexdigest()
    assert site.origin.count("/blob") == 1
