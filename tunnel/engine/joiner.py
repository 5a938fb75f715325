"""Joins what follows each other in one TCP flow into one segment for TUN: packets, and frames too small by themselves.

Each segment costs the receiving kernel one walk through its layers, and its TCP one acknowledgement, however many
packets are in it.

Invariants: what is joined is what cutting gives back unchanged, but for identifications that mean nothing (RFC 6864,
4.1). A packet is joined only when its checksums are right, else a damaged one would be made good; a frame's segments
are as the sender's kernel left them. Order is kept: whatever is not joined pushes out what is held.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct

from tunnel.engine.segments import TCP, address_sum, checksum, residue
from tunnel.engine.tun import GSO_TCPV4, GSO_TCPV6, LARGEST, NEEDS_CSUM, VNET, VNET_HEADER

WHOLE = 32_768
"""Bytes of a frame's segment from which it is written at once: no other of its size would fit beside it."""

_PSH, _ACK = 0x08, 0x10
_TCP_CHECKSUM = 16
_LARGEST_PACKET = 65_535
_NO_VNET = bytes(VNET)

_u16 = Struct(">H")
_u32 = Struct(">I")


class Joiner:
    """Joins packets and hands segments to `write`.

    The caller puts each packet into `room` and then says `take`, or a frame into `frame_room` and `take_frame`; after
    the last of a batch `flush`. What `write` gets (a virtio-net header and a packet) is valid during the call only.
    """

    def __init__(self, write: Callable[[memoryview], object]) -> None:
        self._write = write
        self._data = bytearray(2 * LARGEST)
        self._view = memoryview(self._data)
        self.holds = False
        """Whether something waits for what may follow it."""
        self._end = VNET  # of what is held; its packet begins at VNET
        self._joined = False  # whether it is more than came at once
        self._shape = (0, 0)
        self._size = 0  # payload of each packet held, but perhaps of the last
        self._key = 0
        self._next = 0  # sequence number that goes on from what is held
        self._verified = False
        self._addresses = 0  # their sum

    def room(self, length: int) -> memoryview:
        """Where to put a packet of at most `length` bytes (65,535 at most)."""
        return self._view[self._end : self._end + length]

    def take(self, length: int) -> None:
        """The packet in `room`, which is `length` bytes long, is next."""
        self._take(self._end, length, 0, False)

    def frame_room(self, length: int) -> memoryview:
        """Where to put `length` bytes (LARGEST at most) of virtio-net header and packet."""
        at = self._end if self.holds else 0
        return self._view[at : at + length]

    def take_frame(self, length: int) -> None:
        """What is in `frame_room`, `length` bytes long, is next."""
        at = self._end if self.holds else 0
        flags, kind, _, size, _, _ = VNET_HEADER.unpack_from(self._data, at)
        if length > WHOLE or not flags & NEEDS_CSUM:
            self.flush()
            self._write(self._view[at : at + length])
        else:
            self._take(at + VNET, length - VNET, size if kind else 0, True)

    def flush(self) -> None:
        """Write what is held."""
        if not self.holds:
            return
        end = self._end
        if self._joined:
            self._rewrite_headers(end - VNET)
        self.holds = False
        self._end = VNET
        self._write(self._view[:end])

    def _take(self, at: int, length: int, size: int, framed: bool) -> None:
        """The packet at `at`, or segment of packets of `size`, is next; `framed`: a virtio-net header is before it."""
        data, view = self._data, self._view
        shape = _plain_data(data, at, length)
        if shape is None:
            self.flush()
            if not framed:
                data[at - VNET : at] = _NO_VNET
            self._write(view[at - VNET : at + length])
            return
        tcp, header = shape
        payload = length - header
        key = int.from_bytes(view[at : at + header], "big") & _mask(tcp, header)
        (sequence,) = _u32.unpack_from(data, at + tcp + 4)
        push = data[at + tcp + 13] & _PSH
        if self.holds:
            if (
                key == self._key
                and sequence == self._next
                and (size == self._size or (not size and payload <= self._size))
                and at + payload - VNET <= _LARGEST_PACKET
                and (self._verified or self._verify())
                and (framed or self._intact(at, at + length, tcp))
            ):
                end = self._end
                data[end : end + payload] = view[at + header : at + length]
                data[VNET + tcp + 13] |= push
                self._end = end + payload
                self._next = sequence + payload & 0xFFFFFFFF
                self._joined = True
                if push or payload % self._size:
                    self.flush()
                return
            self.flush()
        if not framed:
            data[at - VNET : at] = _NO_VNET
        if at != VNET:
            data[: VNET + length] = view[at - VNET : at + length]
        self.holds, self._joined, self._verified = True, False, framed
        self._end = VNET + length
        self._shape, self._key, self._addresses = shape, key, 0
        self._size = size or payload
        self._next = sequence + payload & 0xFFFFFFFF
        if push or payload % self._size:
            self.flush()

    def _verify(self) -> bool:
        self._verified = self._intact(VNET, self._end, self._shape[0])
        return self._verified

    def _intact(self, at: int, end: int, tcp: int) -> bool:
        """Whether the checksums of a packet of the held flow are right.

        A right IPv4 header sums to nothing, so that one sum does for both.
        """
        addresses = self._addresses = self._addresses or address_sum(self._view[VNET:])
        total = residue(self._view[at:end] if tcp == 20 else self._view[at + tcp : end])
        return not (total + addresses + end - at - tcp) % 65_535

    def _rewrite_headers(self, length: int) -> None:
        data, (tcp, header) = self._data, self._shape
        if data[VNET] >> 4 == 4:
            kind = GSO_TCPV4
            _u16.pack_into(data, VNET + 2, length)
            data[VNET + 10 : VNET + 12] = bytes(2)
            _u16.pack_into(data, VNET + 10, checksum(residue(self._view[VNET : VNET + tcp])))
        else:
            kind = GSO_TCPV6
            _u16.pack_into(data, VNET + 4, length - tcp)
        pseudo = address_sum(self._view[VNET:]) + length - tcp
        _u16.pack_into(data, VNET + tcp + _TCP_CHECKSUM, pseudo % 65_535 or 65_535)
        VNET_HEADER.pack_into(data, 0, NEEDS_CSUM, kind, header, self._size, tcp, _TCP_CHECKSUM)


