"""One URL, several representations (RFC 9111 section 4.1)."""

import gzip

import pytest

from tests.conftest import Adapter
from tests.scripted_origin import Body, Head, OriginRequest, Script, ScriptedOrigin
from tests.together import busy, settled, until, wires

TEXT = b"some text that is worth a coding; " * 200
CODED = gzip.compress(TEXT, mtime=0)


def varying(on: str, **fields: str) -> "Varying":
    return Varying(on, {name.replace("_", "-"): value for name, value in fields.items()})


class Varying:
    """An origin whose answer tells the value of one field of the request."""

    def __init__(self, on: str, fields: dict[str, str]) -> None:
        self.on = on
        self.fields = {"Content-Type": "text/plain", "Cache-Control": "max-age=60", "Vary": on} | fields

    def __call__(self, request: OriginRequest) -> Script:
        body = f"{self.on}={request.header(self.on)}".encode()
        return [Head(200, {**self.fields, "Content-Length": str(len(body))}), Body(body)]


@pytest.mark.parametrize("field", ["User-Agent", "Accept-Language", "X-Anything", "Cookie"])
async def test_each_value_has_its_own(adapter: Adapter, origin: ScriptedOrigin, field: str) -> None:
    origin.on("/page", varying(field))
    async with adapter.wire() as wire:
        for _ in range(2):
            for value in ("one=1", "two=2"):
                response = await wire.get("/page", [(field, value)])
                assert response.body == f"{field}={value}".encode()
                ranged = await wire.get("/page", [(field, value)], Range="bytes=0-3")
                assert ranged.body == response.body[:4]
                assert ranged.fields["ETag"] == response.fields["ETag"]
        assert (await wire.get("/page")).body == f"{field}=None".encode()
    assert origin.count("/page") == 3


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("Accept-Language", "de-AT,en;q=0.5", "DE-at ,  en;Q=0.5,"),
        ("Accept", "text/html,*/*", "text/html, */*"),
        ("Prefer", "a,b", " a , b"),
    ],
)
async def test_spellings_of_one_value_are_one_variant(
    adapter: Adapter, origin: ScriptedOrigin, field: str, one: str, other: str
) -> None:
    origin.on("/page", varying(field))
    async with adapter.wire() as wire:
        for value in (one, other):
            assert (await wire.get("/page", [(field, value)])).body == f"{field}={one}".encode()
        lines = [(field, member.strip()) for member in one.split(",")]
        assert "hit" in (await wire.get("/page", lines)).cache_status
    assert origin.count("/page") == 1


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("Accept-Language", "de, en", "en, de"),
        ("User-Agent", "a,b", "a, b"),
        ("X-Anything", "a", "A"),
        ("X-Anything", "a", "a,"),
        ("X-Anything", "x" * 3000, "x" * 2999),
    ],
)
async def test_what_an_origin_may_tell_apart_are_two_variants(
    adapter: Adapter, origin: ScriptedOrigin, field: str, one: str, other: str
) -> None:
    origin.on("/page", varying(field))
    async with adapter.wire() as wire:
        for value in (one, other, one, other):
            assert (await wire.get("/page", [(field, value)])).body == f"{field}={value}".encode()
    assert origin.count("/page") == 2


