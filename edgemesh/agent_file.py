"""EdgeMesh's `EdgeMeshAgent` file as types, with our own few settings, and why others of its fields have no effect.

Field names and defaults are EdgeMesh's (v1.17). `UNUSED` has every field of EdgeMesh's that is not in the types.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, field

from edgemesh.ranges import CLUSTER_DOMAIN, MESH_RANGE, POD_RANGE, SERVICE_RANGE
from sync.resources.shape import Ignorable, Path, Reader

API_VERSION = "agent.edgemesh.config.kubeedge.io/v1alpha1"
KIND = "EdgeMeshAgent"

PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class FilterMode(StrEnum):
    """What the label service.edgemesh.kubeedge.io/service-proxy-name does: keep a service out, or let it in."""

    EXISTS = "FilterIfLabelExists"
    DOES_NOT_EXIST = "FilterIfLabelDoesNotExists"


class Section(Struct, frozen=True, rename="camel"):
    """A part of the file; without fields where we use none of EdgeMesh's."""


class KubeAPI(Section, frozen=True):
    """kubeAPIConfig; `master` is put in place of the kubeconfig's server."""

    master: str = ""
    kube_config: str = ""


class CommonConfig(Section, frozen=True):
    """commonConfig; all but the first two are ours."""

    bridge_device_name: str = "edgemesh0"
    bridge_device_ip: str = field(default="169.254.96.16", name="bridgeDeviceIP")
    cluster_domain: str = CLUSTER_DOMAIN
    service_cidr: str = field(default=SERVICE_RANGE, name="serviceCIDR")
    pod_cidr: str = field(default=POD_RANGE, name="podCIDR")
    mesh_cidr: str = field(default=MESH_RANGE, name="meshCIDR")
    state_dir: str = "/var/lib/edgemesh"
    run_dir: str = "/run/edgemesh"


class EdgeDNS(Section, frozen=True):
    """modules.edgeDNS. EdgeMesh's `enable` depends on where it runs; here all modules are on."""

    enable: bool = True
    listen_port: PortNumber = 53


class EdgeProxy(Section, frozen=True):
    """modules.edgeProxy."""

    enable: bool = True
    service_filter_mode: FilterMode = FilterMode.EXISTS


class RelaySection(Section, frozen=True):
    """An element of modules.edgeTunnel.relayNodes."""

    advertise_address: tuple[str, ...]
    node_name: str = ""


class EdgeTunnel(Section, frozen=True):
    """modules.edgeTunnel; `listen_port` is the relays' port, `device_name` is ours."""

    enable: bool = True
    listen_port: PortNumber = 20006
    relay_nodes: tuple[RelaySection, ...] = ()
    device_name: str = "edgemesh-wg"


class EdgeCNI(Section, frozen=True):
    """modules.edgeCNI."""


class Modules(Section, frozen=True):
    """modules."""

    edge_dns: EdgeDNS = field(default=EdgeDNS(), name="edgeDNS")
    edge_proxy: EdgeProxy = EdgeProxy()
    edge_tunnel: EdgeTunnel = EdgeTunnel()
    edge_cni: EdgeCNI = field(default=EdgeCNI(), name="edgeCNI")


class AgentFile(Section, frozen=True):
    """The whole file."""

    api_version: str = API_VERSION
    kind: str = KIND
    kube_api_config: KubeAPI = field(default=KubeAPI(), name="kubeAPIConfig")
    common_config: CommonConfig = CommonConfig()
    modules: Modules = Modules()


_RATE = "objects are watched, and little is written: there is no rate to limit"
_PATHS = "each path is found, kept and left by itself; there is nothing to tune"

UNUSED: dict[type, dict[str, str]] = {
    AgentFile: {},
    KubeAPI: {
        "contentType": "the API is spoken to in JSON",
        "qps": _RATE,
        "burst": _RATE,
        "mode": "the API is the kubeconfig's, that of 'edgemesh join', or --manifests",
        "metaServer": "what the API said is kept on this node by itself; give a MetaServer's URL as 'master' to use it",
        "deleteKubeConfig": "files of yours are not deleted",
    },
    CommonConfig: {"pprofConfig": "there is no Go profile of a Python program"},
    EdgeDNS: {
        "kubeAPIConfig": "the resolver gets its names from the agent",
        "listenInterface": "the resolver listens on commonConfig.bridgeDeviceIP",
        "cacheDNS": "upstreams are those of resolv.conf, and their answers are cached as long as they say",
    },
    EdgeProxy: {
        "listenInterface": "services are translated by the kernel, whatever the interface",
        "socks5Proxy": "nodes are reached at their mesh addresses, without a proxy",
        "loadBalancer": "the hash ring's settings have no counterpart; DestinationRules choose the policy",
    },
    RelaySection: {},
    EdgeTunnel: {
        "mode": _PATHS,
        "nodeName": "the node's name is NODE_NAME in the environment",
        "transport": "the tunnel is WireGuard, over UDP",
        "rendezvous": "nodes know each other by MeshNode objects",
        "enableIpfsLog": "there is no libp2p here",
        "maxCandidates": _PATHS,
        "heartbeatPeriod": _PATHS,
        "finderPeriod": _PATHS,
        "psk": "each node has a key of its own; a key that all share is not needed",
        "tunnelLimitConfig": "packets are carried, not streams: there is no number of streams to limit",
        "configPath": "the file is the one given",
        "listenInterfaces": "the tunnel has one UDP port on all interfaces",
        "extraFilteredInterfaces": "the tunnel has one UDP port on all interfaces",
        "metricConfig": "there are no metrics yet; see 'edgemesh status'",
    },
    EdgeCNI: dict.fromkeys(
        ("enable", "encapIP", "tunMode", "meshCIDRConfig"),
        "pods of all nodes reach one another by MeshNode.status.podRanges and Node.spec.podCIDR",
    ),
}

READER = Reader(Ignorable({kind: frozenset(reasons) for kind, reasons in UNUSED.items()}))


def reason(path: Path) -> str:
    """Why a field of `UNUSED` has no effect."""
    sections: dict[str | int, type] = {
        "kubeAPIConfig": KubeAPI,
        "commonConfig": CommonConfig,
        "edgeDNS": EdgeDNS,
        "edgeProxy": EdgeProxy,
        "edgeTunnel": EdgeTunnel,
        "edgeCNI": EdgeCNI,
    }
    return UNUSED[sections[path[-2]]][str(path[-1])]
