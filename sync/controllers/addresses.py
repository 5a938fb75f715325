"""Cluster IPs for services that have none: the same on every node, without asking one another.

An address is a hash of the service's namespace and name into the range. Whoever sees the same services computes the
same addresses, in whatever order they came. In a clash the first by name has the address and the others probe on,
after all who have theirs by right: so no service is moved by another's bad luck. A clash is told, since the loser's
address does depend on which services there are: the cure is to set its clusterIP.

Kubernetes hands out the lower end of a range last, so that people may choose addresses there; it is left free here.
"""

import ipaddress
from collections.abc import Container, Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from sync.resources.kinds import Key


class Claim(NamedTuple):
    """A service that needs an address; `address` is the one it asks for, empty for any."""

    key: Key
    address: str = ""


class Notice(NamedTuple):
    """A service that did not get the address it would have had alone, and why; for the operator."""

    key: Key
    text: str


class Allocation(NamedTuple):
    """Addresses by service. One that asked for a taken address, or found the range full, has none."""

    addresses: dict[Key, str]
    notices: tuple[Notice, ...]


def allocate(claims: Iterable[Claim], service_range: str) -> Allocation:
    """Give each claim an address of `service_range` (CIDR text)."""
    first, size = _usable(service_range)
    given: dict[Key, str] = {}
    taken: dict[str, Key] = {}
    notices: list[Notice] = []
    clashed: list[tuple[Key, str]] = []
    ordered = sorted(claims)
    for key, address in ordered:
        if not address:
            continue
        address = str(ipaddress.ip_address(address))
        if address in taken:
            notices.append(Notice(key, f"{key} has no address: clusterIP {address} is {taken[address]}'s, set another"))
        else:
            given[key] = address
            taken[address] = key
    for key, address in ordered:
        if address:
            continue
        home = _home(key, first, size, 0)
        if home in taken:
            clashed.append((key, home))
        else:
            given[key] = home
            taken[home] = key
    for key, home in clashed:
        found = _probe(key, first, size, taken)
        if not found:
            notices.append(Notice(key, f"{key} has no address: the range {service_range} is full"))
            continue
        given[key] = found
        taken[found] = key
        notices.append(
            Notice(key, f"{key} and {taken[home]} share the address {home}: {key} has {found}; set clusterIP")
        )
    return Allocation(given, tuple(notices))


def choose(key: Key, service_range: str, taken: Container[str]) -> str:
    """The address of one service where `taken` are others', as `allocate` would give it; "" if the range is full."""
    first, size = _usable(service_range)
    home = _home(key, first, size, 0)
    return home if home not in taken else _probe(key, first, size, taken)


def _probe(key: Key, first: int, size: int, taken: Container[str]) -> str:
    """The next free address of a service's own sequence; in a range nearly full the next free of all, "" if none."""
    for attempt in range(1, 16):
        address = _home(key, first, size, attempt)
        if address not in taken:
            return address
    addresses = (str(ipaddress.ip_address(first + offset)) for offset in range(size))
    return next((address for address in addresses if address not in taken), "")


@lru_cache(maxsize=65536)
def _home(key: Key, first: int, size: int, attempt: int) -> str:
    text = f"{key.namespace}/{key.name}" + (f"#{attempt}" if attempt else "")
    digest = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    return str(ipaddress.ip_address(first + digest % size))


@lru_cache(maxsize=4)
def _usable(service_range: str) -> tuple[int, int]:
    """First address and number of those given out: without network and broadcast, and the lower end left free."""
    network = ipaddress.ip_network(service_range)
    total = network.num_addresses
    # Upstream's rule for the part that people choose from: min(max(16, size / 16), 256), none in a tiny range.
    low = min(max(16, total // 16), 256) if total > 64 else 1
    return int(network.network_address) + low, max(total - low - 1, 1)
