"""The message format: against dnslib, against garbage, and rule by rule."""

from __future__ import annotations

import contextlib
import struct

import pytest
from dnslib import AAAA, CNAME, EDNS0, MX, QTYPE, RR, SOA, SRV, A, DNSQuestion, DNSRecord, EDNSOption
from hypothesis import given
from hypothesis import strategies as st

from dns import wire
from dns.wire import Malformed, Record, encode_answer, parse_query, parse_response, to_wire

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
NAMES = st.lists(LABEL, min_size=1, max_size=8).map(".".join)


def ask(name: str = "orders.shop", kind: str = "A", **header: int) -> bytes:
    record = DNSRecord.question(name, kind)
    for key, value in header.items():
        setattr(record.header, key, value)
    return bytes(record.pack())


@given(NAMES)
def test_names_go_round(name: str) -> None:
    assert str(DNSRecord.parse(wire.encode_query(1, to_wire(name), wire.A, edns=False)).q.qname) == name + "."
    assert to_wire(name.upper() + ".") == to_wire(name)
    assert list(wire.parents(to_wire(name)))[-1] == wire.ROOT


@pytest.mark.parametrize("name", ["a..b", ".a", "ä.de", "x" * 64, ".".join(["x" * 60] * 5)])
def test_bad_names(name: str) -> None:
    with pytest.raises(Malformed):
        to_wire(name)


@given(NAMES, st.sampled_from(["A", "AAAA", "SRV", "PTR", "HTTPS", "TXT"]), st.integers(0, 65535))
def test_queries_as_dnslib_makes_them(name: str, kind: str, size: int) -> None:
    record = DNSRecord.question(name.title(), kind)
    plain = parse_query(bytes(record.pack()))
    assert plain is not None
    assert (plain.rcode, plain.name, plain.type) == (0, to_wire(name), getattr(QTYPE, kind))
    assert plain.question == bytes(record.pack())[12:]
    assert (plain.edns, plain.size) == (False, 512)
    record.add_ar(EDNS0(udp_len=size, flags="do"))
    edns = parse_query(bytes(record.pack()))
    assert edns == plain._replace(edns=True, size=min(max(size, 512), 1232))


def test_what_is_no_query_gets_no_answer() -> None:
    assert parse_query(b"") is None
    assert parse_query(ask()[:11]) is None
    assert parse_query(ask(qr=1)) is None


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (ask(opcode=1), wire.NOTIMP),
        (ask(opcode=5), wire.NOTIMP),
        (bytes(DNSRecord(questions=[DNSQuestion("a"), DNSQuestion("b")]).pack()), wire.FORMERR),
        (bytes(DNSRecord().pack()), wire.FORMERR),
        (ask()[:-1], wire.FORMERR),
        (ask()[:15], wire.FORMERR),
        (ask() + b"x", wire.FORMERR),
        (ask()[:12] + b"\xc0\x0c\0\1\0\1", wire.FORMERR),  # a name that points at itself
        (ask()[:12] + b"\x3fa" + b"\0\1\0\1", wire.FORMERR),
        (ask()[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", wire.FORMERR),  # 257 bytes
        (ask("version.bind", "TXT")[:-1] + b"\3", wire.REFUSED),  # CHAOS
        (ask()[:-2] + b"\0\xff", wire.REFUSED),  # any class
        (ask(kind="AXFR"), wire.REFUSED),
        (ask(kind="OPT"), wire.FORMERR),
    ],
)
def test_refusals(message: bytes, rcode: int) -> None:
    query = parse_query(message)
    assert query is not None
    assert query.rcode == rcode
    refusal = DNSRecord.parse(wire.encode_refusal(query, query.rcode))
    assert refusal.header.rcode == rcode
    assert refusal.header.id == int.from_bytes(message[:2], "big")
    assert not refusal.rr


def test_an_edns_version_above_ours() -> None:
    record = DNSRecord.question("a.b")
    record.add_ar(EDNS0(version=1))
    query = parse_query(bytes(record.pack()))
    assert query is not None
    assert query.rcode == wire.BADVERS
    answer = DNSRecord.parse(wire.encode_refusal(query, query.rcode))
    assert answer.header.rcode == 0
    assert answer.ar[0].edns_ver == 0
    assert answer.ar[0].edns_rcode == 1


def test_broken_additional_records() -> None:
    opt = wire.opt_record()
    message = ask(ar=2) + opt
    for broken in (
        message + opt,
        message[:10] + b"\0\1" + message[12:-3],
        ask()[:10] + b"\0\1" + ask()[12:] + b"\1x" + opt,
    ):
        query = parse_query(broken)
        assert query is not None
        assert query.rcode == wire.FORMERR


def test_options_are_ignored_but_must_be_whole() -> None:
    record = DNSRecord.question("a.b")
    record.add_ar(EDNS0(opts=[EDNSOption(10, b"12345678")]))
    message = bytes(record.pack())
    query = parse_query(message)
    assert query is not None
    assert query.rcode == 0
    longer = message[:-10] + b"\x00\x20" + message[-8:]  # the option says 32 bytes
    query = parse_query(longer)
    assert query is not None
    assert query.rcode == wire.FORMERR


@given(st.binary(max_size=300))
def test_garbage_never_raises(data: bytes) -> None:
    query = parse_query(data)
    if query is not None and query.rcode == 0:
        assert encode_answer(query, 0, query.size, ())
    with_header = data[:2] + b"\x80\0\0\1\0\1\0\1\0\0" + data
    for message in (data, with_header):
        with contextlib.suppress(Malformed):
            parse_response(message)


