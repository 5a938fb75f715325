"""A simulated internet on virtual time, with a seed: NATs, a relay, loss, reordering, breaks; two engines and pairs.

NATs are modelled as conntrack has them: a flow (inside, outside) has an external port; endpoint-independent mapping
looks for another flow of the same inside address first. `clash` adds what a Linux gateway without a drop in INPUT
does: an unsolicited packet confirms an entry of its own, which takes the port away from our flow to that source.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.tunnel.paths.keys import KEYS, public
from tunnel.control.engine import PeerState
from tunnel.endpoint import Address, Endpoint
from tunnel.paths.candidate import Excluded
from tunnel.paths.choice import pair
from tunnel.paths.pair import Pair
from tunnel.paths.probe import DatagramCodec, Malformed
from tunnel.peer import PathKind, Peer

UDP_TIMEOUT = 30.0
RELAYS = (Address("198.18.0.10", 20006), Address("198.18.0.11", 20006))


@dataclass(frozen=True)
class Datagram:
    """A probe (sealed) or an engine's data; `channel` as its present reader numbers it."""

    content: bytes
    channel: int = 0
    size: int = 0


class World:
    """Time, events and the way packets go."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.loss = 0.0
        self.latency = 0.005
        self.jitter = 0.002
        self.hosts: dict[str, Callable[[Datagram, Address, Address], None]] = {}
        """By address: what takes a datagram (datagram, source, destination)."""
        self.cut: list[Callable[[Datagram, Address, Address], bool]] = []
        """Rules that drop what crosses the internet, when any says so."""
        self.far: dict[tuple[str, str], float] = {}
        """Extra latency, by hosts it lies between."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (time, next(self._order), act))

    def send(self, datagram: Datagram, source: Address, to: Address) -> None:
        """Carry a datagram over the internet (or a LAN) to whoever has the address."""
        lost = self.random.random() < self.loss or any(rule(datagram, source, to) for rule in self.cut)
        take = self.hosts.get(to.host)
        if lost or take is None:
            return
        delay = self.latency + self.random.random() * self.jitter + self.far.get((source.host, to.host), 0.0)
        self.at(self.now + delay, lambda: take(datagram, source, to))

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            time, _, act = heapq.heappop(self._events)
            self.now = max(self.now, time)
            act()
        self.now = end

    def until(self, condition: Callable[[], bool], within: float, step: float = 0.01) -> float:
        """Run until the condition holds; the time it took. Fails when it takes longer."""
        start = self.now
        while not condition():
            assert self.now - start <= within, f"not within {within} s"
            self.run(step)
        return self.now - start


@dataclass
class Flow:
    port: int
    until: float


