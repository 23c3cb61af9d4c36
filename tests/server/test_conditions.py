"""Preconditions in RFC order, cold, during the fill, warm and passing alike (RFC 9110 section 13.2.2)."""

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import Body, Head, ScriptedOrigin

FILM = bytes(range(256)) * 40
MODIFIED = "Wed, 25 Jun 2014 17:12:18 GMT"
BEFORE = "Wed, 25 Jun 2014 17:12:17 GMT"
AFTER = "Wed, 25 Jun 2014 17:12:19 GMT"
TAG, OTHER = '"tag"', '"other"'
RANGE = {"Range": "bytes=0-9"}
OUT_OF_RANGE = {"Range": "bytes=99999999-"}

CASES = [
    ({"If-None-Match": TAG}, 304),
    ({"If-None-Match": f"W/{TAG}"}, 304),
    ({"If-None-Match": OTHER}, 200),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": OTHER, "If-Modified-Since": MODIFIED}, 200),
    ({"If-None-Match": TAG, "If-Modified-Since": BEFORE}, 304),
    ({"If-Modified-Since": MODIFIED}, 304),
    ({"If-Modified-Since": AFTER}, 304),
    ({"If-Modified-Since": BEFORE}, 200),
    ({"If-Modified-Since": "garbage"}, 200),
    ({"If-Match": TAG}, 200),
    ({"If-Match": f"W/{TAG}"}, 412),
    ({"If-Match": OTHER}, 412),
    ({"If-Match": "*"}, 200),
    ({"If-Match": OTHER, "If-None-Match": TAG}, 412),
    ({"If-Match": TAG, "If-None-Match": TAG}, 304),
    ({"If-Unmodified-Since": BEFORE}, 412),
    ({"If-Unmodified-Since": MODIFIED}, 200),
    ({"If-Match": TAG, "If-Unmodified-Since": BEFORE}, 200),
    (RANGE, 206),
    (OUT_OF_RANGE, 416),
    ({**RANGE, "If-None-Match": TAG}, 304),
    ({**OUT_OF_RANGE, "If-None-Match": TAG}, 304),
    ({**OUT_OF_RANGE, "If-Match": OTHER}, 412),
    ({**RANGE, "If-None-Match": OTHER}, 206),
    ({**RANGE, "If-Modified-Since": MODIFIED}, 304),
    ({**RANGE, "If-Match": OTHER}, 412),
    ({**RANGE, "If-Range": TAG}, 206),
    ({**RANGE, "If-Range": f"W/{TAG}"}, 200),
    ({**RANGE, "If-Range": OTHER}, 200),
    ({**RANGE, "If-Range": MODIFIED}, 206),
    ({**RANGE, "If-Range": AFTER}, 200),
    ({**RANGE, "If-Range": BEFORE}, 200),
    ({**RANGE, "If-Range": "garbage"}, 200),
    ({**OUT_OF_RANGE, "If-Range": OTHER}, 200),
    ({**OUT_OF_RANGE, "If-Range": TAG}, 416),
    ({**RANGE, "If-Range": TAG, "If-None-Match": TAG}, 304),
    ({"If-Range": OTHER}, 200),
]


def check(status: int, body: bytes, length: str | None) -> None:
    if status == 206:
        assert body == FILM[:10]
    elif status == 200:
        assert body == FILM
        assert length == str(len(FILM))
    elif status == 304:
        assert length is None
        assert body == b""


@pytest.mark.parametrize(("fields", "status"), CASES, ids=str)
async def test_cold_then_warm(
    adapter: Adapter, origin: ScriptedOrigin, fields: dict[str, str], status: int
) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": TAG, "Last-Modified": MODIFIED})
    async with adapter.wire() as wire:
        for _ in range(3):
            response = await wire.get("/film.mp4", fields.items())
            assert response.status == status
            check(status, response.body, response.fields.get("Content-Length"))
            assert response.fields["ETag"] == TAG
            assert "Cache-Status" in response.fields
    assert origin.count("/film.mp4") == 1
    assert not [name for name, _ in origin.requests[0].headers if name.lower().startswith(b"if-")]
    assert origin.requests[0].header("Range") is None


@pytest.mark.parametrize(("fields", "status"), CASES, ids=str)
async def test_during_the_fill(
    adapter: Adapter, origin: ScriptedOrigin, fields: dict[str, str], status: int
) -> None:
    origin.serve("/film.mp4", FILM, headers={"ETag": TAG, "Last-Modified": MODIFIED})
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as first, adapter.wire() as wire:
        await first.request("GET", "/film.mp4")
        await first.response_head()
        await wire.request("GET", "/film.mp4", fields.items())
        if status == 200:
            gate.open()
        response = await wire.response()
        assert response.status == status
        check(status, response.body, response.fields.get("Content-Length"))
        gate.open()
        assert await first.body(len(FILM)) == FILM
    assert origin.count("/film.mp4") == 1


@pytest.mark.parametrize(("fields", "status"), CASES, ids=str)
async def test_passing(adapter: Adapter, origin: ScriptedOrigin, fields: dict[str, str], status: int) -> None:
    headers = {"ETag": TAG, "Last-Modified": MODIFIED, "Date": "Sun, 22 Nov 2026 12:00:00 GMT"}
    origin.serve("/page", FILM, content_type="text/html", headers=headers)
    async with adapter.wire() as wire:
        for _ in range(2):
            response = await wire.get("/page", fields.items())
            assert response.status == status
            check(status, response.body, response.fields.get("Content-Length"))
    assert origin.count("/page") == 2


@pytest.mark.parametrize(("fields", "status"), CASES, ids=str)
async def test_head(adapter: Adapter, origin: ScriptedOrigin, fields: dict[str, str], status: int) -> None:
    """HEAD knows no Range; all else is as for GET."""
    origin.serve("/film.mp4", FILM, headers={"ETag": TAG, "Last-Modified": MODIFIED})
    expected = 200 if status in {206, 416} else status
    async with adapter.wire() as wire:
        for _ in range(2):
            response = await wire.head("/film.mp4", fields.items())
            assert response.status == expected
            assert "Content-Range" not in response.fields
            if expected == 200:
                assert response.fields["Content-Length"] == str(len(FILM))
                assert response.fields["Accept-Ranges"] == "bytes"


async def test_a_date_in_if_range_counts_only_where_it_is_strong(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.serve("/film.mp4", FILM, headers={"Last-Modified": MODIFIED, "Date": MODIFIED})
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4", Range="bytes=0-9", If_Range=MODIFIED)).status == 200
        assert (await wire.get("/film.mp4", Range="bytes=0-9")).status == 206


@pytest.mark.parametrize("status", [404, 410, 301])
async def test_other_statuses_know_neither_conditions_nor_ranges(
    adapter: Adapter, origin: ScriptedOrigin, status: int
) -> None:
    fields = {"Cache-Control": "max-age=60", "Content-Length": "4", "ETag": TAG}
    origin.on("/gone", [Head(status, fields), Body(b"gone")])
    async with adapter.wire() as wire:
        for _ in range(2):
            for asked in ({"Range": "bytes=0-1"}, {"If-None-Match": TAG}, {"If-Match": OTHER}):
                response = await wire.get("/gone", asked.items())
                assert (response.status, response.body) == (status, b"gone")
                assert "Content-Range" not in response.fields
    assert origin.count("/gone") == 1
