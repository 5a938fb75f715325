"""The servers that are asked for what is not ours, and which of them is worth asking first.

They are used in the order of resolv.conf, as resolv.conf(5) says, except that one that has failed several times in a
row stands behind the others, until it has answered again; from time to time it is asked besides another, so that it
gets the chance. Pure bookkeeping: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

DOWN_AFTER = 2
"""Failures in a row after which a server counts as down."""
PROBE_AFTER = (1.0, 2.0, 5.0, 15.0)
"""Seconds from a failure to the next try besides another server; the last repeats."""


class Upstream(msgspec.Struct, eq=False):
    """One server and how it has been doing. `latency` is in seconds, smoothed; 0 before the first answer."""

    address: str
    failures: int = 0
    error: str = ""
    latency: float = 0.0
    asked: int = 0
    edns: bool = True
    probe_at: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is asked in its turn."""
        return self.failures < DOWN_AFTER

    def answered(self, latency: float) -> None:
        """It answered, `latency` seconds after it was asked."""
        self.latency = latency if not self.latency else self.latency * 0.8 + latency * 0.2
        self.failures = 0
        self.error = ""

    def failed(self, reason: str, now: float) -> None:
        """It did not answer, or not so that one could use it."""
        wait = PROBE_AFTER[min(self.failures, len(PROBE_AFTER) - 1)]
        self.probe_at = now + wait
        self.failures += 1
        self.error = reason


class Upstreams:
    """All servers, in the order they are listed."""

    def __init__(self) -> None:
        self.all: list[Upstream] = []

    def set(self, addresses: Sequence[str]) -> None:
        """Become these; what is known of those that stay is kept."""
        known = {upstream.address: upstream for upstream in self.all}
        self.all = [known.get(address) or Upstream(address) for address in addresses]

    def healthy(self) -> list[Upstream]:
        """Those that are asked in their turn."""
        return [upstream for upstream in self.all if upstream.ok]

    def order(self) -> list[Upstream]:
        """All, those that are well first."""
        return sorted(self.all, key=lambda upstream: not upstream.ok)

    def to_probe(self, now: float) -> Upstream | None:
        """One that is down and should be tried again by now."""
        return next((each for each in self.all if not each.ok and each.probe_at <= now), None)
