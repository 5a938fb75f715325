"""A peer: its keys, where it is, its sessions, and the marks its timers are read from.

Sessions come in three roles (whitepaper 6.4 to 6.6 leave them implicit; all implementations have them):

    next      made as responder; may open, must not seal before the initiator has shown that it has the keys
    current   seals and opens
    previous  opens what is still under way

The data path reads `current`, `endpoint` and `pinned` and writes counters and marks without a lock, each a single
store; all else is `Device`'s, under its owner's lock.
"""

from __future__ import annotations

from tunnel.endpoint import Endpoint
from tunnel.wireguard.cookie import MacWriter
from tunnel.wireguard.keypair import Keypair
from tunnel.wireguard.noise import NO_PRESHARED_KEY, Initiated
from tunnel.wireguard.timestamp import Timestamps

NEVER = float("-inf")


class Peer:
    """One peer of a device; made by `Device.add`. Times are monotonic seconds, but for `last_handshake`."""

    __slots__ = (
        "attempts",
        "current",
        "endpoint",
        "handshake_sent",
        "initiated",
        "jitter",
        "keepalive",
        "last_handshake",
        "last_initiation",
        "last_persistent",
        "last_received",
        "last_sent",
        "latest_timestamp",
        "look_at",
        "macs",
        "next",
        "pinned",
        "preshared_key",
        "previous",
        "public_key",
        "retry_at",
        "rx_bytes",
        "static_static",
        "timestamps",
        "tx_bytes",
        "unacknowledged_since",
        "unanswered_since",
        "wanted",
        "zero_at",
    )

    def __init__(self, public_key: bytes, static_static: bytes) -> None:
        self.public_key = public_key
        self.preshared_key = NO_PRESHARED_KEY
        self.endpoint: Endpoint | None = None
        self.pinned = False
        """When set, packets from elsewhere do not move the endpoint."""
        self.keepalive = 0
        """Seconds between persistent keepalives, 0 for none."""
        self.rx_bytes = 0
        self.tx_bytes = 0
        self.last_handshake = 0.0
        """Unix seconds, 0.0 for never."""

        self.current: Keypair | None = None
        self.previous: Keypair | None = None
        self.next: Keypair | None = None

        # handshake
        self.static_static = static_static
        self.macs = MacWriter(public_key)
        self.timestamps = Timestamps()
        self.initiated: Initiated | None = None
        self.handshake_sent = NEVER
        self.attempts = 0
        self.wanted = False
        """A handshake was asked for while there was no endpoint."""
        self.latest_timestamp = b""
        self.last_initiation = NEVER

        # marks of timers, see `timers`
        self.retry_at: float | None = None
        self.zero_at: float | None = None
        self.unanswered_since: float | None = None
        self.unacknowledged_since: float | None = None
        self.last_sent = NEVER
        self.last_received = NEVER
        self.last_persistent = NEVER
        self.jitter = 0.0
        self.look_at: float | None = None

    def sending(self, now: float) -> Keypair | None:
        """The keypair to seal with; None when there is no session: then hold the packet and ask `Device.initiate`."""
        keypair = self.current
        if keypair is not None and keypair.usable(now):
            return keypair
        return None

    def keypairs(self) -> list[Keypair]:
        """Those there are."""
        return [keypair for keypair in (self.current, self.previous, self.next) if keypair is not None]
