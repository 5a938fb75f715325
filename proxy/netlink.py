"""Netlink of the kernel's netfilter: attributes, messages, transactions, dumps (linux/netlink.h, nfnetlink.h).

Written by `struct` because the agent pays for every megabyte it imports: libnftables and pyroute2 cost more than
the rest of this package. Invariants: a transaction is one datagram, so it fits the socket's send buffer
(`TRANSACTION` bytes, well below the stock 212,992, since SO_SNDBUFFORCE needs the first user namespace); the kernel
answers within the send, so that replies are there when it returns and nothing waits.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence

import msgspec

NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11

REQUEST, ACK, DUMP, CREATE, APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
DUMP_INTERRUPTED, CAPPED, ACK_TLVS = 0x10, 0x100, 0x200
ERROR, DONE = 2, 3
BATCH_BEGIN, BATCH_END = 0x10, 0x11

NESTED = 0x8000
TRANSACTION = 128 * 1024
"""Bytes a transaction may have; 2,900 slots. The kernel refuses datagrams above the send buffer of 212,992."""

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")


class NetlinkError(Exception):
    """The kernel refused a request: `code` is the errno, `request` the index of the message it refused."""

    def __init__(self, code: int, request: int = 0, said: str = "") -> None:
        self.code = code
        self.request = request
        super().__init__(f"{os.strerror(code)}{f' ({said})' if said else ''}")


class Message(msgspec.Struct, frozen=True):
    """One request: type (subsystem << 8 | number), flags, address family, attributes; `about` is for errors."""

    kind: int
    flags: int
    body: bytes
    about: str = ""
    family: int = socket.AF_INET

    def encode(self, sequence: int, flags: int = 0, resource: int = 0) -> bytes:
        """The message with its headers; the length counts both."""
        size = _HEADER.size + _GENERIC.size + len(self.body)
        return b"".join(
            (
                _HEADER.pack(size, self.kind, REQUEST | self.flags | flags, sequence, 0),
                _GENERIC.pack(self.family, 0, resource),
                self.body,
            )
        )


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    size = len(payload)
    return _ATTRIBUTE.pack(size + 4, kind) + payload + b"\0" * (-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def number(kind: int, value: int) -> bytes:
    """An attribute with a 32-bit number in network order, negative ones in two's complement."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def text(kind: int, value: str) -> bytes:
    """An attribute with a zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`: kind without flags, payload. Stops at the first that isn't whole."""
    view = memoryview(data)
    while len(view) >= 4:
        size, kind = _ATTRIBUTE.unpack_from(view)
        if not 4 <= size <= len(view):
            return
        yield kind & 0x3FFF, bytes(view[4:size])
        view = view[(size + 3) & ~3 :]


def messages(data: bytes) -> Iterator[tuple[int, int, int, memoryview]]:
    """The messages in a datagram: type, flags, sequence, payload after the netlink header."""
    view = memoryview(data)
    while len(view) >= _HEADER.size:
        size, kind, flags, sequence, _ = _HEADER.unpack_from(view)
        if not _HEADER.size <= size <= len(view):
            return
        yield kind, flags, sequence, view[_HEADER.size : size]
        view = view[(size + 3) & ~3 :]


def _refusal(payload: memoryview, flags: int) -> tuple[int, str]:
    """The errno of an error message (0: an acknowledgement) and the kernel's own words, if any."""
    code = -_ERRNO.unpack_from(payload)[0]
    said = ""
    if flags & ACK_TLVS and flags & CAPPED:
        for kind, value in attributes(payload[4 + _HEADER.size :]):
            if kind == 1:
                said = value.rstrip(b"\0").decode(errors="replace")
    return code, said


class Netfilter:
    """A socket to netfilter. Methods raise NetlinkError when the kernel refuses, OSError when there is no way to it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        """Close the socket; the kernel keeps what was set."""
        self._socket.close()

    def transaction(self, subsystem: int, requests: Sequence[Message]) -> None:
        """All of `requests` or none (a batch of nfnetlink). Raises NetlinkError for the first that is refused."""
        if not requests:
            return
        first = self._sequence + 1
        last = len(requests) - 1
        parts = [Message(BATCH_BEGIN, 0, b"", family=0).encode(first, resource=subsystem)]
        parts += [request.encode(first + 1 + i, ACK if i == last else 0) for i, request in enumerate(requests)]
        parts.append(Message(BATCH_END, 0, b"", family=0).encode(first + 2 + last, resource=subsystem))
        self._sequence = first + 2 + last
        self._send(b"".join(parts))
        answered = False
        refused: NetlinkError | None = None
        for kind, flags, sequence, payload in self._replies():
            if kind != ERROR or sequence < first:
                continue
            answered = True
            code, said = _refusal(payload, flags)
            if code and refused is None:
                refused = NetlinkError(code, max(sequence - first - 1, 0), said)
        if refused:
            raise refused
        if not answered:
            raise NetlinkError(errno.EIO, last, "no acknowledgement")

    def each(self, requests: Sequence[Message], ignore: int) -> None:
        """Every request by itself; one refused with the errno `ignore` counts as done."""
        for start in range(0, len(requests), 100):  # a hundred acknowledgements fit any receive buffer
            part = requests[start : start + 100]
            first = self._sequence + 1
            self._sequence += len(part)
            self._send(b"".join(request.encode(first + i, ACK) for i, request in enumerate(part)))
            for kind, flags, sequence, payload in self._replies():
                if kind == ERROR and sequence >= first:
                    code, said = _refusal(payload, flags)
                    if code not in (0, ignore):
                        raise NetlinkError(code, start + sequence - first, said)

    def get(self, request: Message) -> bytes:
        """The attributes of the one object that was asked for."""
        self._sequence += 1
        self._send(request.encode(self._sequence))
        for kind, flags, sequence, payload in self._replies():
            if sequence != self._sequence:
                continue
            if kind != ERROR:
                return bytes(payload[_GENERIC.size :])
            code, said = _refusal(payload, flags)
            if code:
                raise NetlinkError(code, 0, said)
        raise NetlinkError(errno.EIO, 0, "no answer")

    def dump(self, request: Message) -> Iterator[bytes]:
        """The attributes of each object the kernel lists; read piece by piece, so that memory stays flat.

        Raises NetlinkError with EINTR when the list changed meanwhile, so that it may have gaps.
        """
        self._sequence += 1
        sequence = self._sequence
        self._send(request.encode(sequence, DUMP))
        interrupted = False
        while True:
            for kind, flags, number_, payload in messages(self._socket.recv(65536)):
                if number_ != sequence:
                    continue
                interrupted |= bool(flags & DUMP_INTERRUPTED)
                if kind in (ERROR, DONE):
                    code, said = _refusal(payload, 0)
                    if code:
                        raise NetlinkError(code, 0, said)
                    if interrupted:
                        raise NetlinkError(errno.EINTR, 0, "changed while it was listed")
                    return
                yield bytes(payload[_GENERIC.size :])

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, (0, 0))
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO) from error

    def _replies(self) -> Iterator[tuple[int, int, int, memoryview]]:
        while True:
            try:
                data = self._socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO) from error
            yield from messages(data)
