"""Who answers for a service: the endpoints of its slices, each at the address where this node reaches it."""

from collections.abc import Iterable
from typing import NamedTuple

from edgemesh.plan.peers import Mesh
from sync.resources.kinds import EndpointSlice, PortOfSlice


class Target(NamedTuple):
    """One endpoint. `zones` and `nodes` are the hints whom it is for, empty for none."""

    address: str
    node: str
    hostname: str
    ready: bool
    serving: bool
    terminating: bool
    zones: frozenset[str]
    nodes: frozenset[str]


_NONE: frozenset[str] = frozenset()


def targets(slices: Iterable[EndpointSlice], mesh: Mesh) -> list[tuple[tuple[PortOfSlice, ...], list[Target]]]:
    """The endpoints, slice by slice, with the ports that all of a slice have.

    Of an endpoint's addresses, which are all the same workload, the first is taken. Slices of names (FQDN) have no
    addresses. What a condition leaves open is Kubernetes' default: ready, serving as ready, not terminating.
    """
    found: list[tuple[tuple[PortOfSlice, ...], list[Target]]] = []
    for piece in slices:
        if piece.address_type == "FQDN":
            continue
        members: list[Target] = []
        for endpoint in piece.endpoints:
            ready = endpoint.conditions.ready is not False
            serving = endpoint.conditions.serving
            hints = endpoint.hints
            members.append(
                Target(
                    address=mesh.reach(endpoint.addresses[0], endpoint.node_name),
                    node=endpoint.node_name,
                    hostname=endpoint.hostname,
                    ready=ready,
                    serving=ready if serving is None else serving,
                    terminating=endpoint.conditions.terminating is True,
                    zones=frozenset(hint.name for hint in hints.for_zones) if hints else _NONE,
                    nodes=frozenset(hint.name for hint in hints.for_nodes) if hints else _NONE,
                )
            )
        found.append((piece.ports, members))
    return found
