"""Everything that is not adapted, handed on as it is: any method and status, uploads, streams, WebSocket."""

import asyncio
from collections.abc import AsyncIterator

from multidict import CIMultiDict

from proxy.errors import AdapterError, ClientError, UploadTimeout
from proxy.origin import Origin, OriginRequest, OriginResponse
from proxy.semantics.fields import Fields, joined
from proxy.server.exchange import Exchange
from proxy.server.tunnel import tunnel

CONTINUE_AFTER = 1.0
"""Seconds for which a client's body waits for the origin's 100; origins older than HTTP/1.1 never send one."""

READ_SIZE = 128 << 10
"""Bytes read ahead of a client, which may be slow, one of many, and none of whose answers are kept."""


class Relay:
    """One request to one origin and back.  A tunnel that comes of it ends when `ending` is set."""

    def __init__(self, exchange: Exchange, origin: Origin, ending: asyncio.Event) -> None:
        self._exchange = exchange
        self._origin = origin
        self._ending = ending
        self._go_ahead = asyncio.Event()
        self._response: OriginResponse | None = None
        self._stalled: UploadTimeout | None = None
        self._came = 0  # of the body, while we waited so many seconds for it
        self._waited = 0.0

    async def ask(self, method: str, target: str, fields: Fields) -> OriginResponse:
        """Send the request with the client's body, if it has one.  Raises AdapterError."""
        request = self._exchange.request
        body = self._body() if request.body_exists else None
        try:
            self._response = await self._origin.fetch(
                OriginRequest(method, target, fields, body, self._interim, read_size=READ_SIZE)
            )
        except AdapterError as error:
            if self._stalled is not None:
                raise self._stalled from error
            if request.content.exception() is not None:
                raise ClientError("the request's body is malformed", reason="bad-body") from error
            raise
        return self._response

    async def answer(self, response: OriginResponse, fields: Fields, now: int) -> None:
        """Send what came: `fields` are the response's for the client."""
        if response.status == 101:
            await self._switch(response, fields, now)
            return
        exchange = self._exchange
        if self._client_waits() and not self._go_ahead.is_set():
            exchange.keep_alive = False  # will the body come all the same, or the next request?
        length = response.content_length
        await exchange.start(response.status, fields, length=length, now=now, reason=response.reason)
        try:
            while data := await response.read():
                await exchange.write(data)
            await exchange.finish()
        except AdapterError as error:
            exchange.cut_short()
            if self._stalled is not None:
                raise self._stalled from error
            raise
        except (ConnectionError, TimeoutError):
            exchange.abort()
            raise

    async def _switch(self, response: OriginResponse, fields: Fields, now: int) -> None:
        exchange = self._exchange
        origin = response.upgraded()
        await exchange.switch(fields, joined(response.fields, "Upgrade") or "", now=now)
        protocol = exchange.request.protocol
        exchange.body_bytes, _ = await tunnel(
            protocol,
            origin,
            send_idle=exchange.send_idle,
            send_rate=exchange.send_rate,
            ending=self._ending,
        )

    def _interim(self, status: int, reason: str, fields: Fields) -> None:
        if status == 100:
            if self._go_ahead.is_set():
                return
            self._go_ahead.set()
        self._exchange.interim(status, reason, fields)

    def _client_waits(self) -> bool:
        """Does the client want to hear from the origin before it sends its body (RFC 9110 section 10.1.1)?"""
        request = self._exchange.request
        expectation = joined(request.headers, "Expect") or ""
        return expectation.lower() == "100-continue" and request.version >= (1, 1) and request.body_exists

    async def _body(self) -> AsyncIterator[bytes]:
        """The client's body as it comes; not before the origin has asked for it, if the client waits for that."""
        if self._client_waits():
            try:
                async with asyncio.timeout(CONTINUE_AFTER):
                    await self._go_ahead.wait()
            except TimeoutError:
                self._interim(100, "Continue", CIMultiDict())
        while piece := await self._next_piece():
            yield piece

    async def _next_piece(self) -> bytes:
        exchange, loop = self._exchange, asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(exchange.send_idle):
                piece = await exchange.request.content.readany()
            self._came += len(piece)
            self._waited += loop.time() - begun
            if self._waited >= exchange.send_idle:
                if piece and self._came < exchange.send_rate * self._waited:
                    raise TimeoutError
                self._came, self._waited = 0, 0.0
            return piece
        except TimeoutError:
            self._stalled = UploadTimeout("the client stopped sending the request's body")
            if self._response is not None:
                self._response.close()  # its answer has begun, and waits for the rest of the question
            raise self._stalled from None
