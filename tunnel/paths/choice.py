"""Which way a pair uses. One end decides and one follows, so that both always agree.

The end with the lower public key is the chooser; its engine's peer is pinned. It decides on:

    stage     goes to   when
    NONE      RELAYED   a relay has bound both ends
    RELAYED   RELAYED   the relay in use is gone or silent, or another is clearly nearer
    any       PROVING   a direct way answers, and is better than the one in use
    PROVING   DIRECT    data or a handshake came by it, at both ends
    PROVING   RELAYED   neither came in time: the way is put off, longer each time
    DIRECT    PROVING   this end sends and hears nothing for a while, though probes are answered
    DIRECT    RELAYED   three pings are unanswered, or the follower has lost it
    any       NONE      the same without a relay

It says a choice by the chosen way itself ("this way", numbered), again and again until the follower says that it sends
that way; while proving, until data has come at both ends. Each saying makes both engines send a keepalive, so an idle
tunnel is proven too.

The follower sends where it is told, once it has had an answer from there itself, and its engine roams to where
the chooser's data comes from. When its pings are not answered it says `Lost` by the relays. By itself it only ever
goes to the relay: before the first choice, and when the way in use has been silent for a second; it then goes on saying
`Lost` until it gets a new choice.
"""

import math
from collections.abc import Callable
from enum import Enum, auto

from tunnel.endpoint import Endpoint
from tunnel.paths import candidate
from tunnel.paths.pair import Pair
from tunnel.paths.probe import Choice, Chosen, Lost
from tunnel.paths.way import Origin, Way
from tunnel.peer import Peer

SAY = 0.1
"""Seconds between two sayings of a choice or a loss; doubles after the first ten."""

SAY_MOST = 8.0
PROOF = 1.2
"""Seconds, and four round trips more, within which a way must carry data both ways."""

SETTLE = 0.05
"""Seconds after a change during which data may still come by the way before."""

UNPROVEN_HOLD = 10.0
DEAD_HOLD = 1.0
STEADY = 30.0
"""A way that lasted so many seconds has earned a short hold again."""

DOUBT = 4.0
"""Seconds of sending without receiving after which a direct way must prove itself again."""

LOOK_AGAIN = 60.0
"""Seconds between rounds that look for a better direct way than the one in use."""

SILENCE = 1.0
"""Seconds of silence after which the follower goes to the relay by itself."""

ADOPTION = 0.3
"""Seconds that a way the engine used before gets to answer."""


class Stage(Enum):
    """Where the chooser is."""

    NONE = auto()
    RELAYED = auto()
    PROVING = auto()
    DIRECT = auto()


class Proof:
    """Whether an engine has received data since a change: counters against those a moment after it."""

    __slots__ = ("_after", "_base", "done")

    def __init__(self, after: float) -> None:
        self._after = after
        self._base: tuple[int, float] | None = None
        self.done = False

    def take(self, received: int, handshake: float, now: float) -> None:
        """Take the counters of one poll."""
        if now < self._after:
            return
        if self._base is None or received < self._base[0]:
            self._base = received, handshake
        elif received > self._base[0] or handshake > self._base[1]:
            self.done = True


class Repeat:
    """Say something often at first, then ever more seldom, until told to stop."""

    __slots__ = ("_said", "at")

    def __init__(self) -> None:
        self.at = math.inf
        self._said = 0

    def start(self) -> None:
        """Due at once."""
        self.at, self._said = 0.0, 0

    def stop(self) -> None:
        """Never due."""
        self.at = math.inf

    def due(self, now: float) -> bool:
        """Whether to say it now; counts it as said."""
        if now < self.at:
            return False
        self._said += 1
        self.at = now + min(SAY * 2 ** max(0, self._said - 10), SAY_MOST)
        return True


