"""A session's frames: keys of both ends fit, sending begins when agreed, frames get smaller with loss."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tunnel.engine.test_segments import padded, segment
from tunnel.engine.agreement import FEEDBACK_PAUSE, Cipher, Feedback
from tunnel.engine.frames import MAX_PARTS, PAYLOAD, TAG
from tunnel.engine.segments import split
from tunnel.engine.session import FrameSize, Session
from tunnel.wireguard.keypair import Keypair, nonce
from tunnel.wireguard.noise import SessionKeys
from tunnel.wireguard.peer import Peer

BOTH = Cipher.AES_256_GCM | Cipher.CHACHA20_POLY1305


def pair(
    ciphers: Cipher = BOTH, *, framed: bool = True, overflowed: Callable[[], int] = lambda: 0
) -> tuple[Session, Session]:
    sessions = []
    for initiator in (True, False):
        send, receive = (b"a" * 32, b"b" * 32) if initiator else (b"b" * 32, b"a" * 32)
        keys = SessionKeys(send=send, receive=receive, exporter=b"e" * 32)
        keypair = Keypair(Peer(b"p" * 32, b""), keys, initiator=initiator, local_index=1, remote_index=2, now=0.0)
        sessions.append(Session(keypair, ciphers, FrameSize(), 0.0, framed=framed, overflowed=overflowed))
    return sessions[0], sessions[1]


def agree(left: Session, right: Session) -> None:
    offer = left.agreement.poll(0.0)
    assert offer is not None
    answer = right.offered(offer)
    assert answer is not None
    last = left.offered(answer)
    assert last is not None
    assert right.offered(last) is None


@pytest.mark.parametrize(("ciphers", "text"), [(BOTH, "aes-256-gcm"), (Cipher.CHACHA20_POLY1305, "chacha20-poly1305")])
def test_what_one_end_seals_the_other_opens(ciphers: Cipher, text: str) -> None:
    left, right = pair(ciphers)
    assert left.text == right.text == "packets"
    agree(left, right)
    assert left.text == right.text == f"segments/{text}/{MAX_PARTS}"
    assert left.sending is not None
    assert left.receiving is not None
    assert right.sending is not None
    assert right.receiving is not None
    for one, other in ((left.sending, right.receiving), (right.sending, left.receiving)):
        assert other.receive.decrypt(nonce(3), one.send.encrypt(nonce(3), b"data", None), None) == b"data"
    # the two directions have keys of their own
    assert left.sending.send.encrypt(nonce(0), b"x", None) != right.sending.send.encrypt(nonce(0), b"x", None)


def test_packets_only_receives_frames_and_sends_none() -> None:
    left, right = pair()
    agree(left, right)
    left.use(False)
    assert left.sending is None
    assert left.receiving is not None
    assert left.text == "packets"
    left.use(True)
    assert left.sending is left.receiving


def test_a_frame_says_that_our_offer_was_seen() -> None:
    left, right = pair()
    offer = left.agreement.poll(0.0)
    assert offer is not None
    answer = right.offered(offer)
    assert answer is not None
    left.offered(answer)  # and the last message is lost
    assert right.sending is None
    assert right.receiving is not None
    right.receiving.accept(0)
    right.opened(0.1)
    assert right.sending is not None
    assert right.agreement.deadline is None


def test_feedback_goes_out_when_a_loss_was_seen_and_not_too_often() -> None:
    left, right = pair()
    agree(left, right)
    keys = right.receiving
    assert keys is not None
    keys.accept(0)
    assert right.opened(1.0) is None
    keys.accept(2)
    assert right.opened(2.0) == Feedback(3, 2)
    assert right.opened(2.0 + FEEDBACK_PAUSE) is None
    keys.accept(5)
    assert right.opened(2.0 + FEEDBACK_PAUSE / 2) is None
    assert right.opened(2.0 + FEEDBACK_PAUSE) == Feedback(6, 3)


def test_what_the_own_socket_dropped_is_no_loss_on_the_way() -> None:
    dropped = 7  # before the session
    left, right = pair(overflowed=lambda: dropped)
    agree(left, right)
    keys = right.receiving
    assert keys is not None
    for counter in (0, 1, 5):
        keys.accept(counter)
    dropped += 2
    assert right.opened(1.0) == Feedback(6, 5)  # three are missing, of which two had no room
    keys.accept(8)
    dropped += 40  # other peers'
    assert right.opened(1.0 + FEEDBACK_PAUSE) == Feedback(9, 8)
    keys.accept(10)
    assert right.opened(1.0 + 2 * FEEDBACK_PAUSE) == Feedback(11, 9)


def simulate(loss: float, datagrams: int, size: FrameSize, seed: int = 1) -> None:
    """Frames of the size's choosing over a way that loses datagrams, with feedback now and then."""
    chance = random.Random(seed)
    size.new_session()
    sent = due = opened = 0
    while sent < datagrams:
        parts = size.parts
        sent += parts
        due += 1
        opened += all(chance.random() >= loss for _ in range(parts))
        size.progress(sent)
        if due % 5 == 0 and due != opened:
            size.feedback(Feedback(due, opened), sent)


def test_without_loss_frames_are_as_large_as_can_be() -> None:
    size = FrameSize()
    simulate(0.0, 100_000, size)
    assert size.parts == MAX_PARTS


@pytest.mark.parametrize(("loss", "least", "most"), [(0.0001, 40, 47), (0.005, 4, 16), (0.1, 1, 1)])
def test_frames_get_smaller_with_loss(loss: float, least: int, most: int) -> None:
    size = FrameSize()
    simulate(loss, 30_000, size)
    assert least <= size.parts <= most


def test_frames_grow_again_when_the_loss_ends_and_over_sessions() -> None:
    size = FrameSize()
    simulate(0.02, 10_000, size)
    small = size.parts
    size.new_session()
    size.progress(0)
    assert size.parts == small
    simulate(0.0, 60_000, size)
    assert size.parts == MAX_PARTS


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**40)), max_size=20))
def test_whatever_the_other_end_tells_the_size_stays_in_bounds(told: list[tuple[int, int, int]]) -> None:
    size = FrameSize()
    for due, opened, sent in told:
        size.feedback(Feedback(due, opened), sent)
        assert 1 <= size.parts <= MAX_PARTS


@given(st.integers(1, MAX_PARTS), st.integers(2, 47))
def test_a_frame_of_so_many_packets_has_no_more_parts_than_allowed(parts: int, count: int) -> None:
    data = segment(4, bytes(1368 * count), 1368)
    size = FrameSize()
    size.parts = parts
    share = size.packets(data)
    pieces = list(split(padded(data), len(data), share))
    # a piece has less than twice the share, so that no piece is a small rest
    assert all(-(-(stop - start + TAG) // PAYLOAD) <= max(2 * parts, 2) for start, stop in pieces)
