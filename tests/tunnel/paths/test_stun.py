"""The STUN codec, against RFC 5769's vectors, scapy and garbage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Address
from tunnel.paths import stun

addresses = st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65535))
transactions = st.binary(min_size=12, max_size=12)

VECTOR_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
VECTOR_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa"
    "a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
"""RFC 5769, 2.2 and 2.3: sample responses."""


def test_vectors() -> None:
    transaction = bytes.fromhex("b7e7a701bc34d686fa87dfae")
    assert stun.read_response(VECTOR_V4) == (transaction, Address("192.0.2.1", 32853))
    assert stun.read_response(VECTOR_V6) == (transaction, Address("2001:db8:1234:5678:11:2233:4455:6677", 32853))


@given(transactions, addresses)
def test_round_trip(transaction: bytes, address: Address) -> None:
    question = stun.request(transaction)
    assert stun.is_stun(question)
    assert stun.read_request(question) == transaction
    told = stun.response(transaction, address)
    assert stun.read_response(told) == (transaction, address)
    assert len(told) <= 1.6 * len(question)


@given(st.binary(max_size=80), st.sampled_from([b"\0\x01", b"\x01\x01"]), st.integers(0, 80), transactions)
def test_garbage_is_read_or_malformed(body: bytes, kind: bytes, length: int, transaction: bytes) -> None:
    for size in (length, len(body)):
        datagram = kind + size.to_bytes(2, "big") + bytes.fromhex("2112a442") + transaction + body
        for read in (stun.read_request, stun.read_response):
            try:
                assert read(datagram)
            except stun.Malformed:
                continue


@given(transactions, st.data())
def test_any_flipped_bit_of_a_request_is_seen(transaction: bytes, data: st.DataObject) -> None:
    """But for the fingerprint's own type: without it there is nothing to check."""
    question = bytearray(stun.request(transaction))
    question[data.draw(st.sampled_from([*range(20), *range(22, 28)]))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(stun.Malformed):
        stun.read_request(bytes(question))


def test_what_must_be_understood_and_is_not() -> None:
    head = bytes.fromhex("000100042112a442") + b"t" * 12
    with pytest.raises(stun.Malformed, match="understood"):
        stun.read_request(head + bytes.fromhex("00030000"))  # CHANGE-REQUEST
    assert stun.read_request(head + bytes.fromhex("80030000")) == b"t" * 12


def test_scapy_reads_and_writes_the_same() -> None:
    contrib = pytest.importorskip("scapy.contrib.stun")
    told = contrib.STUN(stun.response(b"t" * 12, Address("192.0.2.77", 4321)))
    (attribute,) = told.attributes
    assert (attribute.xip, attribute.xport) == ("192.0.2.77", 4321)
    asked = bytes(contrib.STUN(stun_message_type=1, transaction_id=int.from_bytes(b"t" * 12, "big"), attributes=[]))
    assert stun.read_request(asked) == b"t" * 12
