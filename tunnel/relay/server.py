"""A relay's decisions: who is registered, which channels there are, what is answered. No I/O.

`receive` takes every datagram that is not data of a known route (those never come here: the loop looks them up in
`table.routes` and passes them on); answers are in `outbox`, the next time that something is due in `deadline()`.

Invariants: nothing is kept for a source that has not shown, by a cookie, that it receives what is sent to it;
nothing sent to such a source is longer than what it answers (STUN: 1.6 times); every table is capped. A message
of a session counts once: its number must be greater than any before. A registration replaces an older one of its
key only when its challenge was made later, so a replayed proof moves nobody.
"""

import logging
from collections import deque
from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, RELAY, Address
from tunnel.paths import stun
from tunnel.relay import protocol
from tunnel.relay.proof import Cookies, Keys, Malformed, shared_secret, shown, verify
from tunnel.relay.protocol import (
    BIND_ENTRIES,
    TOKEN,
    Ack,
    Challenge,
    Channels,
    Entry,
    Hello,
    Kind,
    Prove,
    Reason,
    Refusal,
    Sign,
    State,
    Unknown,
    Welcome,
)
from tunnel.relay.rates import Rates
from tunnel.relay.rivals import Rivals
from tunnel.relay.table import MAX_NODES_PER_HOST, Channel, Node, Table

log = logging.getLogger(__name__)

LIFE = 45.0
"""Seconds a registration lasts without a keepalive or data from the node: three keepalives and a little."""
SILENT = 20.0
"""When the relay is full, a node unheard for this long gives way to a new one."""
INHERIT = 10.0
"""Seconds a node that registers again has to ask again for the channels it had; they work meanwhile."""
UPDATE_RETRY = 0.2
UPDATE_TRIES = 6
"""An update is said again, doubling the wait, until acknowledged; after that many times when the node next speaks."""
STUN_FACTOR = 1.6
"""The most by which an answer of STUN may be longer than its question."""


class _Update(msgspec.Struct):
    """Channels that a node must hear of: by peer, the number of the message that last said so (0: none yet)."""

    peers: dict[bytes, int] = msgspec.field(default_factory=dict)
    due: float = 0.0
    tries: int = 0


class Counts(msgspec.Struct):
    """What came that was not data of a known route."""

    malformed: int = 0
    forged: int = 0
    limited: int = 0
    refused: int = 0
    strangers: int = 0
    """Data from a source that is not registered."""
    absent: int = 0
    """Data on a channel that the other side has not bound."""
    stun: int = 0


