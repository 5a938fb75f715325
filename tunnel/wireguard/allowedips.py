"""Which peer an address belongs to: longest prefix first (whitepaper 2, "cryptokey routing").

A mesh has a few prefix lengths and many addresses, so there is one dict a length, asked longest first, and a
remembered answer an address, since a packet's address is nearly always one that came before.

Invariants: a prefix belongs to one peer, the last that was given it; the remembered answers are at most
`CACHE_SIZE` and go when anything changes. `lookup` is safe beside a change in another thread: it sees the table
before or after.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

CACHE_SIZE = 4096
"""Addresses whose answer is remembered; when full, all are forgotten."""

Network = IPv4Network | IPv6Network
Owner = TypeVar("Owner")


class AllowedIPs(Generic[Owner]):
    """Prefixes of both families and their owners."""

    def __init__(self) -> None:
        self._owners: dict[Network, Owner] = {}
        # address length in bytes -> [(bits to drop, {prefix without them: owner})], longest prefix first
        self._tables: dict[int, list[tuple[int, dict[int, Owner]]]] = {}
        self._cache: dict[bytes, Owner | None] = {}

    def assign(self, owner: Owner, networks: Iterable[Network], *, replace: bool = False) -> None:
        """Give prefixes to an owner, taking them from any other; with `replace`, these are its only ones."""
        owners = self._owners
        if replace:
            owners = {network: other for network, other in owners.items() if other is not owner}
        self._owners = owners | dict.fromkeys(networks, owner)
        self._compile()

    def remove(self, owner: Owner, network: Network) -> None:
        """Take one prefix from an owner; nothing happens when it is not that owner's."""
        if self._owners.get(network) is owner:
            del self._owners[network]
            self._compile()

    def of(self, owner: Owner) -> Iterator[Network]:
        """An owner's prefixes."""
        return (network for network, other in self._owners.items() if other is owner)

    def lookup(self, address: bytes) -> Owner | None:
        """The owner of an address of 4 or 16 bytes; None for any other length too."""
        cache = self._cache
        try:
            return cache[address]
        except KeyError:
            pass
        owner = self._search(address)
        if len(cache) >= CACHE_SIZE:
            cache.clear()
        cache[address] = owner
        return owner

    def _search(self, address: bytes) -> Owner | None:
        number = int.from_bytes(address, "big")
        for drop, table in self._tables.get(len(address), ()):
            owner = table.get(number >> drop)
            if owner is not None:
                return owner
        return None

    def _compile(self) -> None:
        tables: dict[int, dict[int, dict[int, Owner]]] = {4: {}, 16: {}}
        for network, owner in self._owners.items():
            drop = network.max_prefixlen - network.prefixlen
            prefix = int(network.network_address) >> drop
            tables[network.max_prefixlen // 8].setdefault(drop, {})[prefix] = owner
        self._tables = {size: sorted(by_drop.items(), key=lambda row: row[0]) for size, by_drop in tables.items()}
        # a new dict, so that a lookup under way in another thread can't put an old answer into it
        self._cache = {}
