"""Two small things both ends need for a choice: evidence that data came by a way, and saying something until heard."""

import math

SAY = 0.1
"""Seconds between two sayings; doubles after the first ten."""

SAY_MOST = 8.0


SETTLE = 0.05
"""Seconds after a change during which data may still come by the way before."""


class Proof:
    """Whether an engine has received data since a change: counters against those a moment after it."""

    __slots__ = ("_after", "_base", "done")

    def __init__(self, changed: float) -> None:
        self._after = changed + SETTLE
        self._base: tuple[int, float] | None = None
        self.done = False

    def take(self, received: int, handshake: float, now: float) -> None:
        """Take the counters of one poll."""
        if now < self._after:
            return
        if self._base is None or received < self._base[0]:
            self._base = received, handshake
        elif received > self._base[0] or handshake > self._base[1]:
            self.done = True


class Repeat:
    """Say something often at first, then ever more seldom, until told to stop."""

    __slots__ = ("_said", "at")

    def __init__(self) -> None:
        self.at = math.inf
        self._said = 0

    def start(self) -> None:
        """Due at once."""
        self.at, self._said = 0.0, 0

    def stop(self) -> None:
        """Never due."""
        self.at = math.inf

    def due(self, now: float) -> bool:
        """Whether to say it now; counts it as said."""
        if now < self.at:
            return False
        self._said += 1
        self.at = now + min(SAY * 2 ** max(0, self._said - 10), SAY_MOST)
        return True
