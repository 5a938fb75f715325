"""Joining packets and frames: cut again, all comes out as it went in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from tests.tunnel.engine.test_segments import cut_all, padded, reference, segment
from tunnel.engine.joiner import WHOLE, Joiner
from tunnel.engine.segments import finish, split
from tunnel.engine.tun import VNET


class Written:
    """What a joiner wrote, cut again into packets."""

    def __init__(self) -> None:
        self.writes: list[bytearray] = []
        self.joiner = Joiner(lambda view: self.writes.append(bytearray(view)))

    def put(self, packet: bytes) -> None:
        room = self.joiner.room(len(packet))
        room[:] = packet
        self.joiner.take(len(packet))

    def packets(self) -> list[bytes]:
        found = []
        for data in self.writes:
            if data[1]:
                found += cut_all(data)
            else:
                finish(data, len(data))
                found.append(bytes(data[VNET:]))
        return found

    def put_frame(self, frame: bytes | bytearray) -> None:
        room = self.joiner.frame_room(len(frame))
        room[:] = frame
        self.joiner.take_frame(len(frame))


@pytest.mark.parametrize("version", [4, 6])
def test_packets_of_a_flow_are_joined_and_come_out_as_they_were(version: int) -> None:
    packets = reference(version, random.Random(1).randbytes(30_000), 1368, "PA", 2**32 - 2000)
    written = Written()
    for packet in packets:
        written.put(packet)
    written.joiner.flush()
    assert len(written.writes) == 1
    assert written.packets() == packets


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_is_joined_comes_out_in_order_and_unchanged(choice: list[int], seed: int) -> None:
    chance = random.Random(seed)
    flows = [reference(version, bytes(chance.randbytes(12_000)), 1000, "PA", 5) for version in (4, 6)]
    other = bytes(IP(src="10.7.0.2", dst="10.7.1.9") / UDP(sport=5, dport=6) / Raw(b"x" * 40))
    damaged = bytearray(flows[0][3])
    damaged[-1] ^= 1
    at = [0, 0]
    written, put = Written(), []
    for number in choice:
        if number == 9:
            written.joiner.flush()
            continue
        if number < 8:
            flow = number % 2
            packet = flows[flow][at[flow] % len(flows[flow])]
            at[flow] += 1
        else:
            packet = chance.choice([other, bytes(damaged), b"\x45", bytes(60)])
        put.append(packet)
        written.put(packet)
    written.joiner.flush()
    assert written.packets() == put


def test_a_damaged_packet_is_not_joined() -> None:
    packets = [bytearray(packet) for packet in reference(4, bytes(4000), 1000, "A", 9)]
    packets[2][60] ^= 1
    written = Written()
    for packet in packets:
        written.put(bytes(packet))
    written.joiner.flush()
    assert written.packets() == [bytes(packet) for packet in packets]
    assert len(written.writes) == 3


@given(st.binary(min_size=1, max_size=200))
def test_garbage_goes_through_a_joiner(garbage: bytes) -> None:
    written = Written()
    written.put(garbage)
    written.put(garbage)
    written.joiner.flush()
    assert written.packets() == [garbage, garbage]


def pieces(version: int, payload: bytes, packets: int, flags: str = "A") -> list[bytes]:
    """A segment as frames of a few packets carry it."""
    data = segment(version, payload, 1000, flags, 2**32 - 5000)
    buffer = padded(data)
    return [bytes(buffer[start:stop]) for start, stop in split(buffer, len(data), packets)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("packets", [1, 3, 10])
def test_small_frames_are_joined_again(version: int, packets: int) -> None:
    payload = random.Random(2).randbytes(29_500)
    written = Written()
    for frame in pieces(version, payload, packets, "PA"):
        written.put_frame(frame)
    assert len(written.writes) == 1
    assert written.packets() == reference(version, payload, 1000, "PA", 2**32 - 5000)


def test_a_large_frame_is_written_at_once() -> None:
    frame = segment(4, bytes(WHOLE + 1), 1000, "A")
    written = Written()
    written.put_frame(frame)
    assert written.writes == [frame]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_frames_and_packets_in_any_mix_come_out_in_order(choice: list[tuple[bool, int]], packets: int) -> None:
    payload = random.Random(3).randbytes(31_400)
    frames = {version: pieces(version, payload, packets) for version in (4, 6)}
    singles = {version: reference(version, payload, 1000, "A", 2**32 - 5000) for version in (4, 6)}
    at = {4: 0, 6: 0}
    written, put = Written(), []
    for framed, kind in choice:
        version = 4 if kind else 6
        here = at[version]
        if framed:
            # the frame that goes on from here, if there is one
            starts = 0
            for frame in frames[version]:
                count = -(-(len(frame) - VNET - (52 if version == 4 else 72)) // 1000)
                if starts == here:
                    written.put_frame(frame)
                    put += singles[version][here : here + count]
                    at[version] += count
                starts += count
        elif here < len(singles[version]):
            written.put(singles[version][here])
            put.append(singles[version][here])
            at[version] += 1
        if kind == 3:
            written.joiner.flush()
    written.joiner.flush()
    assert written.packets() == put
