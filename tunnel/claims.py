"""Which peers are taken on: no key and no address range belongs to two.

Peers are looked at in the order of their names, so that every node comes to the same result: the first has it, the
other is refused with the reason. Work is proportional to n log n for n ranges.
"""

import bisect
import ipaddress
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from tunnel.peer import LocalNode, Peer

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Ranges:
    """Disjoint address ranges and whose they are."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, int]] = []
        self._ends: list[tuple[int, str]] = []

    def owner(self, cidr: str) -> str | None:
        """Whose range this one overlaps; None for nobody's. Raises ValueError for what is no network."""
        family, first, last = _span(ipaddress.ip_network(cidr, strict=False))
        after = bisect.bisect_right(self._starts, (family, last))
        if after and self._starts[after - 1][0] == family and self._ends[after - 1][0] >= first:
            return self._ends[after - 1][1]
        return None

    def add(self, network: Network, owner: str) -> None:
        """Take a range that overlaps none."""
        family, first, last = _span(network)
        at = bisect.bisect(self._starts, (family, first))
        self._starts.insert(at, (family, first))
        self._ends.insert(at, (last, owner))


def admit(node: LocalNode, own_key: bytes, peers: Mapping[str, Peer]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Peers taken on and reasons of those refused, both by name."""
    taken: dict[str, Peer] = {}
    refused: dict[str, str] = {}
    keys = {own_key: node.name}
    ranges = _Ranges()
    if node.mesh_address:
        ranges.add(ipaddress.ip_network(node.mesh_address), node.name)
    for name in sorted(peers):
        peer = peers[name]
        reason = _conflict(peer, keys, ranges)
        if reason:
            refused[name] = reason
            continue
        taken[name] = peer
        keys[peer.public_key] = name
        for network in _disjoint(peer.allowed_ips):
            ranges.add(network, name)
    return taken, refused


def _conflict(peer: Peer, keys: Mapping[bytes, str], ranges: _Ranges) -> str:
    if len(peer.public_key) != 32:
        return f"its key has {len(peer.public_key)} bytes instead of 32: correct its MeshNode"
    if peer.public_key in keys:
        return f"it has the key of {keys[peer.public_key]}: give one of them a key of its own"
    for cidr in peer.allowed_ips:
        try:
            owner = ranges.owner(cidr)
        except ValueError as error:
            return f"{cidr} is no address range ({error}): correct its MeshNode"
        if owner is not None:
            return f"its range {cidr} overlaps one of {owner}: give one of them another"
    return ""


def _disjoint(cidrs: Iterable[str]) -> list[Network]:
    """A peer's own ranges, which may overlap one another, as ranges that do not."""
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    four = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    return [*four, *six]


def _span(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), int(network.broadcast_address)
