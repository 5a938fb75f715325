"""Services to what the proxy takes: each port with the endpoints that this node sends connections to.

The choice of endpoints is kube-proxy's: those that are ready; where none is, those that still serve while they
terminate. Hints narrow it down to this node or zone if every endpoint has them and one is meant for it;
`internalTrafficPolicy: Local` to this node without exception. Before all that, endpoints on nodes without a working
path are left out as long as others remain.

Without a DestinationRule connections are spread at random. (EdgeMesh's default is round robin, which costs a counter
a service in the kernel; `simple: ROUND_ROBIN` asks for it.)
"""

from collections.abc import Iterable, Set
from typing import NamedTuple

from edgemesh.agent_file import FilterMode
from edgemesh.config import Config
from edgemesh.plan.endpoints import Target, targets
from edgemesh.plan.peers import Mesh, Problem
from proxy.service import Backend, Policy, Protocol, ServicePort
from sync.resources.kinds import DestinationRule, EndpointSlice, PortOfSlice, Service

FILTER_LABEL = "service.edgemesh.kubeedge.io/service-proxy-name"
"""Label of a Service, of any value: who proxies it. `FilterMode` says what it means."""
DEFAULT_AFFINITY = 10800
"""Seconds that a client keeps its endpoint, where a service with ClientIP affinity does not say (as Kubernetes)."""


class View(NamedTuple):
    """From where a service is looked at: the node's settings, the mesh, and the nodes without a working path."""

    config: Config
    mesh: Mesh
    unreachable: Set[str] = frozenset()


def proxied(service: Service, mode: FilterMode) -> bool:
    """Whether the mesh proxies a service at all."""
    labelled = FILTER_LABEL in service.metadata.labels
    ours = not labelled if mode is FilterMode.EXISTS else labelled
    return ours and not service.headless and service.spec.type != "ExternalName"


def ports(
    service: Service, address: str, slices: Iterable[EndpointSlice], rule: DestinationRule | None, view: View
) -> tuple[list[ServicePort], list[Problem]]:
    """The ports of a service at its cluster IP, and what of its rule can't be done. None if it has no address."""
    if not address or not proxied(service, view.config.filter_mode):
        return [], []
    policy, problems = _policy(rule)
    found = targets(slices, view.mesh)
    name = f"{service.metadata.namespace}/{service.metadata.name}"
    return [
        ServicePort(
            name=f"{name}:{port.name}" if port.name else name,
            address=address,
            protocol=Protocol(port.protocol),
            port=port.port,
            backends=_backends(port.name, port.protocol, address, found, service, view),
            policy=policy,
            affinity=_affinity(service),
        )
        for port in service.spec.ports
    ], problems


def _backends(
    name: str,
    protocol: str,
    address: str,
    found: Iterable[tuple[tuple[PortOfSlice, ...], list[Target]]],
    service: Service,
    view: View,
) -> tuple[Backend, ...]:
    """The endpoints of one port, of the cluster IP's family, in a fixed order, each once."""
    candidates: dict[Backend, Target] = {}
    for slice_ports, members in found:
        number = next((port.port for port in slice_ports if port.name == name and port.protocol == protocol), None)
        if number is None:
            continue
        for target in members:
            if (":" in target.address) == (":" in address) and not view.mesh.gone(target.node):
                backend = Backend(target.address, number)
                known = candidates.get(backend)
                if known is None or target.ready > known.ready:
                    candidates[backend] = target
    local = service.spec.internal_traffic_policy == "Local"
    if local:
        candidates = {b: target for b, target in candidates.items() if target.node == view.config.node_name}
    away = view.unreachable | view.mesh.cut_off
    working = {b: target for b, target in candidates.items() if target.node not in away}
    chosen = _usable(working, view, hinted=not local) or _usable(candidates, view, hinted=not local)
    return tuple(sorted(chosen))


def _usable(candidates: dict[Backend, Target], view: View, *, hinted: bool) -> list[Backend]:
    ready = {backend: target for backend, target in candidates.items() if target.ready}
    if ready:
        return _hinted(ready, view) if hinted else list(ready)
    return [backend for backend, target in candidates.items() if target.serving and target.terminating]


def _hinted(ready: dict[Backend, Target], view: View) -> list[Backend]:
    """Those meant for this node, else for this zone, else all; hints that some lack don't count."""
    node, zone = view.config.node_name, view.mesh.zone
    if all(target.nodes for target in ready.values()):
        here = [backend for backend, target in ready.items() if node in target.nodes]
        if here:
            return here
    if zone and all(target.zones for target in ready.values()):
        near = [backend for backend, target in ready.items() if zone in target.zones]
        if near:
            return near
    return list(ready)


def _affinity(service: Service) -> int | None:
    if service.spec.session_affinity != "ClientIP":
        return None
    config = service.spec.session_affinity_config
    return config.client_ip.timeout_seconds if config and config.client_ip else DEFAULT_AFFINITY


def _policy(rule: DestinationRule | None) -> tuple[Policy, list[Problem]]:
    """A rule's policy; one that there isn't is random, with a problem."""
    balancer = rule.spec.traffic_policy.load_balancer if rule and rule.spec.traffic_policy else None
    if rule is None or balancer is None:
        return Policy.RANDOM, []
    hashed = balancer.consistent_hash
    if hashed is not None:
        if hashed.use_source_ip:
            return Policy.SOURCE_HASH, []
        asked = "by HTTP header" if hashed.http_header_name else "by what it says"
        wrong = f"consistentHash {asked} needs a proxy that reads HTTP: endpoints are chosen at random"
        return Policy.RANDOM, [Problem(str(rule.key), wrong)]
    policies = {"": Policy.RANDOM, "RANDOM": Policy.RANDOM, "ROUND_ROBIN": Policy.ROUND_ROBIN}
    if balancer.simple not in policies:
        known = "RANDOM, ROUND_ROBIN"
        wrong = f"loadBalancer.simple {balancer.simple!r} is none of {known}: endpoints are chosen at random"
        return Policy.RANDOM, [Problem(str(rule.key), wrong)]
    return policies[balancer.simple], []
