"""Timestamps grow, whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from tunnel.wireguard.timestamp import Timestamps


def test_layout() -> None:
    stamp = Timestamps().next(1_000_000_000.5)
    assert stamp[:8] == (2**62 + 10 + 1_000_000_000).to_bytes(8, "big")
    nanoseconds = int.from_bytes(stamp[8:], "big")
    assert 500_000_000 - 2**24 < nanoseconds <= 500_000_000
    assert nanoseconds % 2**24 == 0


@given(st.lists(st.floats(0, 4e9), min_size=2))
def test_each_is_greater_and_valid(clock: list[float]) -> None:
    stamps = Timestamps()
    given_ = [stamps.next(wall) for wall in clock]
    assert given_ == sorted(set(given_))
    assert all(len(stamp) == 12 and int.from_bytes(stamp[8:], "big") < 10**9 for stamp in given_)
