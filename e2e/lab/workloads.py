"""Pods of the bed as they are seen from outside, and who runs them where there is no API.

The nodes' kubelets run the pods, in namespaces; `Workloads` asks them by their sockets. `Directory` is that of the two
clusters which has no API (the other is `cluster.Cluster`): each object in a file of its own, written by rename and
copied to every node that is reachable. It schedules Pods by their nodeSelector, has the kubelets run them, and
publishes them with node name, addresses, phase and conditions once their declared ports are listened on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from e2e.lab.kubelet import SOCKET, ask, name_of
from e2e.lab.namespaces import BedError, Space
from e2e.lab.runtime import IMAGE as IMAGE
from e2e.lab.topology import CLOUD, Node, Topology

Object = dict[str, Any]

PATIENCE = 15.0


@dataclass
class Pod:
    """A Pod that runs on its node."""

    name: str
    namespace: str
    node: Node
    address: str
    space: Space


class Source(Protocol):
    """Where objects are: a directory of manifests, or an API."""

    def publish(self, *objects: Object) -> None:
        """Write or replace objects."""
        ...

    def run(self, pods: list[Object]) -> None:
        """Have Pods run that nobody runs yet; `Workloads` waits for them."""
        ...

    def ran(self, pods: list[Pod]) -> None:
        """They are ready."""
        ...


class Workloads:
    """Every Pod of the bed that is ready, by namespace and name."""

    def __init__(self, topology: Topology, cluster: Source) -> None:
        self._topology = topology
        self.cluster = cluster
        self.pods: dict[tuple[str, str], Pod] = {}

    def apply(self, files: Iterable[Path]) -> list[Pod]:
        """Publish what the files hold, and return when their Pods are ready."""
        return self.publish(list(load(files)))

    def publish(self, items: Iterable[Object]) -> list[Pod]:
        """Publish objects, and return when the Pods among them are ready."""
        items = list(items)
        self.cluster.publish(*(item for item in items if item["kind"] != "Pod"))
        pods = [item for item in items if item["kind"] == "Pod"]
        self.cluster.run(pods)
        return self.wait([name_of(pod) for pod in pods])

    def wait(self, names: Iterable[tuple[str, str]], patience: float = PATIENCE) -> list[Pod]:
        """Wait for Pods to be ready. Raises BedError with the reason of the first that isn't."""
        names = list(names)
        deadline = time.monotonic() + patience
        while True:
            states = self.states()
            waiting = [name for name in names if not (states.get(name) or (None, {}))[1].get("ready")]
            failed = [name for name in waiting if name in states and states[name][1]["error"]]
            if not waiting:
                break
            if failed or time.monotonic() > deadline:
                name = (failed or waiting)[0]
                node, state = states.get(name, (None, {}))
                where = f"on {node.name} " if node else ""
                raise BedError(f"pod {name[1]} {where}is not ready: {state.get('error') or 'nobody runs it yet'}")
            time.sleep(0.02)
        self._take({name: states[name] for name in names})
        pods = [self.pods[name] for name in names]
        self.cluster.ran(pods)
        return pods

    def refresh(self) -> None:
        """See what runs now: pods that were started again have other namespaces."""
        states = self.states()
        for name in [name for name in self.pods if name not in states]:
            del self.pods[name]
        self._take({name: state for name, state in states.items() if state[1]["ready"]})

    def states(self) -> dict[tuple[str, str], tuple[Node, Object]]:
        """What the kubelets say of their pods."""
        found: dict[tuple[str, str], tuple[Node, Object]] = {}
        for node in self._topology:
            for text, state in _ask(node, {"state": ""}).items():
                namespace, _, name = text.partition("/")
                found[namespace, name] = (node, state)
        return found

    def _take(self, states: Mapping[tuple[str, str], tuple[Node, Object]]) -> None:
        for (namespace, name), (node, state) in states.items():
            pid = node.outer(state["pid"])
            known = self.pods.get((namespace, name))
            if not pid or (known and known.space.pid == pid):
                continue
            space = Space(name, None, pid, node.space.depth + 1)
            node.space.spaces[f"{namespace}/{name}/{pid}"] = space
            self.pods[namespace, name] = Pod(name, namespace, node, state["address"], space)

    def pod(self, name: str, namespace: str = "default") -> Pod:
        return self.pods[namespace, name]

    def of(self, node: str) -> list[Pod]:
        """The Pods of a node."""
        return [pod for pod in self.pods.values() if pod.node.name == node]

    def restart(self, node: str) -> None:
        """Start a node's kubelet after a reboot, and return when all its pods are ready again."""
        names = [(pod.namespace, pod.name) for pod in self.of(node)]
        self._topology.nodes[node].start_kubelet()
        self.wait(names)


class Directory:
    """All objects, in files of a directory of its own, and each node's copy of it."""

    def __init__(self, topology: Topology, directory: Path) -> None:
        self._topology = topology
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.unreachable: set[str] = set()
        """Nodes that get no copies at present: what they last had stays theirs."""
        self.keys: dict[str, str] = {}
        """Nodes' public keys by their names."""
        self._scheduled: dict[tuple[str, str], tuple[Object, Node]] = {}
        for node in topology:
            node.start_kubelet()

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
            described = yaml.load(mesh_node, yaml.CSafeLoader)
            self.keys[node.name] = described["spec"]["publicKey"]
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
                described,
            )

    def run(self, pods: list[Object]) -> None:
        """Schedule Pods, and have their nodes' kubelets run them. Raises BedError."""
        for pod in pods:
            node = self._node_for(pod)
            self._scheduled[name_of(pod)] = (pod, node)
            deadline = time.monotonic() + PATIENCE
            while not (said := _ask(node, {"run": pod})):
                if time.monotonic() > deadline:
                    raise BedError(f"the kubelet of {node.name} does not answer")
                time.sleep(0.02)
            if not said["/".join(name_of(pod))]["address"]:
                raise BedError(f"pod {name_of(pod)[1]}: {said['/'.join(name_of(pod))]['error']}")

    def ran(self, pods: list[Pod]) -> None:
        """Publish Pods as a kubelet reports them that are ready."""
        for pod in pods:
            manifest = self._scheduled[pod.namespace, pod.name][0]
            status = {
                "phase": "Running",
                "podIP": pod.address,
                "podIPs": [{"ip": pod.address}],
                "hostIP": pod.node.place.address,
                "conditions": [{"type": kind, "status": "True"} for kind in ("ContainersReady", "Ready")],
            }
            self.publish({**manifest, "spec": {**manifest["spec"], "nodeName": pod.node.name}, "status": status})

    def _node_for(self, manifest: Object) -> Node:
        wanted = {**manifest["spec"].get("nodeSelector", {})}
        if name := manifest["spec"].get("nodeName"):
            wanted["kubernetes.io/hostname"] = name
        fitting = [node for node in self._topology if wanted.items() <= labels(node).items()]
        if not wanted:
            fitting = [node for node in fitting if node.place is not CLOUD]
        if not fitting:
            raise BedError(f"pod {manifest['metadata']['name']}: no node has the labels {wanted}")
        held = [node.name for _, node in self._scheduled.values()]
        return min(fitting, key=lambda node: held.count(node.name))

    def _reachable(self) -> Iterator[Node]:
        return (node for node in self._topology if node.name not in self.unreachable)


def _ask(node: Node, order: Object) -> dict[str, Object]:
    """What a node's kubelet says; nothing while there is none."""
    try:
        return ask(node.space.path(SOCKET), order)
    except (OSError, ValueError):
        return {}


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
