"""What both ends of a pair of nodes do alike: know ways to the peer, ping them, trade candidates. No I/O.

Messages (unsealed), engine states and `now` in; `outbox` (message, endpoint), `take_move()` (where the engine's peer
should point) and `deadline()` out. `choice.Chooser` and `follower.Follower` are the two halves that differ.

Invariants: a way that is neither named by an authority (relay binding, the peer's description, its sealed list) nor
the source of the peer's own sealed ping is never pinged; each origin is capped; only an answer to an own ping, from the
endpoint asked, makes a way eligible; outside rounds only the way in use and, seldom, bound relays are pinged.
"""

import math
from collections import deque
from collections.abc import Callable

from tunnel.control.engine import PeerState
from tunnel.endpoint import Address, Endpoint
from tunnel.paths.candidate import MAX_LAN, MAX_OBSERVED, OBSERVED_LIFE, Excluded
from tunnel.paths.probe import Candidates, Choice, Chosen, Lost, Message, Ping, Pong
from tunnel.paths.punch import Punch
from tunnel.paths.way import PATIENCE_HEARING, Origin, Way
from tunnel.peer import PathKind, Peer

BUSY_PING = 0.2
"""Seconds between pings on the way in use while traffic flows."""

IDLE_PING = 8.0
STANDBY_PING = 24.0
BUSY_FOR = 5.0
"""Seconds that traffic counts as flowing after the counters moved."""

HEARING = 0.5
"""Seconds after the last data in which more is expected: two looks at a busy engine's counters, and some."""

KEEPALIVES = 64
"""Bytes by which counters move without traffic: one keepalive each way."""

MAX_WAYS = 48
"""All ways of a pair together; relays are capped by the node's configuration."""

LOOK_AGAIN = 60.0
"""Seconds between rounds that look for a better direct way than the one in use."""

ADOPTION = 0.3
"""Seconds that a way the engine used before gets to answer."""

REASSERT = 1.0
"""Seconds that an engine may point elsewhere before it is told again."""


