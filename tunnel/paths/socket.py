"""The agent's one raw socket: path messages from and to the WireGuard port, which an engine has bound.

Probes must leave by the very port that data leaves by, else they open another hole in the NAT; and kernel, Go and
Python engines all own that port's UDP socket. A raw socket (AF_INET, so that it stands behind the firewall's INPUT
as data does: a probe that passes says that data will) sends with that port as source and sees a copy of what comes
to it; a BPF filter lets only what is the agent's through. The engine gets its own copy, and drops it by first word.

The UDP checksum is sent as zero, 'none' in IPv4 (RFC 768). A right one needs the source address the route will
choose, and with a wrong one conntrack calls the packet INVALID and NAT lets it out untranslated. It also keeps GRO
from joining probes to data of the same addresses and ports, which would hide them from the filter.

Invariants: nothing that the filter does not pass is ever received, what came before it was set included; the
receive buffer is bounded; bytes are not believed: checksums of what comes are not verified, so callers take only
messages that authenticate themselves.
"""

import contextlib
import ctypes
import errno
import logging
import os
import socket
import struct
from collections import OrderedDict

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, PROBE, RELAY, STUN_COOKIE, Address

log = logging.getLogger(__name__)

SO_ATTACH_FILTER = 26
"""asm-generic/socket.h; Python has no name for it."""

RECEIVE_BUFFER = 256 << 10
"""Bytes: some hundred messages, more than the agent could be behind by."""
MAX_MESSAGE = 2048
"""Bytes of a packet that are received; longer ones are none of ours."""
REPORTED = 64
"""Destinations whose trouble is remembered, so as to be told once."""

_UDP_HEADER = struct.Struct(">HHHH")

# classic BPF: linux/bpf_common.h
_LOAD_WORD, _LOAD_HALF = 0x20, 0x28
_LOAD_WORD_X, _LOAD_HALF_X = 0x40, 0x48
_LOAD_HEADER_LENGTH = 0xB1
_IF_EQUAL, _IF_SET = 0x15, 0x45
_RETURN = 0x06


class PathSocketError(Exception):
    """The socket can't be had, or broke; the message says why and what to do."""


class PathSocket:
    """Sends from, and receives on, the UDP port of an engine that has it bound. Non-blocking, IPv4.

    Wait with `trio.lowlevel.wait_readable(socket)`, then call `receive` until it gives None.
    """

    def __init__(self, port: int) -> None:
        """`port` is the WireGuard port; raises PathSocketError (no CAP_NET_RAW)."""
        self.port = port
        self._trouble: OrderedDict[str, int] = OrderedDict()
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
        except PermissionError as error:
            raise PathSocketError(
                "no raw socket for path finding: run as root, or grant the agent CAP_NET_RAW"
            ) from error
        except OSError as error:
            raise PathSocketError(f"no raw socket for path finding: {error.strerror}") from error
        try:
            # all UDP of the machine has been queued since the line above: stop it, throw it away, then choose
            self._attach([(_RETURN, 0, 0, 0)])
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self._attach(path_filter(port))
        except OSError as error:
            self._socket.close()
            raise PathSocketError(f"no filter on the raw socket for path finding: {error.strerror}") from error

    def send(self, data: bytes, to: Address) -> bool:
        """Send one datagram; whether it went out. A missing route is logged once a destination, never raised.

        To an IPv6 address nothing goes out as yet. `to.host` is numeric: a name would be looked up, and wait for it.
        """
        if ":" in to.host:
            return False
        packet = _UDP_HEADER.pack(self.port, to.port, _UDP_HEADER.size + len(data), 0) + data
        try:
            self._socket.sendto(packet, (to.host, 0))
        except BlockingIOError:
            return False
        except OSError as error:
            self._report(to.host, error.errno or 0)
            return False
        if self._trouble:
            self._trouble.pop(to.host, None)
        return True

    def receive(self) -> tuple[bytes, Address] | None:
        """The next path message and its source, None when there is none now; raises PathSocketError."""
        while True:
            try:
                packet, (host, _) = self._socket.recvfrom(MAX_MESSAGE)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    raise PathSocketError("the raw socket for path finding is closed") from error
                # an ICMP error of an earlier send: told, and over
                continue
            start = (packet[0] & 0x0F) * 4
            source, _, length, _ = _UDP_HEADER.unpack_from(packet, start)
            if _UDP_HEADER.size <= length <= len(packet) - start:
                return packet[start + _UDP_HEADER.size : start + length], Address(host, source)

    def fileno(self) -> int:
        """For waiting."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _report(self, host: str, number: int) -> None:
        if self._trouble.get(host) == number:
            return
        self._trouble[host] = number
        if len(self._trouble) > REPORTED:
            self._trouble.popitem(last=False)
        log.info(
            "path messages to %s can't be sent: %s; tried again as paths are looked for", host, os.strerror(number)
        )

    def _attach(self, program: list[tuple[int, int, int, int]]) -> None:
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
        head = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


def path_filter(port: int) -> list[tuple[int, int, int, int]]:
    """The BPF program (code, jump if true, jump if false, operand) that passes path messages to a UDP port.

    It sees the packet from its IPv4 header on. Passed: no fragments; to this port; first word PROBE or RELAY, or
    CHANNEL with PROBE behind it, or STUN. A load beyond the packet's end drops it, as the kernel has it.
    """
    steps: list[tuple[int, str, str, int]] = [
        (_LOAD_HALF, "", "", 6),
        (_IF_SET, "drop", "", 0x3FFF),  # more fragments, or an offset
        (_LOAD_HEADER_LENGTH, "", "", 0),
        (_LOAD_HALF_X, "", "", 2),
        (_IF_EQUAL, "", "drop", port),
        (_LOAD_WORD_X, "", "", 8),
        (_IF_EQUAL, "pass", "", _swapped(PROBE)),
        (_IF_EQUAL, "pass", "", _swapped(RELAY)),
        (_IF_EQUAL, "channel", "", _swapped(CHANNEL)),
        (_IF_SET, "drop", "", 0xC0000000),
        (_LOAD_WORD_X, "", "", 8 + 4),
        (_IF_EQUAL, "pass", "drop", STUN_COOKIE),
        (_LOAD_WORD_X, "", "", 8 + CHANNEL_HEADER),
        (_IF_EQUAL, "pass", "drop", _swapped(PROBE)),
        (_RETURN, "", "", 0),
        (_RETURN, "", "", MAX_MESSAGE),
    ]
    labels = {"channel": len(steps) - 4, "drop": len(steps) - 2, "pass": len(steps) - 1}
    return [
        (code, labels[yes] - at - 1 if yes else 0, labels[no] - at - 1 if no else 0, operand)
        for at, (code, yes, no, operand) in enumerate(steps)
    ]


def _swapped(word: int) -> int:
    """A little-endian first word as BPF, big-endian, loads it."""
    return int.from_bytes(word.to_bytes(4, "little"), "big")
