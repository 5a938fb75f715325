"""EndpointSlices of a Service from its selector and its Pods, as upstream's endpointslice controller makes them.

Pure, a service at a time. A pod is an endpoint from when it has an address until it has ended. It is `serving` while
its Ready condition is true, `ready` while it serves and is not being deleted (or always, where the service publishes
addresses that are not ready). Pods whose container ports give a service's named ports different numbers are in
different slices, and no slice has more than `MAX_ENDPOINTS`.

A pod's address is its node's word: one that no endpoint can have (loopback, link-local, multicast, unspecified), which
an API refuses with all of the slice, is left out alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from itertools import groupby
from typing import Literal, NamedTuple

from sync.resources.kinds import (
    MANAGED_BY,
    SERVICE_NAME,
    Container,
    EndpointConditions,
    EndpointHints,
    EndpointSlice,
    HintName,
    Metadata,
    Node,
    Pod,
    PortOfService,
    PortOfSlice,
    Service,
    SliceEndpoint,
)

MANAGER = "edgemesh.kubeedge.io"
"""Value of the managed-by label of the slices made here."""
MAX_ENDPOINTS = 100
"""Endpoints a slice (upstream's --max-endpoints-per-slice)."""

HEADLESS = "service.kubernetes.io/headless"
"""Label of the slices of a headless service."""

_OWN_LABELS = (SERVICE_NAME, MANAGED_BY, HEADLESS)
_ENDED = ("Succeeded", "Failed")


def selects(service: Service, pod: Pod) -> bool:
    """Whether a pod belongs to a service; a service without a selector has no pods."""
    selector = service.spec.selector
    return (
        bool(selector)
        and service.spec.type != "ExternalName"
        and service.metadata.namespace == pod.metadata.namespace
        and selector.items() <= pod.metadata.labels.items()
    )


def made_here(piece: EndpointSlice) -> bool:
    """Whether a slice was made by this controller; any other's is left as it is."""
    return piece.metadata.labels.get(MANAGED_BY) == MANAGER


class Shape(NamedTuple):
    """What all endpoints of a slice have in common: family and ports."""

    address_type: Literal["IPv4", "IPv6"]
    ports: tuple[PortOfSlice, ...]


def slices(service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node]) -> tuple[EndpointSlice, ...]:
    """The slices of a service, the same for the same pods in any order; `nodes` give zones, by name."""
    made: list[EndpointSlice] = []
    for shape, members in endpoints(service, pods, nodes):
        for start in range(0, len(members), MAX_ENDPOINTS):
            name = f"{service.metadata.name}-{len(made)}"
            made.append(piece(service, name, shape, members[start : start + MAX_ENDPOINTS]))
    return tuple(made)


def piece(service: Service, name: str, shape: Shape, members: Iterable[SliceEndpoint]) -> EndpointSlice:
    """A slice of a service. As upstream's it has the service's labels, and one that marks a headless service."""
    labels = {name: value for name, value in service.metadata.labels.items() if name not in _OWN_LABELS}
    if service.headless:
        labels[HEADLESS] = ""
    metadata = Metadata(
        name=name,
        namespace=service.metadata.namespace,
        labels=labels | {SERVICE_NAME: service.metadata.name, MANAGED_BY: MANAGER},
    )
    return EndpointSlice(
        metadata=metadata, address_type=shape.address_type, endpoints=tuple(members), ports=shape.ports
    )


def endpoints(
    service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node]
) -> list[tuple[Shape, list[SliceEndpoint]]]:
    """The endpoints of a service by their shape, in an order that is the same for the same pods."""
    found = [
        (_family(pod), _ports(service, pod), pod.metadata.name, pod)
        for pod in pods
        if selects(service, pod) and pod.status.phase not in _ENDED and _reachable(pod.status.pod_ip)
    ]
    found.sort(key=lambda endpoint: endpoint[:3])
    grouped: list[tuple[Shape, list[SliceEndpoint]]] = []
    for (family, ports), group in groupby(found, key=lambda endpoint: endpoint[:2]):
        shape = Shape(
            "IPv6" if family == 6 else "IPv4",
            tuple(PortOfSlice(name=name, protocol=protocol, port=port) for name, protocol, port in ports),
        )
        grouped.append((shape, [_endpoint(service, pod, nodes) for *_, pod in group]))
    return grouped


def _reachable(address: str) -> bool:
    if not address:
        return False
    found = ip_address(address)
    return not (found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified)


def _family(pod: Pod) -> int:
    return 6 if ":" in pod.status.pod_ip else 4


def _ports(service: Service, pod: Pod) -> tuple[tuple[str, str, int], ...]:
    """Name, protocol and number of each of the service's ports in this pod; one that the pod lacks is left out."""
    found = ((port, _number(port, pod)) for port in service.spec.ports)
    return tuple((port.name, port.protocol, number) for port, number in found if number is not None)


def _number(port: PortOfService, pod: Pod) -> int | None:
    if port.target_port is None:
        return port.port
    if isinstance(port.target_port, int):
        return port.target_port
    for container in _containers(pod):
        for candidate in container.ports:
            if candidate.name == port.target_port and candidate.protocol == port.protocol:
                return candidate.container_port
    return None


def _containers(pod: Pod) -> Iterator[Container]:
    """A pod's containers, and those of its init containers that go on running (sidecars)."""
    yield from pod.spec.containers
    yield from (container for container in pod.spec.init_containers if container.restart_policy == "Always")


def _endpoint(service: Service, pod: Pod, nodes: Mapping[str, Node]) -> SliceEndpoint:
    serving = any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)
    terminating = bool(pod.metadata.deletion_timestamp)
    node = nodes.get(pod.spec.node_name)
    zone = node.zone if node else ""
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    return SliceEndpoint(
        addresses=(pod.status.pod_ip,),
        conditions=EndpointConditions(
            ready=service.spec.publish_not_ready_addresses or (serving and not terminating),
            serving=serving,
            terminating=terminating,
        ),
        hostname=pod.spec.hostname if named else "",
        node_name=pod.spec.node_name,
        zone=zone,
        hints=_hints(service, pod.spec.node_name, zone),
    )


def _hints(service: Service, node: str, zone: str) -> EndpointHints | None:
    """Whom an endpoint is for, as `trafficDistribution` says (PreferClose is the old name of PreferSameZone)."""
    distribution = service.spec.traffic_distribution
    if not distribution or not zone:
        return None
    nodes = (HintName(node),) if distribution == "PreferSameNode" and node else ()
    return EndpointHints(for_zones=(HintName(zone),), for_nodes=nodes)
