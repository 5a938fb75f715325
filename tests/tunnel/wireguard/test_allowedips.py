"""Longest prefix match against a naive search through all networks."""

import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tunnel.wireguard.allowedips import CACHE_SIZE, AllowedIPs, Network

# few distinct bits, so that prefixes nest and addresses hit
bits = st.sampled_from([0, 1, 2, 3, 0xFF])
v4 = st.builds(lambda a, b, c, d: IPv4Address(bytes([10, a, b, c & d])), bits, bits, bits, bits)
v6 = st.builds(lambda a, b: IPv6Address(bytes([0xFD, a]) + bytes(13) + bytes([b])), bits, bits)
networks: st.SearchStrategy[Network] = st.one_of(
    st.builds(lambda address, length: IPv4Network((address, length), strict=False), v4, st.integers(0, 32)),
    st.builds(lambda address, length: IPv6Network((address, length), strict=False), v6, st.integers(0, 128)),
)
OWNERS = ["a", "b", "c"]
owners = st.sampled_from(OWNERS)
changes = st.tuples(owners, st.lists(networks, max_size=4), st.booleans())


@given(st.lists(changes, max_size=8), st.lists(st.one_of(v4, v6), min_size=1, max_size=8))
def test_as_a_naive_search(
    history: list[tuple[str, list[Network], bool]], asked: list[IPv4Address | IPv6Address]
) -> None:
    table: AllowedIPs[str] = AllowedIPs()
    naive: dict[Network, str] = {}
    for owner, prefixes, replace in history:
        table.assign(owner, prefixes, replace=replace)
        if replace:
            naive = {network: other for network, other in naive.items() if other != owner}
        naive.update(dict.fromkeys(prefixes, owner))
        for address in asked * 2:  # the second time from what is remembered
            matching = [network for network in naive if address in network]
            best = max(matching, key=lambda network: network.prefixlen, default=None)
            assert table.lookup(address.packed) == (naive[best] if best is not None else None)
        for name in OWNERS:
            assert set(table.of(name)) == {network for network, other in naive.items() if other == name}


def test_a_prefix_moves_to_whom_it_is_given_last() -> None:
    table: AllowedIPs[str] = AllowedIPs()
    network = ip_network("10.244.1.0/24")
    table.assign("a", [network])
    table.assign("b", [network])
    assert table.lookup(ip_address("10.244.1.9").packed) == "b"
    assert table.of("a") == []


def test_addresses_of_no_family_belong_to_nobody() -> None:
    table: AllowedIPs[str] = AllowedIPs()
    table.assign("a", [ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert table.lookup(bytes(4)) == table.lookup(bytes(16)) == "a"
    for size in (0, 3, 5, 15, 17):
        assert table.lookup(bytes(size)) is None


def test_remembered_answers_are_capped() -> None:
    table: AllowedIPs[str] = AllowedIPs()
    table.assign("a", [ip_network("10.0.0.0/8")])
    for number in range(3 * CACHE_SIZE):
        assert table.lookup((0x0A000000 + number).to_bytes(4, "big")) == "a"
        assert len(table._cache) <= CACHE_SIZE


def test_a_change_costs_what_it_changes() -> None:
    """A mesh of thousands of nodes is set one peer at a time."""
    table: AllowedIPs[str] = AllowedIPs()
    began = time.process_time()
    for number in range(10_000):
        table.assign(str(number), [IPv4Network((0x0A000000 + (number << 8), 24))], replace=True)
    assert time.process_time() - began < 2.0  # were each change to cost the table's size, this would take minutes
    assert all(table.lookup((0x0A000001 + (number << 8)).to_bytes(4, "big")) == str(number) for number in range(10_000))
    for number in range(10_000):
        table.assign(str(number), [], replace=True)
    assert table._tables == {4: [], 16: []}
    assert not table._owners
    assert not table._held
