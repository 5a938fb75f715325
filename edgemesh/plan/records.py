"""Services to names, by Kubernetes' DNS specification 1.1.0.

A service with an address has that, a headless one those of its ready endpoints, and a name for each of these: its
hostname, or where it has none the address with dashes (CoreDNS' form). Named ports have SRV records, addresses PTR
records; a headless service without ready endpoints has no name at all (2.4.1).
"""

import ipaddress
from collections.abc import Iterable, Iterator

from dns.records import Name, Srv, Zone
from edgemesh.config import Config
from edgemesh.plan.endpoints import Target, targets
from edgemesh.plan.peers import Mesh
from sync.resources.kinds import EndpointSlice, Service


def zones(config: Config) -> tuple[Zone, ...]:
    """What is answered from the table alone: the cluster's domain, and the reverse zones of the cluster's ranges."""
    ranges = dict.fromkeys((config.service_range, config.pod_range, config.mesh_range))
    reverse = dict.fromkeys(zone for text in ranges for zone in _reverse_zones(text))
    return (Zone(config.cluster_domain, pods=True), *(Zone(name) for name in reverse))


def names(service: Service, address: str, slices: Iterable[EndpointSlice], mesh: Mesh, domain: str) -> list[Name]:
    """The names of a service; `address` is its cluster IP, empty where it has none.

    PTR names of endpoints may belong to several services: whoever sends them joins those.
    """
    base = f"{service.metadata.name}.{service.metadata.namespace}.svc.{domain}"
    if service.spec.type == "ExternalName":
        return [Name(base, cname=service.spec.external_name.lower().rstrip("."))]
    if service.headless:
        return list(_headless(service, base, slices, mesh))
    if not address:
        return []
    found = [_addressed(base, [address]), Name(reverse(address), ptr=(base,))]
    found += (
        Name(f"_{port.name}._{port.protocol.lower()}.{base}", srv=(Srv(base, port.port),))
        for port in service.spec.ports
        if port.name
    )
    return found


def reverse(address: str) -> str:
    """The owner name of an address' PTR record."""
    if ":" in address:
        return ipaddress.ip_address(address).reverse_pointer
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def _headless(service: Service, base: str, slices: Iterable[EndpointSlice], mesh: Mesh) -> Iterator[Name]:
    hosts: dict[str, dict[str, None]] = {}  # by host name, its addresses
    servers: dict[str, dict[Srv, None]] = {}  # by SRV name, its targets
    everyone = service.spec.publish_not_ready_addresses
    for ports, members in targets(slices, mesh):
        for target in members:
            if not (target.ready or everyone):
                continue
            host = f"{_hostname(target)}.{base}"
            hosts.setdefault(host, {})[target.address] = None
            for port in ports:
                if port.name and port.port:
                    name = f"_{port.name}._{port.protocol.lower()}.{base}"
                    servers.setdefault(name, {})[Srv(host, port.port)] = None
    if not hosts:
        return
    pointers: dict[str, list[str]] = {}
    for host, addresses in sorted(hosts.items()):
        yield _addressed(host, addresses)
        for address in addresses:
            pointers.setdefault(reverse(address), []).append(host)
    yield _addressed(base, {address for addresses in hosts.values() for address in addresses})
    for name, found in sorted(servers.items()):
        yield Name(name, srv=tuple(sorted(found, key=lambda srv: (srv.target, srv.port))))
    for name, pointed in sorted(pointers.items()):
        yield Name(name, ptr=tuple(sorted(pointed)))


def _hostname(target: Target) -> str:
    return target.hostname or target.address.replace(".", "-").replace(":", "-")


def _addressed(name: str, addresses: Iterable[str]) -> Name:
    """A name with addresses of both families."""
    ordered = sorted(addresses)
    return Name(
        name,
        a=tuple(address for address in ordered if ":" not in address),
        aaaa=tuple(address for address in ordered if ":" in address),
    )


def _reverse_zones(text: str) -> Iterator[str]:
    """Zones of whole labels (octets, nibbles) that cover a range; of one smaller than a /24 the zone it is in."""
    network = ipaddress.ip_network(text)
    step, widest = (8, 24) if network.version == 4 else (4, 124)
    length = min(-(-max(network.prefixlen, step) // step) * step, widest)
    if network.prefixlen > length:
        parts: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network] = [network.supernet(new_prefix=length)]
    else:
        parts = network.subnets(new_prefix=length)
    for part in parts:
        labels = part.network_address.reverse_pointer.split(".")
        total = 4 if network.version == 4 else 32
        yield ".".join(labels[total - length // step :])
