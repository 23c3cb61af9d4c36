"""One line for each request, which no client can end, forge or leave out."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartAdapter
from tests.scripted_origin import Cut, Gate, Head, Pause, ScriptedOrigin
from tests.server.process import Process, serving
from tests.together import busy, settled, wires
from tests.wire import Wire

FILM = bytes(range(256)) * 40
EVIL = [
    '"',
    "\\",
    "\\n",
    '" 200 0 "',
    "\xff\xfe",
    "\u00e9\u20ac".encode().decode("latin-1"),
    "\t",
    "%0a%0d",
    "{}",
]
NO_HTTP = [
    b"GET /a\nb HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\nbroken\r\n\r\n",
    b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b'GET /"\x1b[31m HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[31m\r\n\r\n',
    b'{"logger": "access"}\n\r\n\r\n',
]
NO_REQUEST = [
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n",
    b"GET foo HTTP/1.1\r\nHost: x\r\n\r\n",
]


async def visit(service: Process) -> int:
    """Be every kind of client once; returns how many requests that were."""
    count = 0
    async with Wire(service.url) as wire:
        for evil in EVIL:
            headers = [("User-Agent", evil), ("Referer", evil), ("Range", evil)]
            target = "/film.mp4?" + re.sub(r"[\t ]", "", evil)
            await wire.request("GET", target, headers)
            await wire.response()
            count += 1
    for data in [*NO_HTTP, *NO_REQUEST]:
        async with Wire(service.url) as wire:
            await wire.send(data)
            await wire.response()
            count += 1
    return count


async def lines_of(origin: ScriptedOrigin, folder: Path, style: str) -> tuple[list[str], int]:
    origin.serve("/film.mp4", FILM)
    async with serving(origin, folder, style=style) as service:
        await service.ready()
        count = await visit(service)
        service.process.send_signal(signal.SIGTERM)
        status, errors = await service.ended()
    assert status == 0
    assert "Traceback" not in errors
    return errors.splitlines(), count


async def test_json_lines(origin: ScriptedOrigin, tmp_path: Path) -> None:
    lines, count = await lines_of(origin, tmp_path, "json")
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    requests = [event for event in events if event.get("logger") == "access"]
    assert len(requests) == count
    for event in requests:
        assert event["event"] == "request"
        assert event["level"] == "info"
        assert event["client"] == "127.0.0.1"
        assert event["status"] >= 200
        assert event["seconds"] >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["timestamp"])
        assert ("why" in event) == ("target" not in event), "of what could not be read nothing is made up"
    served = [event for event in requests if event.get("target", "").startswith("/film.mp4")]
    assert len(served) == len(EVIL)
    assert [event["user_agent"] for event in served][:4] == EVIL[:4]
    assert {event["cache"] for event in served} <= {"hit", "uri-miss", "collapsed"}
    refused = requests[len(EVIL) :]
    assert all(400 <= event["status"] < 500 and event["reason"] for event in refused)


_COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"(?:[^"\\]|\\.)*" [2-5]\d\d (?:\d+|-) "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*"'
)


async def test_combined_lines(origin: ScriptedOrigin, tmp_path: Path) -> None:
    lines, count = await lines_of(origin, tmp_path, "combined")
    assert all(line.isascii() and line.isprintable() for line in lines)
    requests = [line for line in lines if line.startswith("127.0.0.1")]
    assert len(requests) == count
    for line in requests:
        assert _COMBINED.fullmatch(line), line


async def test_console_lines(origin: ScriptedOrigin, tmp_path: Path) -> None:
    lines, count = await lines_of(origin, tmp_path, "console")
    assert all("\x1b" not in line and "\r" not in line for line in lines)
    assert len([line for line in lines if "[access]" in line]) == count


_FAILING = """
import structlog
from proxy.server import logs
listener = logs.configure(level="info", style="{style}")
try:
    1 / 0
except ZeroDivisionError as error:
    structlog.stdlib.get_logger("server").error("it broke", exc_info=error, why="a\\nb")
