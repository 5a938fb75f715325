"""The one UDP socket of an engine: trains of datagrams, cut on sending and joined on receipt by the kernel.

UDP_SEGMENT (Linux 4.18) cuts a send into datagrams of one size, the last may be shorter; UDP_GRO (5.0) hands
datagrams of one flow and one size over in one receive. It joins small datagrams too: a train need not be of
full-size datagrams.

Invariants: nothing here blocks for ever but `receive`, which its thread waits in; a send that the kernel
refuses (no route, no memory) is a datagram lost, never an exception.
"""

import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Sequence

from tunnel.engine import EngineTrouble

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
_SO_MEMINFO = 55
_MEMINFO_DROPS = 8
"""linux/sock_diag.h: SK_MEMINFO_DROPS, the ninth of a socket's 32-bit counts."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

LARGEST_SEND = 65_507
"""Bytes of payload in one send, cut or not: 65,535 less IPv4 and UDP headers."""

LARGEST_TRAIN = 64
"""Datagrams in one send (UDP_MAX_SEGMENTS of kernels before 6.9)."""

BUFFER = 8 << 20
"""Bytes of socket buffer asked for, each way; the kernel grants no more than net.core.rmem_max without the right
SO_RCVBUFFORCE needs."""

ANCILLARY = 64
"""Room for control messages of a receive: UDP_GRO's alone is 24."""

SegmentSize = list[tuple[int, int, bytes]]
"""What `sendmsg` is told: the size to cut at."""

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


def segment_size(size: int) -> SegmentSize:
    """Ancillary data that makes a send a train of datagrams of `size` bytes."""
    return [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]


class UdpSocket:
    """A bound socket. `port` is what it got, `buffers` the receive and send buffer sizes that the kernel granted."""

    def __init__(self, port: int, *, buffer: int = BUFFER, family: int = socket.AF_INET) -> None:
        """Bind to `port` on all addresses (0: any). Raises EngineTrouble where the port is taken."""
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            if family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
            _enlarge(self.socket, _SO_RCVBUFFORCE, socket.SO_RCVBUF, buffer)
            _enlarge(self.socket, _SO_SNDBUFFORCE, socket.SO_SNDBUF, buffer)
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


def train_segment(ancillary: Sequence[tuple[int, int, bytes]], received: int) -> int:
    """The size of a received train's datagrams, `received` itself when it was a single one."""
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            return int.from_bytes(data[:4], "little")
    return received


def _enlarge(sock: socket.socket, force: int, plain: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except OSError:  # the right CAP_NET_ADMIN of the initial user namespace is missing: take what is allowed
        sock.setsockopt(socket.SOL_SOCKET, plain, size)


def _why_not_bound(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"UDP port {port} is taken by another process: end that one, or set another listen port"
    return f"UDP port {port} can't be opened: {error.strerror}"
