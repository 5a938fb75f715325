"""Tokens that a new node joins by: ID.SECRET.PIN, of which the cloud keeps the ID and a hash of the secret.

A token is a Secret in edgemesh-system, `edgemesh-token-ID`, type edgemesh.kubeedge.io/token, with `hash` (SHA-256 of
the secret, hex; 82 random bits need no slower one), `expires` (RFC 3339) and `node` where it is bound to a name. PIN
is the SHA-256 of the CA's SubjectPublicKeyInfo: by it the node knows the cloud, as by the secret the cloud the node.
It may be used several times while it lives; one bound to a name is of no use to another name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from edgemesh.names import SYSTEM_NAMESPACE

TYPE = "edgemesh.kubeedge.io/token"
PREFIX = "edgemesh-token-"
LIFE = timedelta(hours=24)
"""Unless asked for otherwise."""

_ALPHABET = string.ascii_lowercase + string.digits
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\.([0-9a-f]{64})")
_DURATION = re.compile(r"(?=.)(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class TokenError(Exception):
    """A text is no token or no duration; the message says what would be right, and never has the secret."""


class Token(NamedTuple):
    """A token's parts."""

    id: str
    secret: str
    pin: str

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}.{self.pin}"

    def __repr__(self) -> str:
        return f"Token({self.id})"


class Kept(Struct, frozen=True):
    """A token as the cloud has it; `node` is the only name it is for, or empty."""

    id: str
    hash: str
    expires: datetime
    node: str = ""

    def refuses(self, secret: str, node: str, now: datetime) -> str:
        """Empty if the secret is right and the token good for this node; else why not."""
        if not hmac.compare_digest(self.hash.encode(), _hash(secret).encode()):
            return UNKNOWN
        if now >= self.expires:
            return f"the token ended at {spell(self.expires)}: make a new one with 'edgemesh token create'"
        if self.node and self.node != node:
            return f"the token is for the node {self.node}, not for {node}"
        return ""


UNKNOWN = "there is no such token: see 'edgemesh token list', or make one with 'edgemesh token create'"
"""Said for a wrong ID and for a wrong secret alike."""


def new(pin: str) -> Token:
    """A token that nobody has yet, for the CA with this pin."""
    return Token(_random(6), _random(16), pin)


def read(text: str) -> Token:
    """Raises TokenError."""
    if not text.strip():
        raise TokenError("no token is given: --token or --token-file, as 'edgemesh token create' prints it")
    found = _TOKEN.fullmatch(text.strip())
    if not found:
        raise TokenError(
            "that is not a whole token: it has 6 characters, a dot, 16 characters, a dot and 64 hex digits, as "
            "'edgemesh token create' prints it"
        )
    return Token(*found.groups())


def secret(token: Token, expires: datetime, node: str = "") -> dict[str, Any]:
    """What the cloud keeps of a token: a Secret to create."""
    data = {"hash": _hash(token.secret), "expires": spell(expires), **({"node": node} if node else {})}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": PREFIX + token.id, "namespace": SYSTEM_NAMESPACE},
        "type": TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def kept(secret: Any) -> Kept | None:
    """A token by its Secret; None if that is no token's, or is broken."""
    try:
        name, data = secret["metadata"]["name"], secret["data"]
        if secret.get("type") != TYPE or not name.startswith(PREFIX):
            return None
        text = {key: base64.b64decode(data[key], validate=True).decode() for key in ("hash", "expires")}
        node = base64.b64decode(data.get("node", ""), validate=True).decode()
        expires = datetime.strptime(text["expires"], _TIME).replace(tzinfo=UTC)
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        return None
    return Kept(name.removeprefix(PREFIX), text["hash"], expires, node)


def duration(text: str) -> timedelta:
    """Such as 24h, 30m, 1d12h. Raises TokenError."""
    found = _DURATION.fullmatch(text)
    length = timedelta()
    if found:
        days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
        length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not length:
        raise TokenError(f"{text!r} is not a time: such as 24h, 30m or 7d")
    return length


def spell(when: datetime) -> str:
    """A time as Kubernetes writes it (RFC 3339, UTC)."""
    return when.astimezone(UTC).strftime(_TIME)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
