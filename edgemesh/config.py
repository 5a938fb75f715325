"""The agent's configuration: EdgeMesh's `EdgeMeshAgent` file, where it has the setting, and a few of our own.

An EdgeMesh user's file works as it is. What EdgeMesh has and we have no use for gets one notice a field, with the
reason; what neither knows, or what has a wrong value, is an error with file, line and what would be right. Without a
file, or with an empty one, everything has a default.

Our own settings stand beside EdgeMesh's: commonConfig.{clusterDomain, serviceCIDR, podCIDR, meshCIDR, stateDir,
runDir} and modules.edgeTunnel.deviceName. The node's name is `NODE_NAME` in the environment, as in EdgeMesh, else the
host's name.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct, field

from sync.client import document
from sync.resources.shape import Fault, Ignorable, Path, Reader, spell, suggest
from sync.resources.validate import split_host_port
from tunnel.endpoint import Address

API_VERSION = "agent.edgemesh.config.kubeedge.io/v1alpha1"
KIND = "EdgeMeshAgent"
DEFAULT_PATH = "/etc/edgemesh/config/edgemesh-agent.yaml"

RESERVED = ("100.64.0.0/10", "172.17.0.0/16", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/4")
"""Ranges that sites have in use by default (carriers, Docker, home networks, link-local): no place for the mesh."""

_DEVICE_MAX = 15
"""Bytes of a Linux interface name (IFNAMSIZ less the final zero)."""

PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class FilterMode(StrEnum):
    """What the label service.edgemesh.kubeedge.io/service-proxy-name does: keep a service out, or let it in."""

    EXISTS = "FilterIfLabelExists"
    DOES_NOT_EXIST = "FilterIfLabelDoesNotExists"


class RelayNode(NamedTuple):
    """A relay: the node's name, and the UDP addresses it can be reached at."""

    name: str
    addresses: tuple[Address, ...]


class Notice(NamedTuple):
    """A field of EdgeMesh's that has no effect here: where it is (line from 1), and why."""

    file: str
    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field} has no effect: {self.text}"


class ConfigError(Exception):
    """The file can't be used; the message has a line for each mistake, with file, line and what would be right."""


class Config(Struct, frozen=True, kw_only=True):
    """All settings. Addresses and ranges are text, directories absolute paths."""

    node_name: str
    bridge_device: str = "edgemesh0"
    bridge_address: str = "169.254.96.16"
    dns: bool = True
    dns_port: int = 53
    proxy: bool = True
    filter_mode: FilterMode = FilterMode.EXISTS
    tunnel: bool = True
    tunnel_device: str = "edgemesh-wg"
    relay_port: int = 20006
    relays: tuple[RelayNode, ...] = ()
    cluster_domain: str = "cluster.local"
    service_range: str = "10.96.0.0/12"
    pod_range: str = "10.244.0.0/16"
    mesh_range: str = "10.222.0.0/16"
    state_dir: str = "/var/lib/edgemesh"
    run_dir: str = "/run/edgemesh"

    @property
    def dns_listen(self) -> Address:
        """Where the resolver listens, UDP and TCP."""
        return Address(self.bridge_address, self.dns_port)

    @property
    def relay_addresses(self) -> tuple[Address, ...]:
        """All relays' addresses, in the file's order."""
        return tuple(address for relay in self.relays for address in relay.addresses)

    @property
    def snapshot_file(self) -> str:
        """Where the agent keeps what it knows."""
        return os.path.join(self.state_dir, "snapshot")

    @property
    def table_file(self) -> str:
        """Where the resolver keeps its table."""
        return os.path.join(self.state_dir, "dns.table")

    @property
    def resolver_socket(self) -> str:
        """Where the resolver takes its records."""
        return os.path.join(self.run_dir, "resolver.sock")

    @property
    def agent_socket(self) -> str:
        """Where the agent tells its status."""
        return os.path.join(self.run_dir, "agent.sock")

    @property
    def engine_socket(self) -> str:
        """The engine's UAPI socket, where wg(8) looks for it."""
        return f"/run/wireguard/{self.tunnel_device}.sock"


class _Section(Struct, frozen=True, rename="camel"):
    pass


class _KubeAPI(_Section, frozen=True):
    pass


class _CommonConfig(_Section, frozen=True):
    bridge_device_name: str = "edgemesh0"
    bridge_device_ip: str = field(default="169.254.96.16", name="bridgeDeviceIP")
    cluster_domain: str = "cluster.local"
    service_cidr: str = field(default="10.96.0.0/12", name="serviceCIDR")
    pod_cidr: str = field(default="10.244.0.0/16", name="podCIDR")
    mesh_cidr: str = field(default="10.222.0.0/16", name="meshCIDR")
    state_dir: str = "/var/lib/edgemesh"
    run_dir: str = "/run/edgemesh"


