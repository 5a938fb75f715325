"""The four WireGuard messages as bytes (whitepaper 5.4): little-endian, of fixed size but for data.

    initiation   type sender            ephemeral  static+tag  timestamp+tag  mac1 mac2   148
    response     type sender receiver   ephemeral  empty+tag                  mac1 mac2    92
    cookie reply type receiver          nonce      cookie+tag                              64
    data         type receiver counter  packet+tag                                        16+n

The type is one byte and three reserved zero bytes, read as one 32-bit word. The macs are the last 32 bytes of both
handshake messages; `cookie` computes and checks them, so that `pack` leaves room for them and no more.
"""

from struct import Struct
from typing import NamedTuple, Self

from tunnel.endpoint import COOKIE_REPLY, DATA, INITIATION, RESPONSE

INITIATION_SIZE = 148
RESPONSE_SIZE = 92
COOKIE_REPLY_SIZE = 64
DATA_HEADER = 16
TAG = 16
MAC = 16
DATA_OVERHEAD = DATA_HEADER + TAG
"""Bytes a data message adds to its packet; an empty one (a keepalive) is just this long."""

_INITIATION = Struct("<II32s48s28s")
_RESPONSE = Struct("<III32s16s")
_COOKIE_REPLY = Struct("<II24s32s")
_NO_MACS = bytes(2 * MAC)

data_header = Struct("<IIQ")
"""Type (4), receiver index, counter: pack, pack_into, unpack_from."""


class Malformed(Exception):
    """A datagram that is not what its type says: the wrong size or the wrong type word."""


def _checked(datagram: bytes, kind: int, size: int) -> bytes:
    if len(datagram) != size:
        raise Malformed(f"message type {kind} of {len(datagram)} bytes, expected {size}")
    if int.from_bytes(datagram[:4], "little") != kind:
        raise Malformed(f"type word {datagram[:4].hex()}, expected {kind}")
    return datagram


class Initiation(NamedTuple):
    """First handshake message: `static` (48 bytes) and `timestamp` (28) are sealed."""

    sender: int
    ephemeral: bytes
    static: bytes
    timestamp: bytes

    def pack(self) -> bytes:
        """148 bytes, the two macs zero."""
        return _INITIATION.pack(INITIATION, self.sender, self.ephemeral, self.static, self.timestamp) + _NO_MACS

    @classmethod
    def parse(cls, datagram: bytes) -> Self:
        """Read all but the macs; raises Malformed."""
        _, *fields = _INITIATION.unpack_from(_checked(datagram, INITIATION, INITIATION_SIZE))
        return cls(*fields)


class Response(NamedTuple):
    """Second handshake message: `empty` is the tag over nothing that proves the keys."""

    sender: int
    receiver: int
    ephemeral: bytes
    empty: bytes

    def pack(self) -> bytes:
        """92 bytes, the two macs zero."""
        return _RESPONSE.pack(RESPONSE, self.sender, self.receiver, self.ephemeral, self.empty) + _NO_MACS

    @classmethod
    def parse(cls, datagram: bytes) -> Self:
        """Read all but the macs; raises Malformed."""
        _, *fields = _RESPONSE.unpack_from(_checked(datagram, RESPONSE, RESPONSE_SIZE))
        return cls(*fields)


class CookieReply(NamedTuple):
    """What a peer under load answers: a cookie (16 bytes and tag) sealed to the message it answers."""

    receiver: int
    nonce: bytes
    cookie: bytes

    def pack(self) -> bytes:
        """64 bytes."""
        return _COOKIE_REPLY.pack(COOKIE_REPLY, self.receiver, self.nonce, self.cookie)

    @classmethod
    def parse(cls, datagram: bytes) -> Self:
        """Raises Malformed."""
        _, *fields = _COOKIE_REPLY.unpack(_checked(datagram, COOKIE_REPLY, COOKIE_REPLY_SIZE))
        return cls(*fields)


def parse_data_header(datagram: bytes | bytearray | memoryview) -> tuple[int, int]:
    """Receiver index and counter of a data message; raises Malformed when it can't even hold a tag."""
    if len(datagram) < DATA_OVERHEAD:
        raise Malformed(f"data message of {len(datagram)} bytes, expected at least {DATA_OVERHEAD}")
    kind, receiver, counter = data_header.unpack_from(datagram)
    if kind != DATA:
        raise Malformed(f"type word {kind:#x}, expected {DATA}")
    return receiver, counter
