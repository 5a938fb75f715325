"""All paths of one node: its relays, its pairs, and what goes between them. No I/O.

Datagrams and their source, engine states and `now` in; `outbox` (datagram, address), `moves` (where an engine's peer
should point), `changed` and `deadline()` out.

Invariants: a datagram that nobody asked for costs a look-up, one with a known hint a decryption, and no source has more
of those than its share a second; a pair hears of a relay only while both ends are bound there; channels are asked for
only once the engine knows its peers (a handshake that comes earlier is lost for 5 s).
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from tunnel.control.engine import DeviceState
from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, PROBE, RELAY, Address, Endpoint, channel_header
from tunnel.paths.candidate import Excluded, reflexive
from tunnel.paths.choice import pair
from tunnel.paths.pair import Pair
from tunnel.paths.probe import DatagramCodec, Malformed, SourceLimit
from tunnel.peer import Peer
from tunnel.relay.client import Bound, Down, Observed, Pending, Refused, RelayClient, Unbound, Up

log = logging.getLogger(__name__)

MAX_RELAYS = 8
"""Relays that a node registers with: its own first, then its peers'."""

MAX_OUTBOX = 4096
"""Datagrams that wait for a socket; the oldest go first."""

HURRIED_POLL = 0.1
BUSY_POLL = 0.2
IDLE_POLL = 1.0
"""Seconds between looks at the engine's counters: while a way is proven, while traffic flows, else."""


