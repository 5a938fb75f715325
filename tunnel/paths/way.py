"""One way to a peer: an endpoint that pings go to, and what its pongs say about it.

A ping counts as answered by a pong for its id from the endpoint asked, whenever it comes; a pong answers all earlier
pings too. A way is lost when three pings or more are unanswered and the first of them is older than the patience,
which is longer while data comes in: then the way works, and it is the peer's agent that is away, or slow. If it works
in one direction only, the peer hears nothing, and says so.
"""

import math
from enum import Enum, auto

from tunnel.endpoint import Endpoint
from tunnel.paths import candidate
from tunnel.peer import PathKind

BURST = 0.1
"""Seconds from an unanswered ping to the next."""

PATIENCE = 0.35
PATIENCE_HEARING = 6.0
"""An agent that was killed is back within 3 s; after twice that its word is not waited for any more."""
FRESH = 3.0
"""Seconds that an answer makes a way that is not in use eligible."""

MAX_PENDING = 16
HOLD_MOST = 300.0


class Origin(Enum):
    """Who named a way."""

    RELAY = auto()
    LAN = auto()
    TOLD = auto()
    OBSERVED = auto()
    ENGINE = auto()


class Way:
    """Liveness and round trip of one endpoint."""

    __slots__ = (
        "answered",
        "created",
        "endpoint",
        "heard",
        "held_until",
        "holds",
        "kind",
        "origin",
        "pending",
        "rank",
        "round_trip",
        "sent",
    )

    def __init__(self, endpoint: Endpoint, origin: Origin, now: float) -> None:
        self.endpoint = endpoint
        self.origin = origin
        self.kind: PathKind = candidate.kind(endpoint)
        self.rank = candidate.rank(endpoint)
        self.created = now
        self.sent: float | None = None
        self.answered: float | None = None
        self.heard: float | None = None
        self.round_trip: float | None = None
        self.pending: dict[int, float] = {}
        self.held_until = 0.0
        self.holds = 0

    def ping(self, id: int, now: float) -> None:
        """Note a ping as sent."""
        if len(self.pending) >= MAX_PENDING:
            # the first unanswered one stays: it says since when
            del self.pending[list(self.pending)[1]]
        self.pending[id] = now
        self.sent = now

    def pong(self, id: int, now: float) -> bool:
        """Take a pong; False when no ping of this way has that id."""
        sent = self.pending.get(id)
        if sent is None:
            return False
        self.pending = {other: at for other, at in self.pending.items() if at > sent}
        sample = now - sent
        self.round_trip = sample if self.round_trip is None else self.round_trip + (sample - self.round_trip) / 8
        self.answered = self.heard = now
        return True

    def forget(self) -> None:
        """Drop what is known of answers: the next ping starts afresh."""
        self.pending.clear()
        self.sent = self.answered = self.heard = None

    @property
    def first_unanswered(self) -> float | None:
        """When the oldest ping without an answer was sent."""
        return next(iter(self.pending.values()), None)

    def lost_at(self, *, hearing: bool = False) -> float:
        """When this way counts as having stopped answering if nothing comes; infinity when nothing hints at it.

        `hearing`: data comes in.
        """
        first = self.first_unanswered
        if first is None or len(self.pending) < 3:
            return math.inf
        return first + (PATIENCE_HEARING if hearing else PATIENCE) + 2 * (self.round_trip or 0.0)

    def lost(self, now: float, *, hearing: bool = False) -> bool:
        """Whether this way has stopped answering."""
        return now >= self.lost_at(hearing=hearing)

    def eligible(self, now: float) -> bool:
        """Whether a choice may fall on this way: it answered just now and is not put off."""
        return (
            self.answered is not None and now - self.answered <= FRESH and now >= self.held_until and not self.lost(now)
        )

    def hold(self, now: float, first: float) -> None:
        """Put the way off: `first` seconds, twice that the next time, and so on."""
        self.held_until = now + min(first * 2**self.holds, HOLD_MOST)
        self.holds = min(self.holds + 1, 16)

    def trust(self) -> None:
        """Nothing is held against the way any more."""
        self.held_until, self.holds = 0.0, 0

    def next_ping(self, interval: float) -> float:
        """When to ping a way that is to be pinged every `interval` seconds: sooner, for a while, after a miss."""
        if self.sent is None:
            return 0.0
        if not self.pending:
            return self.sent + interval
        burst = max(BURST, 1.5 * (self.round_trip or 0.0))
        slower: int = 1 << max(0, len(self.pending) - 6)
        return self.sent + min(burst * slower, max(interval, burst))
