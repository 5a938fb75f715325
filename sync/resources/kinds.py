"""Kubernetes objects as types: only what the project uses of them.

A node holds thousands of these, so a field that nobody reads is not here (it is listed in `fields`, and dropped when
an object is read). Field names are Kubernetes' own, in snake case; on the wire they are Kubernetes' camel case. An
absent field has Kubernetes' default. Objects are immutable, so they may be shared between indexes.
"""

import sys
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=1, le=65535)]
Transport = Literal["TCP", "UDP", "SCTP"]
Seconds = Annotated[int, Meta(ge=1, le=86400)]

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service it belongs to."""
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
"""Label of an EndpointSlice: who makes it."""
ZONE = "topology.kubernetes.io/zone"
"""Label of a Node: its site."""


class Key(NamedTuple):
    """An object's identity; `namespace` is empty for kinds of cluster scope."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Metadata(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """ObjectMeta."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    deletion_timestamp: str = ""

    def __post_init__(self) -> None:
        # A few namespaces are shared by thousands of objects.
        msgspec.structs.force_setattr(self, "namespace", sys.intern(self.namespace))


class Object(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False, tag_field="kind"):
    """What all kinds have. `api_version` and `namespaced` belong to the kind."""

    api_version: ClassVar[str] = "v1"
    namespaced: ClassVar[bool] = True

    metadata: Metadata = Metadata()

    @property
    def key(self) -> Key:
        """The object's identity."""
        return Key(type(self).__name__, self.metadata.namespace, self.metadata.name)


class Namespace(Object, frozen=True, tag="Namespace"):
    """A namespace; it has nothing that we need but its name."""

    namespaced: ClassVar[bool] = False


