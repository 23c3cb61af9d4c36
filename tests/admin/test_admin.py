"""Health, metrics and status, on a listener of their own."""

import json
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

import proxy
from proxy.spool.condition import Trouble
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.together import settled
from tests.wire import Response, Wire

FILM = bytes(range(256)) * 40


async def get(adapter: Adapter, path: str, accept: str = "*/*") -> Response:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        return await wire.get(path, Accept=accept)


async def samples(adapter: Adapter) -> dict[str, list[tuple[dict[str, str], float]]]:
    text = (await get(adapter, "/metrics")).body.decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in prometheus(text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def status(adapter: Adapter) -> dict[str, Any]:
    response = await get(adapter, "/status.json")
    assert response.fields["Content-Type"].startswith("application/json")
    return json.loads(response.body)  # type: ignore[no-any-return]


async def test_health(adapter: Adapter) -> None:
    for path in ("/livez", "/readyz"):
        response = await get(adapter, path)
        assert (response.status, response.body) == (200, b"ok\n")


async def test_admin_is_not_on_the_public_listener(adapter: Adapter, origin: ScriptedOrigin) -> None:
    async with adapter.wire() as wire:
        for path in ("/livez", "/readyz", "/metrics", "/status.json"):
            assert (await wire.get(path)).status == 404
            assert origin.count(path) == 1  # it is the origin's


async def test_the_admin_listener_can_be_switched_off(start_adapter: StartAdapter) -> None:
    adapter = await start_adapter(admin={"listen": None})
    assert adapter.service.admin_address is None


async def test_metrics_are_what_prometheus_reads(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        await wire.get("/film.mp4")
        await settled(adapter, origin)
        await wire.get("/film.mp4", Range="bytes=0-9")
        await wire.get("/film.mp4", Range="bytes=99999999-")
        await wire.head("/film.mp4")
    found = await samples(adapter)
    requests = {
        (labels["method"], labels["status"], labels["cache"]): value
        for labels, value in found["range_adapter_requests_total"]
    }
    assert requests == {
        ("GET", "200", "uri-miss"): 1,
        ("GET", "206", "hit"): 1,
        ("GET", "416", "hit"): 1,
        ("HEAD", "200", "hit"): 1,
    }
    assert found["range_adapter_spool_bytes"] == [({}, len(FILM))]
    assert found["range_adapter_spool_objects"] == [({}, 1)]
    assert found["range_adapter_fetches_total"] == [({}, 1)]
    assert found["range_adapter_fill_bytes_total"] == [({}, len(FILM))]
    assert found["range_adapter_requests_in_progress"] == [({}, 0)]
    assert found["range_adapter_request_seconds_count"] == [({"route": "all"}, 4)]


async def test_openmetrics_for_those_who_ask(adapter: Adapter) -> None:
    response = await get(adapter, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert response.fields["Content-Type"].startswith("application/openmetrics-text")
    assert list(openmetrics(response.body.decode()))  # type: ignore[no-untyped-call]


async def test_no_client_makes_a_label(adapter: Adapter, origin: ScriptedOrigin) -> None:
    """Else a scan of the site would fill the memory of two services."""
    origin.serve("/film.mp4", FILM)
    async with adapter.wire() as wire:
        for number in range(30):
            await wire.request(f"M{number}", f"/path-{number}", Host=f"host-{number}.example")
            await wire.response()
            await wire.get(f"/path-{number}?{number}", Cookie=f"a={number}")
    for number in range(5):
        async with adapter.wire() as wire:
            await wire.send(b"BAD%d / HTTP/1.1\r\nbroken\r\n\r\n" % number)
            await wire.response()
    known = {
        "route": {"all", ""},
        "method": {"GET", "HEAD", "other"},
        "status": {"200", "404", "400"},
        "cache": {"uri-miss", "method", "none"},
        "origin": {"legacy"},
        "limit": {
            *("connections", "connections_per_client", "descriptors"),
            *("head", "keep_alive", "send_idle", "send_rate"),
        },
        "reason": {"malformed-request", *(trouble.value for trouble in Trouble)},
    }
    for values in (await samples(adapter)).values():
        for labels, _ in values:
            for name, value in labels.items():
                assert name == "le" or value in known[name]


async def test_status_tells_of_fills(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 1000)
    async with adapter.wire() as wire:
        await wire.request("GET", "/film.mp4", Cookie="session=secret", Host="media.example")
        await wire.response_head()
        await wire.body(1000)
        report = await status(adapter)
        assert report["version"] == proxy.__version__
        assert (report["ready"], report["requests_in_progress"]) == (True, 1)
        [fill] = report["fills"]
        assert fill["object"].startswith("legacy http://media.example/film.mp4 (partition ")
        assert (fill["complete_length"], fill["followers"], fill["partition"]) == (len(FILM), 1, True)
        assert fill["written_bytes"] == 1000
        assert "secret" not in json.dumps(report)
        found = await samples(adapter)
        assert found["range_adapter_fills_in_progress"] == [({}, 1)]
        assert found["range_adapter_fill_followers"] == [({}, 1)]
        gate.open()
        await wire.body(len(FILM) - 1000)
    await settled(adapter, origin)
    report = await status(adapter)
    assert report["spool"]["objects"] == 1
    assert report["spool"]["stored_bytes"] == len(FILM)


async def test_what_it_does_not_know(adapter: Adapter) -> None:
    assert (await get(adapter, "/")).status == 404
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        await wire.request("POST", "/metrics")
        assert (await wire.response()).status == 405
