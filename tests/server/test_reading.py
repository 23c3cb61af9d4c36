"""The door: what of a request counts, and whom we believe."""

import asyncio

import pytest

from tests.conftest import StartAdapter
from tests.scripted_origin import ScriptedOrigin

TRUSTING = {"server": {"trusted_proxies": "127.0.0.1"}}


async def ask(
    start_adapter: StartAdapter, origin: ScriptedOrigin, request: str, **overrides: object
) -> tuple[int, str | None, str | None]:
    """The status, and the host and scheme that the origin is told; the origin answers 404."""
    adapter = await start_adapter(
        origins={"legacy": {"url": origin.url, "host": "preserve"}},
        routes=[{"name": "all", "mode": "passthrough"}],
        **overrides,
    )
    async with adapter.wire() as wire:
        await wire.send(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        status = (await wire.response()).status
    if not origin.requests:
        return status, None, None
    [seen] = origin.requests
    return status, seen.header("Host"), seen.header("X-Forwarded-Proto")


@pytest.mark.parametrize(
    ("request_head", "host"),
    [
        ("GET / HTTP/1.1\nHost: a", "a"),
        ("GET / HTTP/1.1\nHost:   A.Example.:80  ", "a.example.:80"),
        ("GET / HTTP/1.1\nHost: [2001:DB8::1]:8080", "[2001:db8::1]:8080"),
        ("GET / HTTP/1.1\nHost: 192.0.2.1", "192.0.2.1"),
        ("GET / HTTP/1.1\nHost: a_b-c.example:", "a_b-c.example:"),
        ("GET / HTTP/1.1\nHost:", ""),
        ("GET http://b:81/x HTTP/1.1\nHost: a", "b:81"),
        ("GET HTTP://b?c HTTP/1.1\nHost: a", "b"),
        ("GET http://b/x HTTP/1.0", "b"),
    ],
)
async def test_hosts(
    start_adapter: StartAdapter, origin: ScriptedOrigin, request_head: str, host: str
) -> None:
    assert await ask(start_adapter, origin, request_head) == (404, host, "http")


@pytest.mark.parametrize(
    "host", ["a/b", "a?b", "a b", "a,b c", "u@a", "a:b", "a:80:81", "[::1", "::1", "a\\b", "a<b>", "é"]
)
async def test_what_is_no_host(start_adapter: StartAdapter, origin: ScriptedOrigin, host: str) -> None:
    assert await ask(start_adapter, origin, f"GET / HTTP/1.1\nHost: {host}") == (400, None, None)


@pytest.mark.parametrize("target", ["http://é/x", "other://é:80/", "http://xn--/x", "http://a:b:c/"])
async def test_an_absolute_target_without_a_good_host_has_an_answer(
    start_adapter: StartAdapter, origin: ScriptedOrigin, target: str
) -> None:
    async with asyncio.timeout(10):
        status, host, _ = await ask(start_adapter, origin, f"GET {target} HTTP/1.1\nHost: a")
    assert (status, host) in {(400, None), (404, "xn--")}


async def test_a_question_mark_without_a_path(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    await ask(start_adapter, origin, "GET http://b?c HTTP/1.1\nHost: a")
    assert origin.requests[0].target == b"/?c"


FORWARDED = "GET / HTTP/1.1\nHost: a\nX-Forwarded-Host: x, b\nX-Forwarded-Proto: ftp, https"


async def test_a_trusted_proxy_tells_host_and_scheme(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    assert await ask(start_adapter, origin, FORWARDED, **TRUSTING) == (404, "b", "ftp, https")


async def test_anyone_else_does_not(start_adapter: StartAdapter, origin: ScriptedOrigin) -> None:
    assert await ask(start_adapter, origin, FORWARDED) == (404, "a", "http")


async def test_even_a_trusted_proxy_must_name_a_host(
    start_adapter: StartAdapter, origin: ScriptedOrigin
) -> None:
    request = "GET / HTTP/1.1\nHost: a\nX-Forwarded-Host: b/c"
    assert await ask(start_adapter, origin, request, **TRUSTING) == (400, None, None)
