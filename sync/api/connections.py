"""Connections of the server: how long one may be silent, and who is at their other end.

aiohttp reads the requests; what it does not do is here: a deadline for a request's head and for a client that does not
read, errors as Kubernetes' Status, and word of a client that went away. How many there may be is the gate's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from sync.api import status
from sync.api.forms import JSON
from sync.api.http import web

HEAD_WITHIN = 10.0
"""Seconds from a connection's start to its first request."""
IDLE = 120.0
"""Seconds between two requests."""
SWEEP_EVERY = 5.0
SLICE = 64 * 1024
"""Bytes of an answer that are written at a time: asyncio's TLS encrypts whatever it is given, and only then looks
whether it should wait."""
UNREAD = 15.0
"""Seconds in which a client has to take a slice."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """One connection. `silent_since` is the loop's time, None while a request is answered."""

    silent_since: float | None = None
    requests = 0
    on_lost: Callable[[], None] | None = None
    """Called when the client goes away while it is answered."""
    on_closed: Callable[[], None] | None = None
    """Called when the connection is gone."""

    async def send(self, request: web.BaseRequest, response: web.Response) -> web.StreamResponse:
        """Write an answer. Returns when what is left of it is no more than a slice or two, or the client is gone."""
        body = response.body
        if not isinstance(body, bytes) or len(body) <= SLICE or request.method == "HEAD":
            return response  # aiohttp writes it at once
        sent = web.StreamResponse(status=response.status, headers=response.headers)
        sent.content_length = len(body)
        try:
            await sent.prepare(request)
            whole = memoryview(body)
            for start in range(0, len(body), SLICE):
                async with asyncio.timeout(UNREAD):
                    await sent.write(whole[start : start + SLICE])
                    await request.writer.drain()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
        except ConnectionError:
            self.force_close()
        return sent

    def handle_error(
        self,
        request: web.BaseRequest,
        status_code: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What can't be read as HTTP is told so, and not logged: it is no fault of ours."""
        response = refusal(status.bad_request(f"the request can't be read: {message or 'it is no HTTP'}"))
        response.force_close()
        return response


class Connections(web.Server):
    """The factory of connections, for a `Gate`. Seconds until the first request, and between two."""

    def __init__(
        self, handler: Handler, *, head_within: float = HEAD_WITHIN, idle: float = IDLE, **options: Any
    ) -> None:
        options = {"access_log": None, **options}
        super().__init__(self._attend, **options)
        self._answer = handler
        self._head_within = head_within
        self._idle = idle
        self._options = options
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> Connection:
        connection = Connection(self, loop=self._loop, **self._options)
        connection.silent_since = self._loop.time()
        return connection

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_EVERY, self._sweep)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        assert isinstance(handler, Connection)
        for told in (handler.on_lost, handler.on_closed):
            if told is not None:
                told()

    def cut(self, unwanted: Callable[[asyncio.Transport], bool]) -> None:
        """End connections at once."""
        for transport in tuple(self._connections.values()):
            # one that is closing has no certificate to ask for any more
            if not transport.is_closing() and unwanted(transport):
                transport.abort()

    def stop(self) -> None:
        """No more timers; `shutdown` is next."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    async def _attend(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.silent_since = None
        connection.requests += 1
        try:
            return await self._answer(request)
        finally:
            connection.silent_since = self._loop.time()

    def _sweep(self) -> None:
        """End what is silent for too long; no timer while there is no connection."""
        now = self._loop.time()
        for handler, transport in tuple(self._connections.items()):
            if not isinstance(handler, Connection) or handler.silent_since is None:
                continue
            if now - handler.silent_since > (self._idle if handler.requests else self._head_within):
                transport.abort()
        self._timer = self._loop.call_later(SWEEP_EVERY, self._sweep) if self._connections else None


def refusal(error: status.ApiError) -> web.Response:
    """An ApiError as an answer."""
    headers = {"Cache-Control": "no-cache, private"}
    seconds = error.details.get("retryAfterSeconds")
    if seconds:
        headers["Retry-After"] = str(seconds)
    return web.Response(
        body=msgspec.json.encode(error.status()) + b"\n", status=error.code, content_type=JSON, headers=headers
    )
