"""`POST /purge`: who may, what is understood, and that it happens whole or not at all."""

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from proxy.admin.purging import MAX_BODY, Order, purge_door, read_order
from proxy.admin.token import FILE, Token, read_token
from proxy.config.model import Admin
from proxy.errors import ClientError, SpoolError, SpoolFull
from proxy.semantics.purging import Purge, Under
from tests.conftest import Adapter, StartAdapter
from tests.scripted_origin import ScriptedOrigin
from tests.together import settled
from tests.wire import Response, Wire

FILM = bytes(range(256)) * 40
TOKEN = "sesame-sesame-sesame"
ADMIN = {"listen": "127.0.0.1:0", "token": TOKEN}


async def post(
    adapter: Adapter,
    body: bytes,
    *,
    method: str = "POST",
    authorization: str | None = f"Bearer {TOKEN}",
    content_type: str = "application/json",
) -> Response:
    assert adapter.service.admin_address is not None
    headers = [("Content-Type", content_type)]
    if authorization is not None:
        headers.append(("Authorization", authorization))
    async with Wire(adapter.service.admin_address) as wire:
        await wire.request(method, "/purge", headers, body)
        return await wire.response()


async def purge(adapter: Adapter, **order: Any) -> tuple[int, Any]:
    response = await post(adapter, json.dumps(order).encode())
    assert response.fields["Content-Type"].startswith("application/json")
    return response.status, json.loads(response.body)


async def page(adapter: Adapter, path: str) -> str:
    assert adapter.service.admin_address is not None
    async with Wire(adapter.service.admin_address) as wire:
        return (await wire.get(path)).body.decode()


async def is_hit(adapter: Adapter, target: str, host: str = "media.example") -> bool:
    async with adapter.wire() as wire:
        return ";hit" in (await wire.get(target, Host=host)).cache_status


@pytest.fixture
async def stocked(start_adapter: StartAdapter, origin: ScriptedOrigin) -> Adapter:
    """An adapter that has /films/a.mp4, /films/b.mp4 and /news.pdf of media.example."""
    adapter = await start_adapter(admin=ADMIN)
    tagged = {"Cache-Tag": "news, today"}
    for count, target in enumerate(("/films/a.mp4", "/films/b.mp4", "/news.pdf"), 1):
        origin.serve(target, FILM, headers=tagged if target == "/news.pdf" else {})
        assert not await is_hit(adapter, target)
        await settled(adapter, origin, count)
    return adapter


# --- Who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        "Bearer \xe9\xff",
        "Bearer " + "x" * 20,
    ],
)
async def test_nothing_is_purged_without_the_token(stocked: Adapter, authorization: str | None) -> None:
    response = await post(stocked, b'{"all": true}', authorization=authorization)
    assert (response.status, response.fields["WWW-Authenticate"]) == (401, "Bearer")
    assert "admin.token in the config" in json.loads(response.body)["error"]
    assert await is_hit(stocked, "/news.pdf")


@pytest.mark.parametrize("authorization", [f"bearer {TOKEN}", f"Bearer  {TOKEN}"])
async def test_the_scheme_is_a_word_like_others(stocked: Adapter, authorization: str) -> None:
    assert (await post(stocked, b'{"tags": ["x"]}', authorization=authorization)).status == 200


async def test_a_token_is_made_at_each_start(start_adapter: StartAdapter, tmp_path: Path) -> None:
    adapter = await start_adapter()
    path = tmp_path / "spool" / FILE
    first = path.read_text().strip()
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    refused = await post(adapter, b'{"all": true}', authorization=None)
    assert str(path) in json.loads(refused.body)["error"]
    assert (await post(adapter, b'{"all": true}', authorization=f"Bearer {first}")).status == 200
    await adapter.service.stop()
    adapter = await start_adapter()
    second = path.read_text().strip()
    assert first != second
    assert (await post(adapter, b'{"all": true}', authorization=f"Bearer {first}")).status == 401
    assert (await post(adapter, b'{"all": true}', authorization=f"Bearer {second}")).status == 200
    assert [each.name for each in path.parent.glob(f"{FILE}*")] == [FILE]


async def test_the_token_is_told_nowhere(stocked: Adapter) -> None:
    said = [await page(stocked, path) for path in ("/status.json", "/metrics", "/purge")]
    said.append((await post(stocked, b"{}")).body.decode())
    said.append((await post(stocked, b"{}", authorization="Bearer x")).body.decode())
    said += [repr(Token.configured(TOKEN)), repr(Admin(token=TOKEN))]
    assert TOKEN not in "".join(said)


