"""The demo's topology with the product's processes running, to measure in: two sites behind NAT, and the cloud.

Besides the examples, pods to call from and to call (`answer.py`, iperf3), and the way through the same routers without
the mesh (`forward`), so that every figure has beside it what the routers alone give.
"""

from __future__ import annotations

import base64
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from bench import answer, call, objects
from bench.control import ask
from bench.forward import forward, load_chain
from e2e.lab.api import path_of
from e2e.lab.cluster import Cluster
from e2e.lab.namespaces import Bed, BedError
from e2e.lab.routers import Nat
from e2e.lab.runtime import IMAGE
from e2e.lab.topology import ADMIN, CLOUD, ENVIRONMENT, RESOLVER, ROOT, WAN_ADDRESS, Node, Topology
from e2e.lab.workloads import Directory, Object, Pod, Workloads, file_name, load
from edgemesh import status

NAMESPACE = "bench"
ORDERS = "orders.shop.svc.cluster.local"
HTTP_PORT, WORD_PORT, STREAM_PORT, UDP_PORT, IPERF_PORT = 8080, 8081, 8079, 7, 5201
"""The same by service and by port forward."""
ECHO_TARGET = 7007
PATIENCE = 30.0
LOOK = 0.005
"""Seconds between two looks at a condition."""

SERVICES, ENDPOINTS = 1000, 3
"""What a large cluster has."""

Place = tuple[str, int]


def manifest(name: str, node: str, command: Sequence[str], ports: Sequence[int] = ()) -> Object:
    """A Pod of the benchmark's own."""
    listed = [{"containerPort": port} for port in ports]
    container = {"name": "main", "image": IMAGE, "command": list(command), "ports": listed}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [container]},
    }


def service(name: str, ports: Sequence[int], selector: str = "") -> Object:
    """A Service of the benchmark's own; without a selector its endpoints are said apart."""
    return objects.service(name, NAMESPACE, list(ports), selector)


def endpoints(name: str, port: int, addresses: Sequence[str]) -> Object:
    """The EndpointSlice of a service that has no selector."""
    return objects.endpoints(name, NAMESPACE, port, list(addresses))


