"""The scheduler and the kubelet of the bed: Pods from plain Kubernetes YAML become namespaces with an address.

`Cluster` is the directory of manifests: each object in a file of its own, written by rename and copied to every node
that is reachable. `Workloads` reads files that `kubectl apply` takes as well, gives every Pod the node that its
nodeSelector asks for, runs its command in a space behind that node's bridge, and publishes it with node name,
addresses, phase and conditions as a kubelet would, once its declared ports are listened on.

Pods of a node sit on isolated ports of its bridge, which answers ARP for them (`proxy_arp_pvlan`): so they meet at
layer 3, where the service proxy sees their packets, and bridge-netfilter isn't needed.

The image `python:3.11-slim` is the machine's own Python without the project's libraries; no other is known.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.lab.namespaces import BedError, Space
from e2e.lab.topology import CLOUD, POD_BRIDGE, POD_MTU, RESOLVER, Node, Topology

IMAGE = "python:3.11-slim"
FIRST_HOST = 10
"""The first pod of a node has this as the last part of its address."""

Object = dict[str, Any]

START_POD = r"""
set -e
namespace=$1 log=$2 python=$3
shift 3
mkdir /run/bin
ln -s "$python" /run/bin/python
ln -s "$python" /run/bin/python3
{
    echo "nameserver $RESOLVER"
    echo "search $namespace.svc.cluster.local svc.cluster.local cluster.local"
    echo "options ndots:5"
} > /run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
echo ready
read _ || exit 1
exec >> "$log" 2>&1 < /dev/null
cd /run
exec env -i PATH=/run/bin:/usr/local/bin:/usr/bin:/bin HOSTNAME="$(hostname)" "$@"
"""


class Cluster:
    """All objects, in files of a directory of its own, and each node's copy of it."""

    def __init__(self, topology: Topology, directory: Path) -> None:
        self._topology = topology
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.unreachable: set[str] = set()
        """Nodes that get no copies at present: what they last had stays theirs."""

    def publish(self, *objects: Object) -> None:
        """Write or replace objects, on every reachable node."""
        for item in objects:
            name = file_name(item)
            text = yaml.dump(item, Dumper=yaml.CSafeDumper, sort_keys=False)
            draft = self.directory / f".{name}.draft"
            draft.write_text(text)
            draft.rename(self.directory / name)
            for node in self._reachable():
                node.write_manifest(name, text)

    def copy_all(self) -> None:
        """Give every reachable node all objects, as after a time in which it was not."""
        for file in sorted(self.directory.glob("*.yaml")):
            for node in self._reachable():
                node.write_manifest(file.name, file.read_text())

    def publish_nodes(self) -> None:
        """Publish Node and MeshNode of every place; each node's own program makes its key and prints the latter."""
        nodes = list(self._topology)
        with ThreadPoolExecutor(len(nodes)) as pool:
            printed = list(pool.map(Node.mesh_node, nodes))
        for node, mesh_node in zip(nodes, printed, strict=True):
            place = node.place
            self.publish(
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {
                        "name": place.name,
                        "labels": {"kubernetes.io/hostname": place.name, "topology.kubernetes.io/zone": place.zone},
                    },
                    "spec": {"podCIDR": place.pod_range, "podCIDRs": [place.pod_range]},
                    "status": {
                        "addresses": [
                            {"type": "InternalIP", "address": place.address},
                            {"type": "Hostname", "address": place.name},
                        ],
                        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
                    },
                },
                yaml.load(mesh_node, yaml.CSafeLoader),
            )

    def _reachable(self) -> Iterator[Node]:
        return (node for node in self._topology if node.name not in self.unreachable)


@dataclass
class Pod:
    """A Pod on its node; `space` is None while it doesn't run."""

    manifest: Object
    node: Node
    address: str
    space: Space | None = None
    log: Path = field(default=Path())

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace", "default"))

    @property
    def hostname(self) -> str:
        return str(self.manifest["spec"].get("hostname", self.name))

    @property
    def container(self) -> Object:
        first: Object = self.manifest["spec"]["containers"][0]
        return first

    def ports(self) -> list[tuple[str, int]]:
        """Declared ports: protocol in lower case, number."""
        return [
            (port.get("protocol", "TCP").lower(), port["containerPort"]) for port in self.container.get("ports", [])
        ]

    def with_status(self, ready: bool) -> Object:
        """The object as the kubelet reports it."""
        state = "True" if ready else "False"
        return {
            **self.manifest,
            "spec": {**self.manifest["spec"], "nodeName": self.node.name},
            "status": {
                "phase": "Running" if ready else "Pending",
                "podIP": self.address,
                "podIPs": [{"ip": self.address}],
                "hostIP": self.node.place.address,
                "conditions": [{"type": kind, "status": state} for kind in ("ContainersReady", "Ready")],
            },
        }


