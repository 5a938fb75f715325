"""Messages between a node and a relay. Little-endian, fixed layouts, no I/O.

    node                                        relay
    HELLO      key, nonce, padding        →
                                          ←     CHALLENGE  nonce, relay's key, cookie
    PROVE      key, nonce, cookie, peers  →
                                          ←     WELCOME    address seen, channels
    BIND       peers                      →
                                          ←     BOUND      channels (also unasked; those get an ACK)
    KEEPALIVE                             →
                                          ←     ALIVE
    anything                              →
                                          ←     UNKNOWN or REFUSED

The cookie is a MAC by the relay over time, source address, key and nonce: until it comes back the relay keeps
nothing. From PROVE on, each message ends in a MAC keyed by X25519(node's key, relay's key) and everything that
HELLO and CHALLENGE said, a key a direction; each but PROVE carries a number that only grows, so none counts twice.

Invariants: no answer is longer than what it answers (HELLO is padded for that); bytes from the network either
decode or raise Malformed; no datagram is longer than MAX_MESSAGE.
"""

import ipaddress
import struct
from enum import IntEnum

import msgspec

from tunnel.endpoint import RELAY, Address
from tunnel.relay.proof import COOKIE, KEY, MAC, NONCE, Malformed, seal

VERSION = 1
TOKEN = 8
MAX_MESSAGE = 1200
"""Bytes of the longest message: fits the smallest MTU in use with a tunnel or two around it."""


class Kind(IntEnum):
    """Message types."""

    HELLO = 1
    CHALLENGE = 2
    PROVE = 3
    WELCOME = 4
    BIND = 5
    BOUND = 6
    KEEPALIVE = 7
    ALIVE = 8
    ACK = 9
    UNKNOWN = 10
    REFUSED = 11


class Reason(IntEnum):
    """Why a relay refuses a registration."""

    VERSION = 1
    STALE = 2
    PROOF = 3
    NOT_ADMITTED = 4
    DUPLICATE = 5
    FULL = 6


REASONS = {
    Reason.VERSION: "the relay speaks another version of the protocol: update the older of the two",
    Reason.STALE: "the relay's challenge was answered too late, or the relay has restarted",
    Reason.PROOF: "the proof of this node's key is wrong",
    Reason.NOT_ADMITTED: "this node's key is not among those the relay admits: it knows no MeshNode with it "
    "that counts: this node is new to it, or was deleted",
    Reason.DUPLICATE: "another machine registers with this node's key: give each machine a key of its own",
    Reason.FULL: "the relay has as many nodes as it takes",
}
"""What a node's operator is told."""


class State(IntEnum):
    """What is asked or said of a channel."""

    GONE = 0
    """Asked: not wanted any more. Said: there is none."""
    WANTED = 1
    ABSENT = 2
    """Bound by this side; the other has not."""
    PRESENT = 3
    """Bound by both: data passes."""
    REFUSED = 4
    """The relay has no room for it."""


class Entry(msgspec.Struct, frozen=True):
    """One peer of a node, and the channel to it (0 when asked for)."""

    peer: bytes
    channel: int
    state: State


class Hello(msgspec.Struct, frozen=True):
    """A node's first message; 80 bytes."""

    key: bytes
    nonce: bytes


class Challenge(msgspec.Struct, frozen=True):
    """The answer to Hello; 80 bytes."""

    nonce: bytes
    relay_key: bytes
    cookie: bytes


class Prove(msgspec.Struct, frozen=True):
    """The node's proof, with the first of the peers it wants; not authentic before `verify`."""

    key: bytes
    nonce: bytes
    cookie: bytes
    entries: tuple[Entry, ...]


class Welcome(msgspec.Struct, frozen=True):
    """The node is registered, and seen at this address."""

    number: int
    observed: Address
    entries: tuple[Entry, ...]


class Channels(msgspec.Struct, frozen=True):
    """BIND or BOUND. `update`: the relay says it unasked, and again until it gets an Ack."""

    number: int
    entries: tuple[Entry, ...]
    update: bool = False


class Sign(msgspec.Struct, frozen=True):
    """KEEPALIVE or ALIVE."""

    number: int


