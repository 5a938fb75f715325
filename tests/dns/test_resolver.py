"""From a query's bytes to the answer's, with and without the compiled ones, which must never differ."""

from __future__ import annotations

import random

import pytest
from dnslib import EDNS0, QTYPE, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from dns import compiled, wire
from dns.forward import Send
from dns.records import Name
from dns.resolver import Resolver
from tests.dns.conftest import SHOP, ZONES


def no_entropy(size: int) -> bytes:
    return bytes(size)


def resolver() -> Resolver:
    made = Resolver(no_entropy, lambda: None)
    assert made.replace(ZONES, SHOP) == []
    return made


def ask(name: str, kind: str = "A", ident: int = 7, edns: int = 0, **header: int) -> bytes:
    record = DNSRecord.question(name, kind)
    record.header.id = ident
    for key, value in header.items():
        setattr(record.header, key, value)
    if edns:
        record.add_ar(EDNS0(udp_len=edns))
    return bytes(record.pack())


def udp(to: Resolver, message: bytes) -> DNSRecord:
    answer = to.ask_udp(message, "client", 0.0)
    assert answer is not None
    return DNSRecord.parse(answer)


NAMES = st.sampled_from(
    [
        *(each.name for each in SHOP if "loop" not in each.name),
        "absent.svc.cluster.local",
        "1-2-3-4.x.pod.cluster.local",
    ]
)


@given(
    NAMES.filter(lambda name: not name.startswith(("paid", "db."))),
    st.sampled_from(["A", "AAAA", "SRV", "PTR", "ANY", "SOA", "HTTPS"]),
    st.randoms(),
    st.sampled_from([0, 512, 1232, 0x4142]),
    st.booleans(),
    st.booleans(),
)
def test_compiled_answers_are_those_of_the_table(
    name: str, kind: str, chance: random.Random, edns: int, rd: bool, cd: bool
) -> None:
    server = resolver()
    first = ask(name, kind, 1, edns, rd=rd, cd=cd)
    mixed = "".join(chance.choice((c, c.upper())) for c in name)
    second = ask(mixed, kind, 65535, edns, rd=rd, cd=cd)
    made = server.ask_udp(first, "client", 0.0)
    again = server.ask_udp(second, "client", 0.0)
    fresh = resolver().ask_udp(second, "client", 0.0)
    assert made is not None
    assert again == fresh
    answer = DNSRecord.parse(again)
    assert answer.header.id == 65535
    assert str(answer.q.qname) == mixed + "."
    assert (answer.header.rd, answer.header.cd, answer.header.ra) == (rd, cd, 1)
    kept = kind != "HTTPS" and edns != 0x4142
    assert server.hits == kept


def test_type_65_is_not_taken_for_type_97() -> None:
    server = resolver()
    name = "orders.shop.svc.cluster.local"
    for kind in (97, 65, 97, 65):
        message = ask(name)[:-4] + kind.to_bytes(2, "big") + b"\0\1"
        answer = server.ask_udp(message, "client", 0.0)
        assert answer is not None
        assert answer[12 : len(message)] == message[12:]
    assert server.hits == 0


def test_cookies_are_not_kept_and_ignored() -> None:
    server = resolver()
    for cookie in (b"12345678", b"abcdefgh"):
        record = DNSRecord.question("orders.shop.svc.cluster.local")
        record.add_ar(EDNS0(opts=[EDNSOption(10, cookie)]))
        answer = udp(server, bytes(record.pack()))
        assert len(answer.rr) == 1
        assert answer.ar[0].rdata == []
    assert len(server.compiled) == 0


def test_addresses_take_turns_compiled_or_not() -> None:
    server = resolver()
    for message in (ask("db.shop.svc.cluster.local"), ask("db.shop.svc.cluster.local", edns=1232)):
        orders = [tuple(str(each.rdata) for each in udp(server, message).rr) for _ in range(6)]
        assert {order[0] for order in orders} == {"10.244.1.2", "10.244.1.3", "10.244.2.4"}
        assert len({frozenset(order) for order in orders}) == 1
    assert server.hits == 10


