"""Connections to an origin: several addresses, names that cannot be looked up, and every wait ends."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.errors import ConnectTimeout, OriginDown, OriginError, OriginTimeout, OriginUnreachable, Overloaded
from proxy.origin import Origin, OriginRequest
from tests.scripted_origin import Head, Pause, ScriptedOrigin, Stall
from tests.spool.objects import eventually
from tests.test_origin import FIELDS, before, get, hello, whole

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GONE = OSError(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_NAME = OSError(socket.EAI_NONAME, "Name or service not known")


class Names(AbstractResolver):
    """Answers with these addresses, or this error; `asked` counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.error: OSError | None = None
        self.silent = False
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return [_result(host, address, port) for address in self.addresses]

    async def close(self) -> None: ...


def _result(host: str, address: str, port: int) -> ResolveResult:
    return {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}


class Site:
    """Servers on several loopback addresses and one port, and a client that knows them by one name."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.names = Names()
        self.seen: list[str] = []
        self.scheme = "http"
        self.parts = contextlib.AsyncExitStack()

    async def serve(self, address: str, answer: Serve, tls: ssl.SSLContext | None = None) -> None:
        async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.seen.append(address)
            try:
                await answer(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(noted, address, self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        await self.parts.enter_async_context(server)

    def black_hole(self, address: str) -> None:
        """It takes no more connections, and does not say so."""
        full = self.parts.enter_context(socket.socket())
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        full.bind((address, self.port))
        full.listen(0)
        self.port = full.getsockname()[1]
        for _ in range(3):
            one = self.parts.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((address, self.port))

    def client(self, *addresses: str, **limits: float) -> Origin:
        self.names.addresses = addresses
        origin = before(f"{self.scheme}://localhost:{self.port}", **limits)
        origin.connector._resolver = self.names
        self.parts.push_async_callback(origin.close)
        return origin


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with site.parts:
        yield site


async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and say nothing."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin an answer, and break off."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200")
    await writer.drain()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


# Several addresses


async def test_the_first_refuses(site: Site) -> None:
    await site.serve(TWO, hello)
    client = site.client(ONE, TWO)
    for _ in range(4):
        assert await whole(client, get()) == b"hello"
    assert client.health.failures == 0, "the origin as a whole did not fail"


async def test_the_first_takes_no_connection(site: Site) -> None:
    await site.serve(THREE, hello)
    for address in (ONE, TWO):
        site.black_hole(address)
    client = site.client(ONE, TWO, THREE, connect=20)
    for _ in range(3):
        assert await whole(client, get()) == b"hello"
    assert client.health.failures == 0


async def test_the_first_drops_the_request(site: Site) -> None:
    await site.serve(ONE, drop)
    await site.serve(TWO, hello)
    assert await whole(site.client(ONE, TWO), get()) == b"hello"
    assert site.seen == [ONE, TWO]


async def test_what_may_have_been_done_is_not_repeated(site: Site) -> None:
    await site.serve(ONE, drop)
    await site.serve(TWO, hello)
    with pytest.raises(OriginUnreachable):
        await site.client(ONE, TWO).fetch(OriginRequest("POST", "/x", FIELDS))
    assert site.seen == [ONE]


@pytest.mark.parametrize(("first", "addresses"), [(begin, [ONE, TWO]), (drop, [ONE])])
async def test_what_has_been_answered_or_has_nowhere_to_go_is_not_repeated(
    site: Site, first: Serve, addresses: list[str]
) -> None:
    await site.serve(ONE, first)
    await site.serve(TWO, hello)
    with pytest.raises(OriginError):
        await site.client(*addresses).fetch(get())
    assert site.seen == [ONE]


async def test_a_request_is_repeated_once(site: Site) -> None:
    for address in (ONE, TWO, THREE):
        await site.serve(address, drop)
    with pytest.raises(OriginUnreachable):
        await site.client(ONE, TWO, THREE).fetch(get())
    assert site.seen == [ONE, TWO]


async def test_all_refuse(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind((ONE, 0))
        site.port = unused.getsockname()[1]
        client = site.client(ONE, TWO, THREE)
        with pytest.raises(OriginDown, match="cannot reach"):
            await client.fetch(get())
    assert client.health.failures == 1


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trust)
    return context


async def test_the_first_never_ends_its_tls_handshake(site: Site, tls: ssl.SSLContext) -> None:
    site.scheme = "https"
    await site.serve(ONE, silence)
    await site.serve(TWO, hello, tls)
    client = site.client(ONE, TWO, connect=1)
    assert await whole(client, get()) == b"hello"
    assert site.seen[0] == ONE
    assert client.health.failures == 0


# Names


@pytest.fixture
async def known(site: Site) -> Origin:
    """Looked up, and so long ago that it has to be looked up again."""
    await site.serve(ONE, hello)
    client = site.client(ONE)
    assert await whole(client, get()) == b"hello"
    client.connector._cached_hosts._ttl = -1
    return client


async def test_addresses_are_used_on_while_the_name_cannot_be_looked_up(site: Site, known: Origin) -> None:
    site.names.error = GONE
    for _ in range(3):
        assert await whole(known, get()) == b"hello"
    assert site.names.asked == 4, "each time it is asked first"
    assert known.health.is_up


async def test_a_lookup_that_takes_long_is_not_waited_for(
    site: Site, known: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.connector.LOOKUP_PATIENCE", 0.01)
    site.names.silent = True
    for _ in range(3):
        assert await whole(known, get()) == b"hello"
    assert site.names.asked == 2, "it goes on, for all"


async def test_a_name_that_is_no_more_is_believed(site: Site, known: Origin) -> None:
    """Its addresses may be somebody else's by now."""
    site.names.error = NO_NAME
    with pytest.raises(OriginDown, match="not known"):
        await known.fetch(get())


