"""Where a peer is reached, and what the first word of a datagram on a WireGuard port says.

All datagrams of the tunnel share one UDP port a node. Their first 32-bit word, little-endian, tells them apart
(1 to 4 are WireGuard's, whitepaper 5.4); an engine drops what it does not know. STUN (RFC 8489) has its magic
cookie in the second word.
"""

from struct import Struct
from typing import NamedTuple

INITIATION = 1
RESPONSE = 2
COOKIE_REPLY = 3
DATA = 4
FRAME = 5
"""Low byte only: bytes 1 and 2 of a frame's header are its number of parts and this part's index."""
CHANNEL = 6
"""Eight bytes, `<II`: 6 and the channel's number; the datagram proper follows. To and from relays only."""
PROBE = 7
"""A sealed path message between two agents, directly or behind a channel header."""
RELAY = 8
"""Relay control between an agent and a relay."""

STUN_COOKIE = 0x2112A442
"""RFC 8489, 5: at offset 4, big-endian."""

channel_header = Struct("<II")
"""CHANNEL and its number, in front of each datagram to and from a relay."""
CHANNEL_HEADER = channel_header.size
"""Bytes that it adds to each datagram: 8."""


class Address(NamedTuple):
    """A UDP address: numeric host (IPv4 or IPv6) and port."""

    host: str
    port: int


class Endpoint(NamedTuple):
    """How to send to a peer: straight to an address (`channel` 0), or through a relay at that address."""

    host: str
    port: int
    channel: int = 0

    @property
    def address(self) -> Address:
        """The UDP address that datagrams go to."""
        return Address(self.host, self.port)