class PathFinder:
    """The node's end of all its pairs, and its clients at all relays."""

    def __init__(self, private_key: bytes, listen_port: int, random: Callable[[int], bytes], now: float) -> None:
        self.outbox: deque[tuple[bytes, Address]] = deque(maxlen=MAX_OUTBOX)
        self.moves: dict[bytes, tuple[Endpoint, bool]] = {}
        """By public key: endpoint, and whether the engine's peer is pinned there."""
        self.changed = False
        self.refusals: dict[Address, str] = {}
        self.pairs: dict[bytes, Pair] = {}
        self._private = private_key
        self._port = listen_port
        self._random = random
        self._due: dict[bytes, float] = {}
        self._codec = DatagramCodec(private_key, random)
        self._limit = SourceLimit()
        self._relays: tuple[Address, ...] = ()
        self._clients: dict[Address, RelayClient] = {}
        self._observed: dict[Address, Address] = {}
        self._ready = False
        self._carries = True

    @property
    def public_key(self) -> bytes:
        """The node's."""
        return self._codec.public_key

    def set_peers(
        self, peers: Mapping[str, Peer], relays: Sequence[Address], served: Sequence[str], now: float
    ) -> dict[str, str]:
        """Make the peers these, and this node's relays those; ranges `served` by the tunnel make no candidates.

        Returns reasons, by name, for peers whose key can't be used.
        """
        excluded = Excluded(served)
        refused = {}
        wanted = {peer.public_key for peer in peers.values()}
        for key in self.pairs.keys() - wanted:
            del self.pairs[key], self._due[key]
            self._codec.remove(key)
            self.moves.pop(key, None)
        own = self._own()
        for name, peer in peers.items():
            known = self.pairs.get(peer.public_key)
            if known is None:
                try:
                    self._codec.add(peer.public_key)
                except ValueError:
                    refused[name] = "its key is none of X25519: correct its MeshNode"
                    continue
                # a pair that is made anew counts choices from the beginning: only a new epoch says so
                epoch = int.from_bytes(self._random(8))
                known = self.pairs[peer.public_key] = pair(self.public_key, peer, epoch, self._random, now)
                known.carries = self._carries
                known.set_own(own, now)
            known.set_peer(peer, excluded, now)
            self._due[peer.public_key] = now
        self._relays = tuple(relays)
        self._set_clients(now)
        return refused

    def adopt(self, state: DeviceState, now: float, *, carries: bool) -> None:
        """The engine's state before it is configured; whether it `carries` data through relays by itself."""
        self._carries = carries
        for key, known in self.pairs.items():
            known.carries = carries
            if key in state.peers and known.current is None:
                known.adopt(state.peers[key], now)
                self._collect(key, known, now)

    def ready(self, now: float) -> None:
        """The engine knows its peers: channels can be bound."""
        self._ready = True
        self._want(now)

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take a datagram of the path socket."""
        word = int.from_bytes(datagram[:4], "little")
        if word == RELAY:
            client = self._clients.get(source)
            if client is not None:
                client.receive(datagram, now)
                self._heed(source, client, now)
            return
        via = Endpoint(source.host, source.port)
        if word == CHANNEL and len(datagram) > CHANNEL_HEADER and source in self._clients:
            via = Endpoint(source.host, source.port, int.from_bytes(datagram[4:8], "little"))
            datagram = datagram[CHANNEL_HEADER:]
            word = int.from_bytes(datagram[:4], "little")
        if word != PROBE or not self._codec.knows(datagram) or not self._limit.allow(via, now):
            return
        try:
            key, message = self._codec.open(datagram)
        except Malformed:
            return
        known = self.pairs[key]
        known.receive(message, via, now)
        self._collect(key, known, now)

    def state(self, state: DeviceState, now: float) -> None:
        """Take the engine's state."""
        for key, known in self.pairs.items():
            if key in state.peers:
                known.state(state.peers[key], now)
                self._collect(key, known, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        for relay, client in self._clients.items():
            due = client.deadline()
            if due is None or due <= now:
                client.tick(now)
                self._heed(relay, client, now)
        for key, known in self.pairs.items():
            if self._due[key] <= now:
                known.tick(now)
                self._collect(key, known, now)
                doubted = known.doubted(now)
                asked = self._clients.get(doubted) if doubted else None
                if asked is not None:
                    asked.check(now)

    def deadline(self, now: float) -> float:
        """When `tick` is due at the latest."""
        due = list(self._due.values())
        due += [client.deadline() or now for client in self._clients.values()]
        return min(due, default=now + 60.0)

    def poll(self, now: float) -> float:
        """Seconds from one look at the engine's state to the next."""
        if any(known.hurried(now) for known in self.pairs.values()):
            return HURRIED_POLL
        return BUSY_POLL if any(known.busy(now) for known in self.pairs.values()) else IDLE_POLL

    def _own(self) -> tuple[Address, ...]:
        return reflexive(self._observed.values(), self._port)

    def _set_clients(self, now: float) -> None:
        theirs = (relay for known in self.pairs.values() for relay in known.peer.relays)
        wanted = tuple(dict.fromkeys((*self._relays, *theirs)))[:MAX_RELAYS]
        for relay in self._clients.keys() - set(wanted):
            del self._clients[relay]
            self._observed.pop(relay, None)
            self.refusals.pop(relay, None)
            self._unbind(relay, now)
        for relay in wanted:
            if relay not in self._clients:
                self._clients[relay] = RelayClient(relay, self._private, self._random)
        self._want(now)

    def _want(self, now: float) -> None:
        if not self._ready:
            return
        for relay, client in self._clients.items():
            home = relay in self._relays
            client.want(key for key, known in self.pairs.items() if home or relay in known.peer.relays)
            client.tick(now)
            self._heed(relay, client, now)

    def _heed(self, relay: Address, client: RelayClient, now: float) -> None:
        """Take a client's events and datagrams."""
        while client.events:
            match client.events.popleft():
                case Up(observed):
                    self.refusals.pop(relay, None)
                    self._observe(relay, observed, now)
                    log.info("relay %s:%d: registered; it sees this node as %s:%d", *relay, *observed)
                case Observed(address):
                    self._observe(relay, address, now)
                case Bound(peer, channel, present) if peer in self.pairs:
                    if present:
                        self.pairs[peer].bind(relay, channel, now)
                    else:
                        self.pairs[peer].unbind(relay, now)
                    self._collect(peer, self.pairs[peer], now)
                case Unbound(peer, _) if peer in self.pairs:
                    self.pairs[peer].unbind(relay, now)
                    self._collect(peer, self.pairs[peer], now)
                case Down(reason):
                    if reason != self.refusals.get(relay):  # else it has just been told
                        log.warning("%s; direct paths stay", reason)
                    self._unbind(relay, now)
                case Pending(reason):
                    log.info("%s: asked again until it does", reason)
                case Refused(reason):
                    self.refusals[relay] = reason
                    log.warning("%s", reason)
        while client.outbox:
            self.outbox.append((client.outbox.popleft(), relay))

    def _observe(self, relay: Address, observed: Address, now: float) -> None:
        self._observed[relay] = observed
        own = self._own()
        for key, known in self.pairs.items():
            known.set_own(own, now)
            self._collect(key, known, now)

    def _unbind(self, relay: Address, now: float) -> None:
        for key, known in self.pairs.items():
            known.unbind(relay, now)
            self._collect(key, known, now)

    def _collect(self, key: bytes, known: Pair, now: float) -> None:
        while known.outbox:
            message, endpoint = known.outbox.popleft()
            sealed = self._codec.seal(key, message)
            if endpoint.channel:
                sealed = channel_header.pack(CHANNEL, endpoint.channel) + sealed
            self.outbox.append((sealed, endpoint.address))
        move = known.take_move()
        if move is not None:
            self.moves[key] = move, known.chooser
        self.changed |= known.changed
        known.changed = False
        self._due[key] = known.deadline(now)
