"""The handshake, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (whitepaper 5.4.2 to 5.4.5; Noise revision 34).

    initiator                                      responder
    initiate()  -> Initiated, Initiation  ------>  open_initiation() -> Opened: who, and the timestamp
    finish()    -> SessionKeys            <------  respond() -> Response, SessionKeys

The responder's part is cut in two, because only the static key inside the first message says which peer's secrets
the rest needs. A function that fails raises HandshakeError and has changed nothing: an `Initiated` may be tried on
a further response.

Invariants: no ephemeral key is used twice (the caller's random bytes make them); a shared secret of zeros (a public
key of low order) is refused; the final chaining key is not kept, only what can't be led back to it.
"""

from hashlib import blake2s
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel.wireguard.messages import Initiation, Response

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
KEY = 32
NO_PRESHARED_KEY = bytes(KEY)

_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_ZERO_NONCE = bytes(12)
_EXPORTER = b"edgemesh exporter v1"


class HandshakeError(Exception):
    """A handshake message that isn't from whom it claims, or not for us; or a key of low order."""


class SessionKeys(NamedTuple):
    """Three keys of 32 bytes, seen from one end; `exporter` is the root of further keys."""

    send: bytes
    receive: bytes
    exporter: bytes


def hmac_blake2s(key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104) of BLAKE2s, 32 bytes; half the time of `hmac.digest`. `key` has at most 64 bytes."""
    key = key.ljust(_BLOCK, b"\0")
    return blake2s(key.translate(_OUTER) + blake2s(key.translate(_INNER) + data).digest()).digest()


def kdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    """`count` keys of 32 bytes by HKDF (RFC 5869; whitepaper 5.4, "Kdf")."""
    secret = hmac_blake2s(key, data)
    keys: list[bytes] = []
    latest = b""
    for number in range(1, count + 1):
        latest = hmac_blake2s(secret, latest + bytes([number]))
        keys.append(latest)
    return keys


class PrivateKey:
    """An X25519 key of 32 private bytes; `public` its 32 public ones."""

    __slots__ = ("_key", "public")

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The secret shared with the owner of a public key; raises HandshakeError for one of low order."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise HandshakeError("public key of low order") from None


class Symmetric:
    """Noise's SymmetricState (5.2): a chaining key, and a hash over all that was said."""

    __slots__ = ("chaining", "hash")

    def __init__(self, chaining: bytes, hash: bytes) -> None:
        self.chaining = chaining
        self.hash = hash

    @classmethod
    def start(cls, responder: bytes) -> "Symmetric":
        """The state before the first message to the owner of the public key `responder`."""
        chaining = blake2s(CONSTRUCTION).digest()
        state = cls(chaining, blake2s(chaining + IDENTIFIER).digest())
        state.mix_hash(responder)
        return state

    def copy(self) -> "Symmetric":
        """A state to go on from, this one unchanged."""
        return Symmetric(self.chaining, self.hash)

    def mix_hash(self, data: bytes) -> None:
        """Add what both ends saw."""
        self.hash = blake2s(self.hash + data).digest()

    def mix_ephemeral(self, public: bytes) -> None:
        """The token `e` of a pattern with a preshared key: both hash and chaining key take it."""
        self.mix_hash(public)
        self.chaining = kdf(self.chaining, public, 1)[0]

    def mix_key(self, secret: bytes) -> bytes:
        """Add a shared secret; gives the key for what follows."""
        self.chaining, key = kdf(self.chaining, secret, 2)
        return key

    def mix_preshared(self, preshared: bytes) -> bytes:
        """The token `psk`; gives the key for what follows."""
        self.chaining, mixed, key = kdf(self.chaining, preshared, 3)
        self.mix_hash(mixed)
        return key

    def seal(self, key: bytes, plain: bytes) -> bytes:
        """Seal with the hash so far, then add the result to it."""
        sealed = ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, plain, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, key: bytes, sealed: bytes) -> bytes:
        """The reverse of `seal`; raises HandshakeError."""
        try:
            plain = ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, self.hash)
        except InvalidTag:
            raise HandshakeError("handshake message is forged, or made for another key") from None
        self.mix_hash(sealed)
        return plain

    def split(self, initiator: bool) -> SessionKeys:
        """The session's keys, as the initiator or the responder has them."""
        first, second = kdf(self.chaining, b"", 2)
        exporter = kdf(self.chaining, _EXPORTER, 1)[0]
        return SessionKeys(first, second, exporter) if initiator else SessionKeys(second, first, exporter)


class Initiated(NamedTuple):
    """An initiator waiting for the response to its message number `sender`."""

    sender: int
    ephemeral: PrivateKey
    symmetric: Symmetric


class Opened(NamedTuple):
    """An initiation whose static key was read; `timestamp` proves that its sender owns it."""

    message: Initiation
    static: bytes
    symmetric: Symmetric

    def timestamp(self, static_static: bytes) -> bytes:
        """The 12 bytes of TAI64N, given the secret shared with `static`; raises HandshakeError."""
        key = self.symmetric.mix_key(static_static)
        return self.symmetric.open(key, self.message.timestamp)


def initiate(
    local: PrivateKey, remote: bytes, static_static: bytes, ephemeral: bytes, sender: int, timestamp: bytes
) -> tuple[Initiated, Initiation]:
    """Make the first message; `ephemeral` is 32 random bytes, `static_static` the secret of both static keys."""
    own = PrivateKey(ephemeral)
    state = Symmetric.start(remote)
    state.mix_ephemeral(own.public)
    static = state.seal(state.mix_key(own.exchange(remote)), local.public)
    stamp = state.seal(state.mix_key(static_static), timestamp)
    return Initiated(sender, own, state), Initiation(sender, own.public, static, stamp)


def open_initiation(local: PrivateKey, message: Initiation) -> Opened:
    """Read whose the first message claims to be; raises HandshakeError. Costs one X25519."""
    state = Symmetric.start(local.public)
    state.mix_ephemeral(message.ephemeral)
    static = state.open(state.mix_key(local.exchange(message.ephemeral)), message.static)
    return Opened(message, static, state)


def respond(opened: Opened, preshared: bytes, ephemeral: bytes, sender: int) -> tuple[Response, SessionKeys]:
    """Answer an initiation whose timestamp was read; raises HandshakeError. Costs three X25519."""
    own = PrivateKey(ephemeral)
    state = opened.symmetric.copy()
    state.mix_ephemeral(own.public)
    state.mix_key(own.exchange(opened.message.ephemeral))
    state.mix_key(own.exchange(opened.static))
    empty = state.seal(state.mix_preshared(preshared), b"")
    return Response(sender, opened.message.sender, own.public, empty), state.split(initiator=False)


def finish(initiated: Initiated, local: PrivateKey, preshared: bytes, message: Response) -> SessionKeys:
    """Read the response; raises HandshakeError. Costs two X25519."""
    state = initiated.symmetric.copy()
    state.mix_ephemeral(message.ephemeral)
    state.mix_key(initiated.ephemeral.exchange(message.ephemeral))
    state.mix_key(local.exchange(message.ephemeral))
    state.open(state.mix_preshared(preshared), message.empty)
    return state.split(initiator=True)
