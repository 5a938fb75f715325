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
from tunnel.paths.follower import Follower
from tunnel.paths.pair import ADOPTION, LOOK_AGAIN, Pair
from tunnel.paths.probe import Choice, Chosen, Lost
from tunnel.paths.proof import Proof, Repeat
from tunnel.paths.way import Origin, Way
from tunnel.peer import Peer

PROOF = 1.2
"""Seconds, and four round trips more, within which a way must carry data both ways."""

UNPROVEN_HOLD = 5.0
"""Seconds that a way is put off, the first time, because no data came by it."""

DEAD_HOLD = 1.0
"""Seconds that a way is put off, the first time, because it stopped answering."""

HANDSHAKE = 0.1
"""Seconds that the first handshake gets by a relay before a direct way is tried. An engine drops an initiation that
comes within 20 ms of another, and the answer to the one before it is void by then: both ends would wait for 5 s.
"""

STEADY = 30.0
"""A way that lasted so many seconds has earned a short hold again."""

DOUBT = 4.0
"""Seconds of sending without receiving after which a direct way must prove itself again."""


class Stage(Enum):
    """Where the chooser is."""

    NONE = auto()
    RELAYED = auto()
    PROVING = auto()
    DIRECT = auto()


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
        self._used = now
        self._unanswered_since: float | None = None
        self._stale = 0.0
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
        ahead = [at for at in (self._lost_at(now), self._handshaking()) if at > now]
        return min(self._say.at, self._deadline, *ahead)

    def _decide(self, now: float) -> None:
        if self.stage in (Stage.PROVING, Stage.DIRECT):
            self._judge(now)
        best = min((way for way in self._direct() if way.eligible(now)), key=_preference, default=None)
        if best is not None and self._improves(best):
            if now < self._handshaking():
                self._say_choice(now)
                return
            self._choose(best, Stage.PROVING, "", now)
        elif self.stage in (Stage.NONE, Stage.RELAYED):
            self._relay(now)
        self._say_choice(now)

    def _handshaking(self) -> float:
        """Until when the first handshake is waited for; in the past for never."""
        return -math.inf if self._session() or self.stage is not Stage.RELAYED else self._used + HANDSHAKE

    def _session(self) -> bool:
        """Whether there is a session that the peer may know too: one from before its restart is hardly known to it."""
        return self.engine is not None and self.engine.last_handshake > self._stale

    def _say_choice(self, now: float) -> None:
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
        if current.lost(now, hearing=self._hearing(now)):
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
                if self.engine is None or self._session():
                    current.hold(now, UNPROVEN_HOLD)
                    self._fall("probes pass directly, but no data", now)
                else:
                    # without any session yet, nothing speaks against the way; if only the peer's agent has begun anew,
                    # the session from before is good, and the next failure counts
                    self._stale = 0.0
                    current.held_until = now + DEAD_HOLD
                    self._fall("no handshake yet", now)
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
        self._used = now
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
                self._proof = Proof(now)
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
        self._stale = self.engine.last_handshake if self.engine is not None else 0.0
        for way in self._direct():
            way.trust()  # it was the peer that was away
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


def pair(own_key: bytes, peer: Peer, epoch: int, random: Callable[[int], bytes], now: float) -> Pair:
    """This node's end of the pair: the lower public key chooses. `epoch` is random, another for each one made."""
    half = Chooser if own_key < peer.public_key else Follower
    return half(peer, epoch, random, now)


def _preference(way: Way) -> tuple[int, float]:
    return way.rank, way.round_trip or math.inf