class Ack(msgspec.Struct, frozen=True):
    """An update came: the number it had."""

    number: int
    update: int


class Unknown(msgspec.Struct, frozen=True):
    """The relay does not know who sent something: `token` says what (`token_of`)."""

    token: bytes


class Refusal(msgspec.Struct, frozen=True):
    """The relay will not register the node that sent `nonce`."""

    nonce: bytes
    reason: Reason


Message = Hello | Challenge | Prove | Welcome | Channels | Sign | Ack | Unknown | Refusal

_HEADER = struct.Struct("<IBBBB")
"""First word, type, version, number of entries, and a reason or flag."""
_ENTRY = struct.Struct("<32sIB3x")
_ADDRESS = struct.Struct("<BxH16s")
_NUMBER = struct.Struct("<Q")

HEADER = _HEADER.size
_HELLO = HEADER + KEY + NONCE + COOKIE
_NUMBERED = HEADER + _NUMBER.size + MAC
_PROVE = HEADER + KEY + NONCE + COOKIE + MAC
_WELCOME = _NUMBERED + _ADDRESS.size
PROVE_ENTRIES = (MAX_MESSAGE - _PROVE) // _ENTRY.size
BIND_ENTRIES = (MAX_MESSAGE - _NUMBERED) // _ENTRY.size
"""Peers that fit in one PROVE and in one BIND or BOUND."""


def token_of(datagram: bytes) -> bytes:
    """What an Unknown names a datagram by: its channel for data, the end of its MAC for a message."""
    if datagram[0] == RELAY:
        return datagram[-TOKEN:]
    return channel_token(int.from_bytes(datagram[4:8], "little"))


def channel_token(channel: int) -> bytes:
    """What an Unknown names data on a channel by."""
    return channel.to_bytes(TOKEN, "little")


def hello(message: Hello) -> bytes:
    """80 bytes: as long as the answer."""
    return _header(Kind.HELLO) + message.key + message.nonce + bytes(COOKIE)


def challenge(message: Challenge) -> bytes:
    """80 bytes."""
    return _header(Kind.CHALLENGE) + message.nonce + message.relay_key + message.cookie


def prove(message: Prove, key: bytes) -> bytes:
    """96 bytes and 40 a peer, of which there are at most PROVE_ENTRIES."""
    head = _header(Kind.PROVE, len(message.entries)) + message.key + message.nonce + message.cookie
    return seal(head + _entries(message.entries), key)


def welcome(message: Welcome, key: bytes) -> bytes:
    """52 bytes and 40 a peer."""
    host = ipaddress.ip_address(message.observed.host)
    address = _ADDRESS.pack(host.version, message.observed.port, host.packed)
    head = _header(Kind.WELCOME, len(message.entries)) + _NUMBER.pack(message.number) + address
    return seal(head + _entries(message.entries), key)


def channels(kind: Kind, message: Channels, key: bytes) -> bytes:
    """A BIND or BOUND: 32 bytes and 40 a peer, of which there are at most BIND_ENTRIES."""
    head = _header(kind, len(message.entries), message.update) + _NUMBER.pack(message.number)
    return seal(head + _entries(message.entries), key)


def sign(kind: Kind, message: Sign, key: bytes) -> bytes:
    """A KEEPALIVE or ALIVE: 32 bytes."""
    return seal(_header(kind) + _NUMBER.pack(message.number), key)


def ack(message: Ack, key: bytes) -> bytes:
    """40 bytes."""
    return seal(_header(Kind.ACK) + _NUMBER.pack(message.number) + _NUMBER.pack(message.update), key)


def unknown(message: Unknown) -> bytes:
    """16 bytes."""
    return _header(Kind.UNKNOWN) + message.token


def refusal(message: Refusal) -> bytes:
    """24 bytes."""
    return _header(Kind.REFUSED, 0, message.reason) + message.nonce


