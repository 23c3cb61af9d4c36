"""The warm lane answers what the long way answers, byte for byte, and logs the same: over thousands of requests."""

import asyncio
import random
import time
from collections.abc import Iterator

import pytest

from proxy.server.lines import Line
from tests.access_log import access_log
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.server.lanes import closed_lane, lane_of, served
from tests.server.pki import Pki, over_tls
from tests.spool.objects import pattern
from tests.wire import Wire

LENGTHS = {
    "/film.mp4": 300_000,
    "/small.mp4": 1000,
    "/weak.mp4": 5000,
    "/vary.mp4": 3000,
    "/page": 400,
    "/one": 1,
}
PAST = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 2094 08:49:37 GMT"
TARGETS = [*LENGTHS, "/film.mp4?a=1", "/film.mp4?", "//film.mp4", "/Film.mp4", "/missing", "/%66ilm.mp4"]
BROWSER = [
    ("User-Agent", 'Mozilla/5.0 "X" (\\)'),
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Accept-Language", "en-GB,en;q=0.9"),
    ("Referer", "http://a.example/watch?v=1"),
    ("Sec-Fetch-Mode", "no-cors"),
    ("Connection", "keep-alive"),
    ("Connection", "Keep-Alive"),
    ("Cookie", "_ga=1; _gid=2"),
    ("Cookie", "session=1"),
    ("Cookie", "session=2; _ga=1"),
    ("Origin", "http://a.example"),
    ("Origin", "http://evil.example"),
    ("X-Forwarded-For", "1.2.3.4"),
    ("X-Unknown", "some thing"),
]
TELLING = [
    ("Authorization", "Basic YTpi"),
    ("Cache-Control", "no-cache"),
    ("Cache-Control", "max-age=0"),
    ("Cache-Control", "only-if-cached"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
    ("Connection", "close"),
    ("Connection", "keep-alive, X-Unknown"),
    ("Want-Repr-Digest", "sha-256=5"),
    ("Content-Length", "0"),
    ("Expect", "100-continue"),
    ("TE", "trailers"),
    ("Upgrade", "h2c"),
    ("Accept", ""),
    ("User-Agent", "caf\xe9"),
    ("X_Under", "score"),
    ("X-Tab", "a\tb"),
]
CONDITIONS = [
    *[("If-None-Match", value) for value in ('"v1"', 'W/"v1"', '"v2"', "*", '"v2", "v1"', "v1", "")],
    *[("If-Match", value) for value in ('"v1"', '"v2"', "*")],
    *[("If-Range", value) for value in ('"v1"', '"v2"', 'W/"v1"', PAST, LATER)],
    *[("If-Modified-Since", value) for value in (PAST, LATER, "yesterday")],
    *[("If-Unmodified-Since", value) for value in (PAST, LATER, "Thu, 01 Jan 1970 00:00:00 GMT")],
    ("if-none-match", '"v1"'),
    ("If-Something", "else"),
]
RANGES = [
    *["bytes=0-0", "bytes=0-", "bytes=5-9", "bytes=-1", "bytes=-0", "bytes=-", "bytes=9-5", "bytes=999999-"],
    *[
        "bytes=0-1,3-4",
        "bytes=0-999999",
        "bytes=-999999",
        "bytes= 0-1",
        "bytes=0 -1",
        "Bytes=0-1",
        "items=0-1",
    ],
    *[
        "bytes=0-0,",
        "bytes=+0-1",
        "bytes=0x1-2",
        "bytes=00-01",
        "bytes=1",
        "bytes=" + "9" * 30 + "-",
        "bytes=0-0-0",
    ],
    *["bytes=299999-299999", "bytes=100-70000", "bytes=999-999", "bytes=\u00b2-3", "", "bytes=0-" + "9" * 30],
]


@pytest.fixture(params=["tcp", "tls"])
def start_adapter(request: pytest.FixtureRequest, start_adapter: StartAdapter, pki: Pki) -> StartAdapter:
    """All that follows holds on both."""
    return over_tls(start_adapter, pki) if request.param == "tls" else start_adapter


@pytest.fixture
def heard() -> Iterator[list[Line]]:
    lines: list[Line] = []
    with access_log(lines.append):
        yield lines


def request(dice: random.Random) -> tuple[str, bytes]:
    """Method, and a whole head."""
    method = dice.choices(["GET", "HEAD", "get"], [40, 3, 1])[0]
    target = dice.choice(TARGETS) if dice.random() < 0.4 else dice.choice(["/film.mp4", "/small.mp4"])
    fields = dice.sample(BROWSER, dice.randrange(5))
    odd = 0.02 if dice.random() < 0.3 else 0.0
    if dice.random() < 5 * odd:
        fields += dice.sample(TELLING, 1)
    for _ in range(dice.choice([0, 0, 0, 1, 1, 2])):
        fields.append(dice.choice(CONDITIONS))
    if dice.random() < 0.6:
        length = LENGTHS.get(target, 300_000)
        start = dice.randrange(length)
        usual = f"bytes={start}-{dice.randrange(start, length + 5)}"
        fields.append(("Range", dice.choice([usual, usual, usual, dice.choice(RANGES)])))
    dice.shuffle(fields)
    host = ("Host", "films.example") if dice.random() >= odd else ("host", "films.example")
    fields.insert(0 if dice.random() >= odd else len(fields), host)
    version = "1.1" if dice.random() >= odd else "1.0"
    lines = [f"{method} {target} HTTP/{version}"]
    for name, value in fields:
        gap = ": " if dice.random() >= odd else dice.choice([":", ":  ", ":\t"])
        name = name if dice.random() >= odd else dice.choice([name.lower(), name.upper()])
        lines.append(f"{name}{gap}{value}{' ' if dice.random() < odd else ''}")
    return method, "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


class Client:
    """One connection, opened again whenever it was closed."""

    def __init__(self, adapter: Adapter, *, lane: bool) -> None:
        self._adapter, self._lane = adapter, lane
        self._wire: Wire | None = None

    async def ask(self, method: str, head: bytes) -> bytes:
        if self._wire is None:
            self._wire = await self._open()
        await self._wire.send(head)
        reader = self._wire.reader
        answer = await reader.readuntil(b"\r\n\r\n")
        last = answer[:-4]
        while last.startswith(b"HTTP/1.1 1"):
            last = (await reader.readuntil(b"\r\n\r\n"))[:-4]
            answer += last + b"\r\n\r\n"
        fields = {
            name.lower(): value
            for name, _, value in (line.partition(b": ") for line in last.split(b"\r\n")[1:])
        }
        bodiless = method == "HEAD" or last.split(b" ")[1] in {b"204", b"304"}
        if not bodiless and b"content-length" in fields:
            answer += await reader.readexactly(int(fields[b"content-length"]))
        elif not bodiless:
            fields[b"connection"] = b"close"
        if fields.get(b"connection") == b"close":
            answer += await reader.read()
            await self.close()
        return answer

    async def _open(self) -> Wire:
        if self._lane:
            return await self._adapter.wire().__aenter__()
        with closed_lane(self._adapter):
            wire = await self._adapter.wire().__aenter__()
            await wire.get("/nothing")
        return wire

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.__aexit__(None, None, None)
            self._wire = None


TIMES = {"timestamp": "", "seconds": 0}


async def lines_of(adapter: Adapter, heard: list[Line], count: int) -> list[dict[str, object]]:
    """Those of the last `count` requests, without their times."""
    while True:
        lane_of(adapter)._access.lines.hand_over()
        lines = [line.event() | TIMES for line in heard if line.about.target != "/nothing"]
        if len(lines) >= count:
            heard.clear()
            return lines
        await asyncio.sleep(0)


CORS = {"allow_origins": ["http://a.example"]}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.timeout(120)
async def test_both_ways_answer_alike(
    start_adapter: StartAdapter, origin: ScriptedOrigin, heard: list[Line], seed: int
) -> None:
    adapter = await start_adapter(
        logging={"access": True},
        defaults={"cors": CORS} if seed % 2 else {},
        server={"cache_status_key": seed > 1},
    )
    tags = {"ETag": '"v1"', "Last-Modified": PAST, "Cache-Control": "max-age=3600"}
    for path, length in LENGTHS.items():
        fields = dict(tags)
        if path == "/weak.mp4":
            fields = {"ETag": 'W/"v1"', "Cache-Status": "upstream; hit", "Age": "7", "Digest": "sha-256=x"}
        if path == "/vary.mp4":
            fields["Vary"] = "Accept-Language"
        kind = "text/html" if path == "/page" else "video/mp4"
        origin.serve(path, pattern(length, length), headers=fields, content_type=kind)
    dice = random.Random(seed)
    ways = Client(adapter, lane=True), Client(adapter, lane=False)
    compared, before = 0, served(adapter)
    while compared < 500:
        method, head = request(dice)
        await ways[1].ask(method, head)  # whatever is stored for it, is stored by then
        await origin.idle()
        await lines_of(adapter, heard, 1)
        second = int(time.time())
        answers = [await way.ask(method, head) for way in (ways[1], ways[0], ways[1])]
        lines = await lines_of(adapter, heard, 3)
        if int(time.time()) != second or answers[0] != answers[2] or lines[0] != lines[2]:
            continue  # what changes by itself is no news
        compared += 1
        assert answers[1] == answers[0], head
        assert lines[1] == lines[0], head
    assert served(adapter) - before > compared / 4, "the lane was hardly tested"
    for way in ways:
        await way.close()
