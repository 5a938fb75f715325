"""What the cluster gives nodes: pod ranges and mesh addresses; and whether a node is ready, from its lease.

What a node has it keeps. A range is the first free one, a mesh address a hash of the node's name (see `addresses`).
Readiness is upstream's: a node whose lease was not renewed for the grace period is Unknown, and so are its pods.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sync.controllers.addresses import Allocation, Claim, allocate
from sync.resources.kinds import Key, MeshNode, Node

RANGE_PREFIX = 24
"""Length of a node's range (upstream's --node-cidr-mask-size)."""
GRACE = 40.0
"""Seconds without a renewed lease until a node is not ready (upstream's --node-monitor-grace-period)."""
LOST = "NodeStatusUnknown"
LOST_MESSAGE = "The node has stopped renewing its lease."
READY = "MeshReady"
READY_MESSAGE = "The node renews its lease."


class Ranges(NamedTuple):
    """New ranges by node, and the nodes for which none is left."""

    given: dict[str, str]
    without: tuple[str, ...]


def ranges(nodes: Iterable[Node], pod_range: str) -> Ranges:
    """A range of `pod_range` (CIDR text) for each node that has none; none overlaps one that a node has."""
    pool = ipaddress.ip_network(pod_range)
    prefix = max(RANGE_PREFIX if pool.version == 4 else 64, pool.prefixlen)
    size = 1 << (pool.max_prefixlen - prefix)
    first = int(pool.network_address)
    count = pool.num_addresses // size
    taken: set[int] = set()
    waiting: list[str] = []
    for node in nodes:
        if not node.pod_ranges:
            waiting.append(node.metadata.name)
        for text in node.pod_ranges:
            held = ipaddress.ip_network(text)
            if held.version == pool.version and held.overlaps(pool):
                start = max(int(held.network_address) - first, 0) // size
                end = min(int(held.broadcast_address) - first, pool.num_addresses - 1) // size
                taken.update(range(start, end + 1))
    given: dict[str, str] = {}
    without: list[str] = []
    number = 0
    for name in sorted(waiting):
        while number < count and number in taken:
            number += 1
        if number >= count:
            without.append(name)
            continue
        given[name] = f"{ipaddress.ip_address(first + number * size)}/{prefix}"
        taken.add(number)
    return Ranges(given, tuple(without))


def mesh_addresses(nodes: Mapping[str, MeshNode], mesh_range: str) -> Allocation:
    """Each node's address in `mesh_range`. Of two nodes with one address the first by name keeps it."""
    return allocate((Claim(Key("MeshNode", "", name), _own(node)) for name, node in nodes.items()), mesh_range)


def _own(node: MeshNode) -> str:
    return next((text for text in node.status.mesh_addresses if ":" not in text), "")


class Readiness(NamedTuple):
    """The Ready condition that a node should have, and when to look again (seconds from now)."""

    status: str
    reason: str
    message: str
    again: float


def readiness(renewed: float | None, now: float, grace: float = GRACE) -> Readiness:
    """Whether a node is ready. `renewed` is when its lease was renewed last, None for never; both Unix seconds."""
    left = renewed + grace - now if renewed is not None else 0.0
    if left > 0:
        return Readiness("True", READY, READY_MESSAGE, left)
    return Readiness("Unknown", LOST, LOST_MESSAGE, float("inf"))
