"""TLS towards clients: what holds on a plain connection holds there, and the certificate is renewed meanwhile."""

import asyncio
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy.server import tls
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.server.pki import Pki, over_tls
from tests.server.process import serving
from tests.server.test_entrance import metric, report
from tests.together import until
from tests.wire import Wire

FILM = bytes(range(256)) * 4000
StartTls = Callable[..., Awaitable[Adapter]]


@pytest.fixture
def start_tls(start_adapter: StartAdapter, pki: Pki) -> StartTls:
    starting = over_tls(start_adapter, pki)

    async def with_server(**server: object) -> Adapter:
        return await starting(server=server)

    return with_server


def serial(wire: Wire) -> str:
    """Of the certificate that this connection was shown."""
    certificate = wire.writer.get_extra_info("peercert")
    return str(certificate["serialNumber"])


async def test_ranges_over_tls(start_tls: StartTls, pki: Pki, origin: ScriptedOrigin) -> None:
    adapter = await start_tls()
    assert adapter.url.startswith("https://")
    origin.serve("/film.mp4", FILM)
    async with Wire(adapter.url, pki.client) as wire:
        for _ in range(2):  # as it comes, and from the spool
            response = await wire.get("/film.mp4", Range="bytes=70000-799999")
            assert (response.status, response.body) == (206, FILM[70000:800000])
        assert (await wire.get("/film.mp4")).body == FILM
        response = await wire.get("/film.mp4", Range="bytes=0-0,5-600000")
        assert [data for _, data in response.parts()] == [FILM[:1], FILM[5:600001]]


