"""Keys to be looked at: each once at a time, again if it changed meanwhile, later if it failed."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

import trio

from sync.client.connection import ApiStatus, ApiUnreachable

FIRST_RETRY = 0.2
LAST_RETRY = 30.0
"""Seconds until what failed is tried again: the first, doubled each time up to the last."""

log = logging.getLogger("edgemesh.cloud")

K = TypeVar("K")


class Work(Generic[K]):
    """`look` is called with a key; what the API says against it is told once and tried again."""

    def __init__(self, name: str, look: Callable[[K], Awaitable[None]], *, workers: int = 1) -> None:
        self._name = name
        self._look = look
        self._workers = workers
        self._waiting: dict[K, None] = {}
        self._running: set[K] = set()
        self._failed: dict[K, tuple[float, str]] = {}
        self._later: list[tuple[float, int, K]] = []
        self._number = 0
        self._news = trio.Event()

    def add(self, keys: Iterable[K]) -> None:
        """Have keys looked at, soon."""
        before = len(self._waiting)
        self._waiting.update(dict.fromkeys(keys))
        if len(self._waiting) != before:
            self._wake()

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._worker)

    async def _worker(self) -> None:
        while True:
            key = await self._next()
            self._running.add(key)
            try:
                await self._look(key)
            except (ApiStatus, ApiUnreachable) as error:
                self._again(key, error)
            else:
                if self._failed.pop(key, None):
                    log.info("%s %s: done, after it had failed", self._name, key)
            finally:
                self._running.discard(key)
                if key in self._waiting:
                    self._wake()

    async def _next(self) -> K:
        while True:
            now = trio.current_time()
            while self._later and self._later[0][0] <= now:
                self._waiting[heapq.heappop(self._later)[2]] = None
            for key in self._waiting:
                if key not in self._running:
                    del self._waiting[key]
                    return key
            with trio.move_on_at(self._later[0][0] if self._later else float("inf")):
                await self._news.wait()

    def _again(self, key: K, error: Exception) -> None:
        delay, told = self._failed.get(key, (FIRST_RETRY / 2, ""))
        delay = min(delay * 2, LAST_RETRY)
        conflict = isinstance(error, ApiStatus) and error.code == 409  # somebody else wrote: no more than a race
        if str(error) != told and not conflict:
            log.warning("%s %s: %s: tried again", self._name, key, error)
        self._failed[key] = (delay, told if conflict else str(error))
        self._number += 1
        heapq.heappush(self._later, (trio.current_time() + delay, self._number, key))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()
