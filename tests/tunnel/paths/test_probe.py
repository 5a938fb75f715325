"""Path messages: round trips, garbage, forgery, caps."""

import contextlib
import ipaddress
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tunnel.paths.keys import KEYS, public
from tunnel.endpoint import PROBE, Address
from tunnel.paths.probe import (
    MAX_CANDIDATES,
    OVERHEAD,
    Candidates,
    Choice,
    Chosen,
    DatagramCodec,
    Lost,
    Malformed,
    Message,
    Ping,
    Pong,
    SourceLimit,
    decode,
    encode,
)

words = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**32 - 1)
addresses = st.builds(
    Address,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda ip: str(ip)),
    st.integers(0, 65535),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, words, words, numbers),
    st.builds(Pong, words, words, numbers, addresses),
    st.builds(
        Candidates,
        words,
        numbers,
        st.integers(0, 65535),
        st.lists(addresses, max_size=MAX_CANDIDATES).map(tuple),
    ),
    st.builds(Choice, words, numbers),
    st.builds(Chosen, words, numbers, st.booleans()),
    st.builds(Lost, words, numbers),
)


def codecs() -> tuple[DatagramCodec, DatagramCodec]:
    left, right = (DatagramCodec(key, os.urandom) for key in KEYS)
    left.add(right.public_key)
    right.add(left.public_key)
    return left, right


LEFT, RIGHT = codecs()


def plain(message: Message) -> Message:
    """IPv6 text has more than one form; compare the canonical one."""
    if isinstance(message, Pong):
        return Pong(message.id, message.epoch, message.number, canonical(message.observed))
    if isinstance(message, Candidates):
        return Candidates(message.epoch, message.number, message.wait, tuple(map(canonical, message.addresses)))
    return message


def canonical(address: Address) -> Address:
    return Address(str(ipaddress.ip_address(address.host)), address.port)


@given(messages)
def test_what_is_sealed_is_opened_by_the_peer(message: Message) -> None:
    datagram = LEFT.seal(RIGHT.public_key, message)
    assert int.from_bytes(datagram[:4], "little") == PROBE
    sender, opened = RIGHT.open(datagram)
    assert sender == LEFT.public_key
    assert plain(opened) == plain(message)


@given(st.binary(max_size=400))
def test_garbage_is_malformed_or_a_message(data: bytes) -> None:
    for reader in (decode, RIGHT.open):
        with contextlib.suppress(Malformed):
            reader(data)


@given(messages, st.data())
def test_a_changed_byte_breaks_the_seal(message: Message, data: st.DataObject) -> None:
    datagram = bytearray(LEFT.seal(RIGHT.public_key, message))
    at = data.draw(st.integers(0, len(datagram) - 1))
    datagram[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        RIGHT.open(bytes(datagram))


@given(messages, st.integers(0, 200))
def test_a_short_datagram_is_malformed(message: Message, length: int) -> None:
    datagram = LEFT.seal(RIGHT.public_key, message)
    with pytest.raises(Malformed):
        RIGHT.open(datagram[: min(length, len(datagram) - 1)])


def test_a_probe_is_not_its_own_senders() -> None:
    datagram = LEFT.seal(RIGHT.public_key, Choice(1, 1))
    assert not LEFT.knows(datagram)
    with pytest.raises(Malformed):
        LEFT.open(datagram)


def test_a_stranger_and_a_removed_peer_are_unknown() -> None:
    left, right = codecs()
    stranger = DatagramCodec(bytes(range(2, 34)), os.urandom)
    stranger.add(right.public_key)
    assert not right.knows(stranger.seal(right.public_key, Choice(1, 1)))
    right.remove(left.public_key)
    assert not right.knows(left.seal(right.public_key, Choice(1, 1)))


def test_a_key_of_low_order_is_refused() -> None:
    codec = DatagramCodec(KEYS[0], os.urandom)
    for key in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(ValueError, match="yields no secret"):
            codec.add(key)
    assert not codec.knows(bytes(64))


@given(words, words, numbers, addresses)
def test_a_pong_is_as_long_as_its_ping(id: int, epoch: int, number: int, observed: Address) -> None:
    assert len(encode(Pong(id, epoch, number, observed))) == len(encode(Ping(id, epoch, number)))


def test_no_two_probes_look_alike() -> None:
    seen = {LEFT.seal(RIGHT.public_key, Choice(1, 1)) for _ in range(100)}
    assert len(seen) == 100
    assert {len(datagram) for datagram in seen} == {OVERHEAD + 13}


def test_a_list_of_too_many_candidates_is_malformed() -> None:
    many = Candidates(1, 1, 0, (Address("203.0.113.1", 1),) * (MAX_CANDIDATES + 1))
    with pytest.raises(Malformed):
        decode(encode(many))


def test_a_source_has_its_share_of_a_second_and_the_table_its_cap() -> None:
    limit = SourceLimit(rate=3, sources=2)
    assert [limit.allow("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert limit.allow("b", 0.5)
    assert not limit.allow("c", 0.6), "the table is full"
    assert limit.allow("b", 0.7), "who was there is still served"
    assert limit.allow("c", 1.1)
    assert limit.allow("a", 1.1)


def test_a_hundred_thousand_forged_probes_change_nothing() -> None:
    _, right = codecs()
    chance = random.Random(1)
    hint = LEFT.seal(right.public_key, Choice(1, 1))[4:12]
    limit = SourceLimit()
    opened = 0
    for index in range(100_000):
        datagram = PROBE.to_bytes(4, "little") + hint + chance.randbytes(40)
        if right.knows(datagram) and limit.allow(index % 4096, index / 100_000):
            opened += 1
            with pytest.raises(Malformed):
                right.open(datagram)
    assert opened <= 64 * 1024


def test_public_keys_agree() -> None:
    assert LEFT.public_key == public(KEYS[0])
