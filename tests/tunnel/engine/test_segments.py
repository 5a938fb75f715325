"""Cutting, splitting and joining TCP segments, against a naive reference that scapy builds and checks."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from tunnel.engine.segments import cut, finish, residue, split
from tunnel.engine.tun import GSO_NONE, GSO_TCPV4, GSO_TCPV6, LARGEST, NEEDS_CSUM, VNET, VNET_HEADER

FLAGS = {"A": 0x10, "PA": 0x18, "FPA": 0x19, "CA": 0x90, "CPA": 0x98}


def network(version: int) -> Packet:
    if version == 4:
        return IP(src="10.7.0.2", dst="10.7.1.9", id=65_530, flags="DF", ttl=63, tos=2)
    return IPv6(src="fd00::2", dst="fd00::1:9", hlim=63, tc=2)


def transport(flags: str, sequence: int, options: list[Any]) -> Packet:
    return TCP(sport=4000, dport=80, seq=sequence & 0xFFFFFFFF, ack=77, flags=flags, window=501, options=options)


def segment(version: int, payload: bytes, size: int, flags: str = "PA", sequence: int = 2**32 - 900) -> bytearray:
    """What TUN hands over: virtio-net header, packet, TCP checksum that of the pseudo-header."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    raw = bytearray(bytes(network(version) / transport(flags, sequence, options) / Raw(payload)))
    tcp = 20 if version == 4 else 40
    addresses = raw[12:20] if version == 4 else raw[8:40]
    pseudo = (residue(addresses) + 6 + len(raw) - tcp) % 65_535
    raw[tcp + 16 : tcp + 18] = struct.pack(">H", pseudo)
    kind = (GSO_TCPV4 if version == 4 else GSO_TCPV6) if len(payload) > size else GSO_NONE
    # the kernel's header length is but a hint
    head = VNET_HEADER.pack(NEEDS_CSUM, kind, 14, size if kind else 0, tcp, 16)
    return bytearray(head + raw)


def reference(version: int, payload: bytes, size: int, flags: str, sequence: int) -> list[bytes]:
    """The packets of a segment, one by one, as scapy makes them."""
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    packets = []
    for number, at in enumerate(range(0, len(payload), size)):
        kept = flags
        if at:
            kept = kept.replace("C", "")
        if at + size < len(payload):
            kept = kept.replace("F", "").replace("P", "")
        head = network(version)
        if version == 4:
            head.id = (head.id + number) & 0xFFFF
        packets.append(bytes(head / transport(kept, sequence + at, options) / Raw(payload[at : at + size])))
    return packets


def padded(data: bytearray) -> bytearray:
    """In a buffer as large as the engine's."""
    return data + bytes(LARGEST + 16 - len(data))


def cut_all(data: bytearray) -> list[bytes]:
    packet = bytearray(VNET + LARGEST)
    return [bytes(packet[:length]) for length in cut(padded(data), len(data), packet)]


segments = st.tuples(
    st.sampled_from([4, 6]),
    st.integers(2, 60_000),
    st.integers(1, 1400),
    st.sampled_from(sorted(FLAGS)),
    st.integers(0, 2**32 - 1),
).filter(lambda case: case[2] < case[1] <= case[2] * 120)


@given(segments)
@settings(max_examples=40, deadline=None)
def test_cut_packets_are_the_reference_s(case: tuple[int, int, int, str, int]) -> None:
    version, length, size, flags, sequence = case
    payload = random.Random(length).randbytes(length)
    assert cut_all(segment(version, payload, size, flags, sequence)) == reference(
        version, payload, size, flags, sequence
    )


@given(segments, st.integers(1, 47))
@settings(max_examples=60, deadline=None)
def test_split_then_cut_gives_the_same_packets(case: tuple[int, int, int, str, int], packets: int) -> None:
    version, length, size, flags, sequence = case
    payload = random.Random(length).randbytes(length)
    data = segment(version, payload, size, flags, sequence)
    buffer = padded(data)
    found = []
    for start, stop in split(buffer, len(data), packets):
        piece = bytearray(buffer[start:stop])
        count = -(-(stop - start - VNET - (52 if version == 4 else 72)) // size)
        if VNET_HEADER.unpack_from(piece)[1] == GSO_NONE:
            assert count == 1
            finish(piece, len(piece))
            found.append(bytes(piece[VNET:]))
        else:
            assert 2 <= count <= max(2 * packets, 2)
            found += cut_all(piece)
    assert found == reference(version, payload, size, flags, sequence)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 7, 1368])
def test_a_partial_checksum_is_finished(version: int, length: int) -> None:
    payload = bytes(range(256)) * 6
    data = segment(version, payload[:length], 1400)
    finish(data, len(data))
    assert [bytes(data[VNET:])] == (
        reference(version, payload[:length], 1400, "PA", 2**32 - 900)
        or [
            bytes(
                network(version) / transport("PA", 2**32 - 900, [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))])
            )
        ]
    )


def test_a_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    # the payload is chosen so that the sum comes out as all ones
    head = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2)
    base = bytes(head / Raw(bytes(2)))
    (value,) = struct.unpack_from(">H", base, 26)
    raw = bytearray(bytes(head / Raw(struct.pack(">H", value))))
    raw[26:28] = struct.pack(">H", (residue(raw[12:20]) + 17 + 10) % 65_535)
    data = bytearray(VNET_HEADER.pack(NEEDS_CSUM, 0, 0, 0, 20, 6)) + raw
    finish(data, len(data))
    assert data[VNET + 26 : VNET + 28] == b"\xff\xff"


def test_a_packet_that_needs_no_checksum_is_left_alone() -> None:
    data = bytearray(VNET) + bytearray(bytes(IP() / UDP() / Raw(b"abc")))
    before = bytes(data)
    finish(data, len(data))
    assert data == before


@pytest.mark.parametrize("size", [0, 1])
def test_senseless_segments_are_refused(size: int) -> None:
    data = padded(bytearray(VNET_HEADER.pack(NEEDS_CSUM, GSO_TCPV4, 0, size, 20, 16) + b"\x45" + bytes(30)))
    data[VNET + 32] = 0xF0
    with pytest.raises(ValueError, match="TUN gave"):
        list(cut(data, VNET + 31, bytearray(LARGEST)))