async def test_what_clients_are_offered(start_tls: StartTls, pki: Pki, origin: ScriptedOrigin) -> None:
    adapter = await start_tls()
    pki.client.set_alpn_protocols(["h2", "http/1.1"])
    async with Wire(adapter.url, pki.client) as wire:
        connection: ssl.SSLObject = wire.writer.get_extra_info("ssl_object")
        assert (connection.version(), connection.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
        assert connection.compression() is None
    pki.client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with Wire(adapter.url, pki.client) as wire:
        assert wire.writer.get_extra_info("ssl_object").version() == "TLSv1.2"


async def test_the_origin_hears_that_it_was_https(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls()
    origin.serve("/film.mp4", FILM)
    async with Wire(adapter.url, pki.client) as wire:
        await wire.get("/film.mp4")
    assert origin.requests[0].values("X-Forwarded-Proto") == ["https"]


async def test_plain_and_tls_side_by_side(start_tls: StartTls, pki: Pki, origin: ScriptedOrigin) -> None:
    adapter = await start_tls(listen=["127.0.0.1:0", "https://127.0.0.1:0"])
    plain, over_tls = adapter.service.addresses
    origin.serve("/film.mp4", FILM)
    async with Wire(plain) as wire, Wire(over_tls, pki.client) as secret:
        assert (await wire.get("/film.mp4")).body == (await secret.get("/film.mp4")).body == FILM


async def test_a_body_that_ends_with_the_connection_is_never_cut_to_look_whole(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls(timeouts={"drain": "0s"})
    origin.serve("/live", FILM, chunked=True)
    gate = origin.gate("/live", 100_000)
    async with Wire(adapter.url, pki.client) as wire:
        await wire.request("GET", "/live", version="HTTP/1.0")
        await gate.reached()
        await wire.body(1000)
        stopping = asyncio.create_task(adapter.service.stop())
        with pytest.raises(ConnectionResetError):  # no close_notify, which would be the body's end
            await wire.reader.read()
        await stopping


# --- Handshakes -----------------------------------------------------------------------------------


async def test_plain_http_where_tls_is_spoken_is_told_once(
    start_tls: StartTls, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls()
    with capture_logs() as lines:
        for _ in range(3):
            async with Wire(adapter.url) as wire:
                await wire.request("GET", "/film.mp4")
                assert await wire.closed()
        while await metric(adapter, 'range_adapter_failed_handshakes_total{reason="plain-http"}') != 3:
            pass
    [line] = [line for line in lines if line["event"] == "TLS handshakes fail"]
    assert (line["reason"], "https://" in line["why"]) == ("plain-http", True)
    assert (await report(adapter))["open"] == 0


async def test_who_trusts_somebody_else_is_told_once(start_tls: StartTls, origin: ScriptedOrigin) -> None:
    adapter = await start_tls()
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                async with Wire(adapter.url, ssl.create_default_context()):
                    pass
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        stranger.maximum_version = ssl.TLSVersion.TLSv1_2
        stranger.set_ciphers("AES128-SHA")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with Wire(adapter.url, stranger):
                pass
        while await metric(adapter, 'range_adapter_failed_handshakes_total{reason="tls"}') < 1:
            pass
    assert len([line for line in lines if line["event"] == "TLS handshakes fail"]) == 1


async def test_who_only_looks_whether_somebody_listens_is_no_incident(
    start_tls: StartTls, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls()
    with capture_logs() as lines:
        async with Wire(adapter.url):
            pass
        while await metric(adapter, 'range_adapter_failed_handshakes_total{reason="client-gone"}') != 1:
            pass
    assert not lines
    assert (await report(adapter))["open"] == 0


async def test_a_slow_handshake_ends_like_a_slow_head(start_tls: StartTls, origin: ScriptedOrigin) -> None:
    adapter = await start_tls(timeouts={"head": "100ms"})
    async with Wire(adapter.url) as wire:
        await wire.send(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
        assert await wire.closed()
    assert await metric(adapter, 'range_adapter_timed_out_connections_total{limit="head"}') == 1
    assert (await report(adapter))["open"] == 0


async def test_connections_count_before_their_handshake(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls(limits={"connections": 1})
    async with Wire(adapter.url):
        while (await report(adapter))["open"] != 1:
            pass
        with pytest.raises((ConnectionError, ssl.SSLError)):
            async with Wire(adapter.url, pki.client):
                pass
    while (await report(adapter))["open"]:
        pass
    async with Wire(adapter.url, pki.client) as wire:
        origin.serve("/film.mp4", FILM)
        assert (await wire.get("/film.mp4")).body == FILM


async def test_handshakes_that_are_not_done_delay_no_end(start_tls: StartTls, origin: ScriptedOrigin) -> None:
    adapter = await start_tls()
    async with Wire(adapter.url) as wire:
        while (await report(adapter))["open"] != 1:
            pass
        await adapter.service.stop()
        assert await wire.closed()


# --- Clients --------------------------------------------------------------------------------------


async def test_running_answers_end_whole(start_tls: StartTls, pki: Pki, origin: ScriptedOrigin) -> None:
    adapter = await start_tls()
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 500_000)
    async with Wire(adapter.url, pki.client) as wire:
        await wire.request("GET", "/film.mp4")
        await gate.reached()
        stopping = asyncio.create_task(adapter.service.stop())
        await until(lambda: adapter.service.draining)
        gate.open()
        assert (await wire.response()).body == FILM
        assert await wire.closed()
        await stopping


async def test_a_client_that_goes_in_the_middle_leaves_nothing(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls()
    origin.serve("/film.mp4", FILM)
    gate = origin.gate("/film.mp4", 500_000)
    with capture_logs() as lines:
        async with Wire(adapter.url, pki.client) as wire:
            await wire.request("GET", "/film.mp4")
            await wire.response_head()
            await gate.reached()
            wire.writer.transport.abort()
        while (await report(adapter))["open"]:
            pass
        gate.open()
        async with Wire(adapter.url, pki.client) as wire:
            assert (await wire.get("/film.mp4")).body == FILM
    assert not [line for line in lines if line["log_level"] in {"error", "warning"}]


async def test_a_client_that_takes_nothing_is_cut_off(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin
) -> None:
    adapter = await start_tls(timeouts={"send_idle": "200ms"})
    origin.serve("/long", FILM * 16)
    async with Wire(adapter.url, pki.client) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.request("GET", "/long")
        while await metric(adapter, 'range_adapter_timed_out_connections_total{limit="send_idle"}') != 1:
            pass
    while (await report(adapter))["open"]:
        pass


# --- Renewal --------------------------------------------------------------------------------------


async def test_a_new_certificate_is_shown_without_a_restart(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.01)
    adapter = await start_tls()
    origin.serve("/film.mp4", FILM)
    async with Wire(adapter.url, pki.client) as old:
        first = serial(old)
        pki.renew()
        while True:
            async with Wire(adapter.url, pki.client) as new:
                if serial(new) != first:
                    break
        assert (await old.get("/film.mp4")).body == FILM


async def test_a_certificate_that_does_not_fit_is_not_shown(
    start_tls: StartTls, pki: Pki, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.01)
    adapter = await start_tls()
    async with Wire(adapter.url, pki.client) as wire:
        first = serial(wire)
    with capture_logs() as lines:
        pki.renew(key=False)
        await until(lambda: bool(lines))
        async with Wire(adapter.url, pki.client) as wire:
            assert serial(wire) == first
        pki.renew()
        await until(lambda: lines[-1]["event"] == "the certificate is read again")
        async with Wire(adapter.url, pki.client) as wire:
            assert serial(wire) != first
    assert [line["event"] for line in lines] == [
        "the new certificate cannot be used, the old one goes on",
        "an incident is over",
        "the certificate is read again",
    ]
    assert "is not the key of" in lines[0]["why"]


async def test_sighup_renews_at_once(pki: Pki, origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.serve("/film.mp4", FILM)
    async with serving(origin, tmp_path, listen="https://127.0.0.1:0", tls=pki.config) as service:
        await service.ready()
        async with Wire(service.url, pki.client) as wire:
            first = serial(wire)
        times = [(path, path.stat().st_mtime_ns) for path in (pki.certificate, pki.key)]
        pki.renew()
        for path, time in times:  # the look at the files tells nothing
            os.utime(path, ns=(time, time))
        service.process.send_signal(signal.SIGHUP)
        await until(lambda: '"the certificate is read again"' in service.errors)
        async with Wire(service.url, pki.client) as wire:
            assert serial(wire) != first
            assert (await wire.get("/film.mp4")).body == FILM