async def test_a_name_that_was_never_known(site: Site) -> None:
    site.names.error = GONE
    with pytest.raises(OriginDown, match="Temporary failure"):
        await site.client().fetch(get())


# Time-outs


async def test_no_connection_in_time(site: Site) -> None:
    site.black_hole(ONE)
    with pytest.raises(ConnectTimeout, match=r"0\.1 s"):
        await site.client(ONE, connect=0.1).fetch(get())


async def test_no_connection_in_time_from_any_address(site: Site) -> None:
    for address in (ONE, TWO, THREE):
        site.black_hole(address)
    client = site.client(ONE, TWO, THREE, connect=0.5)
    with pytest.raises(ConnectTimeout):
        async with asyncio.timeout(5):
            await client.fetch(get())
    assert client.health.failures == 1


async def test_no_lookup_in_time(site: Site) -> None:
    site.names.silent = True
    with pytest.raises(ConnectTimeout):
        await site.client(connect=0.1).fetch(get())


async def test_no_tls_in_time(site: Site) -> None:
    site.scheme = "https"
    for address in (ONE, TWO):
        await site.serve(address, silence)
    with pytest.raises(ConnectTimeout):
        await site.client(ONE, TWO, connect=0.3).fetch(get())
    assert sorted(site.seen) == [ONE, TWO]


async def test_no_head_in_time(site: Site) -> None:
    await site.serve(ONE, silence)
    client = site.client(ONE, first_byte=0.1)
    with pytest.raises(OriginTimeout) as late:
        await client.fetch(get())
    assert not isinstance(late.value, ConnectTimeout)
    assert client.health.failures == 0, "the next request may be answered"


# The queue for a connection


@pytest.fixture
async def busy(origin: ScriptedOrigin) -> AsyncIterator[tuple[Origin, asyncio.Event]]:
    """All connections, two, wait for their heads until the event is set."""
    client, go = before(origin.url, queue=0.1, max_waiting=2), asyncio.Event()
    origin.on("/x", [Pause(go), Head(200, {"Content-Length": "0"})])
    crowd = [asyncio.create_task(whole(client, get())) for _ in range(2)]
    await origin.requested("/x", 2)
    yield client, go
    go.set()
    await asyncio.gather(*crowd)
    await client.close()


async def test_no_connection_becomes_free_in_time(busy: tuple[Origin, asyncio.Event]) -> None:
    client, _ = busy
    with pytest.raises(Overloaded) as refusal:
        await client.fetch(get())
    assert refusal.value.reason == "no-connection"
    assert client.health.failures == 0, "that is not the origin's fault"
    assert client.connector.waiting == 0
    assert client.connector.refused == {"no-connection": 1}


