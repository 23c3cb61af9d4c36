"""Node's fetch, which is undici."""

from pathlib import Path

import pytest

from tests.clients.conftest import BLOB, Site
from tests.clients.programs import needs, run

pytestmark = [pytest.mark.clients, needs("node")]

RESUME = """
const [url, cache] = process.argv.slice(1);
const first = await fetch(url);
const pieces = [], reader = first.body.getReader();
let size = 0;
while (size < 1_000_000) {
    const { value } = await reader.read();
    pieces.push(value);
    size += value.length;
}
await reader.cancel();
const headers = { Range: `bytes=${size}-`, "If-Match": first.headers.get("ETag") };
const rest = await fetch(url, { headers, cache });
if (rest.status !== 206) throw new Error(`answered ${rest.status}`);
pieces.push(Buffer.from(await rest.arrayBuffer()));
process.stdout.write(Buffer.concat(pieces));
"""


@pytest.mark.parametrize("cache", ["force-cache", "default"])
async def test_resumes_with_if_match(site: Site, folder: Path, sized: bool, cache: str) -> None:
    """By the Fetch standard, a condition brings `no-cache` with it where the cache mode is the default one."""
    url = site.serve("/blob", BLOB, sized=sized)
    ran = await run(folder, "node", "--input-type=module", "--eval", RESUME, url, cache)
    assert ran.output == BLOB