listener.stop()
"""


@pytest.mark.parametrize("style", ["json", "combined", "console"])
def test_a_traceback_reaches_the_log(style: str) -> None:
    """Lines are rendered in another thread than the one that failed."""
    script = _FAILING.format(style=style)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ZeroDivisionError: division by zero" in done.stderr
    if style == "json":
        assert json.loads(done.stderr)["why"] == "a\nb"
    elif style == "combined":
        assert done.stderr.count("\n") == 1


async def test_how_an_answer_ended(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """A client that leaves, an origin that fails, a relayed answer: each has its line with its reason."""
    origin.serve("/film.mp4", FILM * 100)
    gate = origin.gate("/film.mp4", 1000)
    async with serving(origin, tmp_path) as service:
        await service.ready()
        async with Wire(service.url) as wire:
            await wire.request("GET", "/film.mp4", Range="bytes=0-")
            await wire.response_head()
        gate.open()
        async with Wire(service.url) as wire:
            await wire.request("POST", "/film.mp4")
            await wire.response()
            await origin.stop()
            for _ in range(3):
                assert (await wire.get("/other")).status == 502
        service.process.send_signal(signal.SIGTERM)
        _, errors = await service.ended()
    events = [json.loads(line) for line in errors.splitlines()]
    gone, posted, *refused = [event for event in events if event.get("logger") == "access"]
    assert (gone["status"], gone["reason"], gone["aborted"]) == (206, "client-gone", True)
    assert gone["range"] == "bytes=0-"
    assert (posted["method"], posted["cache"], posted["bytes"]) == ("POST", "method", len(FILM) * 100)
    for failed in refused:
        assert (failed["status"], failed["reason"]) == (502, "origin-unreachable")
        assert failed["cache"] == "uri-miss", "it was asked, though in vain"
    assert len(refused) == 3
    assert [event["reason"] for event in events if event["event"] == "the origin failed"] == [
        "origin-unreachable"
    ], "one line for all of them"


async def test_a_range_that_is_ignored_is_told(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    origin.serve("/live.mp4", FILM, headers={"Cache-Control": "no-store"})
    asked = {
        "bytes=9-1": "malformed-range",
        "items=0-1": "range-unit",
        "bytes=" + ",".join(["0-0"] * 1000): "too-many-ranges",
        "bytes=0-,0-": "amplifying-ranges",
    }
    async with serving(origin, tmp_path) as service:
        await service.ready()
        async with Wire(service.url) as wire:
            await wire.get("/film.mp4", Range="bytes=0-1")
            for value, reason in asked.items():
                response = await wire.get("/film.mp4", Range=value)
                assert (response.status, response.body) == (200, FILM)
                assert response.cache_status.endswith(f";detail={reason}")
            assert (await wire.get("/live.mp4", Range="items=1")).cache_status.endswith(";detail=no-store")
            assert (await wire.get("/live.mp4", Range="bytes=5-6,0-1")).status == 200
        service.process.send_signal(signal.SIGTERM)
        _, errors = await service.ended()
    events = [json.loads(line) for line in errors.splitlines()]
    told = [event.get("range_ignored") for event in events if event.get("logger") == "access"]
    assert told == [None, *asked.values(), "range-unit", "descending-ranges"]


# --- Cache-Status (RFC 9211) ----------------------------------------------------------------------


@pytest.mark.usefixtures("heads_wait")
async def test_a_failed_miss_says_why_it_was_one(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "timeouts": {"first_byte": "300ms", "resume": "0s"}}}
    )
    stale = {"Cache-Control": "max-age=0, must-revalidate", "ETag": '"1"'}
    origin.serve("/stale.mp4", FILM, headers=stale)
    origin.serve("/fresh.mp4", FILM, headers={"Cache-Control": "max-age=60"})
    origin.on("/late.mp4", [Pause(Gate())])
    origin.on("/broken.mp4", [Head(200, {"Content-Type": "video/mp4", "Content-Length": "9"}), Cut()])
    async with adapter.wire() as wire:
        for path in ("/stale.mp4", "/fresh.mp4"):
            await wire.get(path)
        await settled(adapter, origin, 2)
        late = await wire.get("/late.mp4")
        assert late.status == 504
        assert late.cache_status == "range-adapter;fwd=uri-miss;detail=origin-timeout"
        broken = await wire.get("/broken.mp4")
        assert broken.status == 502
        assert broken.cache_status == "range-adapter;fwd=uri-miss;fwd-status=200;detail=origin-truncated"
        refused = await wire.get("/new.mp4", Cache_Control="only-if-cached")
        assert refused.cache_status == "range-adapter;detail=only-if-cached"
        await origin.stop()
        for path, why in (("/new.mp4", "uri-miss"), ("/stale.mp4", "stale")):
            gone = await wire.get(path)
            assert gone.status in {502, 504}
            assert gone.cache_status == f"range-adapter;fwd={why};detail=origin-unreachable"
        again = await wire.get("/fresh.mp4", Cache_Control="no-cache")
        assert again.cache_status == "range-adapter;fwd=request;detail=origin-unreachable"
        await wire.request("POST", "/new.mp4")
        assert (await wire.response()).cache_status == "range-adapter;fwd=method;detail=origin-unreachable"


async def test_who_waited_in_vain_for_anothers_answer_says_so(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    adapter = await start_adapter()
    gate = Gate()
    origin.on("/film.mp4", [Pause(gate), Cut()])
    async with wires(adapter, 3) as [first, *others]:
        await first.request("GET", "/film.mp4")
        await gate.reached()
        for wire in others:
            await wire.request("GET", "/film.mp4")
        await busy(adapter, 3)
        gate.open()
        told = (await first.response()).cache_status
        assert told.startswith("range-adapter;fwd=uri-miss;detail=origin-")
        for wire in others:
            assert (await wire.response()).cache_status == told.replace(";detail", ";collapsed;detail")


@pytest.mark.parametrize("told", [False, True])
async def test_the_key_is_told_if_it_shall_be(
    start_adapter: StartAdapter, origin: ScriptedOrigin, told: bool
) -> None:
    adapter = await start_adapter(server={"cache_status_key": told})
    origin.serve("/film.mp4", FILM, headers={"Cache-Status": "upstream; hit"})
    origin.serve("/page", FILM, content_type="text/html")
    host = [("Host", "media.example")]

    def member(text: str, key: str) -> str:
        before, _, after = text.partition("K")
        return before + (f';key="legacy http://media.example{key}"' if told else "") + after

    async with adapter.wire() as wire:
        passed = await wire.get("/page?%22", host)
        assert passed.cache_status == member(
            "range-adapter;fwd=uri-miss;fwd-status=200K;detail=no-freshness", "/page?%22"
        )
        miss = await wire.get("/film.mp4", host)
        status = member("upstream; hit, range-adapter;fwd=uri-miss;fwd-status=200;storedK", "/film.mp4")
        assert miss.cache_status == status
        await settled(adapter, origin)
        hit = await wire.get("/film.mp4", host, Range="bytes=0-1")
        ttl = hit.cache_status.partition("ttl=")[2].partition(";")[0]
        assert hit.cache_status == member(f"upstream; hit, range-adapter;hit;ttl={ttl}K", "/film.mp4")
        assert int(ttl) > 0
        for _ in range(2):
            own = (await wire.get("/film.mp4", host, Cookie="session=1", Range="items=0-1")).cache_status
            assert (";key=" in own) is told
            if told:
                pattern = r';key="legacy http://media\.example/film\.mp4 \(partition [0-9a-f]{8}\)";detail=range-unit'
                assert re.search(pattern, own)
            await settled(adapter, origin, 2)
        await wire.request("POST", "/film.mp4", host)
        assert ";key=" not in (await wire.response()).cache_status, "a relayed answer has none"
        await origin.stop()
        failed = await wire.get("/new.mp4", host)
        assert failed.cache_status == member(
            "range-adapter;fwd=uri-missK;detail=origin-unreachable", "/new.mp4"
        )
        refused = await wire.get("/new.mp4", host, Cache_Control="only-if-cached")
        assert refused.cache_status == member("range-adapterK;detail=only-if-cached", "/new.mp4")


_STUCK = """
import os, sys, structlog
from proxy.server import logs
reading, writing = os.pipe()
sys.stderr = os.fdopen(writing, "w")
logs.MOST_WAITING = 3
listener = logs.configure(level="info", style="json")
log = structlog.stdlib.get_logger("server")
for number in range(100):
    log.info("line", number=number, weight="x" * 100_000)  # the pipe is full, the rest waits
os.set_blocking(reading, False)
import time
def drain():
    try:
        return os.read(reading, 1 << 20)
    except BlockingIOError:
        time.sleep(0.001)
        return b""
data = b""
while data.count(b"\\n") < 3:
    data += drain()
log.info("the last")
while b"the last" not in data or not data.endswith(b"\\n"):
    data += drain()
listener.stop()
sys.stdout.write(data.decode())
"""


def test_a_reader_of_the_log_that_is_stuck_costs_lines_not_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STUCK], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    *kept, lost, last = lines
    assert [line["number"] for line in kept] == list(range(len(kept)))
    assert len(kept) <= 5
    assert (lost["event"], lost["count"]) == ("log lines were lost", 100 - len(kept))
    assert last["event"] == "the last"
