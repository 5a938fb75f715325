"""How long upstream's answers are kept, and that they can't fill the memory."""

from __future__ import annotations

import pytest

from dns import cache as module
from dns import wire
from dns.cache import MAX_NEGATIVE_TTL, MAX_STALE, MAX_TTL, STALE_TTL, Cache, Question, entry_of
from dns.wire import Record, Response, to_wire

NAME = to_wire("www.example.com")
ADDRESS = Record(NAME, wire.A, 60, b"\1\2\3\4")


def soa(ttl: int, minimum: int) -> Record:
    data = to_wire("ns") + to_wire("host") + b"\0" * 16 + minimum.to_bytes(4, "big")
    return Record(to_wire("example.com"), wire.SOA, ttl, data)


def response(rcode: int = 0, answers: tuple[Record, ...] = (), authority: tuple[Record, ...] = ()) -> Response:
    return Response(1, wire.QR | rcode, NAME, wire.A, answers, authority)


@pytest.mark.parametrize(
    ("given", "ttl"),
    [
        (response(answers=(ADDRESS,)), 60),
        (response(answers=(ADDRESS, ADDRESS._replace(ttl=7))), 7),
        (response(answers=(ADDRESS._replace(ttl=999_999),)), MAX_TTL),
        (response(wire.NXDOMAIN, authority=(soa(300, 40),)), 40),
        (response(wire.NXDOMAIN, authority=(soa(30, 400),)), 30),
        (response(authority=(soa(99_999, 99_999),)), MAX_NEGATIVE_TTL),
        (response(wire.NXDOMAIN), 0),
        (response(), 0),
        (response(answers=(Record(NAME, wire.CNAME, 9, to_wire("x")),), authority=(soa(300, 300),)), 9),
        (response(answers=(Record(NAME, wire.CNAME, 9, to_wire("x")),)), 0),
        (response(wire.SERVFAIL, answers=(ADDRESS,)), 0),
    ],
)
def test_lifetime(given: Response, ttl: int) -> None:
    entry = entry_of(given, 1000.0)
    assert entry.expires - entry.stored == ttl


def test_only_a_negative_answer_keeps_its_authority() -> None:
    other = Record(to_wire("example.com"), wire.NS, 60, to_wire("ns"))
    assert entry_of(response(answers=(ADDRESS,), authority=(soa(1, 1), other)), 0).authority == ()
    assert entry_of(response(wire.NXDOMAIN, authority=(other, soa(1, 1))), 0).authority == (soa(1, 1),)


def test_ttls_count_down_and_stale_ones_are_short() -> None:
    entry = entry_of(response(answers=(ADDRESS,)), 100.0)
    assert entry.aged(entry.answers, 100.0)[0].ttl == 60
    assert entry.aged(entry.answers, 130.9)[0].ttl == 30
    assert entry.aged(entry.answers, 160.0)[0].ttl == STALE_TTL


def test_kept_stale_for_a_day() -> None:
    cache = Cache()
    question = Question(NAME, wire.A)
    cache.put(question, entry_of(response(answers=(ADDRESS,)), 0.0))
    assert cache.get(question, 59.0)
    assert cache.get(question, 60.0 + MAX_STALE - 1)
    assert cache.get(question, 60.0 + MAX_STALE) is None
    assert len(cache) == cache.bytes == 0


def test_what_has_no_lifetime_is_not_kept() -> None:
    cache = Cache()
    cache.put(Question(NAME, wire.A), entry_of(response(), 0.0))
    assert len(cache) == 0


def test_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    cache = Cache()
    entry = entry_of(response(answers=(ADDRESS,)), 0.0)
    questions = [Question(to_wire(f"n{i}"), wire.A) for i in range(4)]
    for question in questions[:3]:
        cache.put(question, entry)
    assert cache.get(questions[0], 1.0)
    cache.put(questions[3], entry)
    assert [cache.get(each, 1.0) is not None for each in questions] == [True, False, True, True]


def test_bytes_are_bounded() -> None:
    cache = Cache()
    big = entry_of(response(answers=(ADDRESS._replace(data=b"x" * 50_000),)), 0.0)
    for i in range(100):
        cache.put(Question(to_wire(f"n{i}"), wire.A), big)
        assert cache.bytes <= module.MAX_BYTES
    assert 1 < len(cache) < 25
    assert cache.bytes == len(cache) * big.size
    cache.put(Question(to_wire("n99"), wire.A), big)
    assert cache.bytes == len(cache) * big.size
