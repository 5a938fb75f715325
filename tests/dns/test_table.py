"""What the table answers, and that it stays right through changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import table as module
from dns import wire
from dns.records import Name, Srv, Zone
from dns.table import Answer, Table
from dns.wire import to_wire


def found(table: Table, name: str, kind: int = wire.A) -> Answer:
    answer = table.find(to_wire(name), kind)
    assert answer is not None
    return answer


def rcode(answer: Answer) -> int:
    return answer.flags & 15


def data(answer: Answer) -> list[bytes]:
    return [record.data for record in answer.answers]


def test_addresses(table: Table) -> None:
    assert data(found(table, "orders.shop.svc.cluster.local")) == [bytes([10, 96, 0, 10])]
    assert len(data(found(table, "db.shop.svc.cluster.local"))) == 3
    assert data(found(table, "six.shop.svc.cluster.local", wire.AAAA)) == [bytes.fromhex("fd" + "00" * 14 + "06")]
    assert found(table, "orders.shop.svc.cluster.local").flags == wire.AA


def test_srv_brings_the_addresses_of_its_targets(table: Table) -> None:
    answer = found(table, "_http._tcp.orders.shop.svc.cluster.local", wire.SRV)
    assert data(answer) == [b"\0\0\0\x64\x1f\x90" + to_wire("orders.shop.svc.cluster.local")]
    assert [record.data for record in answer.additional] == [bytes([10, 96, 0, 10])]


def test_reverse(table: Table) -> None:
    assert data(found(table, "10.0.96.10.in-addr.arpa", wire.PTR)) == [to_wire("orders.shop.svc.cluster.local")]
    assert rcode(found(table, "11.0.96.10.in-addr.arpa", wire.PTR)) == wire.NXDOMAIN
    assert table.find(to_wire("1.0.0.10.in-addr.arpa"), wire.PTR) is None


@pytest.mark.parametrize(
    "name",
    [
        "nope.shop.svc.cluster.local",
        "orders.shop.svc.cluster.local.shop.svc.cluster.local",
        "orders.shop.default.svc.cluster.local",
        "x.orders.shop.svc.cluster.local",
        "1-2-3.shop.pod.cluster.local",
        "1-2-3-256.shop.pod.cluster.local",
        "x.1-2-3-4.shop.pod.cluster.local",
        "1-2-3-4.shop.svc.cluster.local",
        "a--b--c.shop.pod.cluster.local",
    ],
)
def test_absent(table: Table, name: str) -> None:
    answer = found(table, name)
    assert rcode(answer) == wire.NXDOMAIN
    assert [(record.owner, record.type, record.ttl) for record in answer.authority] == [
        (to_wire("cluster.local"), wire.SOA, module.ABSENT_TTL)
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("orders.shop.svc.cluster.local", wire.AAAA),
        ("orders.shop.svc.cluster.local", wire.TXT),
        ("_tcp.orders.shop.svc.cluster.local", wire.A),
        ("shop.svc.cluster.local", wire.A),
        ("svc.cluster.local", wire.A),
        ("cluster.local", wire.A),
        ("pod.cluster.local", wire.A),
        ("shop.pod.cluster.local", wire.A),
        ("10-244-1-2.shop.pod.cluster.local", wire.AAAA),
        ("0.96.10.in-addr.arpa", wire.PTR),
    ],
)
def test_no_data(table: Table, name: str, kind: int) -> None:
    answer = found(table, name, kind)
    assert rcode(answer) == wire.NOERROR
    assert not answer.answers
    assert answer.authority[0].type == wire.SOA


def test_zone_apex(table: Table) -> None:
    assert found(table, "cluster.local", wire.SOA).answers[0].type == wire.SOA
    assert found(table, "cluster.local", wire.ANY).answers[0].type == wire.SOA


def test_pods(table: Table) -> None:
    assert data(found(table, "10-244-1-2.any.pod.cluster.local")) == [bytes([10, 244, 1, 2])]
    six = found(table, "fd00--7.any.pod.cluster.local", wire.AAAA)
    assert data(six) == [bytes.fromhex("fd" + "00" * 14 + "07")]
    table.replace([Zone("cluster.local")], [])
    assert rcode(found(table, "10-244-1-2.any.pod.cluster.local")) == wire.NXDOMAIN


def test_what_is_not_ours(table: Table) -> None:
    assert table.find(to_wire("example.com"), wire.A) is None
    assert table.find(to_wire("notcluster.local"), wire.A) is None
    assert table.find(wire.ROOT, wire.NS) is None


def test_aliases(table: Table) -> None:
    inside = found(table, "alias.shop.svc.cluster.local")
    assert [record.type for record in inside.answers] == [wire.CNAME, wire.A]
    outside = found(table, "paid.shop.svc.cluster.local")
    assert outside.chase == to_wire("pay.example.com")
    assert [record.type for record in outside.answers] == [wire.CNAME]
    assert found(table, "paid.shop.svc.cluster.local", wire.CNAME).chase is None
    assert rcode(found(table, "loop-a.shop.svc.cluster.local")) == wire.SERVFAIL
    table.update([Name("alias.shop.svc.cluster.local", cname="gone.shop.svc.cluster.local")], [])
    gone = found(table, "alias.shop.svc.cluster.local")
    assert rcode(gone) == wire.NXDOMAIN
    assert [record.type for record in gone.answers] == [wire.CNAME]


def test_any_gives_one_type(table: Table) -> None:
    assert {record.type for record in found(table, "six.shop.svc.cluster.local", wire.ANY).answers} == {wire.A}
    assert {record.type for record in found(table, "paid.shop.svc.cluster.local", wire.ANY).answers} == {wire.CNAME}


def test_a_name_outside_all_zones() -> None:
    table = Table()
    table.update([Name("lone.example", a=("192.0.2.1",))], [])
    assert len(found(table, "lone.example").answers) == 1
    assert found(table, "lone.example", wire.AAAA).authority[0].owner == to_wire("lone.example")
    assert table.find(to_wire("other.example"), wire.A) is None


def test_changes(table: Table) -> None:
    before = table.revision
    same = Name("orders.shop.svc.cluster.local", a=("10.96.0.10",))
    table.update([same], ["never.there"])
    assert table.revision == before
    table.update([Name(same.name, a=("10.96.0.11",))], ["db-0.db.shop.svc.cluster.local"])
    assert table.revision == before + 2
    assert data(found(table, same.name)) == [bytes([10, 96, 0, 11])]
    assert rcode(found(table, "db-0.db.shop.svc.cluster.local")) == wire.NXDOMAIN


@pytest.mark.parametrize(
    "bad",
    [
        Name("bad..name"),
        Name("x" * 70 + ".shop"),
        Name("a.shop", a=("10.0.0.256",)),
        Name("a.shop", aaaa=("10.0.0.1",)),
        Name("a.shop", a=("ü",)),
        Name("a.shop", srv=(Srv("x..y", 1),)),
        Name("a.shop", srv=(Srv("x", 65536),)),
        Name("a.shop", srv=(Srv("x", -1),)),
        Name("a.shop", ptr=("x..y",)),
        Name("a.shop", cname="x..y"),
        Name("a.shop", cname="x", a=("10.0.0.1",)),
        Name("a.shop", ttl=-1),
    ],
)
def test_a_bad_name_costs_the_others_nothing(bad: Name) -> None:
    table = Table()
    good = Name("good.shop", a=("10.0.0.1",))
    faults = table.replace([Zone("shop"), Zone("bad..zone")], [bad, good])
    assert len(faults) == 2
    assert list(table.names) == [to_wire("good.shop")]
    # a name that becomes bad is not served as it was
    table.update([Name("a.shop", a=("10.0.0.9",))], [])
    assert table.update([bad], [".."])
    assert (to_wire("a.shop") in table.names) == (bad.name != "a.shop")


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    table = Table()
    faults = table.update([Name(f"n{i}.shop", a=("10.0.0.1",)) for i in range(5)], [])
    assert len(faults) == 2
    assert len(table.names) == 3


LABELS = st.sampled_from(["a", "b", "c"])
OWNERS = st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "zone"]))


@given(st.lists(st.tuples(OWNERS, st.sampled_from(["put", "drop", "replace"]))), st.lists(OWNERS, min_size=1))
def test_existence_against_a_naive_model(steps: list[tuple[str, str]], asked: list[str]) -> None:
    table = Table()
    table.replace([Zone("zone")], [])
    model: set[str] = set()
    for owner, step in steps:
        name = Name(owner, a=("10.0.0.1",))
        if step == "put":
            table.update([name], [])
            model.add(owner)
        elif step == "drop":
            table.update([], [owner])
            model.discard(owner)
        else:
            table.replace([Zone("zone")], [name])
            model = {owner}
        for question in asked:
            answer = found(table, question)
            assert bool(answer.answers) == (question in model)
            exists = any(each == question or each.endswith("." + question) for each in model)
            assert (rcode(answer) == wire.NOERROR) == exists
