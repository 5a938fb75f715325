"""The agent's configuration: EdgeMesh's `EdgeMeshAgent` file, where it has the setting, and a few of our own.

An EdgeMesh user's file works as it is. What EdgeMesh has and we have no use for gets one notice a field, with the
reason; what neither knows, or what has a wrong value, is an error with file, line and what would be right. Without a
file, or with an empty one, everything has a default.

kubeAPIConfig.{master, kubeConfig} say where the API is; where neither does, the kubeconfig that joining left is used.
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
from typing import NamedTuple

from msgspec import Struct

from edgemesh.agent_file import API_VERSION, KIND, READER, AgentFile, FilterMode, reason
from edgemesh.ranges import CLUSTER_DOMAIN, MESH_RANGE, POD_RANGE, SERVICE_RANGE, Setting, normal, wrong
from sync.client import document
from sync.resources.shape import Fault, Path, spell, suggest
from sync.resources.validate import split_host_port
from tunnel.endpoint import Address

_DEVICE_MAX = 15
"""Bytes of a Linux interface name (IFNAMSIZ less the final zero)."""


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
    cluster_domain: str = CLUSTER_DOMAIN
    service_range: str = SERVICE_RANGE
    pod_range: str = POD_RANGE
    mesh_range: str = MESH_RANGE
    master: str = ""
    kubeconfig: str = ""
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
    def api(self) -> tuple[str, str] | None:
        """The kubeconfig to use and the URL to use in place of its own, one of the two perhaps empty; None for no API.

        The file named, else the one that joining left.
        """
        joined = os.path.join(self.state_dir, "node.kubeconfig")
        found = self.kubeconfig or (joined if os.path.exists(joined) else "")
        return (found, self.master) if found or self.master else None

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
    read = READER.read(place.data, AgentFile, faults, ignored)
    if read is not None:
        faults += _faults(read)
    if faults or read is None:
        lines = (_line(path, place.line(at), spell(at), wrong, right) for at, wrong, right in faults)
        raise ConfigError("\n".join(lines))
    notices = [Notice(path, place.line(at), spell(at), reason(at)) for at in ignored]
    return _config(name, read), notices


def _line(path: str, line: int, where: str, wrong: str, right: str) -> str:
    what = f"{where}: {wrong}" if where else wrong
    return f"{path}:{line}: {what}" + (f"; {right}" if right else "")


def _config(name: str, read: AgentFile) -> Config:
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
        cluster_domain=normal(common.cluster_domain),
        service_range=common.service_cidr,
        pod_range=common.pod_cidr,
        mesh_range=common.mesh_cidr,
        master=read.kube_api_config.master,
        kubeconfig=read.kube_api_config.kube_config,
        state_dir=common.state_dir,
        run_dir=common.run_dir,
    )


def _faults(read: AgentFile) -> Iterator[Fault]:
    """Values of the right type that can't be."""
    if read.api_version != API_VERSION:
        yield Fault(("apiVersion",), f"is {read.api_version!r}", API_VERSION)
    if read.kind != KIND:
        yield Fault(("kind",), f"is {read.kind!r}", suggest(read.kind, [KIND]))
    common, tunnel = read.common_config, read.modules.edge_tunnel
    if not _is_address(common.bridge_device_ip, 4):
        at: Path = ("commonConfig", "bridgeDeviceIP")
        yield Fault(at, f"{common.bridge_device_ip!r} is not an IPv4 address", "such as 169.254.96.16")
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
    for name, what, right in wrong(
        Setting("clusterDomain", common.cluster_domain),
        Setting("serviceCIDR", common.service_cidr),
        Setting("podCIDR", common.pod_cidr),
        Setting("meshCIDR", common.mesh_cidr),
    ):
        yield Fault(("commonConfig", name), what, right)
    if (kubeconfig := read.kube_api_config.kube_config) and not os.path.isabs(kubeconfig):
        at = ("kubeAPIConfig", "kubeConfig")
        yield Fault(at, f"{kubeconfig!r} is not an absolute path", "a path that begins with '/'")
    for i, node in enumerate(tunnel.relay_nodes):
        for j, text in enumerate(node.advertise_address):
            if not _is_address(split_host_port(text, 1)[0]):
                at = ("modules", "edgeTunnel", "relayNodes", i, "advertiseAddress", j)
                yield Fault(at, f"{text!r} is not an address", "an IP address, with ':port' if it is another")


def _is_address(text: str, *versions: int) -> bool:
    """Whether a text is an IP address, of one of the versions (4, 6) where any are named."""
    try:
        return ipaddress.ip_address(text).version in (versions or (4, 6))
    except ValueError:
        return False
