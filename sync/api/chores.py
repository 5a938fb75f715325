"""What the server does by itself: keys that are to be looked at, one after the other, again later where that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sync.api.status import ApiError
from sync.store import Closed, Key, StoreFault

RETRY = 1.0
"""Seconds until what failed is looked at again."""


class Chores:
    """`handle` looks at a key; `refused` is told what the API said against it, but not that it is gone (404)."""

    def __init__(self, handle: Callable[[Key], Awaitable[None]], refused: Callable[[Key, ApiError], None]) -> None:
        self._handle = handle
        self._refused = refused
        self._due: dict[Key, None] = {}
        self._wake = asyncio.Event()

    def add(self, key: Key) -> None:
        """Have it looked at, soon."""
        self._due[key] = None
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled, or until the store is closed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, {}
            for key in due:
                try:
                    await self._handle(key)
                except ApiError as error:
                    if error.code != 404:
                        self._refused(key, error)
                        self._later(key)
                except Closed:
                    return
                except StoreFault:
                    self._later(key)

    def _later(self, key: Key) -> None:
        asyncio.get_running_loop().call_later(RETRY, self.add, key)
