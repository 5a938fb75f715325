"""Trains of all kinds into whatever layout they come: what is carried is delivered, once and in order."""

from __future__ import annotations

import errno
import os
import random
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tunnel.engine.test_joiner import Written
from tests.tunnel.engine.test_segments import reference, segment
from tests.tunnel.engine.test_session import agree, pair
from tunnel.endpoint import Endpoint
from tunnel.engine.frames import MAX_PARTS
from tunnel.engine.receive import Receiver
from tunnel.engine.session import Session
from tunnel.engine.state import State
from tunnel.engine.transmit import STAGED_BYTES, STAGED_PACKETS, Staged, Transmitter
from tunnel.engine.tun import VNET
from tunnel.trains import LARGEST_TRAIN, SegmentSize
from tunnel.wireguard.device import Device
from tunnel.wireguard.keypair import Keypair
from tunnel.wireguard.peer import Peer

SOURCE = ("198.18.0.1", 51820)


class End:
    """One end without sockets: a device that knows one peer, and what was sent and written."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.keypair: Keypair = session._keypair
        self.keypair.frames = session
        self.peer = self.keypair.peer
        self.peer.current = self.keypair
        self.peer.endpoint = Endpoint(*SOURCE)
        self.sent: list[tuple[bytes, int]] = []
        self.written = Written()
        self.handshakes: list[bytes] = []
        self.messages: list[bytes] = []
        self.keypair.created = self.keypair.renew_at = self.keypair.rekey_at = self.keypair.expires = 1e12
        device = SimpleNamespace(
            route=lambda address: self.peer if address else None,
            keypair=lambda index: self.keypair if index == self.keypair.remote_index else None,
            sent=lambda *args: Device.sent(cast(Device, None), *args),
            received=lambda *args: False,
        )
        self.state = cast(
            State,
            SimpleNamespace(
                device=device,
                udp=self,
                tun=SimpleNamespace(fd=-1),
                handshake=lambda datagram, source: self.handshakes.append(bytes(datagram)),
                session_message=lambda keypair, message: self.messages.append(bytes(message)),
                say=lambda keypair, message: None,
            ),
        )
        self.transmitter = Transmitter(self.state)
        self.receiver = Receiver(self.state)
        self.receiver._joiner._write = lambda view: self.written.writes.append(bytearray(view))

    def send(self, parts: Any, address: tuple[str, int], cut: SegmentSize | None = None, flags: int = 0) -> bool:
        whole = b"".join(parts)
        self.sent.append((whole, int.from_bytes(cut[0][2], "little") if cut else len(whole)))
        return True

    def forward(self, packet: bytes | bytearray) -> list[tuple[bytes, int]]:
        """Send a packet from TUN; gives the trains."""
        self.sent.clear()
        self.transmitter.data[: len(packet)] = packet
        self.transmitter.forward(len(packet))
        self.transmitter.flush()
        return list(self.sent)

    def train(self, whole: bytes, size: int) -> None:
        """Receive a train."""
        at = 0
        for buffer in self.receiver.buffers:
            count = min(len(buffer), len(whole) - at)
            buffer[:count] = whole[at : at + count]
            at += count
        self.receiver.train(len(whole), min(size, len(whole)), SOURCE)


@pytest.fixture
def ends() -> tuple[End, End]:
    return both()


def both() -> tuple[End, End]:
    left, right = pair()
    agree(left, right)
    return End(left), End(right)


def datagrams(trains: list[tuple[bytes, int]]) -> list[bytes]:
    return [whole[at : at + size] for whole, size in trains for at in range(0, len(whole), size)]


cases = st.tuples(
    st.integers(1, 60_000),  # bytes
    st.sampled_from([0, 9]),  # channel
    st.sampled_from([1, 2, 5, 20, MAX_PARTS]),  # size of frames
    st.sampled_from(["trains", "singles", "garbage first"]),
)


@given(st.lists(cases, min_size=1, max_size=8), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_what_is_forwarded_is_delivered(segments: list[tuple[int, int, int, str]], seed: int) -> None:
    left, right = both()
    chance = random.Random(seed)
    wanted: list[bytes] = []
    for length, channel, parts, how in segments:
        payload = chance.randbytes(length)
        left.peer.endpoint = Endpoint(*SOURCE, channel)
        left.session.size.parts = parts
        sequence = chance.randrange(2**32)
        trains = left.forward(segment(4, payload, 1368, "A", sequence))
        wanted += reference(4, payload, 1368, "A", sequence)
        if how == "garbage first":
            right.train(os.urandom(3000), 1440)
        if how == "singles":
            trains = [(datagram, len(datagram)) for datagram in datagrams(trains)]
        for whole, size in trains:
            right.train(whole, size)
    right.receiver._joiner.flush()
    assert right.written.packets() == wanted


def test_replayed_and_changed_datagrams_are_dropped(ends: tuple[End, End]) -> None:
    left, right = ends
    for parts in (MAX_PARTS, 1):
        left.session.size.parts = parts
        right.written.writes.clear()
        (train,) = left.forward(segment(4, bytes(10_000), 1368, "A"))
        changed = bytearray(train[0])
        changed[5000] ^= 1
        right.train(bytes(changed), train[1])
        right.train(*train)
        right.train(*train)
        right.receiver._joiner.flush()
        packets = right.written.packets()
        assert set(packets) == set(reference(4, bytes(10_000), 1368, "A", 2**32 - 900))
        assert len(packets) == 8


def test_a_train_that_lost_a_part_gives_its_other_frames(ends: tuple[End, End]) -> None:
    left, right = ends
    left.session.size.parts = 4
    trains = left.forward(segment(4, bytes(40_000), 1368, "A", 0))
    assert len(trains) > 4
    parts = datagrams(trains)
    full = [part for part in parts if len(part) == 1440]
    # frames whose last part is short are never whole here; parts kept for them are bounded
    right.train(b"".join(full), 1440)
    for part in parts:
        if len(part) != 1440:
            right.train(part, len(part))
    right.receiver._joiner.flush()
    assert sorted(right.written.packets()) == sorted(reference(4, bytes(40_000), 1368, "A", 0))


def test_only_sources_of_the_peer_reach_tun(ends: tuple[End, End]) -> None:
    left, right = ends
    trains = left.forward(segment(4, bytes(10_000), 1368, "A"))
    right.state.device.route = lambda address: None
    for train in trains:
        right.train(*train)
    right.receiver._joiner.flush()
    assert right.written.writes == []


@given(st.lists(st.binary(max_size=3000), max_size=20), st.integers(1, 1600))
@settings(max_examples=60, deadline=None)
def test_garbage_trains_are_dropped(garbage: list[bytes], size: int) -> None:
    _, right = both()
    for whole in garbage:
        for kind in (b"", b"\4\0\0\0", b"\5\2\0\0", b"\6\0\0\0\1\0\0\0\5\3\1\0"):
            if kind + whole:
                right.train(kind + whole, size)
    right.receiver._joiner.flush()
    assert right.written.writes == []


def test_handshakes_are_handed_on_and_foreign_kinds_are_not(ends: tuple[End, End]) -> None:
    _, right = ends
    for kind in range(12):
        right.train(kind.to_bytes(4, "little") + bytes(60), 64)
    right.train((6).to_bytes(4, "little") + (3).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(60), 72)
    assert [datagram[0] for datagram in right.handshakes] == [1, 2, 3, 1]


def test_packets_that_wait_are_bounded() -> None:
    staged = Staged()
    peers = [Peer(bytes([number]) * 32, b"") for number in range(20)]
    for number in range(STAGED_PACKETS + 5):
        staged.add(peers[0], bytes([number]))
    assert [packet[0] for packet in staged.take(peers[0])] == list(range(5, STAGED_PACKETS + 5))
    assert staged.size == 0
    for peer in peers:
        for _ in range(3):
            staged.add(peer, bytes(60_000))
            assert staged.size <= STAGED_BYTES
    assert not staged.take(peers[0])
    assert len(staged.take(peers[-1])) == 3
    staged.keep_only(set(peers[:-2]))
    assert not staged.take(peers[-2])


@example([(5, False)] * 100, True)
@given(st.lists(st.tuples(st.integers(1, 120), st.booleans()), min_size=1, max_size=100), st.booleans())
@settings(max_examples=40, deadline=None)
def test_single_packets_that_are_ready_leave_as_trains(packets: list[tuple[int, bool]], nowait: bool) -> None:
    """Sizes of payloads, and whether by a relay; all are ready at once. Not `nowait`: a kernel that can't say so."""
    left, right = both()
    wanted = [bytes(VNET) + reference(4, bytes(size), 1368, "PA", 1000 * size)[0] for size, _ in packets]
    waiting = list(zip(wanted, (relayed for _, relayed in packets), strict=True))

    def read(fd: int, into: list[memoryview], at: int = 0, flags: int = 0) -> int:
        if flags and not nowait:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        if not waiting:
            assert flags, "it would wait"
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        packet, relayed = waiting.pop(0)
        left.peer.endpoint = Endpoint(*SOURCE, 9 if relayed else 0)
        into[0][: len(packet)] = packet
        return len(packet)

    with mock.patch("os.preadv", read):
        while waiting:
            left.transmitter.transmit(os.RWF_NOWAIT)
    for whole, size in left.sent:
        right.train(whole, size)
    right.receiver._joiner.flush()
    assert [bytes(write) for write in right.written.writes] == wanted
    equal = len({(-(-(52 + size) // 16), relayed) for size, relayed in packets}) == 1
    if not nowait:
        assert len(left.sent) == len(packets)
    elif equal:
        assert len(left.sent) == -(-len(packets) // LARGEST_TRAIN)