class Sites:
    """A bed with everything in it up: every node healthy, the two sites on a direct path.

    On the API of the cloud role; with `manifests` on a directory of each node's own.
    """

    def __init__(self, bed: Bed, folder: Path, *, manifests: bool = False) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.topology = Topology(bed, self.logs, Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED, api=not manifests)
        self.cluster: Cluster | Directory
        self.cluster = Directory(self.topology, folder / "cluster") if manifests else Cluster(self.topology)
        self.workloads = Workloads(self.topology, self.cluster)
        self.keys: dict[str, str] = {}

    def start(self) -> None:
        """Bring all up, and wait until it is."""
        self._introduce()
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self.workloads.publish([namespace, *load(sorted((ROOT / "examples").glob("*.yaml")))])
        server = self.pod_of("orders", "shop").node.name
        self.workloads.publish(
            [
                manifest("call", "b1", ["sleep", "infinity"]),
                manifest("call-a2", "a2", ["sleep", "infinity"]),
                manifest("answer", server, answering("answer"), [STREAM_PORT, WORD_PORT]),
                manifest("iperf", server, ["iperf3", "-s"], [IPERF_PORT]),
                service("answer", [STREAM_PORT, WORD_PORT], "answer"),
                service("iperf", [IPERF_PORT], "iperf"),
            ]
        )
        for node in self.topology:
            node.start_services()
        wait("all nodes healthy", lambda: all(self.status(node.name) for node in self.topology), 20)
        if isinstance(self.cluster, Cluster):
            self.cluster.learn()
        self.keys = {name: base64.b64decode(key).hex() for name, key in self.cluster.keys.items()}
        self._forward()
        self.wait_path("b1", "a1", "direct", 15)
        wait("a call by name", lambda: self.address(f"answer.{NAMESPACE}.svc.cluster.local"), 5)

    def _introduce(self) -> None:
        """Let the nodes know of each other, and have them run pods."""
        if isinstance(self.cluster, Directory):
            self.cluster.publish_nodes()
            return
        self.cluster.start()
        command = self.cluster.token()
        for node in self.topology:
            self.cluster.join(node, command)
        self.cluster.wait_nodes(node.name for node in self.topology)

    def many(self, name: str) -> None:
        """Have `SERVICES` services of `ENDPOINTS` endpoints each: at the API, or in a node's manifests, a file each."""
        if isinstance(self.cluster, Cluster):
            self.fill(ADMIN)
            return
        for number, item in enumerate(objects.many(NAMESPACE, SERVICES, ENDPOINTS)):
            self.node(name).write_manifest(f"many-{number}.yaml", yaml.dump(item, Dumper=yaml.CSafeDumper))

    def fill(self, kubeconfig: str) -> None:
        """Create them at an API that the cloud host reaches."""
        how = {"namespace": NAMESPACE, "services": SERVICES, "endpoints": ENDPOINTS, "nodes": 0}
        command = [sys.executable, "-m", "bench.api_load", kubeconfig, "fill", json.dumps(how)]
        self.node(CLOUD.name).space.run(command, env=ENVIRONMENT, timeout=120)

    def change(self, item: Object, node: str) -> float:
        """Change an object that is there; the time of CLOCK_MONOTONIC: when the API had answered, or before the node's
        manifest was renamed into place."""
        if isinstance(self.cluster, Cluster):
            return self.cluster.timed(path_of(item), item)
        text = yaml.dump(item, Dumper=yaml.CSafeDumper)
        began = time.monotonic()
        self.node(node).write_manifest(file_name(item), text)
        return began

    def run_pod(self, item: Object) -> Pod:
        """Run a Pod of the benchmark's own, everywhere known."""
        return self.workloads.publish([item])[0]

    def _forward(self) -> None:
        """The way through the routers without the mesh."""
        orders, answer = self.pod_of("orders", "shop"), self.pod_of("answer")
        ports = {
            ("tcp", HTTP_PORT): (orders, HTTP_PORT),
            ("tcp", WORD_PORT): (answer, WORD_PORT),
            ("tcp", STREAM_PORT): (answer, STREAM_PORT),
            ("tcp", IPERF_PORT): (self.pod_of("iperf"), IPERF_PORT),
            ("udp", UDP_PORT): (self.pod_of("echo-udp", "shop"), ECHO_TARGET),
        }
        forward(self.topology, self.node("b1"), ports)

    def drop_direct(self) -> None:
        """Silently drop what the tunnels of site A and B send to each other; the way without the mesh stays open."""
        one, other = WAN_ADDRESS.values()
        rules = (
            f"ip saddr {source} ip daddr {target} udp {end} != {UDP_PORT} drop"
            for source, target, end in ((one, other, "sport"), (other, one, "dport"))
        )
        load_chain(self.topology.internet, "weather", "filter hook forward priority filter", *rules)

    def open_direct(self) -> None:
        """Nothing is dropped; returns when site B has a direct path again.

        A way that died is put off, longer each time within half a minute; agents that begin anew know of no deaths, so
        that each drop finds what a first one does.
        """
        load_chain(self.topology.internet, "weather", "filter hook forward priority filter")
        server = self.pod_of("orders", "shop").node
        for node in (server, self.node("b1")):
            node.stop("agent")
            node.start_service("agent")
        for source, target in ((server.name, "b1"), ("b1", server.name)):
            self.wait_path(source, target, "direct", 15)

    # asking

    def node(self, name: str) -> Node:
        return self.topology.nodes[name]

    def pod_of(self, name: str, namespace: str = NAMESPACE) -> Pod:
        return self.workloads.pod(name, namespace)

    def status(self, name: str) -> status.Status | None:
        """What a node's agent says; None unless it is healthy."""
        try:
            answer = status.ask(self.node(name).space.path("/run/edgemesh/agent.sock"))
        except (status.StatusError, OSError):
            return None
        return answer if answer.healthy else None

    def path(self, source: str, target: str) -> str:
        """The path from one node to another, as its agent has it."""
        answer = self.status(source)
        return next((peer.path for peer in answer.peers if peer.name == target), "none") if answer else "none"

    def wait_path(self, source: str, target: str, path: str, patience: float = 10) -> float:
        """Until the path is of that kind; the time of CLOCK_MONOTONIC when it was."""
        return wait(f"{source} to {target} {path}", lambda: self.path(source, target) == path, patience)

    def wait_services(self, name: str) -> float:
        """Until a node serves all of `many`; the time of CLOCK_MONOTONIC when it did."""

        def served() -> bool:
            said = self.status(name)
            return said is not None and said.services.backends >= SERVICES * ENDPOINTS

        return wait(f"{SERVICES} services on {name}", served, 30)

    def endpoint(self, source: str, target: str) -> str:
        """Where a node's engine sends to another, as its control socket has it; empty where nowhere."""
        of = ""
        for key, value in ask(self.node(source), "get=1"):
            if key == "public_key":
                of = value
            elif key == "endpoint" and of == self.keys[target]:
                return value
        return ""

    def address(self, name: str, caller: str = "call") -> str:
        """A service's cluster IP, as the resolver of the caller's node answers."""
        node = self.pod_of(caller).node
        said = node.space.run(["dig", "+short", "+tries=1", "+time=1", f"@{RESOLVER}", name], check=False).stdout
        return said.strip() if said[:1].isdigit() else ""

    def outer(self, pod: Pod) -> str:
        """The address of the router before a pod's node."""
        return WAN_ADDRESS[pod.node.place.zone]

    # calling

    def call(self, what: str, places: Sequence[Place], rounds: int, pod: Pod | None = None, **how: Any) -> Any:
        """Run a measurement of `call.py` in a pod: a list for each place, a figure for each round."""
        space = (pod or self.pod_of("call")).space
        order = json.dumps({"places": places, "rounds": rounds, **how})
        table = json.loads(space.run(calling(what, order), timeout=120).stdout)
        return [list(side) for side in zip(*table, strict=True)]

    @contextmanager
    def telling(self, what: str, pod: Pod, **how: object) -> Iterator[Callable[[], Any]]:
        """Begin one of those of `call.py` that tell as they go: a function that waits for what is told next.

        It gives None at the end, or when nothing has come for `PATIENCE`.
        """
        process = pod.space.popen(calling(what, json.dumps(how)), stdin=subprocess.PIPE)
        assert process.stdin
        assert process.stdout
        try:
            if process.stdout.readline() != "ready\n":
                raise BedError(f"{pod.name}: the client does not start")
            process.stdin.write("go\n")
            process.stdin.flush()
            lines: queue.SimpleQueue[str] = queue.SimpleQueue()
            threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
            yield lambda: _next(lines)
        finally:
            process.kill()
            process.wait()

    def stop(self, *names: str) -> None:
        """End all processes of nodes; an API goes on."""
        for name in names:
            for process in self.node(name).services:
                self.node(name).stop(process)


