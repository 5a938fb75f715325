"""How many requests may be under way: a cap of those that read and of those that write, and a user's share of either.

A request counts until its answer is written, so this bounds also the answers that wait for clients that read slowly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sync.api import status

MAX_READS, MAX_WRITES = 400, 200
"""At a time, as kube-apiserver's max-requests-inflight and max-mutating-requests-inflight."""
SHARE = 4
"""A user has a quarter of each at most: who reads no answers keeps nobody else from theirs."""


class Inflight:
    """Counts requests."""

    def __init__(self) -> None:
        self._all = {True: 0, False: 0}
        self._users: Counter[tuple[str, bool]] = Counter()

    def __len__(self) -> int:
        return sum(self._all.values())

    @contextmanager
    def counted(self, user: str, *, reads: bool) -> Iterator[None]:
        """One more for the time of the block; `reads` or writes. Raises ApiError 429."""
        most = MAX_READS if reads else MAX_WRITES
        own = user, reads
        if self._all[reads] >= most or self._users[own] >= -(-most // SHARE):
            raise status.too_many("Too many requests, please try again later.")
        self._all[reads] += 1
        self._users[own] += 1
        try:
            yield
        finally:
            self._all[reads] -= 1
            self._users[own] -= 1
            if not self._users[own]:
                del self._users[own]
