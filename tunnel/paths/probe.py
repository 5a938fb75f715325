"""Path messages between two agents: what they say and how they are sealed.

A probe goes wherever data could go: straight to an address, or behind a channel header through a relay, always
from the WireGuard port. Its first word is `PROBE`, which every engine drops.

    word 7 | hint (8) | nonce (12) | ChaCha20-Poly1305(kind (1) | body)

Key and hint come from X25519 of the two node keys, one pair for each direction, so that only the two ends can make
or read a probe (no relay, no other peer) and none can be reflected to its sender. The hint names the sender to its
peer alone: a stranger's datagram costs one look-up, and an observer learns no key from it.

Invariants: a pong is exactly as long as its ping (nothing is amplified); nothing but `Malformed` leaves `open`;
freshness is the receiver's business: a pong counts only for a ping's random id, all else only with the sender's
`epoch` (random for each life of a pair) that such a pong has confirmed.
"""

import struct
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tunnel.endpoint import PROBE, Address

MAX_CANDIDATES = 16
"""Addresses in one list: a list is an order to send packets there (RFC 8445, 19.5.1)."""

LABEL = b"edgemesh path probe 1"
WORD = struct.pack("<I", PROBE)
HINT = 8
NONCE = 12
TAG = 16
OVERHEAD = len(WORD) + HINT + NONCE + TAG

PING, PONG, CANDIDATES, CHOICE, CHOSEN, LOST = range(1, 7)
_PING = struct.Struct("<BQQI21x")
_PONG = struct.Struct("<BQQIB16sHxx")
_CANDIDATES = struct.Struct("<BQIHB")
_ADDRESS = struct.Struct("<B16sH")
_CHOICE = struct.Struct("<BQI")
_CHOSEN = struct.Struct("<BQIB")


class Malformed(ValueError):
    """A datagram that is no probe for us: short, forged, from a stranger, or of contents that make no sense."""


class Ping(msgspec.Struct, frozen=True):
    """Are you there, this way? `id` is random; `number` is the last choice its sender knows."""

    id: int
    epoch: int
    number: int


class Pong(msgspec.Struct, frozen=True):
    """Yes; `observed` is the source that the ping was seen from."""

    id: int
    epoch: int
    number: int
    observed: Address


class Candidates(msgspec.Struct, frozen=True):
    """Addresses that the sender may be reached at; start a round of pings to them in `wait` milliseconds."""

    epoch: int
    number: int
    wait: int
    addresses: tuple[Address, ...]


class Choice(msgspec.Struct, frozen=True):
    """The chooser's decision: use the way that this came by. Higher numbers replace lower ones of its epoch."""

    epoch: int
    number: int


class Chosen(msgspec.Struct, frozen=True):
    """The follower sends this way as told; `heard`: its engine got data since it does."""

    epoch: int
    number: int
    heard: bool


class Lost(msgspec.Struct, frozen=True):
    """The follower gets no answers by the way of this choice; it is going to the relay, or has gone."""

    epoch: int
    number: int


Message: TypeAlias = Ping | Pong | Candidates | Choice | Chosen | Lost


def encode(message: Message) -> bytes:
    """The plaintext of a message."""
    match message:
        case Ping(id, epoch, number):
            return _PING.pack(PING, id, epoch, number)
        case Pong(id, epoch, number, observed):
            return _PONG.pack(PONG, id, epoch, number, *_pack_address(observed))
        case Candidates(epoch, number, wait, addresses):
            head = _CANDIDATES.pack(CANDIDATES, epoch, number, wait, len(addresses))
            return head + b"".join(_ADDRESS.pack(*_pack_address(address)) for address in addresses)
        case Choice(epoch, number):
            return _CHOICE.pack(CHOICE, epoch, number)
        case Chosen(epoch, number, heard):
            return _CHOSEN.pack(CHOSEN, epoch, number, heard)
        case Lost(epoch, number):
            return _CHOICE.pack(LOST, epoch, number)


def decode(plain: bytes) -> Message:
    """The message of a plaintext; raises `Malformed`."""
    try:
        match plain[0] if plain else 0:
            case 1:
                _, id, epoch, number = _PING.unpack(plain)
                return Ping(id, epoch, number)
            case 2:
                _, id, epoch, number, family, host, port = _PONG.unpack(plain)
                return Pong(id, epoch, number, _unpack_address(family, host, port))
            case 3:
                return _decode_candidates(plain)
            case 4:
                return Choice(*_CHOICE.unpack(plain)[1:])
            case 5:
                _, epoch, number, heard = _CHOSEN.unpack(plain)
                return Chosen(epoch, number, bool(heard))
            case 6:
                return Lost(*_CHOICE.unpack(plain)[1:])
            case kind:
                raise Malformed(f"path message of unknown kind {kind}")
    except (struct.error, ValueError) as error:
        raise Malformed(f"path message: {error}") from None