class Workloads:
    """Every Pod of the bed, by namespace and name."""

    def __init__(self, topology: Topology, cluster: Cluster) -> None:
        self._topology = topology
        self.cluster = cluster
        self.pods: dict[tuple[str, str], Pod] = {}

    def apply(self, files: Iterable[Path]) -> list[Pod]:
        """Publish what the files hold; their Pods are scheduled, started and published when they are ready."""
        pods = self.schedule(files)
        self.run(pods)
        return pods

    def schedule(self, files: Iterable[Path]) -> list[Pod]:
        """Publish what the files hold, and give each Pod its node; `run` is next."""
        pods = []
        for item in load(files):
            if item["kind"] == "Pod":
                pods.append(self._schedule(item))
            else:
                self.cluster.publish(item)
        return pods

    def run(self, pods: Iterable[Pod]) -> None:
        """Start Pods; publish them once their ports are listened on, or raise BedError when one isn't within 10 s."""
        pods = list(pods)
        for pod in pods:
            self.start(pod)
        self._wait_listening(pods)
        self.cluster.publish(*(pod.with_status(ready=True) for pod in pods))

    def pod(self, name: str, namespace: str = "default") -> Pod:
        return self.pods[namespace, name]

    def of(self, node: str) -> list[Pod]:
        """The Pods of a node."""
        return [pod for pod in self.pods.values() if pod.node.name == node]

    def restart(self, node: str) -> None:
        """Start all Pods of a node again, with their addresses, as a kubelet does after a reboot."""
        pods = self.of(node)
        for pod in pods:
            self.start(pod)
        self._wait_listening(pods)

    def start(self, pod: Pod) -> None:
        """Make the Pod's namespace, cable it and run its command."""
        container = pod.container
        if container.get("image") != IMAGE:
            raise BedError(f"pod {pod.name}: image {container.get('image')!r} is not here; {IMAGE} is")
        pod.log = self._topology.logs / f"{pod.node.name}-pod-{pod.name}.log"
        variables = [f"{name}={value}" for name, value in self._environment(pod)]
        command = [*variables, *container.get("command", ["python3"]), *container.get("args", [])]
        python = os.path.realpath(sys.executable)
        holder = ["sh", "-c", START_POD, "sh", pod.namespace, str(pod.log), python, *command]
        node = pod.node.space
        space = node.space(pod.hostname, holder=holder, env={"RESOLVER": RESOLVER})
        pod.space = space
        number = int(pod.address.rsplit(".", 1)[1])
        port = f"pod{number}"
        pair = f"{port} mtu {POD_MTU} type veth peer name eth0 mtu {POD_MTU} netns {node.number(space)}"
        node.run(
            ["ip", "-batch", "-"],
            input=f"""link add name {pair}
            link set dev {port} master {POD_BRIDGE}
            link set dev {port} type bridge_slave isolated on
            link set dev {port} up
            """,
        )
        space.run(
            ["ip", "-batch", "-"],
            input=f"""address add {pod.address}/24 dev eth0
            link set dev eth0 up
            route add default via {pod.node.place.pod_address(1)}
            """,
        )
        assert space.holder.stdin
        space.holder.stdin.write("go\n")
        space.holder.stdin.flush()

    def _wait_listening(self, pods: list[Pod], patience: float = 10) -> None:
        deadline = time.monotonic() + patience
        for pod in pods:
            assert pod.space
            missing = set(pod.ports())
            while missing:
                missing -= listening(pod.space)
                if missing and (time.monotonic() > deadline or pod.space.holder.poll() is not None):
                    shown = ", ".join(f"{protocol} {port}" for protocol, port in sorted(missing))
                    last = pod.log.read_text()[-1000:] if pod.log.exists() else ""
                    raise BedError(f"pod {pod.name} on {pod.node.name} does not listen on {shown}\n{last}")
                if missing:
                    time.sleep(0.01)

    def _schedule(self, manifest: Object) -> Pod:
        wanted = {**manifest["spec"].get("nodeSelector", {})}
        if name := manifest["spec"].get("nodeName"):
            wanted["kubernetes.io/hostname"] = name
        fitting = [node for node in self._topology if wanted.items() <= labels(node).items()]
        if not wanted:
            fitting = [node for node in fitting if node.place is not CLOUD]
        if not fitting:
            raise BedError(f"pod {manifest['metadata']['name']}: no node has the labels {wanted}")
        node = min(fitting, key=lambda node: len(self.of(node.name)))
        address = node.place.pod_address(FIRST_HOST + len(self.of(node.name)))
        pod = Pod(manifest, node, address)
        self.pods[pod.namespace, pod.name] = pod
        return pod

    @staticmethod
    def _environment(pod: Pod) -> Iterator[tuple[str, str]]:
        fields = {
            "metadata.name": pod.name,
            "metadata.namespace": pod.namespace,
            "spec.nodeName": pod.node.name,
            "status.podIP": pod.address,
            "status.hostIP": pod.node.place.address,
        }
        for variable in pod.container.get("env", []):
            if "valueFrom" in variable:
                yield variable["name"], fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                yield variable["name"], variable.get("value", "")


def labels(node: Node) -> Mapping[str, str]:
    """A node's labels, those that selectors may ask for."""
    return {"kubernetes.io/hostname": node.name, "topology.kubernetes.io/zone": node.place.zone}


def load(files: Iterable[Path]) -> Iterator[Object]:
    """All objects of YAML files, in their order."""
    for file in files:
        for item in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if item:
                yield item


def file_name(item: Object) -> str:
    """The name of an object's file among the manifests."""
    meta = item["metadata"]
    parts = [item["kind"].lower(), meta.get("namespace", ""), meta["name"]]
    return re.sub(r"[^a-z0-9.-]", "-", "-".join(part for part in parts if part)) + ".yaml"


def listening(space: Space) -> set[tuple[str, int]]:
    """Ports of a space that TCP listens on and UDP is bound to, read from its /proc/net (proc(5))."""
    found = set()
    for protocol, states in (("tcp", {"0A"}), ("udp", {"07"})):
        for suffix in ("", "6"):
            for line in Path(f"/proc/{space.pid}/net/{protocol}{suffix}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] in states:
                    found.add((protocol, int(columns[1].rsplit(":", 1)[1], 16)))
    return found
