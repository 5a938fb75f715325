"""The one UDP socket of an engine, which sends and receives trains of datagrams.

Invariants: nothing here blocks for ever but `receive`, which its thread waits in; a send that the kernel
refuses (no route, no memory) is a datagram lost, never an exception.
"""

import contextlib
import errno
import socket
import sys
from collections.abc import Sequence

from tunnel.engine import EngineTrouble
from tunnel.trains import BUFFER, SOL_UDP, UDP_GRO, SegmentSize, enlarge

_SO_MEMINFO = 55
_MEMINFO_DROPS = 8
"""linux/sock_diag.h: SK_MEMINFO_DROPS, the ninth of a socket's 32-bit counts."""

_LOST = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EHOSTDOWN,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EPERM,
        errno.EACCES,
        errno.ECONNREFUSED,
        errno.EINVAL,
        errno.EADDRNOTAVAIL,
        errno.EMSGSIZE,
        errno.EIO,
        errno.EAFNOSUPPORT,
    }
)
"""Errors of a send that concern its packet, not the engine: the address set may be wrong or away for now."""


class UdpSocket:
    """A bound socket. `port` is what it got, `buffers` the receive and send buffer sizes that the kernel granted."""

    def __init__(self, port: int, *, buffer: int = BUFFER, family: int = socket.AF_INET) -> None:
        """Bind to `port` on all addresses (0: any). Raises EngineTrouble where the port is taken."""
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
            enlarge(self.socket, buffer)
            self.socket.bind(("", port))
        except OSError as error:
            self.socket.close()
            raise EngineTrouble(_why_not_bound(port, error)) from error
        self.port: int = self.socket.getsockname()[1]

    @property
    def buffers(self) -> tuple[int, int]:
        """Receive and send buffer in bytes, as the kernel counts them (twice what was asked)."""
        return (
            self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
            self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        )

    def overflowed(self) -> int:
        """Receives, single datagrams or trains, that were dropped since the start because the buffer was full."""
        counts = self.socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
        return int.from_bytes(counts[4 * _MEMINFO_DROPS :], sys.byteorder)

    def send(
        self,
        parts: Sequence[bytes | bytearray | memoryview],
        address: tuple[str, int],
        cut: SegmentSize | None = None,
        flags: int = 0,
    ) -> bool:
        """Send one datagram, or a train when `cut` says so; False when the kernel would not."""
        try:
            self.socket.sendmsg(parts, cut or (), flags, address)
        except socket.gaierror:  # an address of another family than the socket's
            return False
        except OSError as error:
            if error.errno not in _LOST:
                raise
            return False
        return True

    def close(self) -> None:
        """Close it; a thread that waits in a receive wakes with an error first."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def _why_not_bound(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"UDP port {port} is taken by another process: end that one, or set another listen port"
    return f"UDP port {port} can't be opened: {error.strerror}"
