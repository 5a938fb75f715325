"""Which peer an address belongs to: longest prefix first (whitepaper 2, "cryptokey routing").

A mesh has a few prefix lengths and many addresses, so there is one dict a length, asked longest first, and a
remembered answer an address, since a packet's address is nearly always one that came before. A change costs as much
as it changes, however many prefixes there are.

Invariants: a prefix belongs to one owner, the last that was given it; the remembered answers are at most
`CACHE_SIZE` and go when anything changes. `lookup` is safe beside a change in another thread: it sees each prefix
as it was before or after.
"""

from collections.abc import Hashable, Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

CACHE_SIZE = 4096
"""Addresses whose answer is remembered; when full, all are forgotten."""

Network = IPv4Network | IPv6Network
Owner = TypeVar("Owner", bound=Hashable)


class AllowedIPs(Generic[Owner]):
    """Prefixes of both families and their owners."""

    def __init__(self) -> None:
        self._owners: dict[Network, Owner] = {}
        self._held: dict[Owner, dict[Network, None]] = {}
        # address length in bytes -> [(bits to drop, {prefix without them: owner})], longest prefix first
        self._tables: dict[int, list[tuple[int, dict[int, Owner]]]] = {4: [], 16: []}
        self._cache: dict[bytes, Owner | None] = {}

    def assign(self, owner: Owner, networks: Iterable[Network], *, replace: bool = False) -> None:
        """Give prefixes to an owner, taking them from any other; with `replace`, these are its only ones."""
        wanted = dict.fromkeys(networks)
        if replace:
            for network in [held for held in self._held.get(owner, ()) if held not in wanted]:
                self._drop(network)
        for network in wanted:
            former = self._owners.get(network)
            if former == owner:
                continue
            if former is not None:
                self._release(former, network)
            self._owners[network] = owner
            self._held.setdefault(owner, {})[network] = None
            size, drop, prefix = _place(network)
            self._table(size, drop)[prefix] = owner
        # a new dict, so that a lookup under way in another thread can't put an old answer into it
        self._cache = {}

    def of(self, owner: Owner) -> list[Network]:
        """An owner's prefixes, in the order they were given."""
        return list(self._held.get(owner, ()))

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

    def _table(self, size: int, drop: int) -> dict[int, Owner]:
        """The dict of one prefix length, made if there is none."""
        rows = self._tables[size]
        for row_drop, table in rows:
            if row_drop == drop:
                return table
        made: dict[int, Owner] = {}
        self._tables[size] = sorted([*rows, (drop, made)], key=lambda row: row[0])
        return made

    def _drop(self, network: Network) -> None:
        self._release(self._owners.pop(network), network)
        size, drop, prefix = _place(network)
        table = self._table(size, drop)
        del table[prefix]
        if not table:
            self._tables[size] = [row for row in self._tables[size] if row[0] != drop]

    def _release(self, owner: Owner, network: Network) -> None:
        held = self._held[owner]
        del held[network]
        if not held:
            del self._held[owner]


def _place(network: Network) -> tuple[int, int, int]:
    """Address length in bytes, bits to drop, and the prefix without them."""
    drop = network.max_prefixlen - network.prefixlen
    return network.max_prefixlen // 8, drop, int(network.network_address) >> drop
