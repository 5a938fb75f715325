"""Keys to be looked at: each once at a time, again if it changed meanwhile, later if it failed."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import trio

from sync.client.connection import ApiStatus, ApiUnreachable

FIRST_RETRY = 0.2
LAST_RETRY = 30.0
"""Seconds until what failed is tried again: the first, doubled each time up to the last."""

log = logging.getLogger("edgemesh.cloud")

K = TypeVar("K")


class _Failure(NamedTuple):
    """Of a key: the last wait, when it is tried again, and what was told (`_essence`, empty for nothing)."""

    delay: float
    due: float
    told: str


class Work(Generic[K]):
    """`look` is called with a key; what the API says against it is told once and tried again."""

    def __init__(self, name: str, look: Callable[[K], Awaitable[None]], *, workers: int = 1) -> None:
        self._name = name
        self._look = look
        self._workers = workers
        self._waiting: dict[K, None] = {}
        self._running: set[K] = set()
        self._failed: dict[K, _Failure] = {}
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
                failure = self._failed.pop(key, None)
                if failure and failure.told:
                    log.info("%s %s: done, after it had failed", self._name, key)
            finally:
                self._running.discard(key)
                if key in self._waiting:
                    self._wake()

    async def _next(self) -> K:
        while True:
            now = trio.current_time()
            while self._later and self._later[0][0] <= now:
                due, _, key = heapq.heappop(self._later)
                if key in self._failed and self._failed[key].due == due:  # else it has been looked at since
                    self._waiting[key] = None
            for key in self._waiting:
                if key not in self._running:
                    del self._waiting[key]
                    return key
            with trio.move_on_at(self._later[0][0] if self._later else float("inf")):
                await self._news.wait()

    def _again(self, key: K, error: Exception) -> None:
        before = self._failed.get(key, _Failure(FIRST_RETRY / 2, 0.0, ""))
        essence = _essence(error)
        if essence not in ("", before.told):
            log.warning("%s %s: %s: tried again", self._name, key, error)
        delay = min(before.delay * 2, LAST_RETRY)
        due = trio.current_time() + delay
        self._failed[key] = _Failure(delay, due, essence or before.told)
        self._number += 1
        heapq.heappush(self._later, (due, self._number, key))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _essence(error: Exception) -> str:
    """What makes a failure the same one again; empty for a race, which is not told.

    A message names the object: where the API makes up the name, it is another with each attempt.
    """
    if not isinstance(error, ApiStatus):
        return str(error)
    if error.code == 409:  # somebody else wrote
        return ""
    details = error.status.get("details")
    name = details.get("name") if isinstance(details, dict) else None
    return error.message.replace(name, "") if isinstance(name, str) and name else error.message
