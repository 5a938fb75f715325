"""TCP segments in software: finish a checksum, cut a segment into packets or smaller segments, join packets.

What the kernel does behind a network card without offloads, for peers that know only single packets, and for
frames that must be smaller than what TUN hands over. Works on what TUN gives: a virtio-net header, then an IPv4 or
IPv6 packet, TCP's checksum field holding the sum of the pseudo-header (virtio 1.2, 5.1.6.2).

One's-complement sums (RFC 1071) are residues modulo 65,535: a big-endian number is congruent to the sum of its
16-bit digits, so one division of a long integer sums a packet.

Invariants: identification, sequence numbers and flags run on as the kernel's own segmentation has them (RFC 9293,
3.8.3 for PSH and FIN on the last packet only, RFC 3168, 6.1.2 for CWR on the first); joined packets are those that
cutting gives back unchanged, their checksums verified before.
"""

from collections.abc import Callable, Iterator
from functools import cache
from struct import Struct

from tunnel.engine.tun import GSO_NONE, GSO_TCPV4, GSO_TCPV6, LARGEST, NEEDS_CSUM, VNET, VNET_HEADER

TCP = 6
_UDP_CHECKSUM_OFFSET = 6
_FIN, _PSH, _ACK, _CWR = 0x01, 0x08, 0x10, 0x80
_TCP_CHECKSUM = 16
_LARGEST_PACKET = 65_535

_u16 = Struct(">H")
_u32 = Struct(">I")
_length_and_id = Struct(">HH")


def residue(data: bytes | bytearray | memoryview) -> int:
    """One's-complement sum of the 16-bit words of `data` (a zero byte after an odd one), modulo 65,535."""
    total = int.from_bytes(data, "big")
    return (total << 8 if len(data) & 1 else total) % 65_535


def checksum(total: int) -> int:
    """The checksum for a sum, which must not be one of zeros alone: its complement, 0 for a residue of 0."""
    rest = total % 65_535
    return 65_535 - rest if rest else 0


def finish(data: bytearray, end: int) -> None:
    """Finish the checksum of the single packet in `data[VNET:end]`, when its virtio-net header asks for it."""
    flags, _, _, _, start, offset = VNET_HEADER.unpack_from(data)
    if not flags & NEEDS_CSUM:
        return
    start += VNET
    if start + offset + 2 > end:
        return
    value = checksum(residue(memoryview(data)[start:end]))
    if not value and offset == _UDP_CHECKSUM_OFFSET:
        value = 65_535  # RFC 768: 0 would mean none
    _u16.pack_into(data, start + offset, value)


class _Segment:
    """Where things are in a TCP segment from TUN, and the sums of what all its packets share."""

    __slots__ = ("address_sum", "header", "identification", "ip", "ip_sum", "last_flags", "sequence", "size", "tcp")

    def __init__(self, data: bytearray, end: int) -> None:
        kind: int
        self.size: int
        _, kind, _, self.size, start, _ = VNET_HEADER.unpack_from(data)
        self.tcp: int = VNET + start
        tcp = self.tcp
        self.header = header = tcp + (data[tcp + 12] >> 4) * 4
        self.ip = 4 if kind == GSO_TCPV4 else 6
        self.sequence = int.from_bytes(data[tcp + 4 : tcp + 8], "big")
        self.last_flags: int = data[tcp + 13]
        if self.ip == 4:
            length, self.identification = _length_and_id.unpack_from(data, VNET + 2)
            # header checksum of a packet with neither length nor identification
            self.ip_sum = residue(data[VNET:tcp]) - length - self.identification - _u16.unpack_from(data, VNET + 10)[0]
        else:
            self.identification = self.ip_sum = 0
        self.address_sum = _address_sum(memoryview(data)[VNET:])
        if not self.size or header > end:
            raise ValueError(f"TUN gave a segment of size {self.size} with headers of {header} in {end} bytes")

    def flags(self, first: bool, last: bool) -> int:
        keep = self.last_flags
        if not first:
            keep &= ~_CWR
        if not last:
            keep &= ~(_FIN | _PSH)
        return keep

    def write_ip(self, packet: bytearray, at: int, length: int, number: int) -> None:
        """Length, identification and header checksum of the packet at `at`, the `number`-th of the segment."""
        if self.ip == 4:
            identification = self.identification + number & 0xFFFF
            _length_and_id.pack_into(packet, at + 2, length, identification)
            _u16.pack_into(packet, at + 10, checksum(self.ip_sum + length + identification))
        else:
            _u16.pack_into(packet, at + 4, length - 40)


