"""Attributes and messages: what is written is read again, and nothing the kernel might send raises."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.change import AddChain, AddElements, AddSet, DropElements
from proxy.netlink import (
    TRANSACTION,
    Message,
    Netfilter,
    NetlinkError,
    attribute,
    attributes,
    messages,
    nested,
    number,
    text,
)
from proxy.nft import Kernel, KernelError, TooLargeError, encode

KINDS = st.integers(1, 0x3FFF)


@given(st.lists(st.tuples(KINDS, st.binary(max_size=40))))
def test_attributes_round_trip(parts: list[tuple[int, bytes]]) -> None:
    assert list(attributes(b"".join(attribute(*part) for part in parts))) == parts
    assert [kind for kind, _ in attributes(nested(5, *(attribute(*part) for part in parts)))] == [5]


@given(st.binary(max_size=200))
def test_garbage_is_read_to_its_end(data: bytes) -> None:
    list(attributes(data))
    list(messages(data))


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 15))
def test_messages_round_trip_and_a_torn_one_is_left(bodies: list[bytes], torn: int) -> None:
    padded = [body + bytes(-len(body) % 4) for body in bodies]
    whole = b"".join(Message(7, 0, body).encode(place) for place, body in enumerate(padded))
    for data in (whole, whole + Message(8, 0, b"").encode(99)[:torn]):
        read = [(kind, sequence, bytes(payload[4:])) for kind, _, sequence, payload in messages(data)]
        assert read == [(7, place, body) for place, body in enumerate(padded)]


def test_numbers_and_texts() -> None:
    assert list(attributes(number(1, -100) + text(2, "ab"))) == [(1, b"\xff\xff\xff\x9c"), (2, b"ab\0")]


def _counted(message: Message) -> int:
    """Elements in a message that adds or drops elements."""
    parts = dict(attributes(message.body))
    return len(list(attributes(parts[3])))


def test_many_elements_are_cut_into_messages_an_attribute_can_hold() -> None:
    elements: dict[bytes, bytes | str | None] = {struct.pack("=QQ", place, 0): bytes(8) for place in range(5000)}
    added = list(encode([AddElements("slots.1", elements)]))
    dropped = list(encode([DropElements("slots.1", tuple(elements))]))
    assert sum(map(_counted, added)) == sum(map(_counted, dropped)) == 5000
    assert all(len(each.body) < 65_536 for each in added + dropped)


class Recorder(Netfilter):
    """A kernel that takes what it can: datagrams up to the stock send buffer."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.refuses = 0

    def transaction(self, subsystem: int, requests: object) -> None:
        assert isinstance(requests, list)
        self.sent.append(sum(len(each.encode(1)) for each in requests) + 40)
        if self.refuses:
            raise NetlinkError(self.refuses, 0)


def test_a_load_goes_in_portions_and_a_change_is_refused_before_it_is_cut() -> None:
    elements: dict[bytes, bytes | str | None] = {struct.pack("=QQ", place, 0): bytes(8) for place in range(20_000)}
    recorder = Recorder()
    Kernel(recorder).load([AddSet("slots.1"), AddElements("slots.1", elements)])
    assert len(recorder.sent) > 4
    assert max(recorder.sent) <= TRANSACTION + 100
    recorder.sent.clear()
    with pytest.raises(TooLargeError):
        Kernel(recorder).apply([AddElements("slots.1", elements)])
    assert not recorder.sent


def test_a_refusal_says_what_was_being_done() -> None:
    recorder = Recorder()
    recorder.refuses = 16
    with pytest.raises(KernelError, match=r"making chain random-3\.1: Device or resource busy"):
        Kernel(recorder).apply([AddChain("random-3.1")])