@dataclass
class Nat:
    """One router. Kinds are RFC 4787's: mapping `eim` or `apdm`; filtering `eif`, `adf` or `apdf`."""

    world: World
    host: str
    mapping: str
    filtering: str
    clash: bool = False
    inside: dict[str, "Node"] = field(default_factory=dict)
    flows: dict[tuple[Address, Address], Flow] = field(default_factory=dict)
    blocked: dict[tuple[int, Address], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.hosts[self.host] = self.inward

    def outward(self, datagram: Datagram, source: Address, to: Address) -> None:
        """Translate and send on a packet from inside."""
        now = self.world.now
        flow = self.flows.get((source, to))
        if flow is None or flow.until < now:
            flow = self.flows[source, to] = Flow(self._port(source, to), 0.0)
        flow.until = now + UDP_TIMEOUT
        self.world.send(datagram, Address(self.host, flow.port), to)

    def _port(self, source: Address, to: Address) -> int:
        now = self.world.now
        drawn = self.world.random.randrange(1024, 65536)
        if self.mapping == "apdm":
            return drawn
        live = (f.port for (inner, _), f in self.flows.items() if inner == source and f.until >= now)
        wanted = next(live, source.port)
        return drawn if self.blocked.get((wanted, to), 0.0) >= now else wanted

    def inward(self, datagram: Datagram, source: Address, to: Address) -> None:
        """Translate and deliver a packet from outside, if the filter has it."""
        now = self.world.now
        live = [(key, flow) for key, flow in self.flows.items() if flow.port == to.port and flow.until >= now]
        for (inner, outer), flow in live:
            passes = {"eif": True, "adf": outer.host == source.host, "apdf": outer == source}[self.filtering]
            if passes:
                if outer == source:
                    flow.until = now + UDP_TIMEOUT
                self.inside[inner.host].take(datagram, source)
                return
        if self.clash:
            self.blocked[to.port, source] = now + UDP_TIMEOUT


class Relay:
    """Passes datagrams on between bound channels; tells each end the address it sees."""

    def __init__(self, world: World, address: Address) -> None:
        self.world = world
        self.address = address
        self.alive = True
        self.seen: dict[bytes, Address] = {}
        world.hosts[address.host] = self.take

    def take(self, datagram: Datagram, source: Address, _: Address) -> None:
        if not self.alive:
            return
        if datagram.content.startswith(b"hello"):
            node = datagram.content[5:]
            self.seen[node] = source
            self.world.send(Datagram(b"seen" + f"{source.host}|{source.port}".encode()), self.address, source)
            return
        sender = next((key for key, at in self.seen.items() if at == source), None)
        other = next((key for key in self.seen if key != sender), None)
        if sender is not None and other is not None and datagram.channel:
            self.world.send(datagram, self.address, self.seen[other])


class Node:
    """A host with an agent (a `Pair`) and an engine, behind a NAT or not."""

    def __init__(
        self, world: World, name: str, key: bytes, peer: Peer, address: Address, nat: Nat | None, relays: list[Relay]
    ) -> None:
        self.world, self.name, self.key, self.address, self.nat = world, name, key, address, nat
        self.peer_key = peer.public_key
        self.relays = relays
        self.neighbours: dict[str, Node] = {}
        self.rx = self.tx = 0
        self.delivered: list[float] = []
        self.handshake = 0.0
        self.at: Endpoint | None = None
        self.sends = 0.0
        self.heard: dict[Address, float] = {}
        self.bound: set[Address] = set()
        self.observed: dict[Address, Address] = {}
        self.life = 0
        if nat:
            nat.inside[address.host] = self
        else:
            world.hosts[address.host] = lambda datagram, source, _: self.take(datagram, source)
        self.start(peer)

    def start(self, peer: Peer) -> None:
        """Start the agent (anew); the engine stays as it is."""
        self.life += 1
        life = self.life
        self.codec = DatagramCodec(self.key, self.world.random.randbytes)
        self.codec.add(peer.public_key)
        epoch = self.world.random.getrandbits(64)
        self.pair: Pair = pair(public(self.key), peer, epoch, self.world.random.randbytes, self.world.now)
        self.pair.set_peer(peer, Excluded(), self.world.now)
        if self.at is not None:
            self.pair.adopt(self.state(), self.world.now)
        self.bound.clear()
        self.observed.clear()
        for relay in self.relays:
            self._hello(relay, life)
        self.polled = 0.0
        self._tick(life)

    def _hello(self, relay: Relay, life: int) -> None:
        if life != self.life:
            return
        now = self.world.now
        self._out(Datagram(b"hello" + public(self.key)), relay.address)
        silent = now - self.heard.get(relay.address, now)
        if silent > 1.5 and relay.address in self.bound:
            self.bound.discard(relay.address)
            self.pair.unbind(relay.address, now)
            self._flush()
        self.world.at(now + (0.2 if relay.address not in self.bound else 0.5), lambda: self._hello(relay, life))

    def _seen(self, relay: Address, observed: Address) -> None:
        now = self.world.now
        self.heard[relay] = now
        self.observed[relay] = observed
        self.pair.set_own(tuple(dict.fromkeys(self.observed.values())), now)
        host = next(r for r in self.relays if r.address == relay)
        if relay not in self.bound and len(host.seen) == 2:
            self.bound.add(relay)
            self.pair.bind(relay, 7, now)
        self._flush()

    def _tick(self, life: int) -> None:
        if life != self.life:
            return
        now = self.world.now
        self.pair.tick(now)
        if now >= self.polled + self._interval(now):
            self.polled = now
            self.pair.state(self.state(), now)
        self._flush()
        wake = min(self.pair.deadline(now), self.polled + self._interval(now), now + 0.05)
        self.world.at(max(wake, now + 0.001), lambda: self._tick(life))

    def _interval(self, now: float) -> float:
        return 0.1 if self.pair.hurried(now) else 0.2 if self.pair.busy(now) else 1.0

    def state(self) -> PeerState:
        return PeerState(self.peer_key, self.at, self.handshake, self.rx, self.tx)

    def _flush(self) -> None:
        while self.pair.outbox:
            message, endpoint = self.pair.outbox.popleft()
            self._out(Datagram(self.codec.seal(self.peer_key, message), endpoint.channel), endpoint.address)
        move = self.pair.take_move()
        if move is not None:
            self.at = move
            self.data(b"keepalive", 32)

    def data(self, content: bytes, size: int) -> None:
        """Let the engine send a packet to where its peer points."""
        if self.at is not None:
            self.tx += size
            self._out(Datagram(b"data" + content, self.at.channel, size), self.at.address)

    def _out(self, datagram: Datagram, to: Address) -> None:
        neighbour = self.neighbours.get(to.host)
        if neighbour is not None:
            world = self.world
            if not any(rule(datagram, self.address, to) for rule in world.cut):
                world.at(world.now + 0.0005, lambda: neighbour.take(datagram, self.address))
        elif self.nat:
            self.nat.outward(datagram, self.address, to)
        else:
            self.world.send(datagram, self.address, to)

    def take(self, datagram: Datagram, source: Address) -> None:
        """A datagram has come to this host's tunnel port."""
        content = datagram.content
        if content.startswith(b"seen"):
            host, port = content[4:].decode().split("|")
            self._seen(source, Address(host, int(port)))
        elif content.startswith(b"data"):
            self.rx += datagram.size
            self.handshake = self.handshake or self.world.now
            if not self.pair.chooser:
                self.at = Endpoint(source.host, source.port, datagram.channel)
            if content[4:] == b"echo":
                self.data(b"reply", 120)
            if content[4:] != b"keepalive":
                self.delivered.append(self.world.now)
        else:
            try:
                _, message = self.codec.open(content)
            except Malformed:
                return
            self.pair.receive(message, Endpoint(source.host, source.port, datagram.channel), self.world.now)
            self._flush()


NATS = {
    "cone": ("eim", "eif", False),
    "restricted": ("eim", "adf", False),
    "port-restricted": ("eim", "apdf", False),
    "symmetric": ("apdm", "apdf", False),
    "linux-gateway": ("eim", "apdf", True),
}


class Site:
    """Two nodes, each behind a NAT of the kind named ("" for none), and relays."""

    def __init__(
        self, seed: int, left: str = "port-restricted", right: str = "port-restricted", relays: int = 1,
        *, lan: bool = False, swap: bool = False,
    ) -> None:  # fmt: skip
        self.world = World(seed)
        self.relays = [Relay(self.world, address) for address in RELAYS[:relays]]
        keys = sorted(KEYS, key=public, reverse=swap)
        addresses = (Address("10.1.0.2", 41001), Address("10.1.0.3" if lan else "10.2.0.2", 41002))
        nodes = []
        for index, kind in enumerate((left, right)):
            host, own = ("203.0.113.1", "203.0.113.2")[index], addresses[index]
            nat = Nat(self.world, host, *NATS[kind]) if kind else None
            other = Peer("peer", public(keys[1 - index]), lan=(addresses[1 - index],))
            own = own if nat else Address(host, own.port)
            nodes.append(Node(self.world, ["left", "right"][index], keys[index], other, own, nat, self.relays))
        self.left, self.right = nodes
        if lan:
            self.left.neighbours[self.right.address.host] = self.right
            self.right.neighbours[self.left.address.host] = self.left
        self.talking = False

    def talk(self, every: float = 0.02) -> None:
        """Send requests from left to right all the time; each is replied to."""
        self.talking = True

        def speak() -> None:
            if self.talking:
                self.left.data(b"echo", 120)
                self.world.at(self.world.now + every, speak)

        speak()

    def agree(self) -> bool:
        """Whether both ends use one kind of way, and both engines point to the way their agents mean."""
        kinds = {self.left.pair.kind, self.right.pair.kind}
        return len(kinds) == 1 and all(node.at == node.pair.endpoint for node in (self.left, self.right))

    def on(self, *kinds: PathKind) -> bool:
        """Whether both ends agree on one of these kinds."""
        return self.agree() and self.left.pair.kind in kinds

    def direct(self) -> bool:
        """Whether both ends agree on a direct way that is proven."""
        return self.on(PathKind.DIRECT, PathKind.LAN) and not any(
            node.pair.hurried(self.world.now) for node in (self.left, self.right)
        )

    def replies(self, since: float) -> int:
        """Replies that have come back to the left node since then."""
        return sum(1 for at in self.left.delivered if at >= since)

    def gap(self, since: float) -> float:
        """The longest time without a reply since then."""
        times = [since, *(at for at in self.left.delivered if at >= since), self.world.now]
        return max(b - a for a, b in itertools.pairwise(times))