def _decode_candidates(plain: bytes) -> Candidates:
    _, epoch, number, wait, count = _CANDIDATES.unpack_from(plain)
    if count > MAX_CANDIDATES or len(plain) != _CANDIDATES.size + count * _ADDRESS.size:
        raise Malformed(f"candidate list of {count} addresses in {len(plain)} bytes")
    packed = _ADDRESS.iter_unpack(plain[_CANDIDATES.size :])
    return Candidates(epoch, number, wait, tuple(_unpack_address(*fields) for fields in packed))


def _pack_address(address: Address) -> tuple[int, bytes, int]:
    if ":" in address.host:
        return 6, inet_pton(AF_INET6, address.host), address.port
    return 4, inet_pton(AF_INET, address.host), address.port


def _unpack_address(family: int, host: bytes, port: int) -> Address:
    if family == 4:
        return Address(inet_ntop(AF_INET, host[:4]), port)
    if family == 6:
        return Address(inet_ntop(AF_INET6, host), port)
    raise Malformed(f"address of unknown family {family}")


class DatagramCodec:
    """Seals and opens the probes of one node with each of its peers (public keys, 32 bytes)."""

    def __init__(self, private_key: bytes, random: Callable[[int], bytes]) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._private.public_key().public_bytes_raw()
        self._random = random
        self._sealers: dict[bytes, tuple[bytes, ChaCha20Poly1305]] = {}
        self._openers: dict[bytes, tuple[bytes, ChaCha20Poly1305]] = {}
        self._hints: dict[bytes, bytes] = {}

    def add(self, public_key: bytes) -> None:
        """Know a peer; raises ValueError for a key that yields no secret (a point of low order)."""
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError:
            raise ValueError(f"public key {public_key.hex()} yields no secret") from None
        hint, cipher = _derive(shared, self.public_key, public_key)
        self._sealers[public_key] = WORD + hint, cipher
        hint, cipher = _derive(shared, public_key, self.public_key)
        self._openers[hint] = public_key, cipher
        self._hints[public_key] = hint

    def remove(self, public_key: bytes) -> None:
        """Forget a peer: its probes are a stranger's from now on."""
        del self._sealers[public_key]
        del self._openers[self._hints.pop(public_key)]

    def knows(self, datagram: bytes) -> bool:
        """Whether the datagram names one of the peers as sender; a look-up, no proof."""
        return datagram[4:12] in self._openers and datagram[:4] == WORD

    def seal(self, public_key: bytes, message: Message) -> bytes:
        """A datagram for a known peer."""
        head, cipher = self._sealers[public_key]
        nonce = self._random(NONCE)
        return head + nonce + cipher.encrypt(nonce, encode(message), head)

    def open(self, datagram: bytes) -> tuple[bytes, Message]:
        """Sender's public key and message; raises `Malformed`."""
        if len(datagram) <= OVERHEAD or not self.knows(datagram):
            raise Malformed("no probe of a known peer")
        public_key, cipher = self._openers[datagram[4:12]]
        try:
            plain = cipher.decrypt(datagram[12:24], datagram[24:], datagram[:12])
        except InvalidTag:
            raise Malformed("probe with a wrong seal") from None
        return public_key, decode(plain)


def _derive(shared: bytes, sender: bytes, receiver: bytes) -> tuple[bytes, ChaCha20Poly1305]:
    secret = HKDF(SHA256(), 32 + HINT, salt=None, info=LABEL + sender + receiver).derive(shared)
    return secret[32:], ChaCha20Poly1305(secret[:32])


class SourceLimit:
    """How many datagrams of one source are opened in a second; at most `sources` are counted, the rest dropped."""

    def __init__(self, rate: int = 64, sources: int = 1024) -> None:
        self._rate = rate
        self._sources = sources
        self._until = 0.0
        self._counts: dict[object, int] = {}

    def allow(self, source: object, now: float) -> bool:
        """Count one datagram; False when its source (or the table) has had its share of this second."""
        if now >= self._until:
            self._counts.clear()
            self._until = now + 1.0
        count = self._counts.get(source, 0)
        if count >= self._rate or (not count and len(self._counts) >= self._sources):
            return False
        self._counts[source] = count + 1
        return True
