"""The five timers of a peer, as data (whitepaper 6.1 to 6.5; wireguard-go's timers.go has the same five).

A timer is no object that is armed and cancelled, but a function of marks on the peer: the data path stores a time,
which costs next to nothing, and whoever looks computes when the timer is due. What sets and clears the marks:

    timer          due                                       armed by                        cleared by
    retry          5 s and jitter after an initiation, or     an initiation sent, or held     handshake done; given up
                   after the response that held one back      back within 5 s of a response
    silence        15 s and jitter after data sent            the first data sent since       anything received
                                                              anything was received
    acknowledge    10 s after data received                   the first data received since   anything sent; given up
                                                              anything was sent
    persistent     `keepalive` seconds after the last         anything sent or received;      `keepalive` 0
                   authenticated message either way           at once when switched on
    forget keys    540 s after the last session was made      a session made; given up        keys forgotten

'Anything' is any authenticated message: data, keepalive or handshake. What a timer does is `Device`'s: start a
handshake (retry, silence), send an empty message (acknowledge, persistent), drop the keys.

The data path arms only silence and acknowledge, and those at least KEEPALIVE_TIMEOUT ahead, and moves persistent
only later. So who looks at least every KEEPALIVE_TIMEOUT at a peer that has a session misses nothing, though nobody
tells it of packets: that is the horizon of `look_at`.
"""

from collections.abc import Callable
from enum import Enum, auto
from math import floor

from tunnel.wireguard.keypair import REJECT_AFTER_TIME
from tunnel.wireguard.peer import Peer

REKEY_TIMEOUT = 5.0
REKEY_ATTEMPT_TIME = 90.0
KEEPALIVE_TIMEOUT = 10.0
MAX_ATTEMPTS = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)
JITTER = 0.334
"""Greatest addition to REKEY_TIMEOUT, so that two peers do not go on colliding."""
FORGET_AFTER = 3 * REJECT_AFTER_TIME
LOOK_GRID = 5.0
"""Horizons fall on multiples of this, so that one wake-up serves all idle peers."""


class Timer(Enum):
    """The timers; a peer's are looked at in this order."""

    FORGET_KEYS = auto()
    RETRY = auto()
    SILENCE = auto()
    ACKNOWLEDGE = auto()
    PERSISTENT = auto()


def _silence(peer: Peer) -> float | None:
    since = peer.unanswered_since
    return None if since is None else since + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + peer.jitter


def _acknowledge(peer: Peer) -> float | None:
    since = peer.unacknowledged_since
    return None if since is None else since + KEEPALIVE_TIMEOUT


def _persistent(peer: Peer) -> float | None:
    if not peer.keepalive or peer.endpoint is None:
        return None
    return max(peer.last_sent, peer.last_received, peer.last_persistent) + peer.keepalive


DUE: dict[Timer, Callable[[Peer], float | None]] = {
    Timer.FORGET_KEYS: lambda peer: peer.zero_at,
    Timer.RETRY: lambda peer: peer.retry_at,
    Timer.SILENCE: _silence,
    Timer.ACKNOWLEDGE: _acknowledge,
    Timer.PERSISTENT: _persistent,
}
"""When each is due, None while it is not armed."""


def look_at(peer: Peer, now: float) -> float | None:
    """When a peer must be looked at next, if nothing but the data path touches it; None for never."""
    dues = [due for timer in DUE.values() if (due := timer(peer)) is not None]
    if peer.current or peer.previous or peer.next:
        dues.append(floor((now + KEEPALIVE_TIMEOUT) / LOOK_GRID) * LOOK_GRID)
    return min(dues, default=None)
