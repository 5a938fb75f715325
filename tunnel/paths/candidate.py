"""Candidate addresses: which may be probed, what kind of path each would be, which is better.

A candidate list comes from a peer and makes this node send packets, so an address must earn its place: never
loopback, multicast, unspecified or the cloud's metadata service, never inside a range that the tunnel itself serves
(a tunnel inside the tunnel), and no more than `MAX_*` of each origin. A private address may belong to another
machine here; that does no harm, as only a sealed answer counts.

What is private is spelt out: `ipaddress.is_private` also covers documentation and benchmarking ranges, which test
networks use as their internet.
"""

import functools
import ipaddress
from collections.abc import Iterable, Sequence

from tunnel.endpoint import Address, Endpoint
from tunnel.paths.probe import MAX_CANDIDATES
from tunnel.peer import PathKind

MAX_LAN = 8
"""Addresses taken from a peer's own description."""

MAX_OBSERVED = 4
"""Sources that a peer's pings came from and that no list named."""

OBSERVED_LIFE = 45.0
"""Seconds that such a source is kept without an answer."""

_LAN = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "224.0.0.0/3",
        "169.254.169.254/32",
        "169.254.96.0/24",
        "::/127",
        "::ffff:0:0/96",
        "ff00::/8",
        "fd00:ec2::254/128",
    )
)


class Excluded:
    """Ranges that no candidate may lie in: the built-in ones and those that the tunnel serves.

    A look costs a set a prefix length, of which there are few, however many ranges there are: each of a thousand
    peers' addresses is held against the ranges of all of them.
    """

    def __init__(self, served: Iterable[str] = ()) -> None:
        # (IP version, bits to drop) -> prefixes without them
        self._prefixes: dict[tuple[int, int], set[int]] = {}
        for network in (*_NEVER, *(ipaddress.ip_network(text, strict=False) for text in served)):
            drop = network.max_prefixlen - network.prefixlen
            prefixes = self._prefixes.setdefault((network.version, drop), set())
            prefixes.add(int(network.network_address) >> drop)

    def allows(self, address: Address) -> bool:
        """Whether a packet may be sent to this address because a peer named it."""
        try:
            host = ipaddress.ip_address(address.host)
        except ValueError:
            return False
        number = int(host)
        return 0 < address.port < 65536 and not any(
            version == host.version and number >> drop in prefixes
            for (version, drop), prefixes in self._prefixes.items()
        )

    def filter(self, addresses: Sequence[Address], most: int = MAX_CANDIDATES) -> tuple[Address, ...]:
        """Those allowed, each once, in order, at most `most`."""
        return tuple(dict.fromkeys(filter(self.allows, addresses)))[:most]


@functools.lru_cache(maxsize=256)
def kind(endpoint: Endpoint) -> PathKind:
    """The kind of path that an endpoint makes."""
    if endpoint.channel:
        return PathKind.RELAYED
    host = ipaddress.ip_address(endpoint.host)
    return PathKind.LAN if any(host in network for network in _LAN) else PathKind.DIRECT


@functools.lru_cache(maxsize=256)
def rank(endpoint: Endpoint) -> int:
    """Preference, lower first: LAN, direct IPv6, direct IPv4, relayed."""
    match kind(endpoint):
        case PathKind.LAN:
            return 0
        case PathKind.DIRECT:
            return 1 if ":" in endpoint.host else 2
        case _:
            return 3


def better(rtt: float, than: float) -> bool:
    """Whether a round trip (seconds) is so much shorter that a change between equals is worth it."""
    return rtt + 0.005 < than and rtt < than * 0.8


def reflexive(observed: Iterable[Address], listen_port: int) -> tuple[Address, ...]:
    """This node's candidates from what its relays see of it.

    Where two relays see different ports the NAT's mapping depends on the destination; one that keeps the port for
    a first destination is then worth a try at the port itself.
    """
    seen = tuple(dict.fromkeys(observed))
    if hard(seen):
        seen += tuple(dict.fromkeys(Address(address.host, listen_port) for address in seen))
    return tuple(dict.fromkeys(seen))[:MAX_CANDIDATES]


def hard(observed: Iterable[Address]) -> bool:
    """Whether two relays see one host of ours with different ports (RFC 4787, 4.1: no endpoint-independent mapping)."""
    ports: dict[str, set[int]] = {}
    for address in observed:
        ports.setdefault(address.host, set()).add(address.port)
    return any(len(seen) > 1 for seen in ports.values())
