"""Rates, and that the table of sources stays small."""

from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Endpoint
from tunnel.wireguard.limiter import (
    LOAD_BURST,
    LOAD_RATE,
    SOURCE_BURST,
    SOURCE_RATE,
    SOURCES,
    UNDER_LOAD_AFTER,
    LoadMeter,
    SourceLimiter,
    TokenBucket,
)


@given(st.lists(st.floats(0, 2), max_size=300))
def test_a_bucket_never_gives_more_than_its_rate(pauses: list[float]) -> None:
    bucket = TokenBucket(10.0, 3.0)
    now, taken = 50.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
    assert taken <= 3 + 10 * (now - 50.0) + 1e-6


def test_a_bucket_survives_a_clock_that_stands_still() -> None:
    bucket = TokenBucket(10.0, 3.0)
    assert [bucket.take(1.0) for _ in range(5)] == [True, True, True, False, False]
    assert bucket.take(1.2)


def test_load_begins_with_a_message_too_many_and_ends_a_second_after() -> None:
    meter = LoadMeter()
    for _ in range(int(LOAD_BURST)):
        meter.arrived(10.0)
    assert not meter.under_load(10.0)
    meter.arrived(10.0)
    assert meter.under_load(10.0)
    assert meter.under_load(10.0 + UNDER_LOAD_AFTER - 0.01)
    assert not meter.under_load(10.0 + UNDER_LOAD_AFTER)


def test_a_steady_rate_below_the_limit_is_no_load() -> None:
    meter = LoadMeter()
    for number in range(3000):
        meter.arrived(number / (LOAD_RATE * 0.99))
        assert not meter.under_load(number / (LOAD_RATE * 0.99))


def test_each_source_has_its_own_rate() -> None:
    limiter = SourceLimiter()
    sources = [
        Endpoint("192.0.2.1", 1),
        Endpoint("192.0.2.2", 1),
        Endpoint("192.0.2.1", 1, 7),
        Endpoint("2001:db8::1", 1),
    ]
    for source in sources:
        allowed = [limiter.allow(source, 5.0) for _ in range(20)]
        assert sum(allowed) == SOURCE_BURST
        assert allowed[: int(SOURCE_BURST)] == [True] * int(SOURCE_BURST)
    assert limiter.allow(sources[0], 5.001 + 1 / SOURCE_RATE)


def test_ports_and_the_lower_half_of_ipv6_do_not_make_a_new_source() -> None:
    limiter = SourceLimiter()
    assert sum(limiter.allow(Endpoint("192.0.2.1", port), 0.0) for port in range(50)) == SOURCE_BURST
    assert sum(limiter.allow(Endpoint(f"2001:db8::{port:x}", 1), 0.0) for port in range(50)) == SOURCE_BURST
    assert len(limiter) == 2


def test_the_table_is_capped_and_the_longest_silent_goes_first() -> None:
    limiter = SourceLimiter()
    busy = Endpoint("192.0.2.1", 1)
    for _ in range(int(SOURCE_BURST)):
        assert limiter.allow(busy, 0.0)
    for number in range(2 * SOURCES):
        limiter.allow(Endpoint(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1), 0.0)
        assert len(limiter) <= SOURCES
        assert not limiter.allow(busy, 0.0)  # touched, so it stays, and stays refused
