"""TCP segments in software: finish a checksum, cut a segment into packets or smaller segments.

What the kernel does behind a network card without offloads, for peers that know only single packets, and for
frames that must be smaller than what TUN hands over. Works on what TUN gives: a virtio-net header, then an IPv4 or
IPv6 packet, TCP's checksum field holding the sum of the pseudo-header (virtio 1.2, 5.1.6.2).

One's-complement sums (RFC 1071) are residues modulo 65,535: a big-endian number is congruent to the sum of its
16-bit digits, so one division of a long integer sums a packet.

Invariants: identification, sequence numbers and flags run on as the kernel's own segmentation has them (RFC 9293,
3.8.3 for PSH and FIN on the last packet only, RFC 3168, 6.1.2 for CWR on the first).
"""

from collections.abc import Iterator
from struct import Struct

from tunnel.engine.tun import GSO_NONE, GSO_TCPV4, NEEDS_CSUM, VNET, VNET_HEADER

TCP = 6
_UDP_CHECKSUM_OFFSET = 6
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_TCP_CHECKSUM = 16

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
        self.address_sum = address_sum(memoryview(data)[VNET:])
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


def address_sum(packet: memoryview) -> int:
    """Pseudo-header of a TCP packet but for the length."""
    return residue(packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]) + TCP
