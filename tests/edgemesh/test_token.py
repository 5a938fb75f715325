"""Tokens: their text, what is kept of them, and how long they live."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh import token
from edgemesh.token import TokenError
from tests.edgemesh.join.cluster import NOW, at

PIN = "ab" * 32


def test_only_a_hash_is_kept() -> None:
    made = token.new(PIN)
    assert token.read(f" {made}\n") == made
    kept = token.kept(token.secret(made, at(NOW + 10), "a1"))
    assert kept
    assert (kept.id, kept.node, kept.expires) == (made.id, "a1", at(NOW + 10))
    assert made.secret not in repr(made) + str(token.secret(made, at())) + repr(kept)
    assert kept.refuses(made.secret, "a1", at()) == ""
    assert kept.refuses(made.secret[:-1], "a1", at()) == token.UNKNOWN
    assert "for the node a1" in kept.refuses(made.secret, "a2", at())
    assert "the token ended at" in kept.refuses(made.secret, "a1", at(NOW + 10))
    assert kept.refuses("", "a1", at(NOW + 10)) == token.UNKNOWN  # who has no secret learns nothing


@given(text=st.text())
def test_rubbish_is_no_token(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        token.read(text + "!")
    assert len(text) < 5 or text not in str(caught.value)


@given(secret=st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_other_secrets_are_none(secret: object) -> None:
    assert token.kept(secret) is None
    assert token.kept({"metadata": {"name": "edgemesh-token-x"}, "type": token.TYPE, "data": secret}) is None


def test_durations() -> None:
    for text, length in (("24h", 86400), ("30m", 1800), ("1d12h", 129600), ("90s", 90)):
        assert token.duration(text) == timedelta(seconds=length)
    for text in ("", "0h", "24", "h", "-1h", "1h1d", "999999d"):
        with pytest.raises(TokenError, match="such as 24h"):
            token.duration(text)
