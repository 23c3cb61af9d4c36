"""What happens when the fault is ours: one answer, one line, and nothing of our inside."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from proxy.server.adapting import Adapting
from proxy.server.exchange import Exchange
from tests.conftest import Adapter
from tests.scripted_origin import ScriptedOrigin
from tests.wire import Wire


async def failures(adapter: Adapter) -> dict[str, float]:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        text = (await wire.get("/metrics")).body.decode()
    return {
        sample.labels["reason"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "range_adapter_failures_total"
    }


async def test_a_bug_before_the_head_is_a_500(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Adapting, "answer", broken)
    async with adapter.wire() as wire:
        for _ in range(2):
            with capture_logs() as logged:
                response = await wire.get("/film.mp4")
            assert isinstance(logged[0]["exc_info"], KeyError)
            assert (response.status, response.body) == (500, b"500 Internal Server Error: internal-error\n")
            assert response.cache_status == "range-adapter;detail=internal-error"
    assert await failures(adapter) == {"internal-error": 2}


async def test_a_bug_after_the_head_cuts_the_answer(
    adapter: Adapter, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve("/film.mp4", b"x" * 100_000)

    async def broken(self: Exchange) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Exchange, "finish", broken)
    with capture_logs() as logged:
        async with adapter.wire() as wire:
            await wire.request("GET", "/film.mp4")
            await wire.response_head()
            await wire.body(100_000)
            assert await wire.closed()
    assert isinstance(logged[0]["exc_info"], KeyError)
    assert await failures(adapter) == {"internal-error": 1}