@given(st.data())
def test_damaged_messages_never_raise(data: st.DataObject) -> None:
    record = DNSRecord.question("www.example.com", "A")
    record.add_answer(*RR.fromZone("www.example.com 60 CNAME web.example.com\nweb.example.com 60 A 192.0.2.1"))
    record.add_auth(*RR.fromZone("example.com 60 SOA ns.example.com host.example.com 1 2 3 4 5"))
    record.header.qr = 1
    message = bytearray(record.pack())
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        parse_response(bytes(message[: data.draw(st.integers(0, len(message)))]))


def test_responses_are_taken_apart() -> None:
    record = DNSRecord.question("www.example.com", "A")
    record.header.qr = 1
    record.add_answer(
        RR("www.example.com", QTYPE.CNAME, rdata=CNAME("web.example.com"), ttl=60),
        RR("web.example.com", QTYPE.A, rdata=A("192.0.2.1"), ttl=1 << 31),
        RR("web.example.com", QTYPE.MX, rdata=MX("mail.example.com", 5), ttl=7),
        RR("web.example.com", QTYPE.SRV, rdata=SRV(1, 2, 3, "srv.example.com"), ttl=7),
        RR("web.example.com", QTYPE.AAAA, rdata=AAAA("2001:db8::1"), ttl=7),
    )
    record.add_auth(RR("example.com", QTYPE.SOA, rdata=SOA("ns.example.com", "h.example.com", (1, 2, 3, 4, 5)), ttl=9))
    response = parse_response(bytes(record.pack()))
    web = to_wire("web.example.com")
    assert (response.name, response.type, response.rcode) == (to_wire("www.example.com"), wire.A, 0)
    assert response.answers == (
        Record(to_wire("www.example.com"), wire.CNAME, 60, web),
        Record(web, wire.A, 0, bytes([192, 0, 2, 1])),  # a TTL with the top bit set is none
        Record(web, wire.MX, 7, b"\0\5" + to_wire("mail.example.com")),
        Record(web, wire.SRV, 7, b"\0\1\0\2\0\3" + to_wire("srv.example.com")),
        Record(web, wire.AAAA, 7, bytes.fromhex("20010db8000000000000000000000001")),
    )
    soa = to_wire("ns.example.com") + to_wire("h.example.com") + struct.pack("!5I", 1, 2, 3, 4, 5)
    assert response.authority == (Record(to_wire("example.com"), wire.SOA, 9, soa),)
    assert wire.target(response.answers[3]) == to_wire("srv.example.com")


@pytest.mark.parametrize("pointer", [b"\xc0\x0c", b"\xc0\x0e", b"\xff\xff", b"\xc0", b"\x40a", b"\x80a"])
def test_pointers_that_lead_nowhere(pointer: bytes) -> None:
    with pytest.raises(Malformed):
        parse_response(b"\0\0\x80\0\0\1\0\0\0\0\0\0" + pointer)


def test_pointer_chains_end() -> None:
    # each label is followed by a pointer to the one before: the name grows past 255 bytes
    body = b"\x3f" + b"a" * 63 + b"\0"
    message = b"\0\0\x80\0\0\0\0\1\0\0\0\0" + body
    with pytest.raises(Malformed):
        parse_response(message + (b"\x3f" + b"b" * 63 + b"\xc0\x0c") * 5)


def test_answers_read_by_dnslib() -> None:
    query = parse_query(ask("Orders.SHOP", "SRV"))
    assert query is not None
    target = to_wire("a.orders.shop")
    srv = Record(query.name, wire.SRV, 30, b"\0\0\0\x64\0\x50" + target)
    cname = Record(query.name, wire.CNAME, 30, target)
    message = encode_answer(query, wire.AA, 512, (cname, srv), (), (Record(target, wire.A, 30, b"\n\0\0\1"),))
    answer = DNSRecord.parse(message)
    assert (answer.header.aa, answer.header.rd, answer.header.ra, answer.header.tc) == (1, 1, 1, 0)
    assert str(answer.q.qname) == "Orders.SHOP."
    # a pointer into the question brings its case along
    assert [str(each.rdata) for each in answer.rr] == ["a.Orders.SHOP.", "0 100 80 a.orders.shop."]
    assert [(str(each.rname), str(each.rdata)) for each in answer.ar] == [("a.Orders.SHOP.", "10.0.0.1")]


@given(st.integers(0, 200), st.sampled_from([512, 700, 1232, 65535]), st.booleans())
def test_truncation(count: int, limit: int, edns: bool) -> None:
    record = DNSRecord.question("many.shop", "A")
    if edns:
        record.add_ar(EDNS0(udp_len=limit))
    query = parse_query(bytes(record.pack()))
    assert query is not None
    addresses = [Record(query.name, wire.A, 30, bytes([10, 0, i >> 8, i & 255])) for i in range(count)]
    message = encode_answer(query, wire.AA, limit, addresses, (), addresses[:3])
    assert len(message) <= limit
    answer = DNSRecord.parse(message)
    fits = (limit - 12 - len(query.question) - (11 if edns else 0)) // 16
    assert len(answer.rr) == min(count, fits)
    assert answer.header.tc == (count > fits)
    assert any(each.rtype == QTYPE.OPT for each in answer.ar) == edns