class _EdgeDNS(_Section, frozen=True):
    enable: bool = True
    listen_port: PortNumber = 53


class _EdgeProxy(_Section, frozen=True):
    enable: bool = True
    service_filter_mode: FilterMode = FilterMode.EXISTS


class _RelayNode(_Section, frozen=True):
    advertise_address: tuple[str, ...]
    node_name: str = ""


class _EdgeTunnel(_Section, frozen=True):
    enable: bool = True
    listen_port: PortNumber = 20006
    relay_nodes: tuple[_RelayNode, ...] = ()
    device_name: str = "edgemesh-wg"


class _EdgeCNI(_Section, frozen=True):
    pass


class _Modules(_Section, frozen=True):
    edge_dns: _EdgeDNS = field(default=_EdgeDNS(), name="edgeDNS")
    edge_proxy: _EdgeProxy = _EdgeProxy()
    edge_tunnel: _EdgeTunnel = _EdgeTunnel()
    edge_cni: _EdgeCNI = field(default=_EdgeCNI(), name="edgeCNI")


class _File(_Section, frozen=True):
    api_version: str = API_VERSION
    kind: str = KIND
    kube_api_config: _KubeAPI = field(default=_KubeAPI(), name="kubeAPIConfig")
    common_config: _CommonConfig = _CommonConfig()
    modules: _Modules = _Modules()


_API = "objects come from a directory of manifests, not from an API server"
_PATHS = "each path is found, kept and left by itself; there is nothing to tune"

_UNUSED: dict[type, dict[str, str]] = {
    _File: {},
    _KubeAPI: dict.fromkeys(
        ("master", "contentType", "qps", "burst", "kubeConfig", "mode", "metaServer", "deleteKubeConfig"), _API
    ),
    _CommonConfig: {"pprofConfig": "there is no Go profile of a Python program"},
    _EdgeDNS: {
        "kubeAPIConfig": _API,
        "listenInterface": "the resolver listens on commonConfig.bridgeDeviceIP",
        "cacheDNS": "upstreams are those of resolv.conf, and their answers are cached as long as they say",
    },
    _EdgeProxy: {
        "listenInterface": "services are translated by the kernel, whatever the interface",
        "socks5Proxy": "nodes are reached at their mesh addresses, without a proxy",
        "loadBalancer": "the hash ring's settings have no counterpart; DestinationRules choose the policy",
    },
    _RelayNode: {},
    _EdgeTunnel: {
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
    _EdgeCNI: dict.fromkeys(
        ("enable", "encapIP", "tunMode", "meshCIDRConfig"),
        "pods of all nodes reach one another by MeshNode.status.podRanges and Node.spec.podCIDR",
    ),
}

_READER = Reader(Ignorable({kind: frozenset(reasons) for kind, reasons in _UNUSED.items()}))


def load(path: str | None, environ: Mapping[str, str] = os.environ) -> tuple[Config, list[Notice]]:
    """Read the file; None for all defaults. Raises ConfigError."""
    name = environ.get("NODE_NAME") or socket.gethostname().lower()
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name):
        raise ConfigError(f"{name!r} is not a node's name: set NODE_NAME to a name of a-z, 0-9, '-' and '.'")
    if path is None:
        return Config(node_name=name), []
    try:
        with open(path, "rb") as file:
            text = file.read()
        documents = document.read(text)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except document.DocumentError as error:
        raise ConfigError(_line(path, error.line, "", error.wrong, error.right)) from None
    if not documents:
        return Config(node_name=name), []
    if len(documents) > 1:
        line = documents[1].line(())
        raise ConfigError(_line(path, line, "", "a second document", "one EdgeMeshAgent a file"))
    faults: list[Fault] = []
    ignored: list[Path] = []
    place = documents[0]
    read = _READER.read(place.data, _File, faults, ignored)
    if read is not None:
        faults += _faults(read)
    if faults or read is None:
        lines = (_line(path, place.line(at), spell(at), wrong, right) for at, wrong, right in faults)
        raise ConfigError("\n".join(lines))
    notices = [Notice(path, place.line(at), spell(at), _reason(at)) for at in ignored]
    return _config(name, read), notices


def _line(path: str, line: int, where: str, wrong: str, right: str) -> str:
    what = f"{where}: {wrong}" if where else wrong
    return f"{path}:{line}: {what}" + (f"; {right}" if right else "")


