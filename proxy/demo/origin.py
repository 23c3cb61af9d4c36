"""The demo's legacy origin: it knows 200 and whole bodies, and nothing of ranges, validators or freshness.

It also serves the page that compares the two ways to its film.
"""

import asyncio
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.resources import files

from aiohttp import hdrs, web

PACE = 1024 * 1024  # bytes per second; slow enough to see what waiting for a whole film means
PIECE = 32 * 1024

PAGE_FILES = {
    "/": ("page.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

# The page stands at the adapter's address; its left player and its probes come here from there.
CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, Cache-Status",
}


@dataclass(slots=True)
class Traffic:
    """What one audience has cost the origin."""

    requests: int = 0
    sent: int = 0  # bytes of bodies


class LegacyOrigin:
    """One HTTP/1.1 server on a free loopback port."""

    def __init__(self, pace: int = PACE) -> None:
        self.url = ""
        self._pace = pace
        self._film = b""
        self._pages: dict[str, bytes] = {}
        self._traffic: defaultdict[tuple[str, bool], Traffic] = defaultdict(Traffic)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._film = await asyncio.to_thread(_packaged, "video.mp4")
        for path, (name, _) in PAGE_FILES.items():
            self._pages[path] = await asyncio.to_thread(_packaged, name)
        app = web.Application()
        app.router.add_get("/video.mp4", self._serve_film)
        app.router.add_options("/video.mp4", self._preflight)
        app.router.add_get("/config.json", self._serve_config)
        app.router.add_get("/traffic.json", self._serve_traffic)
        for path in PAGE_FILES:
            app.router.add_get(path, self._serve_page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve_film(self, request: web.Request) -> web.StreamResponse:
        """The whole film, at this origin's pace, whatever the request said."""
        traffic = self._traffic[request.path_qs, hdrs.VIA in request.headers]
        traffic.requests += 1
        fields = {"Content-Type": "video/mp4", "Server": "Legacy/1.0", **CROSS_ORIGIN}
        response = web.StreamResponse(headers=fields)
        response.content_length = len(self._film)
        await response.prepare(request)
        if request.method == hdrs.METH_GET:
            try:
                await self._send_film(response, traffic)
            except ConnectionResetError:
                pass  # the player has left, as players do
        return response

    async def _send_film(self, response: web.StreamResponse, traffic: Traffic) -> None:
        clock = asyncio.get_running_loop().time
        begin = clock()
        for start in range(0, len(self._film), PIECE):
            piece = self._film[start : start + PIECE]
            await response.write(piece)
            traffic.sent += len(piece)
            await asyncio.sleep(begin + (start + len(piece)) / self._pace - clock())

    async def _preflight(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=CROSS_ORIGIN)

    async def _serve_page(self, request: web.Request) -> web.Response:
        _, content_type = PAGE_FILES[request.path]
        policy = f"default-src 'self'; media-src 'self' {self.url}; connect-src 'self' {self.url}"
        fields = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
        body = self._pages[request.path]
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=fields)

    async def _serve_config(self, request: web.Request) -> web.Response:
        return web.json_response({"straight": self.url}, headers={"Cache-Control": "no-store"})

    async def _serve_traffic(self, request: web.Request) -> web.Response:
        """What the film `?film=/video.mp4...` has cost: asked for straight, and by way of a proxy."""
        film = request.query.get("film", "/video.mp4")
        costs = {
            way: asdict(self._traffic.get((film, proxied), Traffic()))
            for way, proxied in (("straight", False), ("adapter", True))
        }
        return web.json_response(costs, headers={"Cache-Control": "no-store"})


def _packaged(name: str) -> bytes:
    return files("proxy.demo").joinpath(name).read_bytes()