class Chooser(Pair):
    """The end with the lower key."""

    chooser = True

    def __init__(self, peer: Peer, epoch: int, random: Callable[[int], bytes], now: float) -> None:
        self.stage = Stage.NONE
        self._say = Repeat()
        self._chosen = False
        self._heard = False
        self._proof: Proof | None = None
        self._deadline = math.inf
        self._proven = now
        self._unanswered_since: float | None = None
        super().__init__(peer, epoch, random, now)

    def hurried(self, now: float) -> bool:
        """A way is being proven."""
        return self.stage is Stage.PROVING

    @property
    def proven(self) -> bool:
        """A relay, or a direct way that has carried data."""
        return self.stage in (Stage.RELAYED, Stage.DIRECT)

    def _leads(self) -> bool:
        return True

    def _watch(self, now: float) -> float:
        lost = self._lost_at()
        return min(self._say.at, self._deadline, lost if lost > now else math.inf)

    def _decide(self, now: float) -> None:
        if self.stage in (Stage.PROVING, Stage.DIRECT):
            self._judge(now)
        best = min((way for way in self._direct() if way.eligible(now)), key=_preference, default=None)
        if best is not None and self._improves(best):
            self._choose(best, Stage.PROVING, "", now)
        elif self.stage in (Stage.NONE, Stage.RELAYED):
            self._relay(now)
        if self.current is not None and self._say.due(now):
            self.outbox.append((Choice(self.epoch, self.number), self.current.endpoint))
            if self.stage is Stage.PROVING:
                self._move = self.current.endpoint

    def _direct(self) -> list[Way]:
        return [way for way in self._ways.values() if way.origin is not Origin.RELAY]

    def _improves(self, way: Way) -> bool:
        current = self.current
        if current is None or current.origin is Origin.RELAY:
            return True
        if way is current or way.rank > current.rank:
            return False
        if way.rank < current.rank:
            return True
        if self.stage is Stage.PROVING:
            return False
        return candidate.better(way.round_trip or math.inf, current.round_trip or 0.0)

    def _judge(self, now: float) -> None:
        """Look at the direct way in use: proven, unproven, dead or doubtful."""
        current = self.current
        assert current is not None
        if current.lost(now, hearing=self._hearing()):
            if now - self._proven > STEADY:
                current.holds = 0
            current.hold(now, DEAD_HOLD)
            self._fall("the direct path stopped answering", now)
        elif self.stage is Stage.PROVING:
            if self._chosen and self._heard and self._proof is not None and self._proof.done:
                self.stage, self._deadline, self._proven = Stage.DIRECT, math.inf, now
                self._unanswered_since = None
                self._say.stop()
                self._punch.rest(now, LOOK_AGAIN)
                self.changed, self.since = True, now
            elif now >= self._deadline:
                current.hold(now, UNPROVEN_HOLD)
                self._fall("probes pass directly, but no data", now)
        elif self._unanswered_since is not None and now - self._unanswered_since > DOUBT:
            self._choose(current, Stage.PROVING, "sending without receiving: the direct path is tried again", now)

    def _relay(self, now: float) -> None:
        relays = self._relays(now)
        if not relays:
            if self.stage is Stage.RELAYED:
                self._nothing("no relay", now)
            return
        best, current = relays[0], self.current
        if current is None or current not in relays:
            adopting = any(way.origin is Origin.ENGINE and now - way.created < ADOPTION for way in self._direct())
            if not adopting:
                self._choose(best, Stage.RELAYED, self.reason, now)
        elif best is not current:
            if current.lost(now) and not best.lost(now):
                current.hold(now, DEAD_HOLD)
                self._choose(best, Stage.RELAYED, "the relay before stopped answering", now)
            elif best.eligible(now) and candidate.better(best.round_trip or math.inf, current.round_trip or 0.0):
                self._choose(best, Stage.RELAYED, self.reason, now)

    def _fall(self, reason: str, now: float) -> None:
        self._punch.lost(now)
        relays = self._relays(now)
        if relays:
            self._choose(relays[0], Stage.RELAYED, reason, now)
        else:
            self._nothing(reason, now)

    def _nothing(self, reason: str, now: float) -> None:
        if self.current is not None:
            self.changed, self.since = True, now
        self.stage, self.current, self.reason, self._deadline = Stage.NONE, None, reason, math.inf
        self._say.stop()

    def _choose(self, way: Way, stage: Stage, reason: str, now: float) -> None:
        self.number += 1
        self._use(way, reason, now)
        self.stage = stage
        self._chosen = self._heard = False
        self._proof = None
        self._unanswered_since = None
        proving = stage is Stage.PROVING
        self._deadline = now + PROOF + 4 * (way.round_trip or 0.0) if proving else math.inf
        self._say.start()

    def _gone(self, now: float) -> None:
        self._relay(now)

    def _decided(self, message: Choice | Chosen | Lost, via: Endpoint, now: float) -> None:
        if message.epoch != self._peer_epoch or isinstance(message, Choice):
            return
        if message.number != self.number:
            self._numbered(message.number, now)
            return
        if isinstance(message, Lost):
            self._follower_lost(via, now)
        elif via == self.endpoint:
            if not self._chosen:
                self._chosen = True
                self._proof = Proof(now + SETTLE)
            self._heard = self._heard or message.heard
            if self.stage is not Stage.PROVING:
                self._say.stop()

    def _follower_lost(self, via: Endpoint, now: float) -> None:
        if self.stage in (Stage.PROVING, Stage.DIRECT) and self.current is not None:
            self.current.hold(now, DEAD_HOLD)
            self._fall("the direct path carries nothing to the peer", now)
        elif self.carries and (way := self._ways.get(via)) is not None and way.origin is Origin.RELAY:
            self._choose(way, Stage.RELAYED, self.reason, now)

    def _restarted(self, now: float) -> None:
        if self.current is not None:
            self._choose(self.current, self.stage if self.stage is Stage.RELAYED else Stage.PROVING, "", now)

    def _numbered(self, number: int, now: float) -> None:
        if number < self.number and self.current is not None and self._say.at == math.inf:
            self._say.start()

    def _counted(self, now: float) -> None:
        if self._proof is not None and self.engine is not None:
            self._proof.take(self.engine.rx_bytes, self.engine.last_handshake, now)

    def _moved(self, received: int, sent: int, now: float) -> None:
        if received:
            self._unanswered_since = None
        elif sent > 32 and self._unanswered_since is None and now - self._proven > 2 * DOUBT:
            self._unanswered_since = now


