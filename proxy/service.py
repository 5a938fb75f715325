"""A service port as the proxy sees it: where clients call, who answers, how one is chosen."""

from enum import StrEnum

import msgspec


class Protocol(StrEnum):
    """Transport protocols, by their Kubernetes names."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class Policy(StrEnum):
    """How an endpoint is chosen for a new connection.

    `RANDOM` and `SOURCE_HASH` (by client address alone) share chains between services; `ROUND_ROBIN` has a
    counter of its own for each service port.
    """

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    SOURCE_HASH = "source-hash"


class Backend(msgspec.Struct, frozen=True, order=True):
    """One endpoint: an IP address in text form and a port, 1 to 65535."""

    address: str
    port: int


class ServicePort(msgspec.Struct, frozen=True):
    """One port of one service on one cluster IP.

    `name` is unique and stable: "namespace/service:port-name" (EdgeMesh's and kube-proxy's form). Without
    backends the port is rejected at once. `affinity` is the ClientIP timeout in seconds, None for no affinity.
    """

    name: str
    address: str
    protocol: Protocol
    port: int
    backends: tuple[Backend, ...] = ()
    policy: Policy = Policy.RANDOM
    affinity: int | None = None


class NodeNetwork(msgspec.Struct, frozen=True):
    """What the proxy must know of the node to leave sources alone or translate them.

    Sources in `pod_range` and `mesh_address` leave by `tunnel_device` as they are, all others are translated
    to `mesh_address` (`snat to`, never masquerade: neither a device's going nor an address change then ends
    conntrack entries). `pod_range` and `mesh_address` may be empty on a node that has none yet.
    """

    mesh_address: str = ""
    pod_range: str = ""
    tunnel_device: str = "edgemesh-wg"
    service_range: str = "10.96.0.0/12"
