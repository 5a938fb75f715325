"""MeshNodes and Nodes to the tunnel's peers, and where each node is reached.

Addresses decide where packets go, so no two nodes may have one: a key, a mesh address or a pod range that overlaps
another node's, or the services', is refused, and the first node keeps it: by name, after those whose key the cloud has
accepted (MeshNode.status). All nodes see the same objects, so all refuse the same. A node whose key is refused is no
peer at all; a node whose range is refused lacks that range.
"""

import base64
import ipaddress
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edgemesh.config import Config
from sync.resources.kinds import MeshNode, Node
from sync.resources.validate import split_host_port
from tunnel.endpoint import Address
from tunnel.peer import Peer

_UNROUTABLE = tuple(
    map(ipaddress.ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "ff00::/8"))
)
_HOST_TYPES = ("InternalIP", "ExternalIP")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Problem(NamedTuple):
    """What of an object has no effect, and why: for `edgemesh status`. `subject` is "Kind [namespace/]name"."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


class Mesh(NamedTuple):
    """All nodes as this one sees them.

    `peers` are the others, by name. `addresses` has each node's mesh address (IPv4), its own too, `hosts` the
    addresses that its host has outside the mesh. `cut_off` are other nodes whose key or a range of whose pods is
    refused: packets for their pods would go nowhere, or elsewhere. `known` are the names of all there are, whether in
    the mesh or not; empty before any is known. This node's own are `zone`, `pod_ranges` and the
    `relays` that its MeshNode names.
    """

    peers: tuple[Peer, ...] = ()
    addresses: Mapping[str, str] = {}
    hosts: Mapping[str, frozenset[str]] = {}
    cut_off: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    pod_ranges: tuple[str, ...] = ()
    relays: tuple[Address, ...] = ()
    zone: str = ""
    problems: tuple[Problem, ...] = ()

    def reach(self, address: str, node: str) -> str:
        """Where an endpoint of a node is reached: one in the host's network at the node's mesh address."""
        if address in self.hosts.get(node, ()):
            return self.addresses.get(node, address)
        return address

    def gone(self, node: str) -> bool:
        """Whether an endpoint's node was deleted: what was sent there would leave the node in clear."""
        return bool(node and self.known) and node not in self.known


class _Claims:
    """Ranges that are given away, disjoint, so that only neighbours need a look."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int, int, str]] = []  # version, first, last, whose

    def take(self, network: Network, owner: str) -> str:
        """Give a range to `owner`; if it overlaps another's, whose that is."""
        first, last = int(network.network_address), int(network.broadcast_address)
        at = bisect_left(self._taken, (network.version, first, last, ""))
        for version, start, end, other in self._taken[max(at - 1, 0) : at + 1]:
            if version == network.version and start <= last and first <= end:
                return other
        insort(self._taken, (network.version, first, last, owner))
        return ""


