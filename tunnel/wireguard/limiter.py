"""How many handshake messages are too many: for the device as a whole, and for one source.

A handshake costs four X25519, some 0.3 ms of processor: a sender of nothing but well-formed initiations could take
all of it. So beyond `LOAD_RATE` a second the device is under load (whitepaper 5.3): a message must then prove its
source address with a cookie, and each source has a rate of its own.

Invariant: the table of sources has at most `SOURCES` entries; the one that was silent longest goes first.
"""

from ipaddress import IPv6Address

from tunnel.endpoint import Endpoint

LOAD_RATE = 200.0
LOAD_BURST = 200.0
"""Handshake messages a second, and at once, that are answered without cookies: some 6 % of a core."""
UNDER_LOAD_AFTER = 1.0
"""Seconds that a device stays under load after a message too many (wireguard-go)."""
SOURCE_RATE = 20.0
SOURCE_BURST = 5.0
"""Messages a second, and at once, from one source while under load (wireguard-go)."""
SOURCES = 8192


class TokenBucket:
    """`burst` tokens at first, `rate` more each second."""

    __slots__ = ("_burst", "_rate", "_time", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._time = 0.0

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        self._tokens = min(self._burst, self._tokens + max(now - self._time, 0.0) * self._rate)
        self._time = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class LoadMeter:
    """Whether the device is under load."""

    __slots__ = ("_bucket", "_until")

    def __init__(self) -> None:
        self._bucket = TokenBucket(LOAD_RATE, LOAD_BURST)
        self._until = float("-inf")

    def arrived(self, now: float) -> None:
        """Count a handshake message."""
        if not self._bucket.take(now):
            self._until = now + UNDER_LOAD_AFTER

    def under_load(self, now: float) -> bool:
        """Whether there were too many in the last second."""
        return now < self._until


class SourceLimiter:
    """A token bucket a source: an IPv4 address or an IPv6 /64, and the channel where a relay stands between."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[tuple[str | bytes, int], TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, source: Endpoint, now: float) -> bool:
        """Count a message from `source`; False when it is one too many."""
        host = IPv6Address(source.host).packed[:8] if ":" in source.host else source.host
        key = host, source.channel
        # re-inserted at the end, so that the first is the one that was silent longest
        bucket = self._buckets.pop(key, None) or TokenBucket(SOURCE_RATE, SOURCE_BURST)
        if len(self._buckets) >= SOURCES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return bucket.take(now)