@contextmanager
def sites(*, manifests: bool = False) -> Iterator[Sites]:
    """Everything up; ended afterwards. A failure carries the last lines of all logs."""
    with tempfile.TemporaryDirectory(prefix="edgemesh-bench-") as name, Bed() as bed:
        built = Sites(bed, Path(name), manifests=manifests)
        try:
            built.start()
            yield built
        except BedError as error:
            raise BedError(f"{error}\n{last_lines(built.logs)}") from error


def _pass_on(out: IO[str], lines: queue.SimpleQueue[str]) -> None:
    with suppress(ValueError):  # the space has closed its end
        for line in out:
            lines.put(line)
    lines.put("null")


def _next(lines: queue.SimpleQueue[str]) -> Any:
    try:
        return json.loads(lines.get(timeout=PATIENCE))
    except queue.Empty:
        return None


def last_lines(logs: Path, count: int = 3) -> str:
    """The ends of all logs that have any."""
    ends = {log.name: log.read_text(errors="replace").splitlines()[-count:] for log in sorted(logs.glob("*.log"))}
    return "\n".join("\n".join([f"{name}:", *lines]) for name, lines in ends.items() if lines)


def answering(word: str) -> list[str]:
    """The command of a pod that answers with a word."""
    return ["python3", *answer.COMMAND[1:], word, str(STREAM_PORT), str(WORD_PORT)]


def calling(what: str, order: str) -> list[str]:
    """The command of a client."""
    return [*call.COMMAND, what, order]


def wait(what: str, condition: Callable[[], object], patience: float) -> float:
    """Until a condition holds; the time of CLOCK_MONOTONIC when it did. Raises BedError when patience ends."""
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            raise BedError(f"{what}: not within {patience:g} s")
        time.sleep(LOOK)
    return time.monotonic()
