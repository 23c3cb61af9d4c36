"""The command `range-adapter purge`, as a process, and a service that it talks to."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from proxy.admin.token import FILE
from tests import command
from tests.admin.test_purging import ADMIN, FILM, TOKEN, is_hit
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.together import settled

URL = "http://media.example/film.mp4"
run = partial(command.run, "purge")


def address(adapter: Adapter) -> str:
    assert adapter.service.admin_address is not None
    return adapter.service.admin_address.removeprefix("http://").rstrip("/")


async def stock(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/film.mp4", FILM)
    assert not await is_hit(adapter, "/film.mp4")
    await settled(adapter, origin)


@pytest.fixture
async def stocked(start_adapter: StartAdapter, origin: ScriptedOrigin) -> Adapter:
    adapter = await start_adapter(admin=ADMIN)
    await stock(adapter, origin)
    return adapter


def write_config(path: Path, adapter: Adapter, spool: Path, **admin: str) -> None:
    sections = {
        "origins": {"legacy": {"url": "http://legacy"}},
        "spool": {"path": str(spool)},
        "admin": {"listen": address(adapter), **admin},
    }
    path.write_text(yaml.safe_dump(sections))


async def test_it_works_by_itself_beside_the_service(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """Neither the config nor the command line names a token."""
    adapter = await start_adapter()
    await stock(adapter, origin)
    write_config(tmp_path / "config.yaml", adapter, tmp_path / "spool")
    assert await run(tmp_path, URL, "--tag", "news") == (0, f"purged {URL}\npurged tag news\n", "")
    assert not await is_hit(adapter, "/film.mp4")


async def test_the_spool_of_the_command_line(
    start_adapter: StartAdapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """As the service was started: `serve --spool DIR`."""
    adapter = await start_adapter()
    await stock(adapter, origin)
    flags = ("--admin", address(adapter), "--spool", "spool")
    assert await run(tmp_path, URL, *flags) == (0, f"purged {URL}\n", "")
    assert not await is_hit(adapter, "/film.mp4")


async def test_the_token_of_the_config(stocked: Adapter, tmp_path: Path) -> None:
    write_config(tmp_path / "other.yaml", stocked, tmp_path / "spool", token=TOKEN)
    assert await run(tmp_path, "--all", "--config", "other.yaml") == (0, "purged everything\n", "")
    assert not await is_hit(stocked, "/film.mp4")


async def test_without_a_config(stocked: Adapter, tmp_path: Path) -> None:
    where = ("--admin", address(stocked))
    (tmp_path / "config.yaml").write_text("of another service")
    assert await run(tmp_path, "--soft", URL, *where, "--token", TOKEN) == (0, f"made stale {URL}\n", "")
    done = await run(tmp_path, URL, *where, RANGE_ADAPTER_TOKEN=TOKEN)
    assert done == (0, f"purged {URL}\n", "")
    (tmp_path / "config.yaml").unlink()
    status, output, errors = await run(tmp_path, URL, *where)
    path = tmp_path / ".cache" / "range-adapter" / FILE
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: there is no {path}; is the service running, and with this spool? ")


async def test_over_a_unix_socket(start_adapter: StartAdapter, tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/admin"
    await start_adapter(admin={"listen": where, "token": TOKEN})
    assert await run(tmp_path, "/*", "--admin", where, "--token", TOKEN) == (0, "purged /*\n", "")
    status, _, errors = await run(tmp_path, "/*", "--admin", f"{where}-not", "--token", TOKEN)
    assert status == 1
    assert errors.startswith(f"error: no service at {where}-not: No such file or directory; is it running")


async def test_a_refusal(stocked: Adapter, tmp_path: Path) -> None:
    where = ("--admin", address(stocked), "--token")
    for url, token, why in [
        (URL, "no-such-token-" * 2, "401: bring the token"),
        ("film.mp4", TOKEN, "400: film.mp4: write http://host/path, or /path"),
    ]:
        status, output, errors = await run(tmp_path, url, *where, token)
        assert (status, output) == (1, "")
        assert errors.startswith(f"error: {address(stocked)} answered {why}")
        assert token not in errors
    status, _, errors = await run(tmp_path, URL, *where, "two\nlines")
    assert (status, errors) == (1, "error: the token has characters that no request carries\n")
    assert await is_hit(stocked, "/film.mp4")


async def test_what_is_no_service_of_ours(origin: ScriptedOrigin, tmp_path: Path) -> None:
    where = origin.url.removeprefix("http://").rstrip("/")
    status, _, errors = await run(tmp_path, URL, "--admin", where, "--token", TOKEN)
    assert status == 1
    assert errors == f"error: what answered 404 at {where} is not range-adapter's admin listener\n"


@pytest.fixture
async def closed() -> str:
    """An address where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    return f"{host}:{port}"


async def test_a_service_that_does_not_run(closed: str, tmp_path: Path) -> None:
    status, output, errors = await run(tmp_path, URL, "--admin", closed, "--token", TOKEN)
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: no service at {closed}: ")


async def test_a_service_without_an_admin_listener(tmp_path: Path) -> None:
    sections = {"origins": {"a": {"url": "http://a"}}, "admin": {"listen": None}}
    (tmp_path / "config.yaml").write_text(json.dumps(sections))
    status, _, errors = await run(tmp_path, URL)
    assert (status, errors.startswith("error: the config has no admin listener")) == (1, True)


async def test_the_token_is_not_shown_to_whoever_else_is_there(
    stocked: Adapter, origin: ScriptedOrigin, tmp_path: Path
) -> None:
    """The main listener in place of the admin one would hand it on to the backend."""
    port = stocked.url.removeprefix("http://").rstrip("/")
    status, _, errors = await run(tmp_path, "--admin", port, "--token", TOKEN, "--all")
    assert status == 1
    assert "is not range-adapter's admin listener" in errors
    assert all(TOKEN not in (request.header("Authorization") or "") for request in origin.requests)


@pytest.mark.parametrize("arguments", [[""], ["--tag", ""], ["/a", ""]])
async def test_nothing_is_no_url(tmp_path: Path, arguments: list[str]) -> None:
    status, _, errors = await run(tmp_path, *arguments)
    assert status == 2
    assert "empty" in errors


async def test_an_address_that_is_none(tmp_path: Path) -> None:
    status, _, errors = await run(tmp_path, "--admin", "nonsense", "--all")
    assert status == 2
    assert "there is no service at 'nonsense'" in errors
