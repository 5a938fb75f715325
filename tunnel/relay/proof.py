"""How a node proves its key and its address to a relay, and how each then knows the other's messages.

The relay's key may be a new one each time it starts: nodes do not rely on who the relay is, for what passes
through it is sealed end to end. The shared secret X25519(node, relay) only ever keys BLAKE2s (RFC 7693) over a
label of this protocol's own, so a hostile relay learns nothing that WireGuard's use of the same key would mind.

Invariants: a cookie is good for one source address, key and nonce, and for COOKIE_LIFE; the relay keeps nothing to
check it.
"""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tunnel.endpoint import Address

KEY = 32
NONCE = 16
COOKIE = 24
MAC = 16
COOKIE_LIFE = 10.0
"""Seconds a challenge may be answered in."""


class Malformed(Exception):
    """The bytes are no message of the relay protocol."""


class Cookies:
    """A relay's cookies: the time they were made, in ms, and a MAC."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is 32 random bytes, new each time the relay starts."""
        self._secret = secret

    def make(self, source: Address, key: bytes, nonce: bytes, now: float) -> bytes:
        """COOKIE bytes."""
        made = int(now * 1000).to_bytes(8, "little")
        return made + self._mac(made, source, key, nonce)

    def made(self, cookie: bytes, source: Address, key: bytes, nonce: bytes, now: float) -> int | None:
        """When a cookie was made, in ms of the relay's clock; None when it is forged, another's or too old."""
        made = int.from_bytes(cookie[:8], "little")
        fresh = now - COOKIE_LIFE <= made / 1000 <= now
        if fresh and hmac.compare_digest(self._mac(cookie[:8], source, key, nonce), cookie[8:]):
            return made
        return None

    def _mac(self, made: bytes, source: Address, key: bytes, nonce: bytes) -> bytes:
        said = made + key + nonce + f"{source.host} {source.port}".encode()
        return hashlib.blake2s(said, key=self._secret, digest_size=COOKIE - 8).digest()


class Keys:
    """What two ends that proved their keys share: a MAC key a direction."""

    def __init__(self, secret: bytes, relay_key: bytes, node_key: bytes, nonce: bytes, cookie: bytes) -> None:
        said = relay_key + node_key + nonce + cookie
        self.node = hashlib.blake2s(b"edgemesh relay 1: node" + said, key=secret).digest()
        self.relay = hashlib.blake2s(b"edgemesh relay 1: relay" + said, key=secret).digest()


def shared_secret(private_key: X25519PrivateKey, public_key: bytes) -> bytes:
    """X25519 of the two; raises Malformed for a public key that is no point of use."""
    try:
        return private_key.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise Malformed("a public key of low order") from error


def seal(message: bytes, key: bytes) -> bytes:
    """The message with its MAC."""
    return message + hashlib.blake2s(message, key=key, digest_size=MAC).digest()


def verify(datagram: bytes, key: bytes) -> bool:
    """Whether the MAC at the datagram's end is right."""
    return hmac.compare_digest(hashlib.blake2s(datagram[:-MAC], key=key, digest_size=MAC).digest(), datagram[-MAC:])


def shown(key: bytes) -> str:
    """A public key as `wg` shows it."""
    return base64.b64encode(key).decode()