class Follower(Pair):
    """The end with the higher key."""

    def __init__(self, peer: Peer, epoch: int, random: Callable[[int], bytes], now: float) -> None:
        self._offer: tuple[int, int, Endpoint] | None = None
        self._lost = Repeat()
        self._astray = False
        self._proof: Proof | None = None
        self._used = now
        super().__init__(peer, epoch, random, now)

    def hurried(self, now: float) -> bool:
        """A way that was chosen a moment ago is being proven."""
        return self._proof is not None and not self._proof.done and now - self._used < 2 * PROOF

    @property
    def proven(self) -> bool:
        """A relay, or a direct way that has carried data to here."""
        return super().proven or (self.current is not None and self._proof is not None and self._proof.done)

    def _leads(self) -> bool:
        return not self._of(Origin.RELAY)

    def _watch(self, now: float) -> float:
        lost = self._lost_at()
        if self.current is not None and lost < math.inf:
            lost = max(lost, self._silence_of(self.current) + SILENCE)
        return min(self._lost.at, lost if lost > now else math.inf)

    def _decide(self, now: float) -> None:
        self._accept(now)
        current = self.current
        if current is None:
            if self.engine is None or self.engine.endpoint is None or now - self._used > ADOPTION:
                self._relay("", now)
        elif current.lost(now, hearing=self._hearing()):
            if self._lost.at == math.inf and self.number:
                self._lost.start()
            if now >= self._silence_of(current) + SILENCE:
                self._relay("the path in use is silent", now)
        elif not self._astray:
            self._lost.stop()
        if self._lost.due(now):
            self.outbox.extend((Lost(self.epoch, self.number), relay) for relay in self._of(Origin.RELAY))

    def _silence_of(self, way: Way) -> float:
        """Since when the way in use is silent."""
        return max(way.heard or 0.0, self._received, self._used)

    def _relay(self, reason: str, now: float) -> None:
        """Go to the best relay other than the way in use."""
        relays = [way for way in self._relays(now) if way is not self.current]
        if not relays or (self.current is not None and self.current.origin is Origin.RELAY and relays[0].lost(now)):
            return
        if self.current is not None and self.current.origin is not Origin.RELAY:
            self._punch.lost(now)
        self._use(relays[0], reason, now)
        self._offer = None
        self._proof = None
        self._used = now
        self._astray = self.number > 0
        if self._astray:
            self._lost.start()

    def _gone(self, now: float) -> None:
        self._relay("the relay in use is gone", now)

    def _decided(self, message: Choice | Chosen | Lost, via: Endpoint, now: float) -> None:
        if not isinstance(message, Choice):
            return
        if self._offer is None or message.epoch != self._offer[0] or message.number >= self._offer[1]:
            self._offer = message.epoch, message.number, via
        if message.epoch != self._peer_epoch and (way := self._ways.get(via)) is not None:
            self._ping(way, now)

    def _accept(self, now: float) -> None:
        """Do what the chooser said last, if it is from its present life, new, and this end has an answer from there."""
        if self._offer is None or self._offer[0] != self._peer_epoch:
            return
        _, number, via = self._offer
        way = self._ways.get(via)
        if way is None or number < self.number or (number == self.number and way is not self.current):
            return
        if self._astray and number == self.number:
            return
        if way.origin is not Origin.RELAY and not way.eligible(now) and way is not self.current:
            return
        self._offer = None
        if number > self.number:
            self.number = number
            self._astray = False
            self._lost.stop()
            self._use(way, "", now)
            self._used = now
            self._proof = Proof(now + SETTLE)
            if way.origin is not Origin.RELAY:
                self._punch.rest(now, LOOK_AGAIN)
        elif self._proof is not None and way.origin is not Origin.RELAY:
            self._move = way.endpoint
        self._say_chosen()

    def _say_chosen(self) -> None:
        if self.endpoint is not None:
            heard = self._proof is not None and self._proof.done
            self.outbox.append((Chosen(self.epoch, self.number, heard), self.endpoint))

    def _restarted(self, now: float) -> None:
        self.number = 0
        self._astray = False
        self._lost.stop()
        self._proof = None

    def _counted(self, now: float) -> None:
        if self._proof is None or self._proof.done or self.engine is None:
            return
        self._proof.take(self.engine.rx_bytes, self.engine.last_handshake, now)
        if self._proof.done:
            self.changed, self.since = True, now
            self._say_chosen()


def pair(own_key: bytes, peer: Peer, epoch: int, random: Callable[[int], bytes], now: float) -> Pair:
    """This node's end of the pair: the lower public key chooses. `epoch` is random, another for each one made."""
    half = Chooser if own_key < peer.public_key else Follower
    return half(peer, epoch, random, now)


def _preference(way: Way) -> tuple[int, float]:
    return way.rank, way.round_trip or math.inf
