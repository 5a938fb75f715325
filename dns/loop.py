"""The loop's descriptors: which are watched, for what, and who is called. `now` is the time of the last wake-up."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable

Handler = Callable[[int], None]


class Loop:
    """epoll(7), blocking until something is ready or the deadline has come."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def watch(self, number: int, events: int, handler: Handler) -> None:
        """Call `handler(events)` when the descriptor is ready."""
        self._epoll.register(number, events)
        self._handlers[number] = handler

    def change(self, number: int, events: int) -> None:
        """Wait for other events."""
        self._epoll.modify(number, events)

    def forget(self, number: int) -> None:
        """Watch the descriptor no longer; before it is closed."""
        if self._handlers.pop(number, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(number)

    def turn(self, deadline: float | None) -> None:
        """Wait, then call the handlers of what is ready."""
        timeout = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        ready = self._epoll.poll(timeout)
        self.now = time.monotonic()
        for number, events in ready:
            # one handler may end what another was to be called for
            if (handler := self._handlers.get(number)) is not None:
                handler(events)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