class RelayServer:
    """One relay."""

    def __init__(
        self, private_key: bytes, random: Callable[[int], bytes], admit: Callable[[bytes], bool] = lambda _: True
    ) -> None:
        """`private_key` is 32 bytes, the relay's own; `admit` says which node keys may register."""
        self.table = Table()
        self.rivals = Rivals()
        self.counts = Counts()
        self.outbox: deque[tuple[bytes, Address]] = deque()
        self._private = X25519PrivateKey.from_private_bytes(private_key)
        self._public = self._private.public_key().public_bytes_raw()
        self._cookies = Cookies(random(32))
        self._admit = admit
        self._updates: dict[bytes, _Update] = {}
        self._greetings = Rates(rate=20, burst=100)
        self._proofs = Rates(rate=20, burst=100)
        self._exchanges = Rates(rate=500, burst=1000)
        self._unknowns = Rates(rate=4, burst=8)
        self._requests = Rates(rate=50, burst=200)
        self._questions = Rates(rate=20, burst=100)

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take a datagram: STUN, a message, or data that has no route (of which the first 16 bytes are enough)."""
        word = int.from_bytes(datagram[:4], "little")
        if word == CHANNEL and len(datagram) >= CHANNEL_HEADER:
            self._astray(datagram, source, now)
        elif word == RELAY:
            self._message(datagram, source, now)
        elif stun.is_stun(datagram):
            self._question(datagram, source, now)
        else:
            self.counts.malformed += 1

    def tick(self, now: float) -> None:
        """Let what is too old go, say again what was not acknowledged."""
        while self.table.nodes:
            node = next(iter(self.table.nodes.values()))
            if node.heard + LIFE > now:
                break
            forwarded = self.table.forwarded(node)
            if forwarded != node.forwarded:
                # its agent may be away; its engine is not
                node.forwarded = forwarded
                self.table.hear(node, now)
            else:
                self._remove(node, now)
        for key, update in list(self._updates.items()):
            if update.due <= now:
                self._say(self.table.nodes[key], update, now)
        for node in [node for node in self.table.inheriting.values() if node.inherited_until <= now]:
            del self.table.inheriting[node.key]
            for peer in node.inherited:
                self._unbind(node, peer, now)
            node.inherited.clear()

    def deadline(self) -> float | None:
        """When `tick` is due; None while there is nothing to wait for."""
        due = [update.due for update in self._updates.values()]
        due += [node.inherited_until for node in self.table.inheriting.values()]
        if self.table.nodes:
            due.append(next(iter(self.table.nodes.values())).heard + LIFE)
        return min(due, default=None)

    def set_admission(self, admit: Callable[[bytes], bool], now: float) -> None:
        """From now on only these keys; registered nodes of others go."""
        self._admit = admit
        for node in [node for node in self.table.nodes.values() if not admit(node.key)]:
            log.info("node %s at %s:%d is no longer admitted", shown(node.key), *node.address)
            self._remove(node, now)

    # What came

    def _question(self, datagram: bytes, source: Address, now: float) -> None:
        try:
            answer = stun.response(stun.read_request(datagram), source)
        except stun.Malformed:
            self.counts.malformed += 1
            return
        if len(answer) > STUN_FACTOR * len(datagram) or not self._questions.allow(source.host, now):
            self.counts.limited += 1
            return
        self.counts.stun += 1
        self.outbox.append((answer, source))

    def _astray(self, datagram: bytes, source: Address, now: float) -> None:
        """Data without a route: from a stranger, or the other side is not there."""
        node = self.table.by_address.get(source)
        channel = self.table.channels.get(int.from_bytes(datagram[4:8], "little"))
        if node and channel and node.key in channel.wanted_by:
            self.counts.absent += 1
        else:
            self.counts.strangers += 1
            self._unknown(datagram, source, now)

    def _unknown(self, datagram: bytes, source: Address, now: float) -> None:
        if len(datagram) >= protocol.HEADER + TOKEN and self._unknowns.allow(source, now):
            self.outbox.append((protocol.unknown(Unknown(protocol.token_of(datagram))), source))

    def _message(self, datagram: bytes, source: Address, now: float) -> None:
        try:
            kind, message = protocol.decode(datagram)
        except Malformed:
            self.counts.malformed += 1
            if (nonce := protocol.foreign_hello(datagram)) and self._greetings.allow(source.host, now):
                self._refuse(nonce, Reason.VERSION, source)
            return
        match message:
            case Hello():
                if not self._greetings.allow(source.host, now):
                    self.counts.limited += 1
                    return
                cookie = self._cookies.make(source, message.key, message.nonce, now)
                self.outbox.append((protocol.challenge(Challenge(message.nonce, self._public, cookie)), source))
            case Prove():
                self._prove(message, datagram, source, now)
            case Channels() | Sign() | Ack() if kind in (Kind.BIND, Kind.KEEPALIVE, Kind.ACK):
                node = self.table.by_address.get(source)
                if not node:
                    self._unknown(datagram, source, now)
                elif self._counts(node, message.number, datagram, now):
                    if self._requests.allow(node.key, now):
                        self._session(node, message, now)
                    else:
                        self.counts.limited += 1
            case _:
                self.counts.malformed += 1

    def _counts(self, node: Node, number: int, datagram: bytes, now: float) -> bool:
        """Whether a message is the node's, and new; then the node is alive."""
        if not verify(datagram, node.keys.node):
            # perhaps another session of the same address: one that lost its welcome, or a newer of the node's own
            self.counts.forged += 1
            self._unknown(datagram, node.address, now)
            return False
        if number <= node.received:
            return False
        node.received = number
        self.table.hear(node, now)
        return True

    def _session(self, node: Node, message: Channels | Sign | Ack, now: float) -> None:
        match message:
            case Channels():
                answers = self._bind(node, message.entries, now)
                bound = Channels(self._number(node), answers)
                self.outbox.append((protocol.channels(Kind.BOUND, bound, node.keys.relay), node.address))
            case Ack():
                self._acknowledged(node, message.update)
            case Sign():
                alive = protocol.sign(Kind.ALIVE, Sign(self._number(node)), node.keys.relay)
                self.outbox.append((alive, node.address))
        if (update := self._updates.get(node.key)) and update.tries >= UPDATE_TRIES:
            update.due, update.tries = now, 0

    # Registration

    def _prove(self, message: Prove, datagram: bytes, source: Address, now: float) -> None:
        if not self._proofs.allow(source.host, now):
            self.counts.limited += 1
            return
        issued = self._cookies.made(message.cookie, source, message.key, message.nonce, now)
        if issued is None:
            self._refuse(message.nonce, Reason.STALE, source)
            return
        node = self.table.nodes.get(message.key)
        if node and node.cookie == message.cookie and node.address == source:
            # the welcome was lost, or this is a replay: either way nothing changes
            if verify(datagram, node.keys.node):
                self._welcome(node, message, now)
            return
        if node and issued <= node.issued:
            return
        if not self._admit(message.key):
            self._refuse(message.nonce, Reason.NOT_ADMITTED, source)
            return
        if not self._exchanges.allow(None, now):
            self.counts.limited += 1
            return
        try:
            secret = shared_secret(self._private, message.key)
        except Malformed:
            self._refuse(message.nonce, Reason.PROOF, source)
            return
        keys = Keys(secret, self._public, message.key, message.nonce, message.cookie)
        if not verify(datagram, keys.node):
            self.counts.forged += 1
            self._refuse(message.nonce, Reason.PROOF, source)
            return
        if refused := self._register(message, node, keys, issued, source, now):
            self._refuse(message.nonce, refused, source)
            return
        self._welcome(self.table.nodes[message.key], message, now)

    def _register(
        self, message: Prove, node: Node | None, keys: Keys, issued: int, source: Address, now: float
    ) -> Reason | None:
        """Make or renew a registration whose proof is good; or why not."""
        if node and node.address != source:
            alive = now < node.heard + SILENT
            if not self.rivals.moves(node.key, node.address, source, alive, now):
                return Reason.DUPLICATE
        at = self.table.by_address.get(source)
        if at and at.key != message.key:
            # one socket has one key: the machine at this address has got a new one
            self._remove(at, now)
        if not node:
            if not self.table.room(source.host) and not self._make_room(source.host, now):
                return Reason.FULL
            self.table.add(Node(message.key, source, keys, message.cookie, issued, now))
            return None
        if node.address != source:
            self.table.move(node, source)
        node.keys, node.cookie, node.issued = keys, message.cookie, issued
        node.received = node.sent = node.forwarded = 0
        self.table.hear(node, now)
        self.table.inherit(node, now + INHERIT)
        return None

    def _make_room(self, host: str, now: float) -> bool:
        """Let the node go that was heard longest ago, if that is long enough and it helps."""
        full = self.table.hosts[host] >= MAX_NODES_PER_HOST
        for node in self.table.nodes.values():
            if now < node.heard + SILENT:
                return False
            if not full or node.address.host == host:
                self._remove(node, now)
                return True
        return False

    def _welcome(self, node: Node, message: Prove, now: float) -> None:
        if node.received:
            # said again: what the node has asked for since stands
            asked = (entry.peer for entry in message.entries)
            entries = tuple(self._entry(peer, node.channels[peer]) for peer in asked if peer in node.channels)
        else:
            entries = self._bind(node, message.entries, now)
        welcome = Welcome(self._number(node), node.address, entries)
        self.outbox.append((protocol.welcome(welcome, node.keys.relay), node.address))

    def _refuse(self, nonce: bytes, reason: Reason, source: Address) -> None:
        self.counts.refused += 1
        self.outbox.append((protocol.refusal(Refusal(nonce, reason)), source))

    def _remove(self, node: Node, now: float) -> None:
        self._updates.pop(node.key, None)
        for other in self.table.remove(node):
            self._tell(other, node.key, now)

    # Channels

    def _bind(self, node: Node, entries: tuple[Entry, ...], now: float) -> tuple[Entry, ...]:
        """Do what is asked of each channel; what is to be answered."""
        answers = []
        for entry in entries:
            if entry.state is State.GONE:
                self._unbind(node, entry.peer, now)
                answers.append(Entry(entry.peer, 0, State.GONE))
                continue
            node.inherited.discard(entry.peer)
            channel, new = self.table.bind(node, entry.peer) if entry.peer != node.key else (None, False)
            answers.append(self._entry(entry.peer, channel))
            if new and channel and len(channel.wanted_by) == 2:
                self._tell(self.table.nodes[entry.peer], node.key, now)
        return tuple(answers)

    def _unbind(self, node: Node, peer: bytes, now: float) -> None:
        if other := self.table.unbind(node, peer):
            self._tell(other, node.key, now)

    def _entry(self, peer: bytes, channel: Channel | None) -> Entry:
        return Entry(peer, channel.number, channel.state) if channel else Entry(peer, 0, State.REFUSED)

    def _tell(self, node: Node, peer: bytes, now: float) -> None:
        """The other side of a channel came or went: say so now, and until it is acknowledged."""
        update = self._updates.setdefault(node.key, _Update())
        update.peers[peer] = 0
        update.due, update.tries = now, 0
        self._say(node, update, now)

    def _say(self, node: Node, update: _Update, now: float) -> None:
        if update.tries >= UPDATE_TRIES:
            update.due = float("inf")
            return
        peers = [peer for peer in update.peers if peer in node.channels]
        update.peers = {}
        for start in range(0, len(peers), BIND_ENTRIES):
            part = peers[start : start + BIND_ENTRIES]
            number = self._number(node)
            entries = tuple(self._entry(peer, node.channels[peer]) for peer in part)
            said = protocol.channels(Kind.BOUND, Channels(number, entries, update=True), node.keys.relay)
            self.outbox.append((said, node.address))
            update.peers.update(dict.fromkeys(part, number))
        update.due = now + UPDATE_RETRY * 2**update.tries
        update.tries += 1
        if not update.peers:
            del self._updates[node.key]

    def _acknowledged(self, node: Node, number: int) -> None:
        update = self._updates.get(node.key)
        if not update:
            return
        update.peers = {peer: said for peer, said in update.peers.items() if said != number}
        if not update.peers:
            del self._updates[node.key]

    def _number(self, node: Node) -> int:
        node.sent += 1
        return node.sent
