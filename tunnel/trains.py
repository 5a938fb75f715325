"""Trains of datagrams: the kernel cuts them on sending and joins them on receipt.

UDP_SEGMENT (Linux 4.18) cuts a send into datagrams of one size, the last may be shorter; UDP_GRO (5.0) hands
datagrams of one flow and one size over in one receive. It joins small datagrams too: a train need not be of
full-size datagrams.
"""

import socket
import struct
from collections.abc import Sequence

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
"""From linux/udp.h and asm-generic/socket.h; Python has no names for them."""

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


def segment_size(size: int) -> SegmentSize:
    """Ancillary data that makes a send a train of datagrams of `size` bytes."""
    return [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]


def train_segment(ancillary: Sequence[tuple[int, int, bytes]], received: int) -> int:
    """The size of a received train's datagrams, `received` itself when it was a single one."""
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            return int.from_bytes(data[:4], "little")
    return received


def enlarge(sock: socket.socket, size: int) -> None:
    """Ask for buffers of `size` bytes both ways, and take what is allowed."""
    for force, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:  # the right CAP_NET_ADMIN of the initial user namespace is missing
            sock.setsockopt(socket.SOL_SOCKET, plain, size)
