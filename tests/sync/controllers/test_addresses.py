"""The allocator: the same on every node, whatever the order; nobody moved by another's clash."""

import ipaddress
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sync.controllers.addresses import Claim, allocate, choose
from sync.resources.kinds import Key

SMALL = "10.96.0.0/26"
"""64 addresses, so that clashes are common; a small range has no part kept free but the first address."""

keys = st.builds(Key, st.just("Service"), st.sampled_from(["shop", "bank"]), st.text("abcdef", min_size=1, max_size=3))
addresses = st.integers(1, 62).map(lambda host: str(ipaddress.ip_address("10.96.0.0") + host))
claims = st.dictionaries(keys, st.just("") | st.just("") | addresses, max_size=70).map(
    lambda found: [Claim(key, address) for key, address in found.items()]
)


def test_addresses_are_those_of_every_release() -> None:
    """Nodes of different versions must agree: these may never change."""
    given_ = allocate([Claim(Key("Service", "shop", "orders")), Claim(Key("Service", "shop", "echo"))], "10.96.0.0/12")
    assert given_.addresses == {
        Key("Service", "shop", "orders"): "10.101.243.57",
        Key("Service", "shop", "echo"): "10.110.237.66",
    }
    assert given_.notices == ()


@given(claims, st.randoms())
def test_order_does_not_matter_and_none_is_given_twice(found: list[Claim], random: Random) -> None:
    result = allocate(found, SMALL)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert allocate(shuffled, SMALL) == result
    assert len(set(result.addresses.values())) == len(result.addresses)
    network = ipaddress.ip_network(SMALL)
    for claim in found:
        address = result.addresses.get(claim.key)
        if claim.address:
            assert address in (claim.address, None)
        if address is None:
            assert any(notice.key == claim.key for notice in result.notices)
        else:
            assert ipaddress.ip_address(address) in network
            assert address not in ("10.96.0.0", "10.96.0.63")


@given(claims, keys)
def test_one_more_service_moves_only_those_it_clashes_with(found: list[Claim], new: Key) -> None:
    """Whoever has the address it would have alone keeps it, unless a clash is told for it."""
    alone = {claim.key: allocate([claim], SMALL).addresses[claim.key] for claim in found}
    more = [*(claim for claim in found if claim.key != new), Claim(new)]
    after = allocate(more, SMALL)
    told = {notice.key for notice in after.notices}
    for claim in more:
        if claim.key != new and claim.key not in told:
            assert after.addresses[claim.key] == alone[claim.key]


@given(claims)
def test_explicit_address_wins_and_the_first_by_name_has_a_shared_one(found: list[Claim]) -> None:
    result = allocate(found, SMALL)
    wanted: dict[str, Key] = {}
    for claim in sorted(found):
        if claim.address:
            wanted.setdefault(claim.address, claim.key)
    for address, key in wanted.items():
        assert result.addresses[key] == address


def test_a_clash_says_what_to_do() -> None:
    first, second = Key("Service", "a", "x"), Key("Service", "b", "y")
    taken = allocate([Claim(second)], SMALL).addresses[second]
    result = allocate([Claim(first, taken), Claim(second)], SMALL)
    assert result.addresses[first] == taken
    (notice,) = result.notices
    assert notice.key == second
    assert f"Service b/y and Service a/x share the address {taken}" in notice.text
    assert "set clusterIP" in notice.text


def test_full_range_and_one_address_asked_for_twice() -> None:
    many = [Claim(Key("Service", "shop", f"s{i:02}")) for i in range(70)]
    result = allocate(many, SMALL)
    assert len(result.addresses) == 62
    assert sum("is full" in notice.text for notice in result.notices) == 8
    twice = allocate([Claim(Key("Service", "n", name), "10.96.0.9") for name in "ab"], SMALL)
    assert twice.addresses == {Key("Service", "n", "a"): "10.96.0.9"}
    assert "clusterIP 10.96.0.9 is Service n/a's" in twice.notices[0].text


def test_both_families_and_the_lower_end_is_left_to_people() -> None:
    many = [Claim(Key("Service", "shop", f"s{i}")) for i in range(300)]
    for text in ("10.96.0.0/16", "fd00:96::/108"):
        network = ipaddress.ip_network(text)
        offsets = [
            int(ipaddress.ip_address(address)) - int(network.network_address)
            for address in allocate(many, text).addresses.values()
        ]
        assert len(set(offsets)) == 300
        assert min(offsets) >= 256
        assert max(offsets) < network.num_addresses - 1


def test_one_service_gets_what_it_would_get_among_all() -> None:
    services = [Key("Service", "shop", f"s{number}") for number in range(40)]
    given = allocate([Claim(key) for key in services], "10.0.0.0/25").addresses
    for key in services:
        others = {address for other, address in given.items() if other != key}
        assert choose(key, "10.0.0.0/25", others) not in others
    alone = services[0]
    assert choose(alone, "10.0.0.0/25", ()) == allocate([Claim(alone)], "10.0.0.0/25").addresses[alone]
    everything = {str(address) for address in ipaddress.ip_network("10.0.0.0/25")}
    assert choose(alone, "10.0.0.0/25", everything) == ""
