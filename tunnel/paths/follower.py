"""The end with the higher public key: it sends where the chooser says. No I/O.

It takes a choice only in the chooser's present epoch, with a number above the last, and, for a direct way, once it has
had an answer from there to a ping of its own. By itself it only ever goes to a relay: before the first choice, and when
the way in use is silent for a second.
"""

import math
from collections.abc import Callable

from tunnel.control.engine import PeerState
from tunnel.endpoint import Endpoint
from tunnel.paths.pair import ADOPTION, LOOK_AGAIN, Pair
from tunnel.paths.probe import Choice, Chosen, Lost
from tunnel.paths.proof import Proof, Repeat
from tunnel.paths.way import Origin, Way
from tunnel.peer import Peer

HURRY = 2.4
"""Seconds after a change in which the engine's state is wanted often."""

SILENCE = 1.0
"""Seconds of silence after which the follower goes to the relay by itself."""


class Follower(Pair):
    """The end with the higher key."""

    def __init__(self, peer: Peer, epoch: int, random: Callable[[int], bytes], now: float) -> None:
        self._offer: tuple[int, int, Endpoint] | None = None
        self._lost = Repeat()
        self._astray = False
        self._proof: Proof | None = None
        self._used = now
        super().__init__(peer, epoch, random, now)

    def adopt(self, state: PeerState, now: float) -> None:
        """As for both; the chooser gets its time to say that the way is still the one."""
        self._used = now
        super().adopt(state, now)

    def hurried(self, now: float) -> bool:
        """A way that was chosen a moment ago is being proven."""
        return self._proof is not None and not self._proof.done and now - self._used < HURRY

    @property
    def proven(self) -> bool:
        """A relay, or a direct way that has carried data to here."""
        return super().proven or (self.current is not None and self._proof is not None and self._proof.done)

    def _leads(self) -> bool:
        return not self._of(Origin.RELAY)

    def _watch(self, now: float) -> float:
        lost = self._lost_at(now)
        if self.current is not None and lost < math.inf:
            lost = max(lost, self._silence_of(self.current) + SILENCE)
        return min(self._lost.at, lost if lost > now else math.inf)

    def _decide(self, now: float) -> None:
        self._accept(now)
        current = self.current
        if current is None:
            if self.engine is None or self.engine.endpoint is None or now - self._used > ADOPTION:
                self._relay("", now)
        elif current.lost(now, hearing=self._hearing(now)):
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
            self._proof = Proof(now)
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
