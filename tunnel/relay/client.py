"""A node's side of the relay: registers, binds channels to peers, stays registered. No I/O.

`receive` and `tick` take what came and the time; what is to be sent to the relay's address (from the WireGuard
port) is in `outbox`, what happened in `events`, the next time that something is due in `deadline()`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tunnel.endpoint import Address


@dataclass(frozen=True, slots=True)
class Up:
    """Registered. `observed` is this node's address as the relay sees it: its mapped address behind a NAT."""

    observed: Address


@dataclass(frozen=True, slots=True)
class Down:
    """The relay does not answer any more; every channel is void until the next Bound. The client goes on trying."""

    reason: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A channel to a peer, new or changed. Data passes once `present`: the other side has bound it as well."""

    peer: bytes
    channel: int
    present: bool


@dataclass(frozen=True, slots=True)
class Unbound:
    """There is no channel to a wanted peer (any more), and why."""

    peer: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Observed:
    """This node's address as the relay sees it has changed, without the relay having been lost."""

    address: Address


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay will not have this node, and why (told once a reason). The client goes on trying, slowly."""

    reason: str


Event = Up | Down | Bound | Unbound | Observed | Refused


class RelayClient:
    """One node at one relay."""

    outbox: deque[bytes]
    events: deque[Event]

    def __init__(self, relay: Address, private_key: bytes, random: Callable[[int], bytes]) -> None:
        """`private_key` is the node's WireGuard key, 32 bytes; `random` gives that many random bytes."""
        raise NotImplementedError

    def want(self, peers: Iterable[bytes]) -> None:
        """The public keys to have a channel with, all of them: others are given up. Capped at MAX_PEERS."""
        raise NotImplementedError

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram of first word RELAY from the relay's address (the caller has checked the source)."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Send what is due; call at `deadline()`, after `want` and once at the start."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """When `tick` is due next; None before the first tick, which is due at once."""
        raise NotImplementedError

    def check(self, now: float) -> None:
        """Ask the relay for a sign of life now, not at the next keepalive: Down follows in 1.5 s without one."""
        raise NotImplementedError
