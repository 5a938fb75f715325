"""mac1, mac2 and cookies: who may cost us a handshake (whitepaper 5.3, 5.4.4, 5.4.7).

mac1 shows that a sender knows the receiver's public key, mac2 that it can receive at its source address: a receiver
under load answers with a cookie bound to that address, and the next handshake message carries mac2 made with it.
A cookie lives two minutes at both ends and is sealed with XChaCha20-Poly1305 to the mac1 it answers.

Invariant: a checker keeps no state a source; a cookie is computed anew from one secret that changes every two
minutes.
"""

from collections.abc import Callable
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from tunnel.endpoint import Endpoint
from tunnel.wireguard.messages import MAC, CookieReply

COOKIE_LIFETIME = 120.0
COOKIE_LATENCY = 5.0
"""A sender stops using a cookie this much before its end, so that it isn't late on arrival (Linux)."""
NONCE = 24

_LABEL_MAC1 = b"mac1----"
_LABEL_COOKIE = b"cookie--"
_WORDS = Struct("<16I")
_CHACHA_CONSTANTS = Struct("<4I").unpack(b"expand 32-byte k")
_NEVER = float("-inf")


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """A subkey of 32 bytes from a key of 32 and a nonce of 16 (draft-irtf-cfrg-xchacha-03, 2.2).

    It is what ChaCha20's rounds make of the first and last four words of its state; a block of key stream is that
    plus the state the rounds began with, so it is had by subtracting those.
    """
    block = _WORDS.unpack(Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64)))
    began = _CHACHA_CONSTANTS + Struct("<4I").unpack(nonce)
    ended = block[:4] + block[12:]
    return Struct("<8I").pack(*((end - begin) & 0xFFFFFFFF for end, begin in zip(ended, began, strict=True)))


def seal_xchacha(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, 2.3): 24 bytes of nonce, a tag of 16 at the end."""
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).encrypt(bytes(4) + nonce[16:], plain, associated)


def open_xchacha(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """The reverse of `seal_xchacha`; None when it is forged."""
    try:
        return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(bytes(4) + nonce[16:], sealed, associated)
    except InvalidTag:
        return None


def _mac(key: bytes, data: bytes) -> bytes:
    return blake2s(data, key=key, digest_size=MAC).digest()


def _source_bytes(source: Endpoint) -> bytes:
    return f"{source.host} {source.port} {source.channel}".encode()


class CookieChecker:
    """The receiving side of one public key: checks macs and makes cookies. `random(n)` gives n random bytes."""

    __slots__ = ("_cookie_key", "_mac1_key", "_random", "_secret", "_secret_made")

    def __init__(self, public_key: bytes, random: Callable[[int], bytes]) -> None:
        self._mac1_key = blake2s(_LABEL_MAC1 + public_key).digest()
        self._cookie_key = blake2s(_LABEL_COOKIE + public_key).digest()
        self._random = random
        self._secret = b""
        self._secret_made = _NEVER

    def check_mac1(self, message: bytes) -> bool:
        """Whether the sender knows our public key. `message` is a whole handshake message."""
        return compare_digest(_mac(self._mac1_key, message[: -2 * MAC]), message[-2 * MAC : -MAC])

    def check_mac2(self, message: bytes, source: Endpoint, now: float) -> bool:
        """Whether the sender had a cookie from us at this source."""
        if now - self._secret_made >= COOKIE_LIFETIME:
            return False
        return compare_digest(_mac(self._cookie(source), message[:-MAC]), message[-MAC:])

    def reply(self, message: bytes, sender: int, source: Endpoint, now: float) -> CookieReply:
        """The answer to a message of index `sender` that must come again with mac2."""
        if now - self._secret_made >= COOKIE_LIFETIME:
            self._secret = self._random(32)
            self._secret_made = now
        nonce = self._random(NONCE)
        mac1 = message[-2 * MAC : -MAC]
        return CookieReply(sender, nonce, seal_xchacha(self._cookie_key, nonce, self._cookie(source), mac1))

    def _cookie(self, source: Endpoint) -> bytes:
        return _mac(self._secret, _source_bytes(source))


class MacWriter:
    """The sending side towards one peer's public key: writes macs and keeps the peer's cookie."""

    __slots__ = ("_cookie", "_cookie_key", "_cookie_set", "_latest_mac1", "_mac1_key")

    def __init__(self, public_key: bytes) -> None:
        self._mac1_key = blake2s(_LABEL_MAC1 + public_key).digest()
        self._cookie_key = blake2s(_LABEL_COOKIE + public_key).digest()
        self._cookie = b""
        self._cookie_set = _NEVER
        self._latest_mac1: bytes | None = None

    def write(self, message: bytes, now: float) -> bytes:
        """A packed handshake message with both macs in their place; mac2 is zero without a cookie."""
        message = message[: -2 * MAC]
        mac1 = _mac(self._mac1_key, message)
        self._latest_mac1 = mac1
        if now - self._cookie_set >= COOKIE_LIFETIME - COOKIE_LATENCY:
            return message + mac1 + bytes(MAC)
        return message + mac1 + _mac(self._cookie, message + mac1)

    def take(self, reply: CookieReply, now: float) -> bool:
        """Keep the cookie of a reply to the latest message written; False when it is forged or answers another."""
        if self._latest_mac1 is None:
            return False
        cookie = open_xchacha(self._cookie_key, reply.nonce, reply.cookie, self._latest_mac1)
        if cookie is None:
            return False
        self._cookie, self._cookie_set, self._latest_mac1 = cookie, now, None
        return True
