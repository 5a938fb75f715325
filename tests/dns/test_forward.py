"""The forwarder on virtual time: retries, failover, coalescing, stale answers, and its caps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from dnslib import DNSRecord

from dns import forward, wire
from dns.cache import Question
from dns.forward import Close, Forwarder, Reply, Send, Waiter
from dns.upstream import DOWN_AFTER
from dns.wire import Query, Record, encode_answer, parse_query, to_wire

ONE, TWO, THREE = "192.0.2.1", "192.0.2.2", "2001:db8::3"


@dataclass
class Bench:
    """A forwarder and what it wants done; `now` moves only when told."""

    forwarder: Forwarder
    now: float = 1000.0
    sent: list[Send] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    replies: list[tuple[str, DNSRecord]] = field(default_factory=list)
    idents: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 16)))

    def run(self) -> None:
        for effect in self.forwarder.effects():
            if isinstance(effect, Send):
                self.sent.append(effect)
                self.open.add(effect.attempt)
            elif isinstance(effect, Close):
                self.open.remove(effect.attempt)
            else:
                assert isinstance(effect, Reply)
                self.replies.append((str(effect.client), DNSRecord.parse(effect.message)))

    def ask(self, client: str = "c", name: str = "www.example.com", prefix: tuple[Record, ...] = ()) -> None:
        query = parse_query(bytes(DNSRecord.question(name.title(), "A").pack()))
        assert query is not None
        query = query._replace(id=next(self.idents))
        self.forwarder.ask(Question(query.name, query.type), Waiter(client, query, 512, prefix), self.now)
        self.run()

    def pass_time(self, seconds: float) -> None:
        """Jump from deadline to deadline."""
        end = self.now + seconds
        while (deadline := self.forwarder.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.forwarder.advance(self.now)
            self.run()
        self.now = end

    def answer(self, send: Send, rcode: int = 0, ttl: int = 60, flags: int = 0, address: str = "\1\2\3\4") -> None:
        query = parse_query(send.message)
        assert query is not None
        records = () if rcode or flags else (Record(query.name, wire.A, ttl, address.encode("latin-1")),)
        message = bytearray(encode_answer(query, rcode | flags, 65535, records))
        self.deliver(send, bytes(message))

    def deliver(self, send: Send, message: bytes) -> None:
        self.forwarder.received(send.attempt, message, self.now)
        self.run()

    def fail(self, send: Send, reason: str = "connection refused") -> None:
        self.forwarder.failed(send.attempt, reason, self.now)
        self.run()

    @property
    def rcodes(self) -> list[int]:
        return [record.header.rcode for _, record in self.replies]

    @property
    def asked(self) -> list[str]:
        return [send.address for send in self.sent]


def bench(*upstreams: str, seed: int = 1) -> Bench:
    forwarder = Forwarder(random.Random(seed).randbytes)
    forwarder.upstreams.set(upstreams)
    return Bench(forwarder)


def test_an_answer_from_upstream_and_then_from_the_cache() -> None:
    b = bench(ONE, TWO)
    b.ask()
    assert b.asked == [ONE]
    assert not b.sent[0].tcp
    b.now += 0.03
    b.answer(b.sent[0])
    assert [str(each.rdata) for each in b.replies[0][1].rr] == ["1.2.3.4"]
    assert str(b.replies[0][1].q.qname) == "Www.Example.Com."
    assert b.replies[0][1].header.aa == 0
    b.now += 20
    b.ask("d")
    assert [client for client, _ in b.replies] == ["c", "d"]
    assert b.replies[1][1].rr[0].ttl == 40
    assert len(b.sent) == 1
    assert not b.open
    assert b.forwarder.upstreams.all[0].latency == pytest.approx(0.03)
    assert b.forwarder.deadline() is None


def test_ids_are_not_to_be_guessed() -> None:
    b = bench(ONE)
    for i in range(50):
        b.ask(name=f"n{i}.example")
    assert len({send.message[:2] for send in b.sent}) > 40


def test_what_does_not_answer_the_question_is_ignored() -> None:
    b = bench(ONE)
    b.ask()
    sent = b.sent[0]
    good = encode_answer(_query(sent), 0, 512, (Record(to_wire("www.example.com"), wire.A, 1, b"\1\1\1\1"),))
    other = encode_answer(_query(sent)._replace(question=to_wire("evil") + b"\0\1\0\1"), 0, 512, ())
    b.deliver(sent, bytes([good[0] ^ 1]) + good[1:])
    b.deliver(sent, other)
    b.deliver(sent, b"")
    b.deliver(sent._replace(attempt=999), good)
    assert not b.replies
    assert b.open
    b.deliver(sent, good[:12] + good[12:29].upper() + good[29:])  # in another case it is the same question
    assert b.rcodes == [0]


def _query(send: Send) -> Query:
    query = parse_query(send.message)
    assert query is not None
    return query


def test_equal_questions_are_asked_once() -> None:
    b = bench(ONE)
    for client in "abc":
        b.ask(client)
    assert len(b.sent) == 1
    b.answer(b.sent[0])
    assert [client for client, _ in b.replies] == ["a", "b", "c"]
    assert len({record.header.id for _, record in b.replies}) == 3


def test_silence_moves_on_to_the_next_server_and_then_gives_up() -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.pass_time(0.6)
    assert b.asked == [ONE, TWO]
    b.pass_time(10)
    assert b.asked == [ONE, TWO, ONE, TWO]
    assert b.rcodes == [wire.SERVFAIL]
    assert not b.open
    assert b.forwarder.failures == 1
    assert [each.ok for each in b.forwarder.upstreams.all] == [False, False]
    assert "no answer within" in b.forwarder.upstreams.all[0].error
    assert b.forwarder.troubled


def test_it_gives_up_before_the_client_does() -> None:
    b = bench(ONE)
    b.ask()
    b.pass_time(4.6)
    assert b.rcodes == [wire.SERVFAIL]


def test_a_slow_server_is_heard_after_the_next_was_asked() -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.pass_time(0.7)
    b.answer(b.sent[0])
    assert b.rcodes == [0]
    assert not b.open
    assert b.forwarder.upstreams.all[0].ok


def test_a_refused_connection_moves_on_at_once() -> None:
    b = bench(ONE, TWO, THREE)
    b.ask()
    b.fail(b.sent[0])
    b.fail(b.sent[1])
    assert b.asked == [ONE, TWO, THREE]
    b.answer(b.sent[2])
    assert b.rcodes == [0]


def test_one_server_that_refuses_is_asked_again_later() -> None:
    b = bench(ONE)
    b.ask()
    b.fail(b.sent[0])
    assert not b.replies
    b.pass_time(0.5)
    assert b.asked == [ONE, ONE]
    b.answer(b.sent[1])
    assert b.rcodes == [0]


@pytest.mark.parametrize("rcode", [wire.SERVFAIL, wire.REFUSED])
def test_a_lame_answer_counts_when_there_is_none_better(rcode: int) -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.answer(b.sent[0], rcode)
    assert b.asked == [ONE, TWO]
    b.answer(b.sent[1], rcode)
    assert b.rcodes == [rcode]
    b.ask(name="other.example")
    b.answer(b.sent[2], rcode)
    b.answer(b.sent[3])
    assert b.rcodes == [rcode, 0]
    assert len(b.forwarder.cache) == 1


def test_a_malformed_answer_is_a_failure() -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.deliver(b.sent[0], b.sent[0].message[:2] + b"\x80\0\0\1\0\1\0\0\0\0\xff")
    assert b.asked == [ONE, TWO]
    assert "malformed" in b.forwarder.upstreams.all[0].error


def test_truncated_answers_are_asked_for_over_tcp() -> None:
    b = bench(ONE)
    b.ask()
    b.answer(b.sent[0], flags=wire.TC)
    assert [(send.address, send.tcp) for send in b.sent] == [(ONE, False), (ONE, True)]
    b.answer(b.sent[1])
    assert b.rcodes == [0]
    assert not b.open


def test_an_answer_that_is_truncated_over_tcp_is_a_failure() -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.answer(b.sent[0], flags=wire.TC)
    b.answer(b.sent[1], flags=wire.TC)
    assert not b.replies
    assert (b.sent[2].address, b.sent[2].tcp) == (TWO, False)
    b.answer(b.sent[2])
    assert len(b.replies[0][1].rr) == 1


@pytest.mark.parametrize("flags", [b"\x82\0", b"\x80\x05"])  # truncated; REFUSED
def test_servers_that_leave_the_question_out(flags: bytes) -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.deliver(b.sent[0], b.sent[0].message[:2] + flags + bytes(8))
    assert (b.sent[1].address, b.sent[1].tcp) == ((ONE, True) if flags[0] & 2 else (TWO, False))
    b.deliver(b.sent[1], b.sent[1].message[:2] + b"\x80" + bytes(9))  # an answer must name its question
    assert not b.replies
    b.answer(b.sent[1])
    assert b.rcodes == [0]


def test_a_server_without_edns() -> None:
    b = bench(ONE)
    b.ask()
    b.answer(b.sent[0], wire.FORMERR)
    assert b.sent[0].message[11] == 1
    assert b.sent[1].message[11] == 0
    b.answer(b.sent[1])
    assert b.rcodes == [0]
    b.ask(name="other.example")
    assert b.sent[2].message[11] == 0


def test_a_server_that_is_down_stands_back_and_is_probed() -> None:
    b = bench(ONE, TWO)
    for i in range(DOWN_AFTER):
        b.ask(name=f"n{i}.example")
        b.fail(b.sent[-1])
        b.answer(b.sent[-1])
    b.sent.clear()
    b.ask(name="first.example")
    assert b.asked == [TWO]
    b.answer(b.sent[0])
    b.now += 10
    b.ask(name="second.example")
    assert sorted(b.asked[1:]) == [ONE, TWO]
    probe = next(send for send in b.sent[1:] if send.address == ONE)
    b.answer(probe)
    assert not b.open
    b.ask(name="third.example")
    assert b.asked[-1] == ONE


def test_with_all_down_all_are_asked_at_once_and_not_for_long() -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.pass_time(5)
    b.sent.clear()
    b.replies.clear()
    b.ask(name="other.example")
    assert b.asked == [ONE, TWO]
    b.pass_time(2.1)
    assert b.rcodes == [wire.SERVFAIL]
    b.ask(name="third.example")
    b.answer(b.sent[-1])
    assert b.rcodes[-1] == 0


def test_with_all_down_a_refused_connection_ends_it_at_once() -> None:
    b = bench(ONE, TWO)
    b.ask()
    b.pass_time(5)
    b.ask(name="other.example")
    for send in b.sent[-2:]:
        b.fail(send)
    assert b.rcodes == [wire.SERVFAIL, wire.SERVFAIL]
    assert len(b.forwarder) == 0


def test_without_servers_the_answer_is_servfail_at_once() -> None:
    b = bench()
    b.ask()
    assert b.rcodes == [wire.SERVFAIL]
    assert len(b.forwarder) == 0


def test_absence_is_remembered_as_its_soa_says() -> None:
    b = bench(ONE)
    b.ask()
    query = _query(b.sent[0])
    soa = to_wire("ns") + to_wire("host") + b"\0" * 19 + b"\x14"
    authority = (Record(to_wire("example.com"), wire.SOA, 300, soa),)
    b.deliver(b.sent[0], encode_answer(query, wire.NXDOMAIN, 512, (), authority))
    b.now += 19
    b.ask()
    assert b.rcodes == [wire.NXDOMAIN, wire.NXDOMAIN]
    assert b.replies[1][1].auth[0].ttl == 281
    assert len(b.sent) == 1
    b.now += 2
    b.ask()
    assert len(b.sent) == 2


class TestStale:
    def kept(self) -> Bench:
        b = bench(ONE)
        b.ask()
        b.answer(b.sent[0], ttl=10)
        b.now += 100
        b.sent.clear()
        b.replies.clear()
        return b

    def test_served_while_upstream_does_not_answer(self) -> None:
        b = self.kept()
        b.ask("c")
        assert not b.replies
        b.pass_time(1.7)
        assert not b.replies
        b.pass_time(0.2)
        assert [(client, record.rr[0].ttl) for client, record in b.replies] == [("c", 30)]
        b.ask("late")
        assert [client for client, _ in b.replies] == ["c", "late"]
        b.pass_time(5)
        assert len(b.forwarder) == 0
        tries = len(b.sent)
        b.ask("again")
        assert len(b.sent) == tries  # the failure is remembered for a while
        assert b.rcodes == [0, 0, 0]

    def test_served_at_once_while_all_are_down_and_renewed(self) -> None:
        b = self.kept()
        b.ask()
        b.pass_time(20)
        b.replies.clear()
        b.ask()
        assert b.rcodes == [0]
        b.answer(b.sent[-1], address="\5\6\7\x08")
        b.ask()
        assert str(b.replies[-1][1].rr[0].rdata) == "5.6.7.8"
        assert b.replies[-1][1].rr[0].ttl == 60

    def test_better_than_servfail(self) -> None:
        b = self.kept()
        b.ask()
        b.answer(b.sent[0], wire.SERVFAIL)
        assert b.rcodes == [0]

    def test_a_fresh_nxdomain_wins(self) -> None:
        b = self.kept()
        b.ask()
        b.answer(b.sent[0], wire.NXDOMAIN)
        assert b.rcodes == [wire.NXDOMAIN]


def test_the_end_of_an_alias() -> None:
    b = bench(ONE)
    owner = to_wire("paid.shop.svc.cluster.local")
    query = parse_query(bytes(DNSRecord.question("paid.shop.svc.cluster.local", "A").pack()))
    assert query is not None
    cname = Record(owner, wire.CNAME, 30, to_wire("pay.example.com"))
    b.forwarder.ask(Question(to_wire("pay.example.com"), wire.A), Waiter("c", query, 512, (cname,)), b.now)
    b.run()
    b.answer(b.sent[0])
    answer = b.replies[0][1]
    assert [str(each.rname) for each in answer.rr] == ["paid.shop.svc.cluster.local.", "pay.example.com."]
    assert [str(each.rdata) for each in answer.rr] == ["pay.example.com.", "1.2.3.4"]
    assert answer.header.aa


class TestCaps:
    def test_questions_in_flight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forward, "MAX_PENDING", 5)
        b = bench(ONE)
        for i in range(8):
            b.ask(name=f"n{i}.example")
        assert len(b.forwarder) == 5
        assert b.rcodes == [wire.SERVFAIL] * 3
        b.answer(b.sent[0])
        b.ask(name="next.example")
        assert len(b.forwarder) == 5

    def test_waiters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forward, "MAX_WAITERS", 3)
        b = bench(ONE)
        for i in range(5):
            b.ask(f"c{i}")
        assert [client for client, _ in b.replies] == ["c3", "c4"]
        b.answer(b.sent[0])
        assert len(b.replies) == 5

    def test_timers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forward, "MAX_TIMERS", 20)
        b = bench(ONE)
        b.ask(name="slow.example")
        for i in range(100):
            b.ask(name=f"n{i}.example")
            b.answer(b.sent[-1])
            assert len(b.forwarder._timers) <= 20
        b.pass_time(0.5)
        assert b.asked.count(ONE) == 102  # the slow one's timer was not thrown out

    def test_rechecks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forward, "MAX_RECHECKS", 4)
        b = bench(ONE)
        for i in range(10):
            b.ask(name=f"n{i}.example")
            b.answer(b.sent[-1])
        b.now += 100
        for i in range(10):
            b.ask(name=f"n{i}.example")
        b.pass_time(10)
        assert len(b.forwarder._rechecks) == 4


@pytest.mark.parametrize("seed", range(30))
def test_every_question_ends_whatever_upstreams_do(seed: int) -> None:
    """Random answers, silence and errors: each client gets exactly one reply, and nothing stays open."""
    chance = random.Random(seed)
    b = bench(ONE, TWO, THREE, seed=seed)
    clients = 0
    handled: set[int] = set()
    for _ in range(300):
        if chance.random() < 0.4:
            b.ask(f"client-{clients}", name=f"n{chance.randrange(20)}.example")
            clients += 1
        for send in b.sent:
            if send.attempt in b.open and send.attempt not in handled and chance.random() < 0.3:
                handled.add(send.attempt)
                what = chance.random()
                if what < 0.4:
                    b.answer(send, chance.choice([0, 0, 2, 3, 5, 1]), ttl=chance.choice([0, 1, 60]))
                elif what < 0.5:
                    b.answer(send, flags=wire.TC)
                elif what < 0.7:
                    b.fail(send)
                elif what < 0.8:
                    b.deliver(send, send.message[:2] + chance.randbytes(chance.randrange(40)))
        b.pass_time(chance.choice([0.01, 0.3, 1.0]))
    b.pass_time(10)
    assert sorted(client for client, _ in b.replies) == sorted(f"client-{i}" for i in range(clients))
    assert not b.open
    assert len(b.forwarder) == 0
    assert b.forwarder.deadline() is None
