"""What types can't say of an object: addresses, ranges, names, keys; and what Kubernetes itself would refuse."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator

from sync.resources.kinds import (
    DestinationRule,
    EndpointSlice,
    MeshNode,
    Node,
    Pod,
    Resource,
    Service,
)
from sync.resources.shape import Fault, Path

KEY_SIZE = 32
"""Bytes of a WireGuard public key (Curve25519)."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?=.{1,15}$)[a-z0-9](-?[a-z0-9])*")

LABEL_RULE = "at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit"
SUBDOMAIN_RULE = "at most 253 of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit"


def validate(resource: Resource, service_range: str = "") -> list[Fault]:
    """All faults of an object; with `service_range` (CIDR text) also a cluster IP outside it."""
    faults = list(_metadata(resource))
    if isinstance(resource, Service):
        faults += _service(resource, service_range)
    elif isinstance(resource, EndpointSlice):
        faults += _slice(resource)
    elif isinstance(resource, Pod):
        faults += _pod(resource)
    elif isinstance(resource, Node):
        faults += _node(resource)
    elif isinstance(resource, MeshNode):
        faults += _mesh_node(resource)
    elif isinstance(resource, DestinationRule):
        faults += _destination_rule(resource)
    return faults


def _metadata(resource: Resource) -> Iterator[Fault]:
    name, namespace = resource.metadata.name, resource.metadata.namespace
    if not name:
        yield Fault(("metadata", "name"), "the name is missing", SUBDOMAIN_RULE)
    elif isinstance(resource, Service) and not _LABEL.fullmatch(name):
        yield Fault(("metadata", "name"), f"{name!r} is not a service's name", LABEL_RULE)
    elif not _SUBDOMAIN.fullmatch(name):
        yield Fault(("metadata", "name"), f"{name!r} is not a name", SUBDOMAIN_RULE)
    if namespace and not _LABEL.fullmatch(namespace):
        yield Fault(("metadata", "namespace"), f"{namespace!r} is not a namespace's name", LABEL_RULE)


def _service(service: Service, service_range: str) -> Iterator[Fault]:
    spec = service.spec
    if spec.type == "ExternalName":
        if not _SUBDOMAIN.fullmatch(spec.external_name.lower().rstrip(".")):
            yield Fault(("spec", "externalName"), f"{spec.external_name!r} is not a DNS name", SUBDOMAIN_RULE)
        return
    if spec.cluster_ip and not service.headless:
        yield from _cluster_ip(spec.cluster_ip, service_range)
    if not spec.ports and not service.headless:
        yield Fault(("spec",), "no 'ports'", "add at least one, such as '- port: 80'")
    names = [port.name for port in spec.ports]
    for i, port in enumerate(spec.ports):
        at: Path = ("spec", "ports", i)
        if len(names) > 1 and not port.name:
            yield Fault(at, "no 'name'", "with several ports each needs a name")
        elif port.name and not _LABEL.fullmatch(port.name):
            yield Fault((*at, "name"), f"{port.name!r} is not a port's name", LABEL_RULE)
        elif port.name and names.index(port.name) < i:
            yield Fault((*at, "name"), f"the name {port.name!r} is used twice", "another name")
        if any((other.port, other.protocol) == (port.port, port.protocol) for other in spec.ports[:i]):
            yield Fault((*at, "port"), f"{port.protocol} {port.port} is used twice", "another port or protocol")
        if isinstance(port.target_port, str) and not _PORT_NAME.fullmatch(port.target_port):
            yield Fault((*at, "targetPort"), f"{port.target_port!r} is no port", "a number or a container port's name")


def _cluster_ip(address: str, service_range: str) -> Iterator[Fault]:
    at = ("spec", "clusterIP")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        yield Fault(at, f"{address!r} is not an IP address", "an address, 'None', or no clusterIP at all")
        return
    if service_range and parsed not in (network := ipaddress.ip_network(service_range)):
        yield Fault(
            at,
            f"{address} is outside the service range {network}",
            f"an address of {network}, or no clusterIP: one is given",
        )


