"""Ranges, addresses and readiness of nodes."""

import ipaddress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync.controllers.nodes import mesh_addresses, ranges, readiness
from sync.resources.decode import decode
from sync.resources.kinds import Key, MeshNode, Node

KEY = "A" * 42 + "E="


def node(name: str, cidr: str = "") -> Node:
    data: dict[str, Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    if cidr:
        data["spec"] = {"podCIDR": cidr}
    found, faults = decode(data)
    assert isinstance(found, Node), faults
    return found


def mesh_node(name: str, address: str = "") -> MeshNode:
    found, faults = decode(
        {
            "apiVersion": MeshNode.api_version,
            "kind": "MeshNode",
            "metadata": {"name": name},
            "spec": {"publicKey": KEY, "listenPort": 20000},
            "status": {"meshAddresses": [address] if address else []},
        }
    )
    assert isinstance(found, MeshNode), faults
    return found


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=20))
def test_no_two_nodes_share_a_range_and_what_is_given_stays(wanted: list[tuple[bool, int]]) -> None:
    held: dict[str, str] = {}
    for number, (has, which) in enumerate(wanted):
        held[f"n{number:02}"] = f"10.244.{which}.0/24" if has and f"10.244.{which}.0/24" not in held.values() else ""
    found = ranges((node(name, cidr) for name, cidr in held.items()), "10.244.0.0/20")
    everything = [ipaddress.ip_network(text) for text in (*found.given.values(), *filter(None, held.values()))]
    assert len(set(everything)) == len(everything)
    assert {*found.given, *found.without} == {name for name, cidr in held.items() if not cidr}
    if found.without:
        inside = ipaddress.ip_network("10.244.0.0/20")
        assert sum(each.overlaps(inside) for each in everything) == 16


def test_a_larger_range_of_a_node_takes_all_it_covers() -> None:
    found = ranges([node("a", "10.244.0.0/23"), node("b")], "10.244.0.0/22")
    assert found.given == {"b": "10.244.2.0/24"}


def test_mesh_addresses_stay_and_the_first_by_name_keeps_a_shared_one() -> None:
    nodes = {"a": mesh_node("a", "10.222.0.7"), "b": mesh_node("b", "10.222.0.7"), "c": mesh_node("c")}
    found = mesh_addresses(nodes, "10.222.0.0/16")
    assert found.addresses[Key("MeshNode", "", "a")] == "10.222.0.7"
    assert Key("MeshNode", "", "b") not in found.addresses
    assert ipaddress.ip_address(found.addresses[Key("MeshNode", "", "c")]) in ipaddress.ip_network("10.222.0.0/16")
    (notice,) = found.notices
    assert notice.key.name == "b"


def test_a_node_is_ready_for_the_grace_after_its_lease() -> None:
    assert readiness(100.0, 110.0, 40.0)[::3] == ("True", 30.0)
    assert readiness(100.0, 140.0, 40.0).status == "Unknown"
    assert readiness(None, 140.0).status == "Unknown"
