"""REDbot judges what the adapter serves: fields, caching, validation, ranges and negotiation."""

import base64
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import BLOB, Site
from tests.clients.programs import needs_modules, run
from tests.origin_script import Body, Head, OriginRequest, Script

pytestmark = [pytest.mark.clients, needs_modules("redbot")]

# REDbot wants to know of every answer how long it is fresh, and the adapter does not say what no origin says.
FRESH = {"Cache-Control": "max-age=600"}
LAST_MODIFIED = {"Last-Modified": "Sun, 05 Nov 2023 10:00:00 GMT"}
TEXT = base64.encodebytes(BLOB[:60_000])


def bare(site: Site) -> str:
    """Without validators, as from most origins that we stand before."""
    site.origin.serve("/blob", BLOB, content_type="application/octet-stream", headers=FRESH)
    return "/blob"


def validated(site: Site) -> str:
    headers = {"ETag": '"1"', **LAST_MODIFIED, **FRESH}
    site.origin.serve("/paper.pdf", b"%PDF-1.7\n" + BLOB, content_type="application/pdf", headers=headers)
    return "/paper.pdf"


def negotiated(site: Site) -> str:
    plain = {"Content-Type": "text/plain; charset=utf-8", "Vary": "Accept-Encoding", **LAST_MODIFIED, **FRESH}

    def answer(request: OriginRequest) -> Script:
        if "gzip" not in (request.header("Accept-Encoding") or ""):
            return [Head(200, {"ETag": '"plain"', "Content-Length": str(len(TEXT)), **plain}), Body(TEXT)]
        coded = gzip.compress(TEXT, mtime=0)
        length = {"Content-Length": str(len(coded)), "Content-Encoding": "gzip"}
        return [Head(200, {"ETag": '"gzip"', **length, **plain}), Body(coded)]

    site.origin.on("/text", answer)
    return "/text"


def missing(site: Site) -> str:
    return "/missing"


def redirect(site: Site) -> str:
    site.origin.on("/old", [Head(301, {"Location": "/blob", "Content-Length": "0", **FRESH})])
    return "/old"


@pytest.mark.parametrize(
    ("resource", "status", "praise"),
    [
        (bare, 200, {"RANGE_CORRECT", "INM_304"}),
        (validated, 200, {"RANGE_CORRECT", "INM_304", "IMS_304"}),
        (negotiated, 200, {"RANGE_CORRECT", "INM_304", "IMS_304", "CONNEG_GZIP_GOOD"}),
        (missing, 404, {"CL_CORRECT"}),
        (redirect, 301, {"CL_CORRECT"}),
    ],
)
async def test_has_nothing_to_find_fault_with(
    site: Site, folder: Path, resource: Callable[[Site], str], status: int, praise: set[str]
) -> None:
    path = resource(site)
    for turn in ("cold", "warm"):
        ran = await run(
            folder, sys.executable, "-m", "redbot.cli", "--output-format", "har", site.root + path
        )
        (entry,) = json.loads(ran.output)["log"]["entries"]
        notes = [each for note in entry["_red_messages"] for each in (note, *note.get("subnotes", []))]
        faults = [note for note in notes if note["level"] in ("BAD", "WARN")]
        assert faults == [], turn
        assert praise <= {note["note_id"] for note in notes if note["level"] == "GOOD"}, turn
        assert entry["response"]["status"] == status
        fields = {field["name"]: field["value"].strip() for field in entry["response"]["headers"]}
        assert (";hit" in fields["Cache-Status"]) == (turn == "warm" and status != 404)