def mesh(
    mesh_nodes: Mapping[str, MeshNode], nodes: Mapping[str, Node], config: Config, public_key: bytes = b""
) -> Mesh:
    """The mesh as the node of `config` sees it; `public_key` is its own key, 32 bytes."""
    claims = _Claims()
    claims.take(ipaddress.ip_network(config.service_range), "the services")
    keys: dict[bytes, str] = {}
    peers: list[Peer] = []
    addresses: dict[str, str] = {}
    own_ranges: tuple[str, ...] = ()
    own_relays: tuple[Address, ...] = ()
    problems: list[Problem] = []
    cut_off: set[str] = set()
    for name, node in sorted(mesh_nodes.items(), key=_standing):
        subject = f"MeshNode {name}"
        key = base64.b64decode(node.spec.public_key)
        holder = keys.setdefault(key, name)
        if holder != name:
            problems.append(Problem(subject, f"refused: it has the public key of {holder}"))
            cut_off.add(name)
            continue
        if (accepted_key := node.status.public_key) and accepted_key != node.spec.public_key:
            problems.append(Problem(subject, "refused: the cloud has not accepted its new public key"))
            if name != config.node_name:
                cut_off.add(name)
                continue
        if public_key and (name == config.node_name) != (key == public_key):
            problems.append(Problem(subject, _stranger(name, config.node_name)))
            if name != config.node_name:
                cut_off.add(name)
                continue
        ranges = node.status.pod_ranges or (nodes[name].pod_ranges if name in nodes else ())
        accepted = [text for text in ranges if _accept(text, subject, name, claims, problems)]
        if len(accepted) < len(ranges):
            cut_off.add(name)
        own = [text for text in node.status.mesh_addresses if _accept(text, subject, name, claims, problems)]
        if first := next((text for text in own if ":" not in text), ""):
            addresses[name] = first
        else:
            problems.append(Problem(subject, "has no mesh address (IPv4): its host network can't be reached"))
        if name == config.node_name:
            own_ranges, own_relays = tuple(accepted), tuple(_relays(node, config, problems))
            continue
        peers.append(
            Peer(
                name=name,
                public_key=key,
                allowed_ips=(*accepted, *(f"{text}/{128 if ':' in text else 32}" for text in own)),
                lan=tuple(Address(text, node.spec.listen_port) for text in node.spec.addresses),
                relays=tuple(_relays(node, config, problems)),
            )
        )
    if config.node_name not in mesh_nodes and mesh_nodes:
        problems.append(Problem(f"MeshNode {config.node_name}", _MISSING))
    own_node = nodes.get(config.node_name)
    return Mesh(
        peers=tuple(sorted(peers, key=lambda peer: peer.name)),
        addresses=addresses,
        hosts={
            name: hosts for name in {*mesh_nodes, *nodes} if (hosts := _hosts(mesh_nodes.get(name), nodes.get(name)))
        },
        cut_off=frozenset(cut_off - {config.node_name}),
        known=frozenset({*mesh_nodes, *nodes, config.node_name} if mesh_nodes or nodes else ()),
        pod_ranges=own_ranges or (own_node.pod_ranges if own_node and config.node_name not in mesh_nodes else ()),
        relays=own_relays,
        zone=own_node.zone if own_node else "",
        problems=tuple(problems),
    )


_MISSING = (
    "there is none for this node: others can't reach it. Where it joined, its agent writes it, unless the node was "
    "deleted: 'edgemesh join' with a new token joins anew. With manifests: 'edgemesh agent --print-meshnode'"
)


def _standing(named: tuple[str, MeshNode]) -> tuple[bool, str]:
    """Those whose key the cloud has accepted come first."""
    name, node = named
    return node.status.public_key != node.spec.public_key, name


def _stranger(name: str, own: str) -> str:
    if name == own:
        return "has another public key than this node: the file is old, or two nodes have one name"
    return f"refused: it has this node's public key, and this node's name is {own}"


def _accept(text: str, subject: str, name: str, claims: _Claims, problems: list[Problem]) -> bool:
    """Take an address or a range for a node, or say why not."""
    network = ipaddress.ip_network(text)
    for unroutable in _UNROUTABLE:
        if network.version == unroutable.version and network.overlaps(unroutable):
            problems.append(Problem(subject, f"{text} is refused: no packets can be sent to {unroutable}"))
            return False
    holder = claims.take(network, name)
    if holder:
        problems.append(Problem(subject, f"{text} is refused: it overlaps what {holder} has"))
    return not holder


def _relays(node: MeshNode, config: Config, problems: list[Problem]) -> Iterator[Address]:
    """A node's own relays, else those of the configuration."""
    if not node.spec.relays:
        yield from config.relay_addresses
    for text in node.spec.relays:
        host, port = split_host_port(text, config.relay_port)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            problems.append(Problem(f"MeshNode {node.metadata.name}", f"relay {text} is left out: not an IP address"))
            continue
        yield Address(host, port)


def _hosts(mesh_node: MeshNode | None, node: Node | None) -> frozenset[str]:
    lan = mesh_node.spec.addresses if mesh_node else ()
    status = node.status.addresses if node else ()
    return frozenset((*lan, *(address.address for address in status if address.type in _HOST_TYPES)))