def test_a_token_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r"there is no .*admin-token; is the service running"):
        read_token(tmp_path)
    (tmp_path / FILE).write_bytes(b"\xff")
    with pytest.raises(SpoolError, match=r"cannot read .*: it is no token"):
        read_token(tmp_path)


@pytest.mark.parametrize(
    ("uid", "hidden", "reader"),
    [(4_000_000, False, "user 4000000 or root"), (0, False, "root"), (4_000_000, True, "root")],
)
def test_a_token_that_others_may_read(
    monkeypatch: pytest.MonkeyPatch, uid: int, hidden: bool, reader: str
) -> None:
    """`hidden`: in a folder that we may not even look into."""

    def refuse(*_: object) -> str:
        raise PermissionError

    def told(path: Path) -> SimpleNamespace:
        if hidden and path.parts[:3] == ("/", "spools", "private"):
            raise PermissionError
        return SimpleNamespace(st_uid=0 if hidden else uid)

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr("proxy.admin.token.os.stat", told)
    with pytest.raises(SpoolError) as caught:
        read_token(Path("/spools/private/ours"))
    path = f"/spools/private/ours/{FILE}"
    assert str(caught.value) == f"you may not read {path}; run this as {reader} (sudo)"


async def test_other_methods(stocked: Adapter) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "PURGE"):
        response = await post(stocked, b'{"all": true}', method=method)
        assert (response.status, response.fields["Allow"]) == (405, "POST")
        assert "Access-Control-Allow-Origin" not in response.fields
    assert await is_hit(stocked, "/news.pdf")


# --- What is understood ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "this is no JSON"),
        (b"{", "this is no JSON"),
        (b"\xff", "this is no JSON"),
        (b"[" * 100_000, "this is no JSON"),
        (b"[]", "send an object"),
        (b'"/a"', "send an object"),
        (b"{}", "nothing to purge"),
        (b'{"soft": true}', "nothing to purge"),
        (b'{"all": false, "urls": [], "tags": []}', "nothing to purge"),
        (b'{"url": ["/a"]}', "there is no key 'url'; the keys are urls, tags, all, soft"),
        (b'{"urls": "/a"}', "urls must be a list of texts"),
        (b'{"urls": [1]}', "urls must be a list of texts"),
        (b'{"urls": null}', "urls must be a list of texts"),
        (b'{"tags": [""]}', "tags must be a list of texts, none of them empty"),
        (b'{"tags": ["a b"]}', "no answer has the tag 'a b'"),
        (b'{"tags": ["a,b"]}', "no answer has the tag 'a,b'"),
        (
            json.dumps({"tags": ["a" * 1025]}).encode(),
            "tags have no spaces, commas or more than 1024 characters",
        ),
        (b'{"all": 1}', "all must be true or false"),
        (b'{"tags": ["a"], "soft": "no"}', "soft must be true or false"),
        (b'{"all": true, "tags": ["a"]}', "leave urls and tags out"),
        (json.dumps({"urls": ["/a"] * 600, "tags": ["a"] * 401}).encode(), "these are 1001"),
    ],
)
def test_an_order_that_is_none(body: bytes, why: str) -> None:
    with pytest.raises(ClientError) as caught:
        read_order(body)
    assert why in str(caught.value)


def test_an_order() -> None:
    assert read_order(b'{"urls": ["/a"], "tags": ["b"], "soft": true}') == Order(("/a",), ("b",), False, True)
    assert read_order(b'{"all": true}') == Order(everything=True)
    assert len(read_order(json.dumps({"urls": ["/a"] * 1000}).encode()).urls) == 1000


async def test_a_refusal_is_json(stocked: Adapter) -> None:
    status, answer = await purge(stocked, urls=7)
    assert (status, list(answer)) == (400, ["error"])
    response = await post(stocked, b"urls=/a", content_type="application/x-www-form-urlencoded")
    assert response.status == 415
    assert "Content-Type: application/json" in json.loads(response.body)["error"]


async def test_a_body_has_its_limit(stocked: Adapter) -> None:
    fits = json.dumps({"tags": ["a"]}).encode().ljust(MAX_BODY - 1)
    assert (await post(stocked, fits)).status == 200
    response = await post(stocked, fits + b"  ")
    assert (response.status, json.loads(response.body)) == (400, {"error": "the body is larger than 1 MiB"})


