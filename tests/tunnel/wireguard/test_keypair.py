"""What is sealed opens once, at the other end, in time."""

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.wireguard.keypair import (
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    RENEW_WHEN_RECEIVING,
    Keypair,
    Rejected,
)
from tunnel.wireguard.noise import PrivateKey, SessionKeys
from tunnel.wireguard.peer import Peer
from tunnel.wireguard.timers import KEEPALIVE_TIMEOUT, REKEY_TIMEOUT

A, B, EXPORTER = b"a" * 32, b"b" * 32, b"x" * 32


def ends(first_counter: int = 0) -> tuple[Keypair, Keypair]:
    peer = Peer(PrivateKey(b"k" * 32).public, bytes(32))
    left = Keypair(
        peer,
        SessionKeys(A, B, EXPORTER),
        initiator=True,
        local_index=1,
        remote_index=2,
        now=100.0,
        first_counter=first_counter,
    )
    right = Keypair(peer, SessionKeys(B, A, EXPORTER), initiator=False, local_index=2, remote_index=1, now=100.0)
    return left, right


@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_what_is_sealed_opens_once(packets: list[bytes]) -> None:
    left, right = ends()
    for number, data in enumerate(packets):
        message = left.seal(data)
        assert message[:4] == b"\4\0\0\0"
        assert message[4:8] == b"\2\0\0\0"
        assert int.from_bytes(message[8:16], "little") == number
        assert right.open(message, 100.0) == data
        with pytest.raises(Rejected, match="came before"):
            right.open(message, 100.0)


@given(st.binary(max_size=300))
def test_garbage_is_rejected(data: bytes) -> None:
    _, right = ends()
    with pytest.raises(Rejected):
        right.open(data, 100.0)
    assert right.replay.accept(0)


@given(st.binary(max_size=100), st.integers(0, 2**16))
def test_a_flipped_bit_is_rejected_and_moves_no_window(data: bytes, at: int) -> None:
    left, right = ends()
    message = bytearray(left.seal(data))
    bit = 8 * 8 + at % ((len(message) - 8) * 8)  # in the counter or behind it
    message[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Rejected):
        right.open(bytes(message), 100.0)
    message[bit // 8] ^= 1 << bit % 8
    assert right.open(bytes(message), 100.0) == data


def test_age_ends_it() -> None:
    left, right = ends()
    message = left.seal(b"late")
    end = 100.0 + REJECT_AFTER_TIME
    assert left.usable(end - 0.1)
    assert not left.usable(end)
    with pytest.raises(Rejected, match="old"):
        right.open(message, end)
    assert right.open(message, end - 0.1) == b"late"


def test_counters_end() -> None:
    left, right = ends(REJECT_AFTER_MESSAGES - 1)
    assert left.usable(100.0)
    assert right.open(left.seal(b"last but one"), 100.0)
    beyond = left.seal(b"too many")
    assert not left.usable(100.0)
    with pytest.raises(Rejected, match="old"):
        right.open(beyond, 100.0)


def test_only_the_initiator_renews_by_age() -> None:
    left, right = ends()
    assert left.rekey_at == 220.0
    assert left.renew_at == 265.0
    assert right.rekey_at == right.renew_at == float("inf")
    assert RENEW_WHEN_RECEIVING == REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT


def test_threads_never_get_the_same_counter() -> None:
    left, _ = ends()
    got: list[list[int]] = [[], [], []]
    threads = [
        threading.Thread(target=lambda mine=mine: mine.extend(left.next_counter() for _ in range(20_000)))
        for mine in got
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(itertools.chain(*got)) == list(range(60_000))


def test_derived_keys_are_shared_and_apart() -> None:
    left, right = ends()
    keys = [left.derive(label, way) for label in (b"frames", b"frames-aes", b"") for way in (True, False)]
    assert keys == [right.derive(label, way) for label in (b"frames", b"frames-aes", b"") for way in (True, False)]
    assert len({*keys, A, B, EXPORTER}) == len(keys) + 3
    assert all(len(key) == 32 for key in keys)