def decode(datagram: bytes) -> tuple[Kind, Message]:
    """Any message, its MAC unread; raises Malformed. A Hello of another version decodes (and is to be refused)."""
    kind, version, count, code = _open(datagram)
    length = len(datagram)
    if version != VERSION:
        raise Malformed(f"version {version}")
    if kind in (Kind.PROVE, Kind.WELCOME, Kind.BIND, Kind.BOUND):
        fixed = {Kind.PROVE: _PROVE, Kind.WELCOME: _WELCOME}.get(kind, _NUMBERED)
        if length != fixed + count * _ENTRY.size:
            raise Malformed(f"{kind.name} of {length} bytes with {count} entries")
        entries = _read_entries(datagram, fixed - MAC, count)
        if kind is Kind.PROVE:
            key, nonce, cookie = _cut(datagram, KEY, NONCE, COOKIE)
            return kind, Prove(key, nonce, cookie, entries)
        number = int.from_bytes(datagram[HEADER : HEADER + 8], "little")
        if kind is Kind.WELCOME:
            return kind, Welcome(number, _read_address(datagram, HEADER + 8), entries)
        return kind, Channels(number, entries, bool(code))
    if length != _LENGTHS[kind]:
        raise Malformed(f"{kind.name} of {length} bytes")
    if kind is Kind.HELLO:
        key, nonce, _ = _cut(datagram, KEY, NONCE, COOKIE)
        return kind, Hello(key, nonce)
    if kind is Kind.CHALLENGE:
        return kind, Challenge(*_cut(datagram, NONCE, KEY, COOKIE))
    if kind is Kind.UNKNOWN:
        return kind, Unknown(datagram[HEADER:])
    if kind is Kind.REFUSED:
        try:
            return kind, Refusal(datagram[HEADER:], Reason(code))
        except ValueError as error:
            raise Malformed(f"reason {code}") from error
    number = int.from_bytes(datagram[HEADER : HEADER + 8], "little")
    if kind is Kind.ACK:
        return kind, Ack(number, int.from_bytes(datagram[HEADER + 8 : HEADER + 16], "little"))
    return kind, Sign(number)


def foreign_hello(datagram: bytes) -> bytes | None:
    """The nonce of a HELLO of another version, whose key and nonce stand where ours do; else None."""
    try:
        kind, version, _, _ = _open(datagram)
    except Malformed:
        return None
    if kind is not Kind.HELLO or version == VERSION or len(datagram) < _HELLO:
        return None
    return datagram[HEADER + KEY : HEADER + KEY + NONCE]


_LENGTHS = {
    Kind.HELLO: _HELLO,
    Kind.CHALLENGE: _HELLO,
    Kind.KEEPALIVE: _NUMBERED,
    Kind.ALIVE: _NUMBERED,
    Kind.ACK: _NUMBERED + _NUMBER.size,
    Kind.UNKNOWN: HEADER + TOKEN,
    Kind.REFUSED: HEADER + NONCE,
}


def _header(kind: Kind, count: int = 0, code: int = 0) -> bytes:
    return _HEADER.pack(RELAY, kind, VERSION, count, code)


def _open(datagram: bytes) -> tuple[Kind, int, int, int]:
    if len(datagram) < HEADER:
        raise Malformed("shorter than a header")
    word, kind, version, count, code = _HEADER.unpack_from(datagram)
    if word != RELAY or kind not in _KINDS:
        raise Malformed("no relay message")
    return Kind(kind), version, count, code


_KINDS = frozenset(Kind)


def _cut(datagram: bytes, *lengths: int) -> list[bytes]:
    parts = []
    at = HEADER
    for length in lengths:
        parts.append(datagram[at : at + length])
        at += length
    return parts


def _entries(entries: tuple[Entry, ...]) -> bytes:
    return b"".join(_ENTRY.pack(entry.peer, entry.channel, entry.state) for entry in entries)


def _read_entries(datagram: bytes, at: int, count: int) -> tuple[Entry, ...]:
    read = _ENTRY.iter_unpack(datagram[at : at + count * _ENTRY.size])
    try:
        return tuple(Entry(peer, channel, State(state)) for peer, channel, state in read)
    except ValueError as error:
        raise Malformed("an entry of unknown state") from error


def _read_address(datagram: bytes, at: int) -> Address:
    family, port, host = _ADDRESS.unpack_from(datagram, at)
    if family not in (4, 6):
        raise Malformed(f"address family {family}")
    return Address(str(ipaddress.ip_address(host[:4] if family == 4 else host)), port)
