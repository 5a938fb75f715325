"""Nodes to peers: what each has, and that no two have the same."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.config import Config, RelayNode
from edgemesh.plan.peers import Mesh, mesh
from sync.resources.kinds import MeshNode, Node
from tests.edgemesh.objects import mesh_node, node, public_key
from tunnel.endpoint import Address
from tunnel.peer import Peer

CONFIG = Config(node_name="a", relays=(RelayNode("cloud", (Address("198.51.100.1", 20006),)),))


def look(*objects: MeshNode | Node, own: int = 1) -> Mesh:
    return mesh(
        {found.metadata.name: found for found in objects if isinstance(found, MeshNode)},
        {found.metadata.name: found for found in objects if isinstance(found, Node)},
        CONFIG,
        public_key(own),
    )


def told(found: Mesh) -> list[str]:
    return [str(problem) for problem in found.problems]


def test_a_peer() -> None:
    found = look(mesh_node("a", 1), mesh_node("b", 2, relays=["203.0.113.9", "[2001:db8::1]:443"]), node("a", "site-a"))
    assert found.peers == (
        Peer(
            name="b",
            public_key=public_key(2),
            allowed_ips=("10.244.2.0/24", "10.222.0.2/32"),
            lan=(Address("192.0.2.2", 20002),),
            relays=(Address("203.0.113.9", 20006), Address("2001:db8::1", 443)),
        ),
    )
    assert found.addresses == {"a": "10.222.0.1", "b": "10.222.0.2"}
    assert (found.pod_ranges, found.zone, found.problems) == (("10.244.1.0/24",), "site-a", ())


def test_relays_of_the_configuration_where_a_node_has_none() -> None:
    (peer,) = look(mesh_node("a", 1), mesh_node("b", 2)).peers
    assert peer.relays == CONFIG.relay_addresses
    found = look(mesh_node("a", 1), mesh_node("b", 2, relays=["relay.example"]))
    assert found.peers[0].relays == ()
    assert told(found) == ["MeshNode b: relay relay.example is left out: not an IP address"]


def test_pod_range_of_the_node_object() -> None:
    status = {"meshAddresses": ["10.222.0.2", "fd00::2"]}
    found = look(mesh_node("a", 1), mesh_node("b", 2, status=status), node("b", pod_range="10.244.7.0/24"))
    assert found.peers[0].allowed_ips == ("10.244.7.0/24", "10.222.0.2/32", "fd00::2/128")


def test_host_network_is_reached_at_the_mesh_address() -> None:
    found = look(mesh_node("a", 1), mesh_node("b", 2), node("b", address="198.51.100.77"))
    assert found.reach("192.0.2.2", "b") == "10.222.0.2"
    assert found.reach("198.51.100.77", "b") == "10.222.0.2"
    assert found.reach("192.0.2.2", "a") == "192.0.2.2"
    assert found.reach("10.244.2.5", "b") == "10.244.2.5"
    assert found.reach("192.0.2.2", "") == "192.0.2.2"


def test_what_two_have_the_first_by_name_keeps() -> None:
    found = look(
        mesh_node("a", 1),
        mesh_node("c", 3, status={"meshAddresses": ["10.222.0.2"], "podRanges": ["10.244.0.0/16", "10.244.3.0/24"]}),
        mesh_node("b", 2),
        mesh_node("d", 4, key=2),
    )
    assert [(peer.name, peer.allowed_ips) for peer in found.peers] == [
        ("b", ("10.244.2.0/24", "10.222.0.2/32")),
        ("c", ("10.244.3.0/24",)),
    ]
    assert found.cut_off == {"c", "d"}
    assert told(found) == [
        "MeshNode c: 10.244.0.0/16 is refused: it overlaps what a has",
        "MeshNode c: 10.222.0.2 is refused: it overlaps what b has",
        "MeshNode c: has no mesh address (IPv4): its host network can't be reached",
        "MeshNode d: refused: it has the public key of b",
    ]


def test_ranges_that_nobody_may_have() -> None:
    found = look(
        mesh_node("a", 1),
        mesh_node("b", 2, status={"meshAddresses": ["127.0.0.1"], "podRanges": ["10.96.4.0/24", "0.0.0.0/0"]}),
    )
    assert found.peers[0].allowed_ips == ()
    assert told(found)[:3] == [
        "MeshNode b: 10.96.4.0/24 is refused: it overlaps what the services has",
        "MeshNode b: 0.0.0.0/0 is refused: no packets can be sent to 0.0.0.0/8",
        "MeshNode b: 127.0.0.1 is refused: no packets can be sent to 127.0.0.0/8",
    ]


def test_two_nodes_of_one_name_and_a_node_of_another() -> None:
    found = look(mesh_node("a", 9), mesh_node("b", 2))
    assert told(found) == [
        "MeshNode a: has another public key than this node: the file is old, or two nodes have one name"
    ]
    assert [peer.name for peer in found.peers] == ["b"]
    found = look(mesh_node("b", 1), mesh_node("c", 3))
    assert [peer.name for peer in found.peers] == ["c"]
    refused, missing = told(found)
    assert refused == "MeshNode b: refused: it has this node's public key, and this node's name is a"
    assert missing.startswith("MeshNode a: there is none for this node: others can't reach it. ")
    assert "'edgemesh join'" in missing
    assert "'edgemesh agent --print-meshnode'" in missing
    assert look(node("a", pod_range="10.244.5.0/24")).pod_ranges == ("10.244.5.0/24",)


networks = st.tuples(st.integers(0, 15), st.sampled_from([24, 28, 32])).map(
    lambda part: str(ipaddress.ip_network(f"10.244.0.{part[0] * 16}/{part[1]}", strict=False))
)


@given(st.lists(st.tuples(st.lists(networks, max_size=3), st.integers(2, 6)), max_size=6))
def test_no_two_nodes_have_one_address_or_key(claims: list[tuple[list[str], int]]) -> None:
    nodes = [
        mesh_node(f"n{i}", i + 10, key=key, status={"podRanges": ranges, "meshAddresses": [f"10.222.0.{key}"]})
        for i, (ranges, key) in enumerate(claims)
    ]
    found = look(*nodes, own=1)
    assert found == look(*reversed(nodes), own=1)
    given_ = [ipaddress.ip_network(text) for peer in found.peers for text in peer.allowed_ips]
    assert not any(one.overlaps(two) for i, one in enumerate(given_) for two in given_[:i])
    keys = [peer.public_key for peer in found.peers]
    assert len(keys) == len(set(keys)) == len({key for _, key in claims})
    naive: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for i, (ranges, key) in enumerate(claims):
        if key in [other for _, other in claims[:i]]:
            continue
        for text in [*ranges, f"10.222.0.{key}/32"]:
            network = ipaddress.ip_network(text)
            if not any(network.overlaps(other) for other in naive):
                naive.append(network)
    assert given_ == naive


def test_a_key_that_the_cloud_accepted_of_another_is_not_taken_by_a_name_that_comes_first() -> None:
    honest = mesh_node("c", 3)
    accepted = {"meshAddresses": ["10.222.0.3"], "publicKey": honest.spec.public_key}
    honest = mesh_node("c", 3, status=accepted)
    for thief in (mesh_node("b", 3), mesh_node("b", 3, status={"publicKey": mesh_node("b", 2).spec.public_key})):
        found = look(mesh_node("a", 1), thief, honest)
        assert [peer.name for peer in found.peers] == ["c"]
        assert found.cut_off == {"b"}
    found = look(mesh_node("a", 1), mesh_node("b", 2, status=accepted))
    assert found.peers == ()
    assert told(found)[-1].endswith("the cloud has not accepted its new public key")
