"""The window against a naive one: a set of all that came, and the newest."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tunnel.wireguard.replay import WINDOW, Replay


class Naive:
    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.newest = -1

    def accept(self, counter: int) -> bool:
        if counter in self.seen or counter <= self.newest - WINDOW:
            return False
        self.seen.add(counter)
        self.newest = max(self.newest, counter)
        return True


steps = st.one_of(
    st.just(1),
    st.integers(-20, 20),
    st.integers(-WINDOW - 5, WINDOW + 5),
    st.integers(-3 * WINDOW, 3 * WINDOW),
    st.sampled_from([-WINDOW - 1, -WINDOW, 1 - WINDOW, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 1]),
)


@given(st.lists(steps, max_size=120), st.sampled_from([0, 5, 2**40, 2**64 - 2**14]))
def test_as_the_naive_window(moves: list[int], start: int) -> None:
    window, naive = Replay(), Naive()
    at = start
    for move in moves:
        at = max(0, at + move)
        assert window.accept(at) == naive.accept(at), at


def test_a_long_shuffled_stream_with_loss_and_repeats() -> None:
    chance = random.Random(8)
    window, naive = Replay(), Naive()
    counters = [number for number in range(60_000) if chance.random() > 0.05]
    counters += chance.sample(counters, 3_000)
    counters.sort(key=lambda number: number + chance.expovariate(1 / 200))
    for counter in counters:
        assert window.accept(counter) == naive.accept(counter)


def test_the_window_is_what_it_says() -> None:
    window = Replay()
    assert window.accept(WINDOW + 10)
    assert window.accept(11)
    assert not window.accept(10)
    assert not window.accept(11)


def test_what_it_keeps_is_bounded() -> None:
    window = Replay()
    for counter in range(0, 100 * WINDOW, 2):
        window.accept(counter)
        assert window._missing.bit_length() <= 2 * WINDOW + 2
    assert window.accept(2**63)
    assert window._missing.bit_length() <= WINDOW
