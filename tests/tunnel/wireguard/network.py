"""A network of WireGuard devices on virtual time: seeded loss, delay (and so reordering) and duplication.

A `Node` is the smallest shell a device can have. It looks at `deadline()` only after calls that need the lock, as
the device's docstring allows, so that timers armed by the data path are tried as they will be used.
"""

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable
from ipaddress import ip_network
from itertools import count

from tunnel.endpoint import DATA, Endpoint
from tunnel.wireguard.device import Device, HandshakeFailed, SessionReady
from tunnel.wireguard.keypair import Keypair, Rejected
from tunnel.wireguard.messages import DATA_OVERHEAD, Malformed, parse_data_header
from tunnel.wireguard.peer import Peer

WALL = 1_700_000_000.0


def packet(source: bytes, destination: bytes, body: bytes) -> bytes:
    """As much of an IPv4 packet as routing looks at."""
    return b"\x45".ljust(12, b"\0") + source + destination + body


class Network:
    """Carries datagrams between nodes by endpoint. Rates are probabilities, delays seconds."""

    def __init__(self, seed: int, *, loss: float = 0.0, duplication: float = 0.0, delay: float = 0.01) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.duplication = duplication
        self.delay = delay
        self.now = 1000.0
        self.nodes: dict[Endpoint, Node] = {}
        self.captured: list[tuple[Endpoint, Endpoint, bytes]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def carry(self, source: Endpoint, destination: Endpoint, datagram: bytes) -> None:
        self.captured.append((source, destination, datagram))
        copies = 2 if self.random.random() < self.duplication else 1
        for _ in range(copies):
            if self.random.random() < self.loss:
                continue

            def arrive() -> None:
                node = self.nodes.get(destination)
                if node is not None:
                    node.deliver(datagram, source)

            self.at(self.delay * self.random.uniform(0.5, 3.0), arrive)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            wakes = [node.wake for node in self.nodes.values() if node.wake is not None]
            due = min([*wakes, *(row[0] for row in self._queue[:1])], default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            if self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
                continue
            for node in self.nodes.values():
                if node.wake is not None and node.wake <= self.now:
                    node.tick()
            if not wakes and not self._queue:
                break
        self.now = end


class Node:
    """A device and its shell; `number` makes its addresses."""

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.endpoint = Endpoint(f"192.0.2.{number}", 51820)
        self.address = bytes([10, 0, 0, number])
        self.device = Device(network.random.randbytes, lambda: WALL + network.now)
        self.device.set_private_key(network.random.randbytes(32), network.now)
        self.wake: float | None = None
        self.ticks = 0
        self.got: list[bytes] = []
        self.keepalives = 0
        self.refused = 0
        self.staged: dict[Peer, deque[bytes]] = defaultdict(deque)
        self.ready: list[Keypair] = []
        self.failed = 0
        self.sent_at: list[tuple[float, bytes]] = []
        network.nodes[self.endpoint] = self

    @property
    def key(self) -> bytes:
        assert self.device.public_key is not None
        return self.device.public_key

    def know(self, other: "Node", *, endpoint: bool = True, keepalive: int = 0) -> Peer:
        peer = self.device.add(other.key)
        self.device.allow(peer, [ip_network((other.address, 32))])
        self.device.update(peer, self.network.now, endpoint=other.endpoint if endpoint else None, keepalive=keepalive)
        self.flush()
        return peer

    def move(self, endpoint: Endpoint) -> None:
        """From now on, be somewhere else."""
        del self.network.nodes[self.endpoint]
        self.endpoint = endpoint
        self.network.nodes[endpoint] = self

    def send(self, other: "Node", body: bytes) -> None:
        peer = self.device.route(other.address)
        assert peer is not None
        self._send(peer, packet(self.address, other.address, body))

    def _send(self, peer: Peer, data: bytes) -> None:
        keypair = peer.sending(self.network.now)
        if keypair is None:
            self.staged[peer].append(data)
            self.device.initiate(peer, self.network.now)
            self.flush()
            return
        message = keypair.seal(data)
        if peer.endpoint is not None:
            self._out(peer.endpoint, message)
        if self.device.sent(peer, keypair, len(message), True, self.network.now):
            self.device.initiate(peer, self.network.now)
            self.flush()

    def deliver(self, datagram: bytes, source: Endpoint) -> None:
        now = self.network.now
        if datagram[:1] != bytes([DATA]):
            self.device.receive(datagram, source, now)
            self.flush()
            return
        try:
            keypair = self.device.keypair(parse_data_header(datagram)[0])
            if keypair is None:
                raise Rejected("no session")
            data = keypair.open(datagram, now)
        except (Malformed, Rejected):
            self.refused += 1
            return
        if self.device.received(keypair, source, len(datagram), bool(data), now):
            self.device.confirm(keypair, source, now)
            self.flush()
        if not data:
            self.keepalives += 1
        elif self.device.route(data[12:16]) is keypair.peer:
            self.got.append(data[20:])
        else:
            self.refused += 1

    def tick(self) -> None:
        self.ticks += 1
        self.device.tick(self.network.now)
        self.flush()

    def flush(self) -> None:
        """What is to be done after each call that needs the lock."""
        device = self.device
        while device.outbox or device.events:
            while device.outbox:
                self._out(*device.outbox.popleft())
            while device.events:
                event = device.events.popleft()
                if isinstance(event, SessionReady):
                    self.ready.append(event.keypair)
                    held, self.staged[event.peer] = self.staged[event.peer], deque()
                    for data in held:
                        self._send(event.peer, data)
                elif isinstance(event, HandshakeFailed):
                    self.failed += 1
                    self.staged[event.peer].clear()
        self.wake = device.deadline()

    def _out(self, endpoint: Endpoint, datagram: bytes) -> None:
        self.sent_at.append((self.network.now, datagram))
        self.network.carry(self.endpoint, endpoint, datagram)

    def sent(self, kind: int) -> list[float]:
        """When messages of a type went out; keepalives are not counted as data."""
        return [
            when
            for when, datagram in self.sent_at
            if datagram[0] == kind and (kind != DATA or len(datagram) > DATA_OVERHEAD)
        ]


def pair(network: Network, *, keepalive: int = 0) -> tuple[Node, Node]:
    """Two nodes that know each other."""
    a, b = Node(network, 1), Node(network, 2)
    a.know(b, keepalive=keepalive)
    b.know(a, keepalive=keepalive)
    return a, b
