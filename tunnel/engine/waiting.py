"""Handshake messages that wait for the control thread: few, and shared out among their sources.

A flood of well-formed initiations comes faster than they can be looked at, so most must be dropped before anybody
looks. Dropped are those of the sources that have the most waiting: a source may have as many as there is room left
(Choudhury and Hahne, 'Dynamic queue length thresholds', 1998). One flooding source then fills half of the room, n fill
n/(n + 1) of it, and who comes newly with his first message finds a place.

Invariants: at most WAITING messages wait, none longer than an initiation; two threads may call `put` and `take`.
"""

import threading

from tunnel.endpoint import Endpoint
from tunnel.wireguard.messages import INITIATION_SIZE

WAITING = 512
"""Handshake messages that wait; some 40 ms of work where cookies must be made for all of them."""

Message = tuple[bytes, Endpoint]


class Waiting:
    """Messages and their sources, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: list[Message] = []
        self._counts: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, datagram: memoryview, source: Endpoint) -> bool:
        """Keep a message; False where it is too long for one, or its source has its share."""
        if len(datagram) > INITIATION_SIZE:
            return False
        key = source.host, source.channel
        with self._lock:
            count = self._counts.get(key, 0)
            if len(self._messages) + count >= WAITING:
                return False
            self._counts[key] = count + 1
            self._messages.append((bytes(datagram), source))
        return True

    def take(self) -> list[Message]:
        """All that wait now."""
        with self._lock:
            taken, self._messages = self._messages, []
            self._counts.clear()
        return taken
