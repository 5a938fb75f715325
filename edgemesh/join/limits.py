"""How often an address may ask: a token bucket each, for the latest few thousand addresses."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

BURST = 20
RATE = 1 / 3
"""Requests a second, once the burst is used up: a site's nodes are behind one address."""
ADDRESSES = 4096


class Limits:
    """Pure: `now` in seconds, rising."""

    def __init__(self, burst: int = BURST, rate: float = RATE, addresses: int = ADDRESSES) -> None:
        self._burst, self._rate, self._most = burst, rate, addresses
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was so

    def take(self, address: str, now: float) -> float:
        """0 if this request may go on; else the seconds until the next may. IPv6 is taken by its /64."""
        key = _site(address)
        left, since = self._buckets.pop(key, (float(self._burst), now))
        left = min(left + max(now - since, 0.0) * self._rate, self._burst)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[key] = (left - 1 if not wait else left, now)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait


def _site(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