# --- What happens ---------------------------------------------------------------------------------


async def test_a_url(stocked: Adapter) -> None:
    url = "http://media.example/films/a.mp4"
    assert await purge(stocked, urls=[url]) == (200, {"purged": [url], "soft": False})
    assert not await is_hit(stocked, "/films/a.mp4")
    assert await is_hit(stocked, "/films/b.mp4")


async def test_several_things_at_once(stocked: Adapter) -> None:
    urls = ["http://media.example/films/*"]
    purged = [*urls, "tag news"]
    assert await purge(stocked, urls=urls, tags=["news"]) == (200, {"purged": purged, "soft": False})
    for target in ("/films/a.mp4", "/films/b.mp4", "/news.pdf"):
        assert not await is_hit(stocked, target)


async def test_all(stocked: Adapter) -> None:
    assert await purge(stocked, all=True) == (200, {"purged": ["everything"], "soft": False})
    assert not await is_hit(stocked, "/news.pdf")


async def test_softly(stocked: Adapter, origin: ScriptedOrigin) -> None:
    assert await purge(stocked, all=True, soft=True) == (200, {"purged": ["everything"], "soft": True})
    asked = origin.count("/news.pdf")
    assert not await is_hit(stocked, "/news.pdf")
    assert origin.count("/news.pdf") == asked + 1


async def test_many_urls_are_one_purge(stocked: Adapter) -> None:
    spool = stocked.service._cache.spool
    before = spool.epoch
    urls = [f"http://media.example/films/{number}.mp4" for number in range(998)]
    urls += ["http://media.example/films/a.mp4", "http://media.example/films/a.mp4"]
    status, answer = await purge(stocked, urls=urls)
    assert status == 200
    assert len(answer["purged"]) == 1000
    assert spool.epoch == before + 1, "made durable once"
    assert not await is_hit(stocked, "/films/a.mp4")
    assert await is_hit(stocked, "/films/b.mp4")


async def test_one_fault_and_nothing_is_purged(stocked: Adapter) -> None:
    status, answer = await purge(stocked, urls=["http://media.example/films/a.mp4", "ftp://x/y"])
    assert (status, answer) == (400, {"error": "ftp://x/y: write http://host/path, or /path"})
    assert await is_hit(stocked, "/films/a.mp4")


class BrokenDisk:
    """A purger that fails at the second thing."""

    def __init__(self) -> None:
        self.purged: list[Purge] = []

    def meant_by(self, url: str) -> Under:
        return Under(None, url)

    async def purge(self, what: Purge, *, soft: bool) -> None:
        if self.purged:
            raise SpoolFull("the disk is full")
        self.purged.append(what)


async def test_a_failure_says_how_far_it_came() -> None:
    purger, app = BrokenDisk(), web.Application()
    app.router.add_route("*", "/purge", purge_door(purger, Token.configured(TOKEN)))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with Wire("http://{}:{}".format(*runner.addresses[0])) as wire:
            body = b'{"urls": ["/a", "/b", "/c"]}'
            fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            await wire.request("POST", "/purge", fields.items(), body)
            response = await wire.response()
    finally:
        await runner.cleanup()
    assert response.status == 503
    assert json.loads(response.body) == {"error": "/b: the disk is full (1 of 3 are purged)"}
    assert purger.purged == [Under(None, "/a")]


async def test_purges_are_counted(stocked: Adapter) -> None:
    await purge(stocked, urls=["http://media.example/a", "/b*"], tags=["c", "d"], soft=True)
    await purge(stocked, all=True)
    await purge(stocked, urls=["nonsense"])
    counted = [line for line in (await page(stocked, "/metrics")).splitlines() if "purges_total{" in line]
    assert sorted(counted) == [
        'range_adapter_purges_total{kind="all",soft="false"} 1.0',
        'range_adapter_purges_total{kind="prefix",soft="true"} 1.0',
        'range_adapter_purges_total{kind="tag",soft="true"} 2.0',
        'range_adapter_purges_total{kind="url",soft="true"} 1.0',
    ]


async def test_a_body_that_is_not_coded_as_it_says(stocked: Adapter) -> None:
    async with Wire(str(stocked.service.admin_address)) as wire:
        fields = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        await wire.request("POST", "/purge", fields.items(), b'{"all": true}')
        response = await wire.response()
    assert response.status == 400
    assert "cannot be read" in json.loads(response.body)["error"]