async def test_vary_miss_says_so(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/page", varying("User-Agent"))
    async with adapter.wire() as wire:
        await wire.get("/page", User_Agent="one")
        assert "fwd=vary-miss" in (await wire.get("/page", User_Agent="two")).cache_status


async def test_vary_star_is_never_reused(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.serve("/page", TEXT, headers={"Vary": "*", "Cache-Control": "max-age=60"})
    async with adapter.wire() as wire:
        for _ in range(3):
            assert "detail=vary-star" in (await wire.get("/page")).cache_status
    assert origin.count("/page") == 3


async def test_ignored_cookies_make_no_variant(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/page", varying("Cookie"))
    async with adapter.wire() as wire:
        await wire.get("/page", Cookie="_ga=1")
        assert "hit" in (await wire.get("/page", Cookie="_ga=2")).cache_status
        assert "hit" in (await wire.get("/page")).cache_status


async def test_one_tag_for_all_codings_never_splices_them(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/kept", Coding(vary=True, ETag='"v1"', Cache_Control="max-age=60"))
    async with adapter.wire() as wire:
        coded = await wire.get("/kept", Accept_Encoding="gzip")
        assert (coded.body, coded.fields["Content-Encoding"]) == (CODED, "gzip")
        tag = coded.fields["ETag"]
        assert tag != '"v1"'
        rest = await wire.get("/kept", Accept_Encoding="gzip", Range="bytes=10-19", If_Range=tag)
        assert (rest.status, rest.body) == (200, TEXT)
        same = await wire.get("/kept", Accept_Encoding="gzip", If_None_Match=tag)
        assert same.status == 304


async def test_a_passing_coded_answer_keeps_its_tag(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/passed", Coding(vary=True, ETag='"v1"', Cache_Control="no-store"))
    async with adapter.wire() as wire:
        assert (await wire.get("/passed", Accept_Encoding="gzip")).fields["ETag"] == '"v1"'


class Coding:
    """An origin that codes for those who take it; `always`: also for those who do not."""

    def __init__(self, *, vary: bool, always: bool = False, kind: str = "text/plain", **fields: str) -> None:
        self.fields = {"Content-Type": kind, "Cache-Control": "max-age=60"}
        self.fields |= {name.replace("_", "-"): value for name, value in fields.items()}
        if vary:
            self.fields["Vary"] = "Accept-Encoding"
        self.always = always

    def __call__(self, request: OriginRequest) -> Script:
        if self.always or "gzip" in (request.header("Accept-Encoding") or ""):
            fields = {**self.fields, "Content-Encoding": "gzip", "Content-Length": str(len(CODED))}
            return [Head(200, fields), Body(CODED)]
        return [Head(200, {**self.fields, "Content-Length": str(len(TEXT))}), Body(TEXT)]


@pytest.mark.parametrize("vary", [True, False], ids=["vary", "forgets vary"])
async def test_codings_are_variants(adapter: Adapter, origin: ScriptedOrigin, vary: bool) -> None:
    origin.on("/page", Coding(vary=vary))
    async with adapter.wire() as wire:
        for _ in range(2):
            coded = await wire.get("/page", Accept_Encoding="gzip, deflate, br")
            assert coded.body == (CODED if "Content-Encoding" in coded.fields else TEXT)
            plain = await wire.get("/page")
            assert plain.body == TEXT
            if vary:  # without it, a plain one is for those who take gzip too
                assert plain.fields["ETag"] != coded.fields["ETag"]
            part = await wire.get("/page", Accept_Encoding="gzip, deflate, br", Range="bytes=0-9")
            assert part.body == TEXT[:10]
            assert "Content-Encoding" not in part.fields
    assert origin.count("/page") == 2


async def test_those_who_wait_for_a_head_get_their_own_coding(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    origin.on("/page", Coding(vary=True))
    gate = origin.gate("/page", None)
    async with wires(adapter, 10) as clients:
        for number, wire in enumerate(clients):
            await wire.request("GET", "/page", Accept_Encoding="gzip" if number % 2 else "identity")
        await busy(adapter, 10)
        gate.open()
        for number, wire in enumerate(clients):
            assert (await wire.response()).body == (CODED if number % 2 else TEXT)
        assert origin.count("/page") == 2


async def test_media_are_asked_for_without_coding(adapter: Adapter, origin: ScriptedOrigin) -> None:
    origin.on("/film.mp4", Coding(vary=True, kind="video/mp4"))
    async with adapter.wire() as wire:
        assert (await wire.get("/film.mp4", Accept_Encoding="gzip")).body == TEXT
        assert (await wire.get("/film.mp4", Range="bytes=0-9")).body == TEXT[:10]
    assert origin.count("/film.mp4") == 1
    assert origin.requests[0].header("Accept-Encoding") == "identity"


@pytest.mark.parametrize("vary", [True, False])
async def test_a_page_that_is_coded_against_our_wish_is_found_again(
    adapter: Adapter, origin: ScriptedOrigin, vary: bool
) -> None:
    origin.on("/page", Coding(vary=vary, always=True))
    async with adapter.wire() as wire:
        for _ in range(3):
            for asked in ("identity", "gzip", "deflate", "GZIP;q=0.5, x-odd"):
                response = await wire.get("/page", Accept_Encoding=asked)
                assert (response.body, response.fields["Content-Encoding"]) == (CODED, "gzip")
    assert origin.count("/page") == 2, "once without a coding, once with"


@pytest.mark.parametrize("vary", [True, False])
async def test_an_origin_that_codes_against_our_wish(
    adapter: Adapter, origin: ScriptedOrigin, vary: bool
) -> None:
    """Its bytes pass as they are, ranges count in them, and nobody takes them for plain ones."""
    origin.on("/film.mp4", Coding(vary=vary, always=True, kind="video/mp4"))
    async with adapter.wire() as wire:
        for _ in range(2):
            whole = await wire.get("/film.mp4")
            assert (whole.body, whole.fields["Content-Encoding"]) == (CODED, "gzip")
            part = await wire.get("/film.mp4", Range="bytes=3-12")
            assert (part.body, part.fields["Content-Encoding"]) == (CODED[3:13], "gzip")
            assert part.fields["Content-Range"] == f"bytes 3-12/{len(CODED)}"
    assert origin.count("/film.mp4") == 1


async def test_variants_are_validated_with_their_own_tags(adapter: Adapter, origin: ScriptedOrigin) -> None:
    def answer(request: OriginRequest) -> Script:
        agent = request.header("User-Agent")
        tag = f'"for-{agent}"'
        fields = {
            "Vary": "User-Agent",
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Content-Type": "text/plain",
        }
        if tag in (request.header("If-None-Match") or ""):  # those of other variants may be offered, too
            return [Head(304, fields)]
        body = str(agent).encode()
        return [Head(200, {**fields, "Content-Length": str(len(body))}), Body(body)]

    origin.on("/page", answer)
    async with adapter.wire() as wire:
        for _ in range(3):
            for agent in ("one", "two"):
                response = await wire.get("/page", User_Agent=agent)
                assert (response.body, response.fields["ETag"]) == (agent.encode(), f'"for-{agent}"')
                await origin.idle()
    asked = [r.header("If-None-Match") or "" for r in origin.requests]
    offered = [
        f'"for-{r.header("User-Agent")}"' in tags for r, tags in zip(origin.requests, asked, strict=True)
    ]
    assert offered == [False, False, True, True, True, True]


async def test_an_origin_may_say_that_another_variant_is_the_answer_here_too(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    """So a film of which one `Vary: User-Agent` is a copy each is sent once."""

    def answer(request: OriginRequest) -> Script:
        fields = {
            "Vary": "User-Agent",
            "ETag": '"1"',
            "Cache-Control": "max-age=60",
            "Content-Type": "video/mp4",
        }
        if '"1"' in (request.header("If-None-Match") or ""):
            return [Head(304, fields)]
        return [Head(200, {**fields, "Content-Length": "4"}), Body(b"film")]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        assert (await wire.get("/film", User_Agent="one")).body == b"film"
        await settled(adapter, origin, 1)
        response = await wire.get("/film", User_Agent="two", Range="bytes=1-2")
        assert (response.status, response.body) == (206, b"il")
        assert "fwd=vary-miss;fwd-status=304" in response.cache_status
    assert origin.requests[-1].header("If-Modified-Since") is None


async def test_a_304_that_does_not_say_which_variant_it_means_is_not_believed(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    def answer(request: OriginRequest) -> Script:
        agent = request.header("User-Agent") or ""
        fields = {"Vary": "User-Agent", "Cache-Control": "max-age=60", "Content-Type": "video/mp4"}
        if request.header("If-None-Match"):
            return [Head(304, fields)]
        own = {"ETag": f'"{agent}"', "Content-Length": str(len(agent))}
        return [Head(200, fields | own), Body(agent.encode())]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        for agent in ("one", "two", "three"):
            assert (await wire.get("/film", User_Agent=agent)).body == agent.encode()
            await origin.idle()


async def test_who_may_read_an_answer_is_not_told_by_anothers(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    def answer(request: OriginRequest) -> Script:
        fields = {"ETag": '"1"', "Cache-Control": "max-age=60"}
        if request.header("If-None-Match"):
            return [Head(304, fields)]
        site = request.header("Origin") or "none"
        own = {"Vary": "Origin", "Access-Control-Allow-Origin": site, "Content-Type": "video/mp4"}
        return [Head(200, fields | own | {"Content-Length": "4"}), Body(b"film")]

    origin.on("/film", answer)
    async with adapter.wire() as wire:
        for site in ("https://a.example", "https://b.example"):
            response = await wire.get("/film", Origin=site)
            assert response.fields["Access-Control-Allow-Origin"] == site
            await until(lambda: adapter.service._cache.idle)


async def test_what_a_304_says_for_one_variant_is_not_for_those_who_wait(
    adapter: Adapter, origin: ScriptedOrigin
) -> None:
    stored = {"ETag": '"1"', "Cache-Control": "max-age=60", "Vary": "Accept-Language", "Age": "60"}
    film = {"Content-Type": "video/mp4", "Content-Length": "4"}
    origin.on("/film", [Head(200, stored | film), Body(b"film")])
    async with adapter.wire() as english, adapter.wire() as french:
        await english.get("/film", Accept_Language="en")
        await settled(adapter, origin)

        def still(request: OriginRequest) -> Script:
            told = {"ETag": '"1"', "Cache-Control": "max-age=60"}
            return [Head(304, told | {"X-For": request.header("Accept-Language") or ""})]

        origin.on("/film", still)
        gate = origin.gate("/film", at=None)
        await french.request("GET", "/film", Accept_Language="fr")
        await gate.reached()
        await english.request("GET", "/film", Accept_Language="en")
        await until(lambda: adapter.service.in_progress == 2)
        gate.open()
        assert (await french.response()).fields["X-For"] == "fr"
        assert (await english.response()).fields["X-For"] == "en"