class PortOfService(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """ServicePort. `target_port` is a number or the name of a container's port, None for the same as `port`."""

    port: Port
    name: str = ""
    protocol: Transport = "TCP"
    target_port: Port | str | None = None


class ClientIPConfig(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """How long a client stays with its endpoint."""

    timeout_seconds: Seconds = 10800


class SessionAffinityConfig(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """SessionAffinityConfig."""

    client_ip: ClientIPConfig | None = field(default=None, name="clientIP")


class ServiceSpec(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """ServiceSpec. `cluster_ip` is empty where it is still to be given, "None" for a headless service."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    ports: tuple[PortOfService, ...] = ()
    selector: dict[str, str] = {}
    external_name: str = ""
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    publish_not_ready_addresses: bool = False
    traffic_distribution: Literal["", "PreferClose", "PreferSameZone", "PreferSameNode"] = ""


class Service(Object, frozen=True, tag="Service"):
    """A service: a name and an address for a set of endpoints."""

    spec: ServiceSpec = ServiceSpec()

    @property
    def headless(self) -> bool:
        """Whether clients get the endpoints' addresses in place of one of the service's own."""
        return self.spec.cluster_ip == "None"


class EndpointConditions(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """EndpointConditions; None is 'unknown', which consumers take as ready, as `ready`, and as False."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class HintName(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """ForZone and ForNode."""

    name: str


class EndpointHints(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Whom an endpoint is meant for."""

    for_zones: tuple[HintName, ...] = ()
    for_nodes: tuple[HintName, ...] = ()


class SliceEndpoint(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """One endpoint of a slice; all its addresses are the same workload."""

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    hints: EndpointHints | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "node_name", sys.intern(self.node_name))
        msgspec.structs.force_setattr(self, "zone", sys.intern(self.zone))


class PortOfSlice(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """EndpointPort. None for `port` means all ports, which only consumers other than service proxies take."""

    name: str = ""
    protocol: Transport = "TCP"
    port: Port | None = None


class EndpointSlice(Object, frozen=True, tag="EndpointSlice"):
    """A part of a service's endpoints, all with the same ports."""

    api_version: ClassVar[str] = "discovery.k8s.io/v1"

    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[PortOfSlice, ...] = ()

    @property
    def service(self) -> Key:
        """The service it belongs to; its name is empty where the label is missing."""
        return Key("Service", self.metadata.namespace, self.metadata.labels.get(SERVICE_NAME, ""))


class ContainerPort(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """ContainerPort."""

    container_port: Port
    name: str = ""
    protocol: Transport = "TCP"


class Container(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A container, as far as services go."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """PodSpec."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""


class Condition(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A condition of a status."""

    type: str = ""
    status: str = ""


class PodStatus(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """PodStatus."""

    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    conditions: tuple[Condition, ...] = ()


class Pod(Object, frozen=True, tag="Pod"):
    """A workload on a node."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeSpec(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """NodeSpec. The ranges that pods of the node get their addresses from."""

    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = field(default=(), name="podCIDRs")


class NodeAddress(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """NodeAddress; `type` is InternalIP, Hostname and so on."""

    type: str = ""
    address: str = ""


class NodeStatus(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """NodeStatus."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(Object, frozen=True, tag="Node"):
    """A machine."""

    namespaced: ClassVar[bool] = False

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def pod_ranges(self) -> tuple[str, ...]:
        """Ranges of the node's pods, as CIDR text."""
        return self.spec.pod_cidrs or ((self.spec.pod_cidr,) if self.spec.pod_cidr else ())

    @property
    def zone(self) -> str:
        """The node's site; empty if it has none."""
        return self.metadata.labels.get(ZONE, "")


class MeshNodeSpec(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What a node says of itself.

    `public_key` is its WireGuard key in base64, `listen_port` the UDP port of its tunnel, `addresses` its addresses
    inside its own network, `relays` ("host" or "host:port") where it can be reached from anywhere, `proof` that the
    key is the node's (empty in a directory of manifests, whose owner is the authority).
    """

    public_key: str
    listen_port: Port
    addresses: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    proof: str = ""


class MeshNodeStatus(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """What the cluster gives a node: its own addresses in the mesh, and its pods' ranges as CIDR text.

    `public_key` is the key that it was given them for: no other node's. It is empty where nobody looks after that.
    """

    mesh_addresses: tuple[str, ...] = ()
    pod_ranges: tuple[str, ...] = ()
    public_key: str = ""


class MeshNode(Object, frozen=True, kw_only=True, tag="MeshNode"):
    """A node as the mesh sees it; it has the name of its Node."""

    api_version: ClassVar[str] = "edgemesh.kubeedge.io/v1alpha1"
    namespaced: ClassVar[bool] = False

    spec: MeshNodeSpec
    status: MeshNodeStatus = MeshNodeStatus()


class ConsistentHash(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """ConsistentHashLB: the same endpoint for the same client address or header."""

    use_source_ip: bool = False
    http_header_name: str = ""


class LoadBalancer(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """LoadBalancerSettings."""

    simple: str = ""
    consistent_hash: ConsistentHash | None = None


class TrafficPolicy(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """TrafficPolicy."""

    load_balancer: LoadBalancer | None = None


class DestinationRuleSpec(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """DestinationRule's spec."""

    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Object, frozen=True, tag="DestinationRule"):
    """How an endpoint is chosen for the Service of the same name and namespace (EdgeMesh's reading of Istio's kind)."""

    api_version: ClassVar[str] = "networking.istio.io/v1alpha3"

    spec: DestinationRuleSpec = DestinationRuleSpec()


class ConfigMap(Object, frozen=True, tag="ConfigMap"):
    """Settings as text, by name."""

    data: dict[str, str] = {}


Resource = Namespace | Service | EndpointSlice | Pod | Node | MeshNode | DestinationRule | ConfigMap

KINDS: dict[str, type[Resource]] = {
    kind.__name__: kind for kind in (Namespace, Service, EndpointSlice, Pod, Node, MeshNode, DestinationRule, ConfigMap)
}
"""All kinds, by name."""
