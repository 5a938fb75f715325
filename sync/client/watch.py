"""One kind followed on an API: a reflector's requests made, and what they give handed on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from sync.client.connection import Api, ApiStatus, ApiUnreachable
from sync.client.manifests import Changes
from sync.client.reflector import Reflector, Request

Take = Callable[[Changes], Awaitable[None]]
"""What gets each answer's changes, perhaps none; while it waits nothing more is read."""


async def follow(api: Api, reflector: Reflector, take: Take) -> None:
    """Run until cancelled. `take` is called after every step, so that the reflector's state can be looked at."""
    while True:
        await trio.sleep_until(reflector.wake)
        request = reflector.request(trio.current_time())
        try:
            if request.watch:
                await _watch(api, reflector, request, take)
            else:
                body = await api.request("GET", request.path, request.query)
                await take(reflector.page(body, trio.current_time()))
        except ApiStatus as error:
            reflector.refused(error.code, error.message, trio.current_time(), error.retry_after)
        except ApiUnreachable as error:
            reflector.failed(str(error), trio.current_time(), error.retry_after)
        await take(Changes([], []))


async def _watch(api: Api, reflector: Reflector, request: Request, take: Take) -> None:
    async with api.stream(request.path, request.query) as response:
        reflector.opened(trio.current_time())
        await take(Changes([], []))
        while reflector.deadline < float("inf"):
            lines: list[bytes] | None = None
            with trio.move_on_at(reflector.deadline):
                lines = await response.lines()
            now = trio.current_time()
            if lines is None:
                reflector.stalled(now)
            elif not lines:
                reflector.ended(now)
            else:
                await take(reflector.lines(lines, now))
