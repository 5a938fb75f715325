"""Handshake messages that wait: few, none too long, and a place for whoever comes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Endpoint
from tunnel.engine.waiting import WAITING, Waiting
from tunnel.wireguard.messages import INITIATION_SIZE

MESSAGE = memoryview(bytes(INITIATION_SIZE))


def flood(waiting: Waiting, source: Endpoint, count: int = 2 * WAITING) -> int:
    return sum(waiting.put(MESSAGE, source) for _ in range(count))


def test_what_was_put_is_taken_once_and_in_its_order() -> None:
    waiting = Waiting()
    sources = [Endpoint("192.0.2.1", port) for port in range(1, 5)]
    for source in sources:
        assert waiting.put(MESSAGE, source)
    assert waiting.take() == [(bytes(MESSAGE), source) for source in sources]
    assert waiting.take() == []


def test_a_message_longer_than_any_handshake_is_dropped() -> None:
    assert not Waiting().put(memoryview(bytes(INITIATION_SIZE + 1)), Endpoint("192.0.2.1", 1))


def test_one_source_fills_half_of_the_room_from_whatever_ports() -> None:
    waiting = Waiting()
    assert sum(waiting.put(MESSAGE, Endpoint("192.0.2.1", port)) for port in range(1, 2 * WAITING)) == WAITING // 2
    assert waiting.put(MESSAGE, Endpoint("192.0.2.2", 1))


def test_channels_of_one_relay_are_sources_apart() -> None:
    waiting = Waiting()
    flood(waiting, Endpoint("203.0.113.30", 20006, 7))
    assert waiting.put(MESSAGE, Endpoint("203.0.113.30", 20006, 8))


def test_what_was_taken_no_longer_counts() -> None:
    waiting = Waiting()
    source = Endpoint("192.0.2.1", 1)
    assert flood(waiting, source) == flood(waiting, source) + WAITING // 2
    waiting.take()
    assert flood(waiting, source) == WAITING // 2


@given(st.lists(st.integers(1, 40), max_size=4 * WAITING))
def test_however_many_flood_a_newcomer_finds_a_place(hosts: list[int]) -> None:
    waiting = Waiting()
    for host in hosts:
        waiting.put(MESSAGE, Endpoint(f"192.0.2.{host}", 1))
    assert len(waiting) <= WAITING
    assert waiting.put(MESSAGE, Endpoint("198.51.100.1", 1))
