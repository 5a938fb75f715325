"""Who asks: client certificates and bearer tokens. What they may is in `rules`.

A certificate's common name is the user, its organizations are the groups, as Kubernetes has it; TLS has checked its
signature and dates by then. A token file has a line a token: `token,user,group,group…`.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"
NODES = "edgemesh:nodes"
NODE_PREFIX = "edgemesh:node:"


class TokenFileError(Exception):
    """The token file can't be used; the message says why and what would be right."""


class User(NamedTuple):
    """Who asks. `credential` says by what, for the log and SelfSubjectReview, never the secret itself."""

    name: str
    groups: tuple[str, ...]
    credential: str = ""

    @property
    def node(self) -> str:
        """The node that this is, or empty."""
        return self.name.removeprefix(NODE_PREFIX) if NODES in self.groups and self.name.startswith(NODE_PREFIX) else ""


class Authenticator:
    """`tokens`: the token file, or None. Raises TokenFileError; later, when the file changes, what it had stays."""

    def __init__(self, tokens: Path | None = None) -> None:
        self._path = tokens
        self._changed = 0
        self._tokens: dict[bytes, User] = {}
        self._revoked: frozenset[int] = frozenset()
        if tokens is not None:
            self._load(tokens)

    def revoke(self, serials: frozenset[int]) -> None:
        """Certificates of these serial numbers count no more; they replace those of the last call."""
        self._revoked = serials

    def revoked(self, certificate: Mapping[str, Any] | None) -> bool:
        """Of a certificate as `ssl` gives it."""
        return bool(certificate) and _serial(certificate or {}) in self._revoked

    def certified(self, certificate: Mapping[str, Any] | None) -> User | None:
        """The user of a client certificate that TLS has verified, if there is one."""
        if not certificate or self.revoked(certificate):
            return None
        names: dict[str, list[str]] = {}
        for relative in certificate.get("subject", ()):
            for name, value in relative:
                names.setdefault(name, []).append(value)
        common = names.get("commonName", [""])[-1]
        if not common:
            return None
        groups = (*names.get("organizationName", ()), AUTHENTICATED)
        return User(common, groups, f"certificate {_serial(certificate):x}")

    def bearer(self, authorization: str) -> User | None:
        """The user of an Authorization header, if its token is known."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or self._path is None:
            return None
        self._reload(self._path)
        # by hash: how long a look-up takes says nothing of the tokens that there are
        return self._tokens.get(sha256(token.strip().encode()).digest())

    def _reload(self, path: Path) -> None:
        try:
            if path.stat().st_mtime_ns != self._changed:
                self._load(path)
        except (OSError, TokenFileError) as error:
            logger.error("token file: %s; the last good one counts", error)

    def _load(self, path: Path) -> None:
        try:
            about = path.stat()
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenFileError(f"{path}: {error}") from None
        self._changed = about.st_mtime_ns
        if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise TokenFileError(f"{path} may be read by others: chmod 600 {path}")
        found: dict[bytes, User] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            token, *rest = (part.strip() for part in line.split(","))
            if not token or not rest or not rest[0]:
                raise TokenFileError(f"{path}, line {number}: has to be token,user,group,group…")
            found[sha256(token.encode()).digest()] = User(rest[0], (*filter(None, rest[1:]), AUTHENTICATED), "token")
        self._tokens = found


def _serial(certificate: Mapping[str, Any]) -> int:
    return int(certificate.get("serialNumber", "0"), 16)