def _slice(piece: EndpointSlice) -> Iterator[Fault]:
    if not piece.service.name:
        yield Fault(("metadata",), "no label 'kubernetes.io/service-name'", "the name of the slice's Service")
    if piece.address_type == "FQDN":
        return
    for i, endpoint in enumerate(piece.endpoints):
        at: Path = ("endpoints", i)
        if not endpoint.addresses:
            yield Fault((*at, "addresses"), "is empty", "one IP address")
        for j, address in enumerate(endpoint.addresses):
            version = _version(address)
            if version is None or f"IPv{version}" != piece.address_type:
                right = f"an {piece.address_type} address, as 'addressType' says"
                yield Fault((*at, "addresses", j), f"{address!r} is not an {piece.address_type} address", right)
        if endpoint.hostname and not _LABEL.fullmatch(endpoint.hostname):
            yield Fault((*at, "hostname"), f"{endpoint.hostname!r} is not a host's name", LABEL_RULE)


def _pod(pod: Pod) -> Iterator[Fault]:
    if pod.status.pod_ip and _version(pod.status.pod_ip) is None:
        yield Fault(("status", "podIP"), f"{pod.status.pod_ip!r} is not an IP address", "an IPv4 or IPv6 address")
    for name, value in (("hostname", pod.spec.hostname), ("subdomain", pod.spec.subdomain)):
        if value and not _LABEL.fullmatch(value):
            yield Fault(("spec", name), f"{value!r} is not a DNS label", LABEL_RULE)


def _node(node: Node) -> Iterator[Fault]:
    yield from _ranges((node.spec.pod_cidr,) if node.spec.pod_cidr else (), ("spec", "podCIDR"), indexed=False)
    yield from _ranges(node.spec.pod_cidrs, ("spec", "podCIDRs"))


def _mesh_node(node: MeshNode) -> Iterator[Fault]:
    try:
        size = len(base64.b64decode(node.spec.public_key, validate=True))
    except (binascii.Error, ValueError):
        size = -1
    if size != KEY_SIZE:
        yield Fault(
            ("spec", "publicKey"),
            "is not a WireGuard public key",
            "32 bytes in base64 (44 characters), as 'edgemesh agent --print-meshnode' prints it",
        )
    for field, addresses in (
        (("spec", "addresses"), node.spec.addresses),
        (("status", "meshAddresses"), node.status.mesh_addresses),
    ):
        for i, address in enumerate(addresses):
            if _version(address) is None:
                yield Fault((*field, i), f"{address!r} is not an IP address", "an IPv4 or IPv6 address")
    for i, relay in enumerate(node.spec.relays):
        if not split_host_port(relay, 1)[0]:
            yield Fault(("spec", "relays", i), f"{relay!r} is not an address", "'host' or 'host:port'")
    yield from _ranges(node.status.pod_ranges, ("status", "podRanges"))


def _ranges(ranges: tuple[str, ...], at: Path, *, indexed: bool = True) -> Iterator[Fault]:
    for i, text in enumerate(ranges):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            where = (*at, i) if indexed else at
            right = "a range such as 10.244.1.0/24"
            if "host bits" in str(error):
                right = str(ipaddress.ip_network(text, strict=False))
            yield Fault(where, f"{text!r} is not a range of addresses", right)


def _destination_rule(rule: DestinationRule) -> Iterator[Fault]:
    balancer = rule.spec.traffic_policy.load_balancer if rule.spec.traffic_policy else None
    if balancer and balancer.simple and balancer.consistent_hash:
        at = ("spec", "trafficPolicy", "loadBalancer")
        yield Fault(at, "has both 'simple' and 'consistentHash'", "one of them")


def _version(address: str) -> int | None:
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return None


def split_host_port(text: str, default: int) -> tuple[str, int]:
    """'host', 'host:port', '[v6]', '[v6]:port' or a bare IPv6 address; the host is empty where it is none of them."""
    if _version(text) == 6:
        return text, default
    found = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+))(?::(?P<port>\d{1,5}))?", text)
    if not found or (found["v6"] and _version(found["v6"]) != 6):
        return "", 0
    port = int(found["port"]) if found["port"] else default
    return (found["v6"] or found["host"], port) if 0 < port < 65536 else ("", 0)
