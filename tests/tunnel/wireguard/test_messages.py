"""The codec: layout, round trip, and nothing but Malformed for garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.wireguard.messages import (
    COOKIE_REPLY_SIZE,
    DATA_OVERHEAD,
    INITIATION_SIZE,
    RESPONSE_SIZE,
    CookieReply,
    Initiation,
    Malformed,
    Response,
    data_header,
    parse_data_header,
)

index = st.integers(0, 2**32 - 1)


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(st.builds(Initiation, index, exactly(32), exactly(48), exactly(28)))
def test_initiation_comes_back(message: Initiation) -> None:
    packed = message.pack()
    assert len(packed) == INITIATION_SIZE
    assert packed[:4] == b"\1\0\0\0"
    assert packed[-32:] == bytes(32)
    assert Initiation.parse(packed) == message


@given(st.builds(Response, index, index, exactly(32), exactly(16)))
def test_response_comes_back(message: Response) -> None:
    packed = message.pack()
    assert len(packed) == RESPONSE_SIZE
    assert packed[:4] == b"\2\0\0\0"
    assert Response.parse(packed) == message


@given(st.builds(CookieReply, index, exactly(24), exactly(32)))
def test_cookie_reply_comes_back(message: CookieReply) -> None:
    packed = message.pack()
    assert len(packed) == COOKIE_REPLY_SIZE
    assert packed[:4] == b"\3\0\0\0"
    assert CookieReply.parse(packed) == message


def test_fields_lie_where_the_whitepaper_puts_them() -> None:
    packed = Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28).pack()
    assert packed[4:8] == b"\4\3\2\1"
    assert (packed[8:40], packed[40:88], packed[88:116]) == (b"e" * 32, b"s" * 48, b"t" * 28)
    packed = Response(1, 2, b"e" * 32, b"n" * 16).pack()
    assert packed[4:12] == b"\1\0\0\0\2\0\0\0"
    assert (packed[12:44], packed[44:60]) == (b"e" * 32, b"n" * 16)


@given(st.binary(max_size=200))
def test_garbage_is_malformed_or_parsed(data: bytes) -> None:
    for parse in (Initiation.parse, Response.parse, CookieReply.parse, parse_data_header):
        try:
            parse(data)
        except Malformed:
            continue
        assert data[0] in (1, 2, 3, 4)


@pytest.mark.parametrize(("kind", "size"), [(1, INITIATION_SIZE), (2, RESPONSE_SIZE), (3, COOKIE_REPLY_SIZE)])
def test_size_and_reserved_bytes_are_checked(kind: int, size: int) -> None:
    parse = {1: Initiation.parse, 2: Response.parse, 3: CookieReply.parse}[kind]
    right = bytes([kind]).ljust(size, b"\0")
    parse(right)
    for wrong in (right[:-1], right + b"\0", b"", b"\4" + right[1:], right[:1] + b"\1" + right[2:]):
        with pytest.raises(Malformed):
            parse(wrong)


def test_data_header() -> None:
    message = data_header.pack(4, 7, 2**40) + bytes(16)
    assert parse_data_header(message) == (7, 2**40)
    assert parse_data_header(memoryview(message)) == (7, 2**40)
    with pytest.raises(Malformed, match="31 bytes"):
        parse_data_header(message[: DATA_OVERHEAD - 1])
    with pytest.raises(Malformed, match="type word 0x5"):
        parse_data_header(b"\5" + message[1:])
