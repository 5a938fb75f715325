"""Who is told what: events of a batch, sorted once by what is watched, handed to all who watch that.

A watcher has a queue of references to what all others have too. One that outgrows its cap is cut off: its queue is
emptied, it is told nothing more, and costs nothing more.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sync.store.entry import Closed, Event, Expired, Key


class Caps(NamedTuple):
    """How much a watcher may have waiting."""

    events: int
    bytes: int


class Watch:
    """Events of one resource, from a revision on, in order, without gap or repeat. For one reader.

    A reader waits in `next`, or sets `told` and comes for what there is with `take`: where hundreds watch the same,
    waking a coroutine each costs more than all the rest.
    """

    def __init__(
        self, scope: Key, since: int, caps: Caps, revision: Callable[[], int], drop: Callable[["Watch"], None]
    ):
        self.scope = scope
        self.revision = since
        """All events up to this one were given."""
        self._caps = caps
        self._newest = revision
        self._drop = drop
        self._queue: list[Sequence[Event]] = []
        self._events = 0
        self._bytes = 0
        self.ended: Exception | None = None
        """Why it is over."""
        self.told: Callable[[], None] | None = None
        """Called in a turn of the loop of its own when there is something to take, or it is over."""
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> list[Event]:
        """What happened since: never empty. Raises Expired when too much was waiting, Closed when it is over."""
        if self._waiter is not None:
            raise RuntimeError("a watch has one reader")
        while not self._queue:
            if self.ended is not None:
                raise self.ended
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return [event for batch in self.take() for event in batch]

    def take(self) -> list[Sequence[Event]]:
        """What happened since, by batches that others are given too; empty: nothing. Raises as `next`."""
        batches, self._queue = self._queue, []
        if batches:
            self._events = self._bytes = 0
            self.revision = self._newest()
        elif self.ended is not None:
            raise self.ended
        return batches

    def progress(self) -> int:
        """A revision that a bookmark may carry now: nothing up to it is still to be given."""
        if not self._queue and self.ended is None:
            self.revision = self._newest()
        return self.revision

    def close(self) -> None:
        """No more events; who waits in `next` gets Closed."""
        self.end(Closed("the watch was closed"))

    def push(self, events: Sequence[Event], size: int) -> None:
        """Give it a batch, which it shares with others; `size` is that of the events' data."""
        if self._queue and (self._events + len(events) > self._caps.events or self._bytes + size > self._caps.bytes):
            self.end(Expired(f"too slow: more than {self._caps.events} events or {self._caps.bytes} bytes waited"))
            return
        self._queue.append(events)
        self._events += len(events)
        self._bytes += size
        self._wake()

    def end(self, reason: Exception) -> None:
        """Cut it off: what waits is dropped, and `next` raises `reason`."""
        if self.ended is None:
            self.ended = reason
            self._queue.clear()
            self._events = self._bytes = 0
            self._drop(self)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self.told is not None:
            asyncio.get_running_loop().call_soon(self.told)


class Watches:
    """All watches of a store, by what they watch: Key(resource, namespace, name), empty for any."""

    def __init__(self, caps: Caps, revision: Callable[[], int]) -> None:
        self._caps = caps
        self._revision = revision
        self._by_scope: dict[Key, set[Watch]] = {}
        self.expired = 0
        """How many were cut off for being slow."""

    def __len__(self) -> int:
        return sum(map(len, self._by_scope.values()))

    def open(self, scope: Key, since: int, backlog: Iterable[Event]) -> Watch:
        """A watch from `since` on; `backlog`: what happened after it, the newest first, of all objects."""
        watch = Watch(scope, since, self._caps, self._revision, self._drop)
        resource, namespace, name = scope
        waiting = [
            event
            for event in backlog
            if (key := event.entry.key).resource == resource
            and (not namespace or key.namespace == namespace)
            and (not name or key.name == name)
        ]
        if waiting:
            waiting.reverse()
            watch.push(waiting, _size(waiting))
        self._by_scope.setdefault(scope, set()).add(watch)
        return watch

    def tell(self, batch: Iterable[Event]) -> None:
        """Hand a batch's events to those who watch them."""
        by_scope = self._by_scope
        if not by_scope:
            return
        found: dict[Key, list[Event]] = {}
        for event in batch:
            for scope in _scopes(event.entry.key):
                if scope in by_scope:
                    found.setdefault(scope, []).append(event)
        for scope, events in found.items():
            size = _size(events)
            for watch in tuple(by_scope[scope]):
                watch.push(events, size)

    def end(self, reason: Exception) -> None:
        """Cut off all."""
        for watches in tuple(self._by_scope.values()):
            for watch in tuple(watches):
                watch.end(reason)

    def _drop(self, watch: Watch) -> None:
        self.expired += isinstance(watch.ended, Expired)
        watches = self._by_scope.get(watch.scope)
        if watches is not None:
            watches.discard(watch)
            if not watches:
                del self._by_scope[watch.scope]


def _scopes(key: Key) -> set[Key]:
    """What a change of that object is part of."""
    resource, namespace, name = key
    return {Key(resource, "", ""), Key(resource, namespace, ""), Key(resource, "", name), key}


def _size(events: Iterable[Event]) -> int:
    return sum(len(event.entry.data) for event in events)
