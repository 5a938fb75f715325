"""XChaCha20-Poly1305 against the draft's vectors; cookies from the asking to the having."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Endpoint
from tunnel.wireguard.cookie import (
    COOKIE_LATENCY,
    COOKIE_LIFETIME,
    CookieChecker,
    MacWriter,
    hchacha20,
    open_xchacha,
    seal_xchacha,
)
from tunnel.wireguard.messages import CookieReply, Response

HERE = Endpoint("192.0.2.1", 51820)
KEY = bytes(range(32))
MESSAGE = Response(9, 8, b"e" * 32, b"n" * 16).pack()


def test_hchacha20_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, 2.2.1."""
    subkey = hchacha20(KEY, bytes.fromhex("000000090000004a0000000031415927"))
    assert subkey.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: "
    b"If I could offer you only one tip for the future, sunscreen would be it."
)
SEALED = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
    "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
    "21f9664c97637da9768812f615c68b13b52e"
    "c0875924c1c7987947deafd8780acf49"
)


def test_xchacha20_poly1305_of_the_draft() -> None:
    """draft-irtf-cfrg-xchacha-03, A.3.1."""
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    assert seal_xchacha(key, nonce, SUNSCREEN, associated) == SEALED
    assert open_xchacha(key, nonce, SEALED, associated) == SUNSCREEN
    assert open_xchacha(key, nonce, SEALED[:-1] + b"\0", associated) is None


def both(seed: int = 1) -> tuple[MacWriter, CookieChecker]:
    return MacWriter(KEY), CookieChecker(KEY, random.Random(seed).randbytes)


def test_mac1_is_for_one_receiver_and_all_of_the_message() -> None:
    writer, checker = both()
    message = writer.write(MESSAGE, 0.0)
    assert checker.check_mac1(message)
    assert message[:-32] == MESSAGE[:-32]
    assert message[-16:] == bytes(16)
    assert not CookieChecker(bytes(32), random.Random(1).randbytes).check_mac1(message)
    for at in range(len(message) - 16):
        assert not checker.check_mac1(message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :])


def test_a_cookie_makes_mac2_until_it_is_old() -> None:
    writer, checker = both()
    first = writer.write(MESSAGE, 0.0)
    assert not checker.check_mac2(first, HERE, 0.0)
    assert writer.take(checker.reply(first, 9, HERE, 0.0), 0.0)
    again = writer.write(MESSAGE, 1.0)
    assert checker.check_mac2(again, HERE, 1.0)
    late = COOKIE_LIFETIME - COOKIE_LATENCY
    assert writer.write(MESSAGE, late - 0.01)[-16:] != bytes(16)
    assert writer.write(MESSAGE, late)[-16:] == bytes(16)
    assert not checker.check_mac2(again, HERE, COOKIE_LIFETIME)


@pytest.mark.parametrize(
    "elsewhere", [HERE._replace(host="192.0.2.2"), HERE._replace(port=1), HERE._replace(channel=1)]
)
def test_a_cookie_is_for_one_source(elsewhere: Endpoint) -> None:
    writer, checker = both()
    assert writer.take(checker.reply(writer.write(MESSAGE, 0.0), 9, HERE, 0.0), 0.0)
    again = writer.write(MESSAGE, 1.0)
    assert checker.check_mac2(again, HERE, 1.0)
    assert not checker.check_mac2(again, elsewhere, 1.0)


def test_a_reply_is_taken_once_and_only_for_the_latest_message() -> None:
    writer, checker = both()
    old = checker.reply(writer.write(MESSAGE, 0.0), 9, HERE, 0.0)
    other = Response(10, 8, b"f" * 32, b"n" * 16).pack()
    new = checker.reply(writer.write(other, 1.0), 10, HERE, 1.0)
    assert not writer.take(old, 2.0)
    assert writer.take(new, 2.0)
    assert not writer.take(new, 2.0)


@given(st.binary(min_size=24, max_size=24), st.binary(min_size=32, max_size=32))
def test_forged_replies_are_not_taken(nonce: bytes, cookie: bytes) -> None:
    writer, _ = both()
    assert not writer.take(CookieReply(9, nonce, cookie), 0.0)
    writer.write(MESSAGE, 0.0)
    assert not writer.take(CookieReply(9, nonce, cookie), 0.0)
    assert writer.write(MESSAGE, 0.0)[-16:] == bytes(16)
