"""The way through the same routers without the mesh, which is measured beside each figure of it.

A port forward on the router and on the node of the pod that is called, masquerading on the node of the pod that calls:
all in tables of the benchmark's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from e2e.lab.namespaces import Space
from e2e.lab.topology import Node, Topology
from e2e.lab.workloads import Pod

OuterPort = tuple[str, int]
"""tcp or udp, and the port at the router's outer address."""


def forward(topology: Topology, caller: Node, ports: Mapping[OuterPort, tuple[Pod, int]]) -> None:
    """Let the pods of one node call pods of other sites at their routers' outer addresses; replaces a former way."""
    to_node, to_pod = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for (protocol, port), (pod, target) in ports.items():
        place = pod.node.place
        to_node[place.zone].append(f'iifname "wan" {protocol} dport {port} dnat to {place.address}')
        to_pod[place.name].append(f'iifname "eth0" {protocol} dport {port} dnat to {pod.address}:{target}')
    for zone, rules in to_node.items():
        router = topology.routers[zone]
        load_chain(router, "forward", "nat hook prerouting priority dstnat", *rules)
        router.run('nft insert rule ip router forward iifname "wan" ct status dnat accept')
    for name, rules in to_pod.items():
        load_chain(topology.nodes[name].space, "forward", "nat hook prerouting priority dstnat", *rules)
    masquerade = f'oifname "eth0" ip saddr {caller.pod_range} masquerade'
    load_chain(caller.space, "out", "nat hook postrouting priority srcnat", masquerade)


def load_chain(space: Space, chain: str, kind: str, *rules: str) -> None:
    """Load a chain of that type, and nothing else, into a table of the benchmark's own."""
    body = "\n".join(rules)
    text = f"table ip bench\ndelete table ip bench\ntable ip bench {{\nchain {chain} {{\ntype {kind}\n{body}\n}}\n}}\n"
    space.run(["nft", "-f", "-"], input=text)
