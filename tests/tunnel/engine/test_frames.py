"""Frames: trains as one would cut them by hand, reassembly in any order and within its bounds."""

from __future__ import annotations

import os
import random

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.endpoint import CHANNEL, FRAME, channel_header
from tunnel.engine.frames import (
    DATAGRAM,
    HEADER,
    MAX_PARTS,
    PARTIAL_AGE,
    PARTIAL_FRAMES,
    PAYLOAD,
    TAG,
    Aead,
    FrameKeys,
    Reassembly,
    Sealer,
    header,
)
from tunnel.engine.tun import LARGEST
from tunnel.trains import LARGEST_SEND, SegmentSize, segment_size
from tunnel.wireguard.keypair import REJECT_AFTER_MESSAGES, nonce

KEY = bytes(range(32))
INDEX = 0xA1B2C3D4


def keys(aead: type[AESGCM] | type[ChaCha20Poly1305] = AESGCM) -> FrameKeys:
    cipher: Aead = aead(KEY)
    return FrameKeys(cipher, cipher, INDEX)


def datagrams(sends: list[tuple[list[memoryview], SegmentSize | None]], size: int) -> list[bytes]:
    """What the kernel makes of the sends."""
    found = []
    for vector, cut in sends:
        whole = b"".join(vector)
        assert len(whole) <= LARGEST_SEND
        if cut is None:
            found.append(whole)
        else:
            assert cut == segment_size(size)
            found += [whole[at : at + size] for at in range(0, len(whole), size)]
    return found


@given(st.integers(30, LARGEST), st.sampled_from([0, 7, 2**32 - 1]), st.sampled_from([AESGCM, ChaCha20Poly1305]))
@settings(max_examples=60, deadline=None)
def test_a_train_reads_back(length: int, channel: int, aead: type[AESGCM] | type[ChaCha20Poly1305]) -> None:
    frame_keys, sealer, packet = keys(aead), Sealer(), random.Random(length).randbytes(length)
    reassembly = Reassembly()
    sent = 0
    for counter in range(2):
        lead = 8 if channel else 0
        parts = datagrams(sealer.seal(frame_keys, memoryview(packet), channel), DATAGRAM + lead)
        sent += len(parts)
        sealed = None
        for part, datagram in enumerate(parts):
            if channel:
                assert channel_header.unpack_from(datagram) == (CHANNEL, channel)
            assert header.unpack_from(datagram, lead) == (FRAME, len(parts), part, 0, INDEX, counter)
            assert len(datagram) == DATAGRAM + lead or part == len(parts) - 1
            sealed = reassembly.add(INDEX, counter, len(parts), part, memoryview(datagram)[lead + HEADER :], 0.0)
        assert sealed is not None
        assert aead(KEY).decrypt(nonce(counter), bytes(sealed), None) == packet
    assert frame_keys.sent == sent
    assert not len(reassembly)


def test_the_largest_segment_at_our_mtu_is_one_send_over_a_relay_too() -> None:
    packet = memoryview(bytes(10 + 47 * 1368 + 52))
    for channel, length in ((0, 65_110), (1, 65_478)):
        ((vector, _),) = Sealer().seal(keys(), packet, channel)
        assert len(b"".join(vector)) == length


def test_frame_counters_end() -> None:
    frame_keys = keys()
    frame_keys._counters = iter([REJECT_AFTER_MESSAGES - 1, REJECT_AFTER_MESSAGES])  # type: ignore[assignment]
    frame_keys.next_counter()
    with pytest.raises(OverflowError):
        frame_keys.next_counter()


def test_due_and_opened_frames_are_counted() -> None:
    frame_keys = keys()
    assert [frame_keys.accept(counter) for counter in (0, 1, 4, 3, 3, 0)] == [True, True, True, True, False, False]
    assert (frame_keys.highest, frame_keys.completed) == (5, 4)


def parts_of(sealed: bytes) -> list[memoryview]:
    return [memoryview(sealed)[at : at + PAYLOAD] for at in range(0, len(sealed), PAYLOAD)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_parts_in_any_order_and_twice_give_each_frame_once(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, PARTIAL_FRAMES))
    sealed = {counter: os.urandom(data.draw(st.integers(20, 6 * PAYLOAD))) for counter in range(count)}
    arriving = [
        (counter, len(parts_of(frame)), part, payload)
        for counter, frame in sealed.items()
        for part, payload in enumerate(parts_of(frame))
    ]
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    chance.shuffle(arriving)
    reassembly, whole = Reassembly(), {}
    for counter, parts, part, payload in arriving:
        for _ in range(2 if parts > 1 and part and counter not in whole else 1):
            got = reassembly.add(1, counter, parts, part, payload, 0.0)
            if got is not None:
                assert counter not in whole
                whole[counter] = bytes(got)
                break
    assert whole == sealed
    assert not len(reassembly)


def test_the_oldest_partial_frame_goes_when_there_are_too_many() -> None:
    reassembly = Reassembly()
    first, last = bytes(PAYLOAD), bytes(5)
    for counter in range(PARTIAL_FRAMES + 1):
        assert reassembly.add(1, counter, 2, 0, memoryview(first), 0.0) is None
        assert len(reassembly) <= PARTIAL_FRAMES
    assert bytes(reassembly.add(1, 1, 2, 1, memoryview(last), 0.0) or b"") == first + last
    assert reassembly.add(1, 0, 2, 1, memoryview(last), 0.0) is None


def test_a_partial_frame_is_not_waited_for_beyond_its_age() -> None:
    reassembly = Reassembly()
    reassembly.add(1, 0, 2, 0, memoryview(bytes(PAYLOAD)), 0.0)
    reassembly.add(1, 1, 2, 0, memoryview(bytes(PAYLOAD)), PARTIAL_AGE * 1.01)
    assert len(reassembly) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 255), st.integers(0, 255), st.integers(0, 1500))))
def test_garbage_parts_never_raise_and_stay_within_the_bound(garbage: list[tuple[int, int, int, int]]) -> None:
    reassembly = Reassembly()
    for counter, parts, part, size in garbage:
        got = reassembly.add(1, counter, parts, part, memoryview(bytes(size)), 0.0)
        assert got is None or len(got) <= MAX_PARTS * PAYLOAD
        assert len(reassembly) <= PARTIAL_FRAMES


def test_a_changed_part_does_not_open() -> None:
    sealed = bytearray(AESGCM(KEY).encrypt(nonce(0), bytes(2000), None))
    sealed[1500] ^= 1
    reassembly = Reassembly()
    whole = [reassembly.add(1, 0, 2, part, payload, 0.0) for part, payload in enumerate(parts_of(bytes(sealed)))][-1]
    assert whole is not None
    assert len(whole) == 2000 + TAG
    with pytest.raises(InvalidTag):
        AESGCM(KEY).decrypt(nonce(0), bytes(whole), None)
