"""No key and no range belongs to two peers; the first by name has it."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from tunnel.claims import admit
from tunnel.peer import LocalNode, Peer

NODE = LocalNode("here", bytes(32), 40000, "10.99.0.1")
OWN = b"o" * 32


def peer(name: str, *cidrs: str, key: int | None = None) -> Peer:
    return Peer(name, bytes([key if key is not None else ord(name[0])]) * 32, cidrs)


def test_the_first_by_name_has_a_key_and_a_range() -> None:
    peers = {
        "b": peer("b", "10.244.1.0/24", key=1),
        "a": peer("a", "10.244.2.0/24", key=1),
        "c": peer("c", "10.244.2.128/25"),
        "d": peer("d", "10.244.0.0/16"),
        "e": peer("e", "10.244.3.0/24"),
    }
    taken, refused = admit(NODE, OWN, peers)
    assert list(taken) == ["a", "e"]
    assert "the key of a" in refused["b"]
    assert "10.244.2.128/25 overlaps one of a" in refused["c"]
    assert "overlaps one of a" in refused["d"]


def test_this_nodes_own_key_and_address_are_taken() -> None:
    peers = {"a": peer("a", "10.99.0.0/24"), "b": Peer("b", OWN), "c": Peer("c", b"short"), "d": peer("d", "no")}
    taken, refused = admit(NODE, OWN, peers)
    assert not taken
    assert "here" in refused["a"]
    assert "here" in refused["b"]
    assert "5 bytes" in refused["c"]
    assert "no address range" in refused["d"]


ranges = st.builds(
    lambda base, prefix: str(ipaddress.ip_network((base << 24, prefix), strict=False)),
    st.integers(0, 5).map(lambda n: n + 10),
    st.integers(4, 12),
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.lists(ranges, max_size=3), max_size=8))
def test_against_a_naive_model(claims: dict[str, list[str]]) -> None:
    peers = {name: Peer(name, name.ljust(32, ".").encode(), tuple(cidrs)) for name, cidrs in claims.items()}
    taken, refused = admit(LocalNode("here", bytes(32), 1), OWN, peers)
    assert taken.keys() | refused.keys() == peers.keys()
    held: dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = {}
    for name in sorted(peers):
        networks = [ipaddress.ip_network(cidr) for cidr in peers[name].allowed_ips]
        clash = any(a.overlaps(b) for a in networks for other in held.values() for b in other)
        assert (name in refused) is clash
        if not clash:
            held[name] = networks