async def test_too_many_wait_for_a_connection(busy: tuple[Origin, asyncio.Event]) -> None:
    client, go = busy
    client.connector._queue_timeout = 20
    waiting = [asyncio.create_task(whole(client, get())) for _ in range(2)]
    await eventually(lambda: client.connector.waiting == 2)
    with pytest.raises(Overloaded) as refusal:
        await client.fetch(get())
    assert refusal.value.reason == "queue-full"
    go.set()
    assert await asyncio.gather(*waiting) == [b"", b""]


async def test_who_leaves_in_the_moment_of_its_turn_leaves_it_to_the_next(origin: ScriptedOrigin) -> None:
    client, go = before(origin.url, max_connections=1, queue=3600), asyncio.Event()
    origin.on("/x", [Pause(go), Head(200, {"Content-Length": "0"})])
    first, leaving, staying = (asyncio.create_task(whole(client, get())) for _ in range(3))
    await eventually(lambda: client.connector.waiting == 2)
    released = client.connector._release_waiter

    def release_and_leave() -> None:
        released()
        leaving.cancel()

    client.connector._release_waiter = release_and_leave  # type: ignore[method-assign]
    go.set()
    assert [*await asyncio.gather(first, staying)] == [b"", b""]
    await asyncio.wait({leaving})
    assert leaving.cancelled()
    await client.close()


# Health


async def fail_often(client: Origin) -> None:
    for _ in range(3):
        with pytest.raises(OriginError):
            await client.fetch(get())
    assert not client.health.is_up


async def test_one_that_is_down_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.black_hole(ONE)
    client = site.client(ONE, connect=0.1)
    await fail_often(client)
    monkeypatch.setattr(client.health, "_next_probe", float("inf"))
    client.connector._connect_within = 3600
    for fetching in (client.fetch(get()), client.fetch_whole(get(), "192.0.2.1")):
        with pytest.raises(ConnectTimeout, match=r"0\.1 s"):
            await fetching
    assert client.slots.in_use == 0
    assert client.health.failures == 3


async def test_it_is_up_again_with_the_first_success(origin: ScriptedOrigin) -> None:
    recovered = asyncio.Event()
    client = before(origin.url, on_recovery=recovered.set)
    await origin.stop()
    await fail_often(client)
    await origin.start()
    client.health._next_probe = 0.0
    origin.on("/x", [Head(204)])
    assert await whole(client, get()) == b""
    assert client.health.is_up
    assert recovered.is_set()
    assert client.health.probes == 1
    await client.close()


async def test_a_probe_whose_client_leaves(site: Site) -> None:
    site.black_hole(ONE)
    client = site.client(ONE, connect=0.1)
    await fail_often(client)
    client.health._next_probe = 0.0
    client.connector._connect_within = 3600
    probe = asyncio.create_task(client.fetch(get()))
    await eventually(lambda: client.health.probes == 1)
    assert client.health.refuses(asyncio.get_running_loop().time())
    probe.cancel()
    await asyncio.wait({probe})
    assert not client.health.refuses(asyncio.get_running_loop().time())


async def test_what_a_client_can_provoke_holds_nobody_for_down(origin: ScriptedOrigin) -> None:
    client = before(origin.url, first_byte=0.1)
    origin.on("/silent", [Stall()])
    origin.on("/broken", [])
    origin.on("/error", [Head(503, {"Content-Length": "0"})])
    for path in ("/silent", "/broken", "/error"):
        for _ in range(5):
            with contextlib.suppress(OriginError):
                (await client.fetch(get(path))).close()
    assert client.health.failures == 0
    assert client.health.is_up
    await client.close()


async def test_sockets_that_we_lack_are_not_the_origins_fault(
    origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = before(origin.url)

    def none_left(*args: object, **kwargs: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("aiohappyeyeballs.impl.socket.socket", none_left)
    for _ in range(5):
        with pytest.raises(Overloaded, match="Too many open files"):
            await client.fetch(get())
    assert client.health.is_up
    await client.close()
