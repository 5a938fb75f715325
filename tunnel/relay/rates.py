"""How often each source may have something done for it: token buckets, at most CAP of them.

Invariant: what is remembered is bounded; when it is full the source seen longest ago is forgotten, which gives
that one a full bucket and takes nothing from anyone.
"""

from collections import OrderedDict
from collections.abc import Hashable

CAP = 8192


class Rates:
    """`burst` at once, `rate` a second thereafter, for each source by itself."""

    def __init__(self, rate: float, burst: float, cap: int = CAP) -> None:
        self._rate = rate
        self._burst = burst
        self._cap = cap
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def allow(self, source: Hashable, now: float) -> bool:
        """Whether one more is allowed; counts it if so."""
        left, then = self._left.get(source, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1.0
        self._left[source] = (left - 1.0 if allowed else left, now)
        self._left.move_to_end(source)
        if len(self._left) > self._cap:
            self._left.popitem(last=False)
        return allowed
