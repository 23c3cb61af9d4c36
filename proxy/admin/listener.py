"""The admin listener's addresses."""

import json
from typing import cast

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition

from proxy.admin.purging import MAX_BODY, Purger, purge_door
from proxy.admin.state import State
from proxy.admin.token import Token


def admin_app(state: State, purger: Purger, token: Token) -> web.Application:
    """`/livez` and `/readyz` for probes, `/metrics` for Prometheus, `/status.json` for people and programs.

    While the disk fails, requests are answered all the same: it is ready, and says that it is degraded, and why.
    And `/purge`, for those who bring the token.
    """

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        because = state.unready()
        if because is not None:
            return web.Response(status=503, text=f"{because}\n")
        degraded = state.degraded()
        return web.Response(text="ok\n" if degraded is None else f"degraded: {degraded}\n")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        figures = cast("CollectorRegistry", await state.figures())  # all that is asked of it is `collect`
        return web.Response(body=encode(figures), headers={"Content-Type": content_type})

    async def status(request: web.Request) -> web.Response:
        return web.json_response(state.report(), dumps=lambda report: json.dumps(report, indent=2) + "\n")

    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/status.json", status),
            web.route("*", "/purge", purge_door(purger, token)),
        ]
    )
    return app
