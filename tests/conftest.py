"""What every integration test starts from: a scripted origin, and the adapter before it, on real sockets.

And for all tests: whatever of ours blocks the loop, fails.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from proxy.cache import digesting
from proxy.config import parse
from proxy.config.document import read_text
from proxy.server import exchange
from proxy.server.app import Service, start
from tests.scripted_origin import ScriptedOrigin
from tests.wire import Wire

# How fast a machine is, and how busy, is no property of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

StartAdapter = Callable[..., Awaitable["Adapter"]]


class Adapter:
    """A running service and a way to talk to it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.url = service.addresses[0]
        self.tls: ssl.SSLContext | None = None
        """What a client needs to talk to it, where it listens for TLS."""

    def wire(self) -> Wire:
        return Wire(self.url, self.tls)


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """Calls from `proxy` that may block fail on the loop's thread.

    Allowed without being listed, because it takes microseconds: the index' point lookup (its SQLite is not
    Python's), `fstat` of an open descriptor, and `preadv` with RWF_NOWAIT, which returns instead of waiting.
    """
    # The config is read before there is a loop; tests read theirs on it.
    with blockbuster_ctx("proxy", excluded_modules=["proxy.config"]) as blockbuster:
        # asyncio calls it on sockets it knows to be writable, for files whose pages it need not wait for.
        blockbuster.functions["os.sendfile"].deactivate()
        # Locks that threads hold for an instant: queues of executors and of the log.
        blockbuster.functions["threading.Lock.acquire"].deactivate()
        blockbuster.functions["threading.Lock.acquire_lock"].deactivate()
        yield


@pytest.fixture
def heads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head waits for its body's first bytes, however long they take: until then an answer can be taken back."""
    monkeypatch.setattr(exchange, "HEAD_DELAY", 60)


@pytest.fixture
def digests_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is: what reckons them gives way to everybody."""
    monkeypatch.setattr(digesting, "WAIT", 60)


@pytest.fixture
async def origin() -> AsyncIterator[ScriptedOrigin]:
    async with ScriptedOrigin() as scripted:
        yield scripted


@pytest.fixture
async def start_adapter(origin: ScriptedOrigin, tmp_path: Path) -> AsyncIterator[StartAdapter]:
    """Starts adapters before `origin`; `overrides` are merged into the config, section by section."""
    running: list[Service] = []

    async def starting(**overrides: Any) -> Adapter:
        config: dict[str, Any] = {
            "server": {"listen": "127.0.0.1:0", "timeouts": {"drain": "2s"}},
            "admin": {"listen": "127.0.0.1:0"},
            "spool": {"path": str(tmp_path / "spool"), "min_free": "0B"},
            "origins": {"legacy": {"url": origin.url}},
            "logging": {"access": False},
        }
        text = yaml.safe_dump(_merged(config, overrides), sort_keys=False)
        service = await start(parse(read_text(text, "test.yaml", {}), {}))
        running.append(service)
        return Adapter(service)

    yield starting
    for service in running:
        await service.stop()


@pytest.fixture
async def impatient(start_adapter: StartAdapter, origin: ScriptedOrigin) -> "Adapter":
    """Asks an origin that breaks off a body no second time."""
    return await start_adapter(origins={"legacy": {"url": origin.url, "timeouts": {"resume": "0s"}}})


@pytest.fixture
async def adapter(start_adapter: StartAdapter) -> "Adapter":
    return await start_adapter()


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
