"""The keys of one session and what counts their use (whitepaper 5.4.5, 5.4.6, 6.1 to 6.2).

A keypair seals with one key and opens with the other. Whoever owns the data path calls the AEADs (`send`,
`receive`: `encrypt_into`, `decrypt_into`) itself, with `nonce(counter)`; `seal` and `open` are the same in one call.

Invariants: a counter is given once, whichever thread asks; a keypair older than REJECT_AFTER_TIME or used
REJECT_AFTER_MESSAGES times neither seals nor opens; `replay` is the receiving thread's alone. Keys made by `derive`
are independent of the session's own, so that counters need not be shared with them.
"""

from __future__ import annotations

from itertools import count
from math import inf
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel.endpoint import DATA
from tunnel.wireguard.messages import DATA_HEADER, DATA_OVERHEAD, data_header
from tunnel.wireguard.noise import SessionKeys, kdf
from tunnel.wireguard.replay import Replay

if TYPE_CHECKING:
    from tunnel.wireguard.peer import Peer

REKEY_AFTER_MESSAGES = 1 << 60
REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1
REKEY_AFTER_TIME = 120.0
REJECT_AFTER_TIME = 180.0
RENEW_WHEN_RECEIVING = 165.0
"""REJECT_AFTER_TIME less the time a handshake may take: KEEPALIVE_TIMEOUT and REKEY_TIMEOUT (whitepaper 6.2)."""

nonce = Struct("<4xQ").pack
"""The AEAD nonce of a counter: four zero bytes, then 64 bits little-endian."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class Rejected(Exception):
    """A data message that is forged, replayed, too old, or too short."""


class Keypair:
    """Keys of a session with `peer`. `created` and all times are `now`'s monotonic seconds."""

    __slots__ = (
        "_counters",
        "_exporter",
        "counter",
        "created",
        "expires",
        "frames",
        "initiator",
        "local_index",
        "peer",
        "receive",
        "rekey_at",
        "remote_index",
        "renew_at",
        "replay",
        "send",
    )

    def __init__(
        self,
        peer: Peer,
        keys: SessionKeys,
        *,
        initiator: bool,
        local_index: int,
        remote_index: int,
        now: float,
        first_counter: int = 0,
    ) -> None:
        self.peer = peer
        self.initiator = initiator
        self.local_index = local_index
        self.remote_index = remote_index
        self.created = now
        self.expires = now + REJECT_AFTER_TIME
        # only the initiator renews by age, so that the two ends don't do it both
        self.rekey_at = now + REKEY_AFTER_TIME if initiator else inf
        """When the next message sealed starts a new handshake."""
        self.renew_at = now + RENEW_WHEN_RECEIVING if initiator else inf
        """When the next message opened does, if none was sealed."""
        self.send = ChaCha20Poly1305(keys.send)
        self.receive = ChaCha20Poly1305(keys.receive)
        self.replay = Replay()
        self.counter = first_counter
        self.frames: Any = None
        """The data path's own: what it agreed with the other end for this session."""
        self._counters = count(first_counter)
        self._exporter = keys.exporter

    def next_counter(self) -> int:
        """A counter for one message to seal. `counter`, the latest given, may lag by a thread's turn."""
        self.counter = counter = next(self._counters)
        return counter

    def usable(self, now: float) -> bool:
        """Whether it may still seal and open."""
        return now < self.expires and self.counter < REJECT_AFTER_MESSAGES

    def seal(self, packet: Buffer) -> bytes:
        """A whole data message with the next counter; an empty packet makes a keepalive."""
        counter = self.next_counter()
        header = data_header.pack(DATA, self.remote_index, counter)
        return header + self.send.encrypt(nonce(counter), packet, None)

    def open(self, message: Buffer, now: float) -> bytes:
        """The packet of a data message (b"" for a keepalive), counter checked; raises Rejected."""
        if len(message) < DATA_OVERHEAD:
            raise Rejected(f"data message of {len(message)} bytes")
        counter = data_header.unpack_from(message)[2]
        if now >= self.expires or counter >= REJECT_AFTER_MESSAGES:
            raise Rejected("session too old")
        try:
            packet = self.receive.decrypt(nonce(counter), memoryview(message)[DATA_HEADER:], None)
        except InvalidTag:
            raise Rejected("forged") from None
        if not self.replay.accept(counter):
            raise Rejected(f"counter {counter} came before or is too old")
        return packet

    def derive(self, label: bytes, initiator_to_responder: bool) -> bytes:
        """A 32-byte key both ends can make, for one use and direction."""
        return kdf(self._exporter, label + (b"\x01" if initiator_to_responder else b"\x02"), 1)[0]
