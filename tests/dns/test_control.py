"""The messages between agent and resolver."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import control
from dns.control import Codec, Done, GetStatus, Malformed, Message, Refused, Replace, Status, Update, encode
from dns.control import UpstreamStatus as Up
from dns.records import Name, Srv, Zone

TEXT = st.text(max_size=20)
NUMBER = st.integers(0, 1 << 40)
NAMES = st.builds(
    Name,
    TEXT,
    st.lists(TEXT).map(tuple),
    st.lists(TEXT).map(tuple),
    st.lists(st.builds(Srv, TEXT, NUMBER, NUMBER, NUMBER), max_size=3).map(tuple),
    st.lists(TEXT).map(tuple),
    TEXT,
    NUMBER,
)
ZONES = st.lists(st.builds(Zone, TEXT, st.booleans()), max_size=3).map(tuple)
SOME = st.lists(NAMES, max_size=4).map(tuple)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Replace, ZONES, SOME),
    st.builds(Update, SOME, st.lists(TEXT).map(tuple)),
    st.just(GetStatus()),
    st.just(Done()),
    st.builds(Refused, TEXT),
    st.builds(
        Status,
        st.floats(0, 1e10),
        *[NUMBER] * 7,
        st.lists(st.builds(Up, TEXT, st.booleans(), TEXT, st.floats(0, 10), NUMBER), max_size=2).map(tuple),
        st.lists(TEXT).map(tuple),
    ),
)


@given(st.lists(MESSAGES, max_size=4), st.integers(1, 40))
def test_whole_and_in_pieces(messages: list[Message], piece: int) -> None:
    stream = b"".join(map(encode, messages))
    assert Codec().feed(stream) == messages
    codec = Codec()
    got = [message for at in range(0, len(stream), piece) for message in codec.feed(stream[at : at + piece])]
    assert got == messages


@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        Codec().feed(data)
    with contextlib.suppress(Malformed):
        Codec().feed((len(data) + 1).to_bytes(4, "big") + b"\1" + data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0\0\0", "0 bytes"),
        (b"\xff\xff\xff\xff", "4294967295 bytes"),
        (b"\x04\0\0\1", "67108865 bytes"),
        (b"\0\0\0\5\x02", "version 2"),
        (b"\0\0\0\2\1\xc0", "not a message"),
        (b"\0\0\x10\1\1" + b"\x91" * 4096, "not a message"),
    ],
)
def test_what_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        Codec().feed(data)


def test_a_message_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_FRAME", 100)
    with pytest.raises(ValueError, match="at most 100"):
        encode(Refused("x" * 100))
