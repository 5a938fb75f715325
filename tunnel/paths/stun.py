"""STUN binding (RFC 8489): answer which address a datagram came from, and ask that question.

The relay answers whoever asks; our own nodes learn their address from its WELCOME, and ask in tests only. Only binding
request and success response with XOR-MAPPED-ADDRESS, over UDP, without credentials. A request of ours ends in
FINGERPRINT, so that it is 28 bytes and no answer to it is more than 1.6 times as long, in either family.

Invariants: any bytes either decode or raise Malformed; an answer is believed by its transaction id alone, so
whoever asks draws the id at random and checks the source of the answer (RFC 8489, 16.1).
"""

import ipaddress
import struct
import zlib

from tunnel.endpoint import STUN_COOKIE, Address

REQUEST = 0x0001
SUCCESS = 0x0101
"""Message types of the binding method (RFC 8489, 5 and 18.2)."""

XOR_MAPPED_ADDRESS = 0x0020
FINGERPRINT = 0x8028
FINGERPRINT_XOR = 0x5354554E
"""Attribute types and the constant of 14.7."""

COMPREHENSION_REQUIRED = 0x8000
"""Unknown attributes below this make a request one that can't be answered with success (RFC 8489, 6.3.1)."""

HEADER = 20
MAX_MESSAGE = 576
"""A binding message longer than this is not one of any use here."""

_HEADER = struct.Struct(">HHI12s")
_FAMILIES = {1: 4, 2: 16}


class Malformed(Exception):
    """The bytes are not a STUN binding message of the kind asked for."""


def is_stun(datagram: bytes) -> bool:
    """Whether a datagram claims to be STUN: two zero bits first, the magic cookie at offset 4 (RFC 8489, 5)."""
    return len(datagram) >= HEADER and datagram[0] < 0x40 and int.from_bytes(datagram[4:8], "big") == STUN_COOKIE


def request(transaction: bytes) -> bytes:
    """A binding request of 28 bytes; `transaction` is 12 random bytes."""
    return _fingerprinted(REQUEST, transaction, b"")


def read_request(datagram: bytes) -> bytes:
    """The transaction id of a well-formed binding request; raises Malformed."""
    transaction, attributes = _read(datagram, REQUEST)
    for kind, _ in attributes:
        if kind < COMPREHENSION_REQUIRED and kind not in _IGNORED:
            raise Malformed(f"attribute {kind:#06x} must be understood, and is not")
    return transaction


def response(transaction: bytes, observed: Address) -> bytes:
    """A success response that tells the asker its address: 32 bytes for IPv4, 44 for IPv6."""
    host = ipaddress.ip_address(observed.host)
    family = 1 if host.version == 4 else 2
    value = struct.pack(">BBH", 0, family, observed.port ^ (STUN_COOKIE >> 16)) + _xor(host.packed, transaction)
    attribute = struct.pack(">HH", XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(SUCCESS, len(attribute), STUN_COOKIE, transaction) + attribute


def read_response(datagram: bytes) -> tuple[bytes, Address]:
    """The transaction id and the address that a success response tells; raises Malformed."""
    transaction, attributes = _read(datagram, SUCCESS)
    for kind, value in attributes:
        if kind != XOR_MAPPED_ADDRESS:
            continue
        if len(value) < 4 or len(value) != 4 + _FAMILIES.get(value[1], 0):
            raise Malformed("an address of an unknown family or a wrong length")
        port = int.from_bytes(value[2:4], "big") ^ (STUN_COOKIE >> 16)
        return transaction, Address(str(ipaddress.ip_address(_xor(value[4:], transaction))), port)
    raise Malformed("no XOR-MAPPED-ADDRESS")


_IGNORED = frozenset({0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001E})
"""Credentials (USERNAME, MESSAGE-INTEGRITY, REALM, NONCE, ...): understood, and not asked for here."""


def _xor(host: bytes, transaction: bytes) -> bytes:
    """An address against the cookie and, beyond its four bytes, the transaction id (RFC 8489, 14.2)."""
    mask = STUN_COOKIE.to_bytes(4, "big") + transaction
    return bytes(a ^ b for a, b in zip(host, mask, strict=False))


def _fingerprinted(kind: int, transaction: bytes, attributes: bytes) -> bytes:
    message = _HEADER.pack(kind, len(attributes) + 8, STUN_COOKIE, transaction) + attributes
    return message + struct.pack(">HHI", FINGERPRINT, 4, zlib.crc32(message) ^ FINGERPRINT_XOR)


def _read(datagram: bytes, wanted: int) -> tuple[bytes, list[tuple[int, bytes]]]:
    if not is_stun(datagram) or len(datagram) > MAX_MESSAGE:
        raise Malformed("no STUN header")
    kind, length, _, transaction = _HEADER.unpack_from(datagram)
    if kind != wanted:
        raise Malformed(f"message type {kind:#06x}, not {wanted:#06x}")
    if length % 4 or HEADER + length != len(datagram):
        raise Malformed(f"length {length} in a datagram of {len(datagram)} bytes")
    attributes = []
    at = HEADER
    while at < len(datagram):
        name, size = struct.unpack_from(">HH", datagram, at)
        end = at + 4 + size
        if end > len(datagram):
            raise Malformed(f"attribute {name:#06x} runs past the end")
        if name == FINGERPRINT:
            padded = end == len(datagram) and size == 4
            if not padded or int.from_bytes(datagram[at + 4 : end], "big") != (
                zlib.crc32(datagram[:at]) ^ FINGERPRINT_XOR
            ):
                raise Malformed("wrong FINGERPRINT")
        attributes.append((name, datagram[at + 4 : end]))
        at = end + -size % 4
    return transaction, attributes