def cut(data: bytearray, end: int, packet: bytearray) -> Iterator[int]:
    """Cut the segment in `data[:end]` into packets with all headers and checksums right.

    Yields each packet's length; the packet is at the start of `packet` until the next is asked for. Raises
    ValueError where the virtio-net header makes no sense.
    """
    segment = _Segment(data, end)
    view = memoryview(data)
    size, header = segment.size, segment.header
    tcp = segment.tcp - VNET
    start = header - VNET
    packet[:start] = view[VNET:header]
    packet[tcp + _TCP_CHECKSUM : tcp + 18] = bytes(2)
    _u32.pack_into(packet, tcp + 4, 0)
    packet[tcp + 13] = 0
    shared = segment.address_sum + residue(packet[tcp:start])
    sequence, tcp_header = segment.sequence, start - tcp
    for number, at in enumerate(range(header, max(end, header + 1), size)):
        stop = min(at + size, end)
        length = start + stop - at
        packet[start:length] = view[at:stop]
        segment.write_ip(packet, 0, length, number)
        _u32.pack_into(packet, tcp + 4, sequence)
        packet[tcp + 13] = flags = segment.flags(at == header, stop == end)
        total = shared + tcp_header + stop - at + flags + (sequence >> 16) + (sequence & 0xFFFF)
        _u16.pack_into(packet, tcp + _TCP_CHECKSUM, checksum(total + residue(view[at:stop])))
        sequence = sequence + size & 0xFFFFFFFF
        yield length