def _plain_data(data: bytearray, at: int, length: int) -> tuple[int, int] | None:
    """For a packet that may be joined, where TCP begins and where its payload; None for any other.

    That is TCP data with no flags but ACK and PSH; over IPv4 without options, and with DF, whose identification
    means nothing (RFC 6864, 4.1); over IPv6 without extension headers.
    """
    first = data[at]
    if first == 0x45:
        tcp = 20
        if length < 40 or data[at + 9] != TCP or data[at + 6] & 0xBF or not data[at + 6] & 0x40 or data[at + 7]:
            return None
        if _u16.unpack_from(data, at + 2)[0] != length:
            return None
    elif first >> 4 == 6:
        tcp = 40
        if length < 60 or data[at + 6] != TCP or _u16.unpack_from(data, at + 4)[0] != length - 40:
            return None
    else:
        return None
    header = tcp + (data[at + tcp + 12] >> 4) * 4
    if header < tcp + 20 or header >= length or data[at + tcp + 13] & ~_PSH != _ACK:
        return None
    return tcp, header


@cache
def _mask(tcp: int, header: int) -> int:
    """Ones where the headers of packets of one segment agree: all but length, identification, checksums,
    sequence number and PSH."""
    bits = bytearray(b"\xff" * header)
    if tcp == 20:
        bits[2:6] = bytes(4)
        bits[10:12] = bytes(2)
    else:
        bits[4:6] = bytes(2)
    bits[tcp + 4 : tcp + 8] = bytes(4)
    bits[tcp + 13] &= ~_PSH
    bits[tcp + 16 : tcp + 18] = bytes(2)
    return int.from_bytes(bits, "big")
