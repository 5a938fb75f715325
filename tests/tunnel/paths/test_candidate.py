"""Which addresses may be probed, and their order."""

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Address, Endpoint
from tunnel.paths.candidate import Excluded, better, hard, kind, rank, reflexive
from tunnel.peer import PathKind


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.169.254",
        "169.254.96.16",
        "::",
        "::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "10.244.3.7",
        "10.96.0.1",
        "fd99::1",
        "no address",
        "",
    ],
)
def test_no_packet_goes_there(host: str) -> None:
    assert not Excluded(["10.244.0.0/16", "10.96.0.0/12", "fd99::/64"]).allows(Address(host, 40000))


@pytest.mark.parametrize("host", ["192.168.1.4", "203.0.113.9", "198.18.0.1", "2001:db8::1", "10.1.2.3"])
def test_candidates_that_may_be(host: str) -> None:
    excluded = Excluded(["10.244.0.0/16"])
    assert excluded.allows(Address(host, 40000))
    assert not excluded.allows(Address(host, 0))


@given(
    st.lists(st.integers(0, 2**32 - 1).flatmap(lambda n: st.integers(8, 32).map(lambda bits: (n, bits))), max_size=30),
    st.integers(0x0B000000, 0x63FFFFFF),
)
def test_served_ranges_are_excluded_and_no_others(ranges: list[tuple[int, int]], number: int) -> None:
    served = [ipaddress.IPv4Network((number, bits), strict=False) for number, bits in ranges]
    host = ipaddress.IPv4Address(number)
    allowed = Excluded(map(str, served)).allows(Address(str(host), 40000))
    assert allowed == (not any(host in network for network in served))
    around = ipaddress.IPv4Network((number, 20), strict=False)
    assert not Excluded([*map(str, served), str(around)]).allows(Address(str(host), 40000))


@given(st.lists(st.builds(Address, st.ip_addresses().map(str), st.integers(-1, 70000)), max_size=40))
def test_a_list_is_capped_and_without_repetition(addresses: list[Address]) -> None:
    taken = Excluded().filter(addresses, 5)
    assert len(taken) <= 5
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(addresses)


def test_order() -> None:
    ways = [
        Endpoint("10.0.0.1", 1),
        Endpoint("2001:db8::1", 1),
        Endpoint("203.0.113.1", 1),
        Endpoint("198.18.0.10", 1, 5),
    ]
    for mixed in itertools.permutations(ways):
        assert sorted(mixed, key=rank) == ways
    assert [kind(way) for way in ways] == [PathKind.LAN, PathKind.DIRECT, PathKind.DIRECT, PathKind.RELAYED]


def test_a_change_between_equals_must_be_worth_it() -> None:
    assert better(0.010, 0.050)
    assert not better(0.046, 0.050)
    assert not better(0.001, 0.005)
    assert not better(0.050, 0.010)


def test_a_hard_nat_also_offers_its_local_port() -> None:
    one, other = Address("203.0.113.1", 5000), Address("203.0.113.1", 6000)
    assert not hard([one, one])
    assert hard([one, other])
    assert reflexive([one, one], 7000) == (one,)
    assert reflexive([one, other], 7000) == (one, other, Address("203.0.113.1", 7000))