def split(data: bytearray, end: int, packets: int) -> Iterator[tuple[int, int]]:
    """Split the segment in `data[:end]` into segments of about `packets` packets, at least half of that and less
    than twice, checksums left to the receiver's kernel.

    Yields start and end of each in `data`, its virtio-net header first; making one overwrites those before it.
    """
    segment = _Segment(data, end)
    size, header = segment.size, segment.header
    count = max(-(-(end - header) // size), 1)
    pieces = max((2 * count + packets - 1) // (2 * packets), 1)
    if pieces == 1:
        yield 0, end
        return
    headers = bytes(data[:header])
    tcp = segment.tcp
    length_sum = _u16.unpack_from(data, tcp + _TCP_CHECKSUM)[0] - (end - tcp)
    share, more = divmod(count, pieces)
    number = 0
    for piece in range(pieces):
        at = header + number * size
        stop = min(at + (share + (piece < more)) * size, end)
        start = at - header
        data[start:at] = headers
        segment.write_ip(data, start + VNET, header - VNET + stop - at, number)
        _u32.pack_into(data, start + tcp + 4, segment.sequence + number * size & 0xFFFFFFFF)
        data[start + tcp + 13] = segment.flags(at == header, stop == end)
        _u16.pack_into(data, start + tcp + _TCP_CHECKSUM, (length_sum + header - tcp + stop - at) % 65_535 or 65_535)
        if stop - at <= size:
            data[start + 1] = GSO_NONE
            data[start + 4 : start + 6] = bytes(2)
        yield start, stop
        number += share + (piece < more)


class Joiner:
    """Joins packets of one TCP flow that follow each other into one segment, and hands it to `write`.

    The caller puts each packet into `room` and then says `take`; after the last of a batch `flush`. What `write`
    gets (a virtio-net header and a packet) is valid during the call only. Packets other than plain TCP data go
    through as they are, in their order.
    """

    def __init__(self, write: Callable[[memoryview], object]) -> None:
        self._write = write
        self._data = bytearray(LARGEST)
        self._view = memoryview(self._data)
        self._end = VNET  # of what is held
        self._count = 0  # packets held
        self._shape = (0, 0)
        self._size = 0  # payload of all held packets but perhaps the last
        self._key = 0
        self._next = 0  # sequence number that goes on from what is held
        self._verified = False
        self._addresses = 0  # their sum, once verified

    def room(self, length: int) -> memoryview:
        """Where to put a packet of at most `length` bytes (65,535 at most)."""
        if self._end + length > LARGEST:
            self.flush()
        return self._view[self._end : self._end + length]

    def take(self, length: int) -> None:
        """The packet in `room`, which is `length` bytes long, is next."""
        at = self._end
        data = self._data
        shape = _plain_data(data, at, length)
        if shape is None:
            if self._count:
                self._restart(at, length)
            self._end, self._count = VNET + length, 1
            self.flush()
            return
        tcp, header = shape
        payload = length - header
        key = int.from_bytes(self._view[at : at + header], "big") & _mask(tcp, header)
        (sequence,) = _u32.unpack_from(data, at + tcp + 4)
        push = data[at + tcp + 13] & _PSH
        if self._count:
            if key == self._key and sequence == self._next and payload <= self._size and self._join(at, length, shape):
                data[VNET + tcp + 13] |= push
                if push or payload < self._size:
                    self.flush()
                return
            self._restart(at, length)
        self._end, self._count = VNET + length, 1
        self._shape, self._key, self._verified = shape, key, False
        self._size, self._next = payload, sequence + payload & 0xFFFFFFFF
        if push:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self._count:
            return
        data, end = self._data, self._end
        if self._count == 1:
            data[:VNET] = bytes(VNET)
        else:
            tcp, header = self._shape
            length = end - VNET
            if data[VNET] >> 4 == 4:
                kind = GSO_TCPV4
                _u16.pack_into(data, VNET + 2, length)
                data[VNET + 10 : VNET + 12] = bytes(2)
                _u16.pack_into(data, VNET + 10, checksum(residue(self._view[VNET : VNET + tcp])))
            else:
                kind = GSO_TCPV6
                _u16.pack_into(data, VNET + 4, length - tcp)
            pseudo = _address_sum(self._view[VNET:]) + length - tcp
            _u16.pack_into(data, VNET + tcp + _TCP_CHECKSUM, pseudo % 65_535 or 65_535)
            VNET_HEADER.pack_into(data, 0, NEEDS_CSUM, kind, header, self._size, tcp, _TCP_CHECKSUM)
        self._count = 0
        self._end = VNET
        self._write(self._view[:end])

    def _intact(self, at: int, end: int, tcp: int) -> bool:
        """Whether the checksums of a packet of the held flow are right.

        A right IPv4 header sums to nothing, so that one sum does for both; what else is in an IPv6 header is left out.
        """
        total = residue(self._view[at:end] if tcp == 20 else self._view[at + tcp : end])
        return not (total + self._addresses + end - at - tcp) % 65_535

    def _restart(self, at: int, length: int) -> None:
        """Write what is held, and move the packet at `at` to where the next is held."""
        self.flush()
        self._data[VNET : VNET + length] = self._view[at : at + length]

    def _join(self, at: int, length: int, shape: tuple[int, int]) -> bool:
        """Add the payload of the packet at `at`, when both it and what is held are whole."""
        tcp, header = shape
        if at + length - header - VNET > _LARGEST_PACKET:
            return False
        if not self._verified:
            self._addresses = _address_sum(self._view[VNET:])
            self._verified = self._intact(VNET, at, tcp)
        if not self._verified or not self._intact(at, at + length, tcp):
            return False
        self._data[at : at + length - header] = self._view[at + header : at + length]
        self._end = at + length - header
        self._count += 1
        self._next = self._next + length - header & 0xFFFFFFFF
        return True


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


def _address_sum(packet: memoryview) -> int:
    """Pseudo-header of a TCP packet but for the length."""
    return residue(packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]) + TCP
