"""Routing netlink (rtnetlink(7)) by struct: requests, answers, dumps. What is asked and why is in `links`.

pyroute2 does this and far more, for 12 MB of memory and a tenth of a second in every agent.

Invariants: every request is answered before the next (one sequence number at a time); a kernel's refusal is an
OSError with its errno; answers of another request are skipped.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
"""Message types (linux/rtnetlink.h)."""

REQUEST, ACKNOWLEDGE, DUMP, REPLACE, EXCLUDE, CREATE = 0x1, 0x4, 0x300, 0x100, 0x200, 0x400
"""Flags (linux/netlink.h)."""

ERROR, DONE = 2, 3
INTERRUPTED = 0x10

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 0x800000
"""Multicast groups: links; addresses and routes of IPv4 and IPv6; forwarding and its like of IPv4."""

BUFFER = 1 << 16
ATTEMPTS = 5
"""How often a dump that a change interrupted is read again."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by kind (nested and byte-order flags taken off)."""
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence number and body of each message in a datagram from the kernel."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


class Rtnetlink:
    """A socket to the kernel; blocking, each exchange takes microseconds."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def change(self, kind: int, flags: int, body: bytes, values: Mapping[int, bytes]) -> None:
        """Have something done; raises OSError when the kernel refuses."""
        sequence = self._send(kind, REQUEST | ACKNOWLEDGE | flags, body, values)
        for answer, _, data in self._answers(sequence):
            if answer == ERROR:
                _raise(data)
                return

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all there are; raises OSError."""
        for _ in range(ATTEMPTS):
            found = []
            whole = True
            for answer, flags, data in self._answers(self._send(kind, REQUEST | DUMP, body, {})):
                whole = whole and not flags & INTERRUPTED
                if answer == ERROR:
                    _raise(data)
                if answer in (DONE, ERROR):
                    break
                found.append(data)
            if whole:
                return found
        raise InterruptedError(f"the kernel's table changed during each of {ATTEMPTS} readings")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes, values: Mapping[int, bytes]) -> int:
        self._sequence += 1
        data = body + b"".join(attribute(name, value) for name, value in values.items())
        self._socket.send(_HEADER.pack(_HEADER.size + len(data), kind, flags, self._sequence, 0) + data)
        return self._sequence

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        while True:
            for kind, flags, of, data in messages(self._socket.recv(BUFFER)):
                if of == sequence:
                    yield kind, flags, data


def _raise(data: bytes) -> None:
    """Raise the error of an ERROR message; 0 in it is the acknowledgement."""
    number = -int.from_bytes(data[:4], "little", signed=True)
    if number:
        raise OSError(number, os.strerror(number))
