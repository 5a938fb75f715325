"""The agreement between two ends, on virtual time and a lossy way; its messages; the size of frames."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.engine.agreement import OFFER_PAUSE, OFFERS, Agreement, Cipher, Feedback, Malformed, Offer, parse

BOTH = Cipher.AES_256_GCM | Cipher.CHACHA20_POLY1305
CHACHA = Cipher.CHACHA20_POLY1305


@given(st.sampled_from([Cipher(0), CHACHA, Cipher.AES_256_GCM, BOTH]), st.booleans(), st.booleans())
def test_offers_read_back_and_are_no_ip_packet(ciphers: Cipher, seen: bool, ask: bool) -> None:
    message = Offer(ciphers, seen, ask).pack()
    assert parse(message) == Offer(ciphers, seen, ask)
    assert message[0] >> 4 == 0
    assert len(message) % 16 == 0


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_feedback_reads_back(due: int, opened: int) -> None:
    message = Feedback(due, opened).pack()
    assert parse(message) == Feedback(due, opened)
    assert message[0] >> 4 == 0
    assert len(message) % 16 == 0


@given(st.binary(max_size=64) | st.binary(max_size=40).map(lambda rest: b"\x01em\x01" + rest))
def test_garbage_is_malformed_or_a_message(garbage: bytes) -> None:
    try:
        message = parse(garbage)
    except Malformed:
        return
    assert parse(message.pack()) == message


def test_another_version_is_malformed() -> None:
    message = bytearray(Offer(BOTH, False, True).pack())
    message[3] += 1
    with pytest.raises(Malformed):
        parse(bytes(message))


class Way:
    """Two ends and what is under way between them, on virtual time; loses messages by chance."""

    def __init__(self, left: Cipher, right: Cipher, loss: float, seed: int) -> None:
        self.ends = [Agreement(left, 0.0), Agreement(right, 0.0)]
        self.chance = random.Random(seed)
        self.loss = loss
        self.now = 0.0
        self.sent = [0, 0]
        self.under_way: list[tuple[float, int, Offer]] = []

    def send(self, end: int, offer: Offer | None) -> None:
        if offer is not None:
            self.sent[end] += 1
            if self.chance.random() >= self.loss:
                self.under_way.append((self.now + self.chance.uniform(0.001, 0.3), 1 - end, offer))

    def run(self, until: float) -> None:
        while True:
            for number, end in enumerate(self.ends):
                self.send(number, end.poll(self.now))
            times = [end.deadline for end in self.ends if end.deadline is not None]
            times += [at for at, _, _ in self.under_way]
            if not times or min(times) > until:
                return
            self.now = max(self.now, min(times))
            for arrival in [arrival for arrival in self.under_way if arrival[0] <= self.now]:
                self.under_way.remove(arrival)
                _, to, offer = arrival
                self.send(to, self.ends[to].receive(offer))
                # whoever may send sends to an end that can open
                for number, end in enumerate(self.ends):
                    if end.may_send:
                        assert self.ends[1 - number].cipher == end.cipher


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.3]))
@settings(max_examples=200, deadline=None)
def test_two_ends_agree_over_a_lossy_way(seed: int, loss: float) -> None:
    way = Way(BOTH, BOTH, loss, seed)
    way.run(60.0)
    if not loss:
        assert all(end.may_send and end.cipher is Cipher.AES_256_GCM for end in way.ends)
    assert all(end.deadline is None for end in way.ends)
    assert max(way.sent) <= 3 * OFFERS


def test_agreement_under_loss_is_the_rule() -> None:
    agreed = 0
    for seed in range(200):
        way = Way(BOTH, BOTH, 0.3, seed)
        way.run(60.0)
        agreed += all(end.may_send for end in way.ends)
    assert agreed >= 198


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [(BOTH, CHACHA, CHACHA), (CHACHA, BOTH, CHACHA), (CHACHA, Cipher.AES_256_GCM, None), (BOTH, Cipher(0), None)],
)
def test_the_cipher_is_the_best_in_common(left: Cipher, right: Cipher, common: Cipher | None) -> None:
    way = Way(left, right, 0.0, 1)
    way.run(60.0)
    assert [end.cipher for end in way.ends] == [common, common]
    assert [end.may_send for end in way.ends] == [common is not None] * 2


def test_offers_to_an_end_that_knows_none_of_this_end() -> None:
    end, now, times = Agreement(BOTH, 5.0), 5.0, []
    while end.deadline is not None:
        now = end.deadline
        assert end.poll(now - 0.001) is None
        assert end.poll(now) == Offer(BOTH, False, True)
        times.append(now)
    assert len(times) == OFFERS
    assert times[1] - times[0] == pytest.approx(OFFER_PAUSE)
    assert not end.may_send


def test_a_late_end_that_asks_is_answered() -> None:
    end = Agreement(BOTH, 0.0)
    while end.deadline is not None:
        end.poll(end.deadline)
    assert end.receive(Offer(CHACHA, False, True)) == Offer(BOTH, True, True)
    assert not end.may_send
    assert end.receive(Offer(CHACHA, True, False)) is None
    assert end.may_send
