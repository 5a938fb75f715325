"""What a relay knows: nodes by key and by address, channels by number, and the routes that follow from them.

A channel joins two keys and has one number for both. It is there while one of the two wants the other, and has
routes, one a direction, while both do and both are registered. Its number comes from the two keys, so that a relay
that was restarted gives the same ones and engines go on sending as before.

Invariants: `routes` holds exactly the channels whose two sides are both present; nodes, nodes behind one host,
channels of one node and channels in all are capped.
"""

import hashlib
from collections import Counter, OrderedDict

import msgspec

from tunnel.endpoint import Address
from tunnel.relay.proof import Keys
from tunnel.relay.protocol import State

MAX_NODES = 4096
MAX_NODES_PER_HOST = 256
"""Nodes behind one source host: a site's NAT, or a carrier's."""
MAX_CHANNELS_PER_NODE = 512
MAX_CHANNELS = 65_536


class Route(msgspec.Struct):
    """Where data that comes from one address on one channel goes, and how much has gone."""

    to: Address
    datagrams: int = 0
    octets: int = 0


class Channel(msgspec.Struct):
    """Two keys, in order; those of them that want it."""

    number: int
    keys: tuple[bytes, bytes]
    wanted_by: set[bytes] = msgspec.field(default_factory=set)

    @property
    def state(self) -> State:
        """How it stands for a side that has bound it."""
        return State.PRESENT if len(self.wanted_by) == 2 else State.ABSENT


class Node(msgspec.Struct):
    """A registered node. `heard` is when it last proved to be alive, `issued` when its cookie was made (ms)."""

    key: bytes
    address: Address
    keys: Keys
    cookie: bytes
    issued: int
    heard: float
    received: int = 0
    sent: int = 0
    channels: dict[bytes, Channel] = msgspec.field(default_factory=dict)
    inherited: set[bytes] = msgspec.field(default_factory=set)
    """Peers that an earlier registration wanted and this one has not asked for yet."""
    inherited_until: float = 0.0
    forwarded: int = 0
    """Datagrams from it, as counted when it was last looked at."""


class Table:
    """Nodes, channels, routes."""

    def __init__(self) -> None:
        self.nodes: OrderedDict[bytes, Node] = OrderedDict()
        """By key, the one heard longest ago first."""
        self.by_address: dict[Address, Node] = {}
        self.channels: dict[int, Channel] = {}
        self.routes: dict[tuple[Address, int], Route] = {}
        self.hosts: Counter[str] = Counter()
        """Nodes behind each host."""
        self.inheriting: dict[bytes, Node] = {}
        """Nodes with channels that they have not asked for since they last registered."""

    def room(self, host: str) -> bool:
        """Whether another node fits, one behind this host."""
        return len(self.nodes) < MAX_NODES and self.hosts[host] < MAX_NODES_PER_HOST

    def add(self, node: Node) -> None:
        """Register a node that is not there; another node at its address must have been removed."""
        self.nodes[node.key] = node
        self.by_address[node.address] = node
        self.hosts[node.address.host] += 1

    def hear(self, node: Node, now: float) -> None:
        """Note that a node is alive."""
        node.heard = now
        self.nodes.move_to_end(node.key)

    def inherit(self, node: Node, until: float) -> None:
        """Keep a node's channels although it has registered anew, and note that it must ask for them again."""
        node.inherited = set(node.channels)
        node.inherited_until = until
        if node.inherited:
            self.inheriting[node.key] = node

    def move(self, node: Node, address: Address) -> None:
        """Take a node's channels to another address."""
        for channel in node.channels.values():
            self._unroute(channel)
        self._leave(node)
        node.address = address
        self.by_address[address] = node
        self.hosts[address.host] += 1
        for channel in node.channels.values():
            self._route(channel)

    def remove(self, node: Node) -> list[Node]:
        """Forget a node; the nodes that are left without it, whose channels to it are now absent."""
        left = [other for peer in list(node.channels) if (other := self.unbind(node, peer))]
        del self.nodes[node.key]
        self.inheriting.pop(node.key, None)
        self._leave(node)
        return left

    def bind(self, node: Node, peer: bytes) -> tuple[Channel | None, bool]:
        """A channel from node to peer (None when there is no room), and whether that is new."""
        if channel := node.channels.get(peer):
            return channel, False
        other = self.nodes.get(peer)
        channel = other.channels.get(node.key) if other else None
        if len(node.channels) >= MAX_CHANNELS_PER_NODE or (not channel and len(self.channels) >= MAX_CHANNELS):
            return None, False
        if not channel:
            low, high = sorted((node.key, peer))
            channel = Channel(self._free_number(low + high), (low, high))
            self.channels[channel.number] = channel
        channel.wanted_by.add(node.key)
        node.channels[peer] = channel
        self._route(channel)
        return channel, True

    def unbind(self, node: Node, peer: bytes) -> Node | None:
        """Give up node's side of a channel; the peer's node if its side is still there."""
        channel = node.channels.pop(peer, None)
        if not channel:
            return None
        self._unroute(channel)
        channel.wanted_by.discard(node.key)
        if not channel.wanted_by:
            del self.channels[channel.number]
            return None
        return self.nodes[peer]

    def forwarded(self, node: Node) -> int:
        """Datagrams forwarded from a node on the channels it has."""
        routes = (self.routes.get((node.address, channel.number)) for channel in node.channels.values())
        return sum(route.datagrams for route in routes if route)

    def _route(self, channel: Channel) -> None:
        if len(channel.wanted_by) == 2:
            one, two = (self.nodes[key].address for key in channel.keys)
            self.routes[one, channel.number] = Route(two)
            self.routes[two, channel.number] = Route(one)

    def _unroute(self, channel: Channel) -> None:
        for key in channel.wanted_by:
            self.routes.pop((self.nodes[key].address, channel.number), None)

    def _leave(self, node: Node) -> None:
        if self.by_address.get(node.address) is node:
            del self.by_address[node.address]
        self.hosts[node.address.host] -= 1
        if not self.hosts[node.address.host]:
            del self.hosts[node.address.host]

    def _free_number(self, keys: bytes) -> int:
        number = int.from_bytes(hashlib.blake2s(keys, digest_size=4).digest(), "little")
        while not number or number in self.channels:
            number = (number + 1) & 0xFFFFFFFF
        return number
