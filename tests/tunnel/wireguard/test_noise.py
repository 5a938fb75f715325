"""The handshake against published vectors, and what it refuses."""

import hmac
from hashlib import blake2s

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from tunnel.wireguard import noise
from tunnel.wireguard.keypair import nonce
from tunnel.wireguard.messages import Initiation, Response
from tunnel.wireguard.noise import HandshakeError, PrivateKey, SessionKeys

# cacophony's vector for Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s
PROLOGUE = b"John Galt"
PRESHARED = b"This is my Austrian perspective!"
INITIATOR_STATIC = bytes.fromhex("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1")
INITIATOR_EPHEMERAL = bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
RESPONDER_STATIC = bytes.fromhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893")
RESPONDER_EPHEMERAL = bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
FIRST = bytes.fromhex(
    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad57527207feb5"
    "6253c9c94a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f2441eba616548e832985"
    "464cf17e51ee93109008399a21f7e13f"
)
SECOND = bytes.fromhex(
    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
    "cb765f2caef0751b8f007572dab0322217755c0632f365717edbf34d33e87a"
)
TRANSPORT = [
    (b"F. A. Hayek", "8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"),
    (b"Carl Menger", "07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"),
    (b"Jean-Baptiste Say", "6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d"),
]


def test_published_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "IDENTIFIER", PROLOGUE)
    left, right = PrivateKey(INITIATOR_STATIC), PrivateKey(RESPONDER_STATIC)
    secret = left.exchange(right.public)
    # the vector's first payload stands where WireGuard has its timestamp
    initiated, first = noise.initiate(left, right.public, secret, INITIATOR_EPHEMERAL, 1, b"Ludwig von Mises")
    assert first.ephemeral + first.static + first.timestamp == FIRST

    opened = noise.open_initiation(right, Initiation(1, FIRST[:32], FIRST[32:80], FIRST[80:]))
    assert opened.static == left.public
    assert opened.timestamp(right.exchange(opened.static)) == b"Ludwig von Mises"
    second, responder = noise.respond(opened, PRESHARED, RESPONDER_EPHEMERAL, 2)
    assert second.ephemeral == SECOND[:32]

    # the vector's second message has a payload, where WireGuard's is empty; the keys do not depend on it
    initiator = noise.finish(initiated, left, PRESHARED, Response(2, 1, SECOND[:32], SECOND[32:]))
    assert (initiator.send, initiator.receive) == (responder.receive, responder.send)
    assert initiator.exporter == responder.exporter
    for number, (plain, sealed) in enumerate(TRANSPORT):
        key = (initiator, responder)[number % 2].send
        assert ChaCha20Poly1305(key).encrypt(nonce(number // 2), plain, None).hex() == sealed


def test_blake2s_of_rfc_7693() -> None:
    assert blake2s(b"abc").hexdigest() == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"


@given(st.binary(max_size=64), st.binary(max_size=200))
def test_hmac_is_hmac(key: bytes, data: bytes) -> None:
    assert noise.hmac_blake2s(key, data) == hmac.digest(key, data, "blake2s")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.integers(1, 3))
def test_kdf_is_hkdf(key: bytes, data: bytes, count: int) -> None:
    from cryptography.hazmat.primitives.hashes import BLAKE2s
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=BLAKE2s(32), length=32 * count, salt=key, info=b"").derive(data)
    assert b"".join(noise.kdf(key, data, count)) == derived


LEFT, RIGHT = PrivateKey(b"l" * 32), PrivateKey(b"r" * 32)
SECRET = LEFT.exchange(RIGHT.public)
NONE = noise.NO_PRESHARED_KEY


def begin() -> tuple[noise.Initiated, Initiation]:
    return noise.initiate(LEFT, RIGHT.public, SECRET, b"e" * 32, 5, b"timestamp 12")


def answer(message: Initiation, preshared: bytes = NONE) -> tuple[Response, SessionKeys]:
    opened = noise.open_initiation(RIGHT, message)
    assert opened.timestamp(SECRET) == b"timestamp 12"
    return noise.respond(opened, preshared, b"f" * 32, 6)


def test_both_ends_have_the_same_keys() -> None:
    initiated, first = begin()
    second, right = answer(first)
    assert (second.sender, second.receiver) == (6, 5)
    left = noise.finish(initiated, LEFT, NONE, second)
    assert left.send == right.receive != left.receive == right.send
    assert left.exporter == right.exporter not in (left.send, left.receive)


def test_a_wrong_preshared_key_is_noticed_by_the_initiator_and_changes_nothing() -> None:
    initiated, first = begin()
    second, _ = answer(first, b"q" * 32)
    with pytest.raises(HandshakeError):
        noise.finish(initiated, LEFT, NONE, second)
    assert noise.finish(initiated, LEFT, b"q" * 32, second)


@pytest.mark.parametrize("field", ["ephemeral", "static", "timestamp"])
@given(bit=st.integers(0, 28 * 8 - 1))
def test_any_flipped_bit_of_an_initiation_is_noticed(field: str, bit: int) -> None:
    _, first = begin()
    fields = {name: getattr(first, name) for name in ("sender", "ephemeral", "static", "timestamp")}
    changed = bytearray(fields[field])
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(HandshakeError):
        noise.open_initiation(RIGHT, Initiation(**fields | {field: bytes(changed)})).timestamp(SECRET)


@given(bit=st.integers(0, 16 * 8 - 1))
def test_any_flipped_bit_of_a_response_is_noticed(bit: int) -> None:
    initiated, first = begin()
    second, _ = answer(first)
    changed = bytearray(second.empty)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(HandshakeError):
        noise.finish(initiated, LEFT, NONE, Response(second.sender, second.receiver, second.ephemeral, bytes(changed)))


LOW_ORDER = [
    bytes(32),
    b"\x01".ljust(32, b"\0"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("public", LOW_ORDER)
def test_keys_of_low_order_are_refused(public: bytes) -> None:
    with pytest.raises(HandshakeError, match="low order"):
        LEFT.exchange(public)
    initiated, first = begin()
    with pytest.raises(HandshakeError, match="low order"):
        noise.open_initiation(RIGHT, Initiation(5, public, first.static, first.timestamp))
    with pytest.raises(HandshakeError, match="low order"):
        noise.finish(initiated, LEFT, NONE, Response(6, 5, public, bytes(16)))