class Pair:
    """One end's view of the ways to one peer."""

    chooser = False

    def __init__(self, peer: Peer, epoch: int, random: Callable[[int], bytes], now: float) -> None:
        self.peer = peer
        self.epoch = epoch
        self.carries = True
        """Whether data can go through a relay (an engine that writes channel headers)."""
        self.outbox: deque[tuple[Message, Endpoint]] = deque()
        self.changed = False
        self.reason = ""
        self.before = PathKind.NONE
        """The kind of the last proven way before the one in use."""
        self.since = now
        self.current: Way | None = None
        self.number = 0
        self.engine: PeerState | None = None
        self._random = random
        self._excluded = Excluded()
        self._ways: dict[Endpoint, Way] = {}
        self._own: tuple[Address, ...] = ()
        self._peer_epoch: int | None = None
        self._told = (0, 0)
        self._tell = 0
        self._move: Endpoint | None = None
        self._busy_until = 0.0
        self._polled = now
        self._received = now
        """A time after which the engine has received something: that of the poll before it was seen."""
        self._strayed: float | None = None
        self._punch = Punch(now)
        self.set_peer(peer, self._excluded, now)

    # what the mesh knows

    def set_peer(self, peer: Peer, excluded: Excluded, now: float) -> None:
        """The peer's description, new or changed; `excluded` says where no candidate may lie."""
        self.peer = peer
        self._excluded = excluded
        before = self._of(Origin.LAN)
        self._replace(Origin.LAN, excluded.filter(peer.lan, MAX_LAN), now)
        if self._of(Origin.LAN) != before:
            self._punch.hurry(now)

    def set_own(self, addresses: tuple[Address, ...], now: float) -> None:
        """This node's candidates as its relays see them: told to the peer, which then begins a round."""
        if addresses != self._own:
            self._own = addresses
            self._punch.hurry(now)

    def bind(self, relay: Address, channel: int, now: float) -> None:
        """A channel that both ends have bound."""
        endpoint = Endpoint(relay.host, relay.port, channel)
        if endpoint in self._ways:
            return
        self.unbind(relay, now)
        way = self._add(endpoint, Origin.RELAY, now)
        self._ping(way, now)
        self._punch.hurry(now)
        self._decide(now)

    def unbind(self, relay: Address, now: float) -> None:
        """The relay is gone, or the channel is."""
        for endpoint in [e for e in self._of(Origin.RELAY) if e.address == relay]:
            del self._ways[endpoint]
            if self.current and self.current.endpoint == endpoint:
                self.current = None
                self.changed, self.since = True, now
                self._gone(now)
        self._decide(now)

    def adopt(self, state: PeerState, now: float) -> None:
        """An engine that was there before us: the direct way that it uses is worth the first ping."""
        self.engine = state
        if state.endpoint and not state.endpoint.channel and self._excluded.allows(state.endpoint.address):
            way = self._ways.get(state.endpoint) or self._add(state.endpoint, Origin.ENGINE, now)
            self._ping(way, now)

    # what comes in

    def receive(self, message: Message, via: Endpoint, now: float) -> None:
        """Take the peer's opened message, and the endpoint that an answer to it would go to."""
        way = self._ways.get(via)
        if via.channel and way is None:
            return
        if way is not None:
            way.heard = now
        match message:
            case Ping():
                self._answer(message, way, via, now)
            case Pong():
                if way is not None and way.pong(message.id, now):
                    self._confirm(message.epoch, now)
                    self._numbered(message.number, now)
            case Candidates():
                if way is not None and (via.channel or way.answered is not None):
                    self._listen(message, now)
            case Choice() | Chosen() | Lost():
                self._decided(message, via, now)
        self._decide(now)

    def state(self, state: PeerState, now: float) -> None:
        """Take the peer's part of an engine's state."""
        before, self.engine = self.engine, state
        polled, self._polled = self._polled, now
        if before is not None and state.rx_bytes >= before.rx_bytes and state.tx_bytes >= before.tx_bytes:
            received, sent = state.rx_bytes - before.rx_bytes, state.tx_bytes - before.tx_bytes
            if received:
                self._received = polled
            if received + sent > KEEPALIVES and state.last_handshake == before.last_handshake:
                self._busy_until = now + BUSY_FOR
            self._moved(received, sent, now)
        if self.current is None or state.endpoint == self.current.endpoint:
            self._strayed = None
        elif self._strayed is None:
            self._strayed = now
        elif self.chooser or now - self._strayed >= REASSERT:
            self._move, self._strayed = self.current.endpoint, None
        self._counted(now)
        self._decide(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        for endpoint, way in list(self._ways.items()):
            last = max(way.created, way.answered or 0.0, way.heard or 0.0)
            passing = way.origin in (Origin.OBSERVED, Origin.ENGINE) and way is not self.current
            if passing and now - last > OBSERVED_LIFE:
                del self._ways[endpoint]
        wait = self._punch.begun(now, leads=self._leads())
        if wait is not None:
            self._tell_candidates(wait)
        self._decide(now)
        if self._punch.due(now):
            for way in list(self._ways.values()):
                if self._sought(way) and now >= way.held_until:
                    self._ping(way, now)
        for way, interval in self._pinged(now):
            if now >= way.next_ping(interval):
                self._ping(way, now)

    # what goes out

    def take_move(self) -> Endpoint | None:
        """Where to point the engine's peer now, once; also to the same place again, to make it send there."""
        move, self._move = self._move, None
        return move

    def deadline(self, now: float) -> float:
        """When `tick` is due at the latest."""
        due = [way.next_ping(interval) for way, interval in self._pinged(now)]
        due += [self._punch.deadline(), self._watch(now)]
        return min(due)

    def busy(self, now: float) -> bool:
        """Whether traffic flows."""
        return now < self._busy_until

    def hurried(self, now: float) -> bool:
        """Whether the engine's state is wanted at once and often: a way is being proven."""
        return False

    def doubted(self, now: float) -> Address | None:
        """The relay in use when nothing comes by it: it is worth asking whether it is there."""
        current = self.current
        lost = current is not None and current.origin is Origin.RELAY and current.lost(now)
        return current.endpoint.address if current is not None and lost else None

    def silent(self, now: float) -> float | None:
        """Since when nothing comes by the way in use, if that is longer than the peer's agent needs to be back."""
        current = self.current
        if current is None or not current.lost(now):
            return None
        since = max(current.heard or current.created, self._received)
        return since if now - since >= PATIENCE_HEARING else None

    @property
    def proven(self) -> bool:
        """Whether the way in use has carried data; a relay needs no proof, as there is nothing to fall back to."""
        return self.current is not None and self.current.origin is Origin.RELAY

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the engine's peer should point."""
        return self.current.endpoint if self.current else None

    @property
    def kind(self) -> PathKind:
        """The kind of path in use."""
        return self.current.kind if self.current else PathKind.NONE

    # for the two halves

    def _gone(self, now: float) -> None:
        """The relay in use has gone."""
        raise NotImplementedError

    def _decide(self, now: float) -> None:
        """Look at all ways and the one in use, and change it where the rules say so."""
        raise NotImplementedError

    def _decided(self, message: Choice | Chosen | Lost, via: Endpoint, now: float) -> None:
        """Take a message about the choice."""
        raise NotImplementedError

    def _restarted(self, now: float) -> None:
        """The peer has a new epoch: what it knew is gone."""

    def _numbered(self, number: int, now: float) -> None:
        """The peer, in its confirmed epoch, has said which choice it knows."""

    def _counted(self, now: float) -> None:
        """A state has been taken."""

    def _moved(self, received: int, sent: int, now: float) -> None:
        """The engine's counters have moved by so many bytes."""

    def _watch(self, now: float) -> float:
        """When the half wants the next tick."""
        raise NotImplementedError

    def _leads(self) -> bool:
        """Whether this end begins rounds by itself."""
        raise NotImplementedError

    def _sought(self, way: Way) -> bool:
        """Whether a round pings this way: those that would be better than the one in use."""
        return way.origin is not Origin.RELAY and (self.current is None or way.rank < self.current.rank)

    def _relays(self, now: float) -> list[Way]:
        """Relays that can carry data, best first."""
        if not self.carries:
            return []
        ways = (way for way in self._ways.values() if way.origin is Origin.RELAY)
        return sorted(ways, key=lambda way: (way.lost(now), now < way.held_until, way.round_trip or 9.0))

    def _use(self, way: Way, reason: str, now: float) -> None:
        before = self.kind, self.endpoint
        if self.current is None or self.proven:
            self.before = self.kind
        self.current = way
        self._move = way.endpoint
        self.reason = reason
        if (self.kind, self.endpoint) != before:
            self.since = now
            self.changed = True

    def _hearing(self, now: float) -> bool:
        """Whether data comes in."""
        return now - self._received < HEARING

    def _lost_at(self, now: float) -> float:
        """When the way in use counts as lost if nothing comes."""
        if self.current is None:
            return math.inf
        if not self._hearing(now):
            return self.current.lost_at()
        return min(self.current.lost_at(hearing=True), max(self.current.lost_at(), self._received + HEARING))

    def _tell_candidates(self, wait: float) -> None:
        """Tell the peer where this end may be: all of it each time, since lists get lost."""
        self._tell += 1
        message = Candidates(self.epoch, self._tell, round(wait * 1000), self._own)
        relays = self._of(Origin.RELAY)
        self.outbox.extend((message, endpoint) for endpoint in relays or ([self.endpoint] if self.endpoint else []))

    def _listen(self, message: Candidates, now: float) -> None:
        epoch, number = self._told
        if epoch == message.epoch and number >= message.number:
            return
        self._told = message.epoch, message.number
        before = self._of(Origin.TOLD)
        self._replace(Origin.TOLD, self._excluded.filter(message.addresses), now)
        news = epoch != message.epoch or self._of(Origin.TOLD) != before
        if not self.chooser:
            self._punch.join(now + min(message.wait, 5000) / 1000)
        if news and (self.chooser or epoch != message.epoch):
            self._punch.hurry(now)

    def _answer(self, ping: Ping, way: Way | None, via: Endpoint, now: float) -> None:
        self.outbox.append((Pong(ping.id, self.epoch, self.number, via.address), via))
        if way is None:
            if not self._excluded.allows(via.address):
                return
            observed = [w for w in self._ways.values() if w.origin is Origin.OBSERVED and w is not self.current]
            if len(observed) >= MAX_OBSERVED:
                del self._ways[min(observed, key=lambda w: w.heard or w.created).endpoint]
            way = self._add(via, Origin.OBSERVED, now)
            way.heard = now
        unknown = way.answered is None or ping.epoch != self._peer_epoch
        if (unknown or now - (way.answered or now) > 1.0) and (way.sent is None or now - way.sent >= 0.05):
            self._ping(way, now)
        if ping.epoch == self._peer_epoch:
            self._numbered(ping.number, now)

    def _confirm(self, epoch: int, now: float) -> None:
        if epoch == self._peer_epoch:
            return
        first, self._peer_epoch = self._peer_epoch is None, epoch
        if not first:
            self._restarted(now)
            self._punch.hurry(now)

    def _pinged(self, now: float) -> list[tuple[Way, float]]:
        """Ways pinged outside rounds, and how often."""
        pinged = [(way, STANDBY_PING) for way in self._relays(now) if way is not self.current]
        if self.current is not None:
            pinged.append((self.current, BUSY_PING if self.busy(now) or self.hurried(now) else IDLE_PING))
        return pinged

    def _ping(self, way: Way, now: float) -> None:
        id = int.from_bytes(self._random(8))
        way.ping(id, now)
        self.outbox.append((Ping(id, self.epoch, self.number), way.endpoint))

    def _of(self, origin: Origin) -> list[Endpoint]:
        return [endpoint for endpoint, way in self._ways.items() if way.origin is origin]

    def _add(self, endpoint: Endpoint, origin: Origin, now: float) -> Way:
        if len(self._ways) >= MAX_WAYS:
            idle = [w for w in self._ways.values() if w is not self.current and w.origin is not Origin.RELAY]
            del self._ways[min(idle, key=lambda w: w.heard or w.created).endpoint]
        way = self._ways[endpoint] = Way(endpoint, origin, now)
        return way

    def _replace(self, origin: Origin, addresses: tuple[Address, ...], now: float) -> None:
        wanted = [Endpoint(*address) for address in addresses]
        for endpoint in self._of(origin):
            if endpoint not in wanted:
                way = self._ways[endpoint]
                if way is self.current or way.answered is not None:
                    way.origin, way.created = Origin.ENGINE, now
                else:
                    del self._ways[endpoint]
        for endpoint in wanted:
            known = self._ways.get(endpoint)
            if known is None:
                self._add(endpoint, origin, now)
            elif known.origin in (Origin.OBSERVED, Origin.ENGINE):
                known.origin = origin