def test_a_change_is_seen_at_once() -> None:
    server = resolver()
    name = "orders.shop.svc.cluster.local"
    assert [str(each.rdata) for each in udp(server, ask(name)).rr] == ["10.96.0.10"]
    assert udp(server, ask("new.shop.svc.cluster.local")).header.rcode == wire.NXDOMAIN
    server.update([Name(name, a=("10.96.0.11",)), Name("new.shop.svc.cluster.local", a=("10.96.0.12",))], [])
    assert [str(each.rdata) for each in udp(server, ask(name)).rr] == ["10.96.0.11"]
    assert [str(each.rdata) for each in udp(server, ask("new.shop.svc.cluster.local")).rr] == ["10.96.0.12"]
    server.update([], [name])
    assert udp(server, ask(name)).header.rcode == wire.NOERROR  # the SRV name below it is still there
    server.update([], [f"_http._tcp.{name}"])
    assert udp(server, ask(name)).header.rcode == wire.NXDOMAIN


def test_many_endpoints_are_cut_over_udp_and_whole_over_tcp() -> None:
    server = resolver()
    addresses = tuple(f"10.{i >> 8}.{i & 255}.1" for i in range(300))
    server.update([Name("big.shop.svc.cluster.local", a=addresses)], [])
    message = ask("big.shop.svc.cluster.local")
    small = udp(server, message)
    assert small.header.tc
    assert len(small.rr) == (512 - len(message)) // 16
    larger = udp(server, ask("big.shop.svc.cluster.local", edns=4096))
    assert len(small.rr) < len(larger.rr) < 80
    seen = {str(each.rdata) for _ in range(300) for each in udp(server, message).rr}
    assert seen == set(addresses)
    whole = server.ask_tcp(message, "client", 0.0)
    assert whole is not None
    record = DNSRecord.parse(whole)
    assert (len(record.rr), record.header.tc) == (300, 0)


def test_more_endpoints_than_a_message_holds() -> None:
    server = resolver()
    addresses = tuple(f"10.{i >> 8}.{i & 255}.1" for i in range(5000))
    server.update([Name("huge.shop.svc.cluster.local", a=addresses)], [])
    whole = server.ask_tcp(ask("huge.shop.svc.cluster.local"), "client", 0.0)
    assert whole is not None
    assert len(whole) <= 65535
    record = DNSRecord.parse(whole)
    assert record.header.tc
    assert len(record.rr) > 4000


def test_other_names_and_the_ends_of_aliases_go_upstream() -> None:
    looks = []
    server = Resolver(no_entropy, lambda: looks.append(1))
    server.replace(ZONES, SHOP)
    server.forwarder.upstreams.set(["192.0.2.53"])
    assert server.ask_udp(ask("paid.shop.svc.cluster.local"), "client", 0.0) is None
    assert server.ask_tcp(ask("www.example.com", "AAAA"), "client", 0.0) is None
    sent = [DNSRecord.parse(each.message).q for each in server.forwarder.effects() if isinstance(each, Send)]
    assert [(str(each.qname), QTYPE[each.qtype]) for each in sent] == [
        ("pay.example.com.", "A"),
        ("www.example.com.", "AAAA"),
    ]
    assert len(looks) == 2


def test_compiled_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MAX_COMPILED", 20)
    server = resolver()
    often = ask("orders.shop.svc.cluster.local")
    for i in range(200):
        assert udp(server, ask(f"absent-{i}.svc.cluster.local")).header.rcode == wire.NXDOMAIN
        hits = server.hits
        udp(server, often)
        assert i == 0 or server.hits == hits + 1  # what is asked for again is never lost
        assert len(server.compiled) <= 20


@given(st.binary(max_size=600), st.booleans())
def test_garbage_never_raises(data: bytes, header: bool) -> None:
    server = resolver()
    message = ask("orders.shop.svc.cluster.local")[:12] + data if header else data
    for answer in (
        server.ask_udp(message, "c", 0.0),
        server.ask_udp(message, "c", 0.0),
        server.ask_tcp(message, "c", 0.0),
    ):
        assert answer is None or answer[:2] == message[:2]


def test_a_response_is_never_answered() -> None:
    server = resolver()
    assert server.ask_udp(ask("orders.shop.svc.cluster.local", qr=1), "c", 0.0) is None
    assert server.queries == 0
