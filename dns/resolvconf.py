"""Which upstreams there are: resolv.conf(5), read again when it has changed.

Our own addresses are left out, and behind the stubs of systemd-resolved, which would ask us back, stands the file in
which it says whom it asks itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from pathlib import Path

LOOK_AGAIN = 5.0
"""Seconds after which the file is looked at again."""
LOOK_SOON = 0.5
"""The same when an upstream has failed."""
MAX_UPSTREAMS = 8
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})
BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")


def nameservers(text: str) -> list[str]:
    """The addresses of the `nameserver` lines, in order, each once; what is no address is left out."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and is_address(words[1]):
            found[words[1]] = None
    return list(found)


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address, the latter perhaps with an interface (fe80::1%eth0)."""
    address, _, zone = text.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        if zone:
            socket.if_nametoindex(zone)
    except (OSError, ValueError):
        return False
    return True


class ResolvConf:
    """Follows one file. `own` are addresses that must not be asked because they are ours."""

    def __init__(self, path: Path, own: Collection[str], behind_stub: Path = BEHIND_STUB) -> None:
        self.path = path
        self.behind_stub = behind_stub
        self.problem = ""
        self._own = frozenset(own)
        self._seen: object = None

    def look(self) -> list[str] | None:
        """The upstreams if a file has changed since the last look, else None. Sets `problem` when there are none."""
        seen = (_identity(self.path), _identity(self.behind_stub))
        if seen == self._seen:
            return None
        self._seen = seen
        found = self._read(self.path)
        if STUBS & set(found):
            found = [*self._read(self.behind_stub), *found]
        found = [address for address in dict.fromkeys(found) if address not in STUBS | self._own][:MAX_UPSTREAMS]
        if found:
            self.problem = ""
        elif not self.problem:
            self.problem = f"{self.path} names no server but this one; names outside the cluster can't be resolved"
        return found

    def _read(self, path: Path) -> list[str]:
        self.problem = ""
        try:
            return nameservers(path.read_text(errors="replace"))
        except OSError as fault:
            self.problem = f"{path} can't be read ({fault.strerror}); names outside the cluster can't be resolved"
            return []


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