def _reason(path: Path) -> str:
    sections: dict[str | int, type] = {
        "kubeAPIConfig": _KubeAPI,
        "commonConfig": _CommonConfig,
        "edgeDNS": _EdgeDNS,
        "edgeProxy": _EdgeProxy,
        "edgeTunnel": _EdgeTunnel,
        "edgeCNI": _EdgeCNI,
    }
    return _UNUSED[sections[path[-2]]][str(path[-1])]


def _config(name: str, read: _File) -> Config:
    common, modules = read.common_config, read.modules
    tunnel = modules.edge_tunnel
    return Config(
        node_name=name,
        bridge_device=common.bridge_device_name,
        bridge_address=common.bridge_device_ip,
        dns=modules.edge_dns.enable,
        dns_port=modules.edge_dns.listen_port,
        proxy=modules.edge_proxy.enable,
        filter_mode=modules.edge_proxy.service_filter_mode,
        tunnel=tunnel.enable,
        tunnel_device=tunnel.device_name,
        relay_port=tunnel.listen_port,
        relays=tuple(
            RelayNode(
                node.node_name,
                tuple(Address(*split_host_port(text, tunnel.listen_port)) for text in node.advertise_address),
            )
            for node in tunnel.relay_nodes
        ),
        cluster_domain=common.cluster_domain.rstrip(".").lower(),
        service_range=common.service_cidr,
        pod_range=common.pod_cidr,
        mesh_range=common.mesh_cidr,
        state_dir=common.state_dir,
        run_dir=common.run_dir,
    )


def _faults(read: _File) -> Iterator[Fault]:
    """Values of the right type that can't be."""
    if read.api_version != API_VERSION:
        yield Fault(("apiVersion",), f"is {read.api_version!r}", API_VERSION)
    if read.kind != KIND:
        yield Fault(("kind",), f"is {read.kind!r}", suggest(read.kind, [KIND]))
    common, tunnel = read.common_config, read.modules.edge_tunnel
    if not _is_address(common.bridge_device_ip):
        at: Path = ("commonConfig", "bridgeDeviceIP")
        yield Fault(at, f"{common.bridge_device_ip!r} is not an IP address", "such as 169.254.96.16")
    for at, device in (
        (("commonConfig", "bridgeDeviceName"), common.bridge_device_name),
        (("modules", "edgeTunnel", "deviceName"), tunnel.device_name),
    ):
        if not re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{_DEVICE_MAX}}}", device) or device in (".", ".."):
            yield Fault(at, f"{device!r} is not a device's name", f"at most {_DEVICE_MAX} letters, digits, '-', '_'")
    for at, directory in (
        (("commonConfig", "stateDir"), common.state_dir),
        (("commonConfig", "runDir"), common.run_dir),
    ):
        if not os.path.isabs(directory):
            yield Fault(at, f"{directory!r} is not an absolute path", "a path that begins with '/'")
    if not re.fullmatch(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.?)+", common.cluster_domain.lower()):
        at = ("commonConfig", "clusterDomain")
        yield Fault(at, f"{common.cluster_domain!r} is not a domain", "such as cluster.local")
    for i, node in enumerate(tunnel.relay_nodes):
        for j, text in enumerate(node.advertise_address):
            if not _is_address(split_host_port(text, 1)[0]):
                at = ("modules", "edgeTunnel", "relayNodes", i, "advertiseAddress", j)
                yield Fault(at, f"{text!r} is not an address", "an IP address, with ':port' if it is another")
    yield from _range_faults(common)


def _range_faults(common: _CommonConfig) -> Iterator[Fault]:
    """Ranges that are none, or that overlap."""
    ranges: dict[str, ipaddress.IPv4Network | ipaddress.IPv6Network] = {}
    for name, text in (
        ("serviceCIDR", common.service_cidr),
        ("podCIDR", common.pod_cidr),
        ("meshCIDR", common.mesh_cidr),
    ):
        at = ("commonConfig", name)
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            bits = "host bits" in str(error)
            right = str(ipaddress.ip_network(text, strict=False)) if bits else "such as 10.96.0.0/12"
            yield Fault(at, f"{text!r} is not a range of addresses", right)
            continue
        for other, taken in ranges.items():
            if network.overlaps(taken):
                yield Fault(at, f"{network} overlaps {other} {taken}", "a range of its own")
        if name == "meshCIDR":
            for taken in map(ipaddress.ip_network, RESERVED):
                if network.overlaps(taken):
                    yield Fault(at, f"{network} overlaps {taken}, which sites use", "such as 10.222.0.0/16")
        ranges[name] = network


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
