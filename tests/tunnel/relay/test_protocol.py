"""The codec: round trips, garbage, and nothing longer than it may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Address
from tunnel.relay import protocol
from tunnel.relay.proof import COOKIE, COOKIE_LIFE, KEY, MAC, NONCE, Cookies, Keys, Malformed, seal, verify
from tunnel.relay.protocol import (
    BIND_ENTRIES,
    MAX_MESSAGE,
    PROVE_ENTRIES,
    Ack,
    Challenge,
    Channels,
    Entry,
    Hello,
    Kind,
    Message,
    Prove,
    Reason,
    Refusal,
    Sign,
    State,
    Unknown,
    Welcome,
)

SEAL = b"k" * 32
numbers = st.integers(0, 2**64 - 1)
keys = st.binary(min_size=KEY, max_size=KEY)
nonces = st.binary(min_size=NONCE, max_size=NONCE)
cookies = st.binary(min_size=COOKIE, max_size=COOKIE)
entries = st.builds(Entry, keys, st.integers(0, 2**32 - 1), st.sampled_from(State))
addresses = st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65535))


def lists(most: int) -> st.SearchStrategy[tuple[Entry, ...]]:
    return st.lists(entries, max_size=most).map(tuple)


def sealed(kind: Kind, message: Message) -> tuple[Kind, Message, bytes]:
    """A message and its bytes."""
    match message:
        case Hello():
            return kind, message, protocol.hello(message)
        case Challenge():
            return kind, message, protocol.challenge(message)
        case Prove():
            return kind, message, protocol.prove(message, SEAL)
        case Welcome():
            return kind, message, protocol.welcome(message, SEAL)
        case Channels():
            return kind, message, protocol.channels(kind, message, SEAL)
        case Sign():
            return kind, message, protocol.sign(kind, message, SEAL)
        case Ack():
            return kind, message, protocol.ack(message, SEAL)
        case Unknown():
            return kind, message, protocol.unknown(message)
        case Refusal():
            return kind, message, protocol.refusal(message)


messages = st.one_of(
    st.builds(sealed, st.just(Kind.HELLO), st.builds(Hello, keys, nonces)),
    st.builds(sealed, st.just(Kind.CHALLENGE), st.builds(Challenge, nonces, keys, cookies)),
    st.builds(sealed, st.just(Kind.PROVE), st.builds(Prove, keys, nonces, cookies, lists(PROVE_ENTRIES))),
    st.builds(sealed, st.just(Kind.WELCOME), st.builds(Welcome, numbers, addresses, lists(PROVE_ENTRIES))),
    st.builds(
        sealed,
        st.sampled_from([Kind.BIND, Kind.BOUND]),
        st.builds(Channels, numbers, lists(BIND_ENTRIES), st.booleans()),
    ),
    st.builds(sealed, st.sampled_from([Kind.KEEPALIVE, Kind.ALIVE]), st.builds(Sign, numbers)),
    st.builds(sealed, st.just(Kind.ACK), st.builds(Ack, numbers, numbers)),
    st.builds(sealed, st.just(Kind.UNKNOWN), st.builds(Unknown, st.binary(min_size=8, max_size=8))),
    st.builds(sealed, st.just(Kind.REFUSED), st.builds(Refusal, nonces, st.sampled_from(Reason))),
)


@given(messages)
def test_round_trip(case: tuple[Kind, Message, bytes]) -> None:
    kind, message, datagram = case
    assert protocol.decode(datagram) == (kind, message)
    assert len(datagram) <= MAX_MESSAGE


@given(messages, st.data())
def test_cut_or_lengthened_is_malformed(case: tuple[Kind, Message, bytes], data: st.DataObject) -> None:
    datagram = case[2]
    with pytest.raises(Malformed):
        protocol.decode(datagram[: data.draw(st.integers(0, len(datagram) - 1))])
    with pytest.raises(Malformed):
        protocol.decode(datagram + b"\0")


@given(st.binary(max_size=200), st.sampled_from(Kind), st.integers(0, 255), st.integers(0, 255))
def test_garbage_decodes_or_is_malformed(body: bytes, kind: Kind, count: int, code: int) -> None:
    for datagram in (body, bytes([8, 0, 0, 0, kind, protocol.VERSION, count, code]) + body):
        try:
            again, message = protocol.decode(datagram)
        except Malformed:
            continue
        assert sealed(again, message)[2][4] == again


def test_answers_are_no_longer_than_questions() -> None:
    asked = tuple(Entry(bytes(KEY), 0, State.WANTED) for _ in range(PROVE_ENTRIES))
    for count in range(PROVE_ENTRIES + 1):
        some = asked[:count]
        prove = protocol.prove(Prove(bytes(KEY), bytes(NONCE), bytes(COOKIE), some), SEAL)
        assert len(protocol.welcome(Welcome(1, Address("2001:db8::1", 1), some), SEAL)) <= len(prove)
    hello = protocol.hello(Hello(bytes(KEY), bytes(NONCE)))
    for answer in (
        protocol.challenge(Challenge(bytes(NONCE), bytes(KEY), bytes(COOKIE))),
        protocol.refusal(Refusal(bytes(NONCE), Reason.FULL)),
        protocol.unknown(Unknown(bytes(8))),
    ):
        assert len(answer) <= len(hello)


@given(st.binary(max_size=100), st.data())
def test_a_seal_breaks_with_any_bit(message: bytes, data: st.DataObject) -> None:
    whole = bytearray(seal(message, SEAL))
    assert verify(bytes(whole), SEAL)
    assert not verify(bytes(whole), b"j" * 32)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert not verify(bytes(whole), SEAL)
    assert not verify(bytes(MAC - 1), SEAL)


def test_each_direction_has_its_key() -> None:
    made = Keys(b"s" * 32, b"r" * 32, b"n" * 32, b"o" * 16, b"c" * 24)
    other = Keys(b"s" * 32, b"r" * 32, b"n" * 32, b"p" * 16, b"c" * 24)
    assert len({made.node, made.relay, other.node, other.relay}) == 4


def test_cookies_are_good_for_one_source_key_nonce_and_time() -> None:
    cookies = Cookies(b"s" * 32)
    here, there = Address("192.0.2.1", 1), Address("192.0.2.1", 2)
    cookie = cookies.make(here, b"k" * 32, b"n" * 16, 100.0)
    assert cookies.made(cookie, here, b"k" * 32, b"n" * 16, 101.0) == 100_000
    assert cookies.made(cookie, there, b"k" * 32, b"n" * 16, 101.0) is None
    assert cookies.made(cookie, here, b"j" * 32, b"n" * 16, 101.0) is None
    assert cookies.made(cookie, here, b"k" * 32, b"m" * 16, 101.0) is None
    assert cookies.made(cookie, here, b"k" * 32, b"n" * 16, 100.5 + COOKIE_LIFE) is None
    assert cookies.made(cookie, here, b"k" * 32, b"n" * 16, 99.0) is None
    assert Cookies(b"t" * 32).made(cookie, here, b"k" * 32, b"n" * 16, 101.0) is None
