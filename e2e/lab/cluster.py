"""The bed's cluster on the API of `edgemesh cloud`: the cloud role, nodes that join by token, objects applied.

Everything is done on the cloud host, as a user with the administrator's kubeconfig does it there: by `kubectl` where
that is installed, else by plain HTTP. The nodes' kubelets and the scheduler are clients of the API of their own.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2e.lab.api import APPLY_PATCH, MERGE_PATCH, path_of
from e2e.lab.namespaces import BedError
from e2e.lab.topology import ADMIN, CLOUD, ENVIRONMENT, Node, Topology
from e2e.lab.workloads import Object, Pod

KUBECTL_ENVIRONMENT = {"KUBECONFIG": ADMIN, "KUBECACHEDIR": "/run/kubectl"}
MANAGER = "edgemesh-demo"
LOOK = 0.02


class Cluster:
    """The API at the cloud host; `start` it first, then let nodes `join`.

    With `admin`, an administrator's kubeconfig, another API that the cloud host reaches.
    """

    def __init__(self, topology: Topology, admin: str = ADMIN) -> None:
        self._topology = topology
        self._admin = admin
        self.cloud = topology.nodes[CLOUD.name]
        self.kubectl = shutil.which("kubectl") or ""
        self.keys: dict[str, str] = {}
        """Nodes' public keys by their names, as their MeshNodes have them; see `learn`."""
        self._client: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    # coming up

    def start(self, patience: float = 20) -> float:
        """Start the cloud role; the milliseconds until its API is ready."""
        began = time.monotonic()
        self.cloud.start_service("cloud")
        self.wait_ready(patience)
        took = (time.monotonic() - began) * 1000
        self.cloud.start("scheduler", [sys.executable, "-m", "e2e.lab.scheduler", ADMIN])
        return took

    def wait_ready(self, patience: float = 20) -> None:
        """Wait for the API. Raises BedError."""
        deadline = time.monotonic() + patience
        admin = self.cloud.space.path(self._admin)
        while not (admin.exists() and self.ask("GET", "/readyz")[0] == 200):
            if time.monotonic() > deadline:
                raise BedError(f"cloud: the API is not ready within {patience:g} s")
            time.sleep(LOOK)

    def token(self, patience: float = 10) -> str:
        """A token for nodes: the command line that a node is to run. Raises BedError."""
        deadline = time.monotonic() + patience
        while True:
            done = self.cloud.edgemesh("token", "create", "--kubeconfig", ADMIN, check=False)
            if not done.returncode:
                return done.stdout.strip()
            if time.monotonic() > deadline:
                raise BedError(f"cloud: no token: {done.stderr.strip()}")
            time.sleep(LOOK)

    def join(self, node: Node, command: str) -> str:
        """Run what `token` said on a node, and start its kubelet; what it printed. Raises BedError."""
        words = shlex.split(command)[1:]
        said = node.edgemesh(*words, "--zone", node.place.zone, "--no-systemd", timeout=30).stdout
        node.start_kubelet()
        return said

    def wait_nodes(self, names: Iterable[str], patience: float = 15) -> None:
        """Wait until nodes are Ready and have a range of pods. Raises BedError."""
        names = set(names)
        deadline = time.monotonic() + patience
        while missing := names - self._ready_nodes():
            if time.monotonic() > deadline:
                raise BedError(f"not Ready within {patience:g} s: {', '.join(sorted(missing))}")
            time.sleep(LOOK)

    def _ready_nodes(self) -> set[str]:
        found = set()
        for item in self.list("/api/v1/nodes"):
            node = self._topology.nodes.get(item["metadata"]["name"])
            conditions = {each["type"]: each["status"] for each in (item.get("status") or {}).get("conditions") or ()}
            pod_range = (item.get("spec") or {}).get("podCIDR", "")
            if node and pod_range and conditions.get("Ready") == "True":
                node.pod_range = pod_range
                found.add(node.name)
        return found

    def learn(self) -> None:
        """Take the nodes' keys and mesh addresses from their MeshNodes."""
        for item in self.list("/apis/edgemesh.kubeedge.io/v1alpha1/meshnodes"):
            name = item["metadata"]["name"]
            self.keys[name] = item["spec"]["publicKey"]
            if addresses := (item.get("status") or {}).get("meshAddresses"):
                self._topology.nodes[name].mesh_address = addresses[0]

    # objects

    def apply(self, files: Iterable[Path]) -> str:
        """Apply YAML files by kubectl; what it printed. Raises BedError. Only where there is a `kubectl`."""
        words = [word for file in files for word in ("-f", str(file))]
        return self.cloud.space.run([self.kubectl, "apply", *words], env=KUBECTL_ENVIRONMENT).stdout

    def publish(self, *objects: Object) -> None:
        """Create or change objects, by server-side apply. Raises BedError."""
        for item in objects:
            self.request("PATCH", f"{path_of(item)}?fieldManager={MANAGER}&force=true", {**item}, APPLY_PATCH)

    def run(self, pods: list[Object]) -> None:
        """Create Pods that are not there yet; scheduler and kubelets do the rest."""
        for pod in pods:
            if self.ask("GET", path_of(pod))[0] == 404:
                self.request("POST", path_of(pod).rpartition("/")[0], pod)

    def ran(self, pods: list[Pod]) -> None:
        """The kubelets have told the API."""

    def list(self, path: str) -> list[Object]:
        """The items of a list; none while there is no answer."""
        code, body = self.ask("GET", path)
        return list(body.get("items") or ()) if code == 200 else []

    def merge(self, path: str, patch: Object) -> Object:
        """PATCH, a merge patch. Raises BedError."""
        return self.request("PATCH", path, patch, MERGE_PATCH)

    def request(self, method: str, path: str, body: object = None, type: str = "") -> Object:
        """What the API answers. Raises BedError if it refuses, or does not answer."""
        answer = self._order({"method": method, "path": path, "body": body, "type": type})
        found: Object = answer["body"] or {}
        if not 200 <= answer["code"] < 300:
            why = answer["error"] or found.get("message") or f"HTTP {answer['code']}"
            raise BedError(f"the API: {method} {path}: {why}")
        return found

    def ask(self, method: str, path: str) -> tuple[int, Object]:
        """The code of an answer, 0 without one, and its body where that is an object."""
        answer = self._order({"method": method, "path": path})
        return answer["code"], answer["body"] if isinstance(answer["body"], dict) else {}

    def timed(self, path: str, patch: Object) -> float:
        """PATCH; the time of CLOCK_MONOTONIC when it was answered. Raises BedError."""
        answer = self._order({"method": "PATCH", "path": path, "body": patch, "type": MERGE_PATCH})
        if answer["code"] != 200:
            raise BedError(f"the API: PATCH {path}: {answer}")
        return float(answer["at"])

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have the client in the cloud host carry it out; it is started when first needed."""
        with self._lock:
            if self._client is None or self._client.poll() is not None:
                self._client = self.cloud.space.popen(
                    [sys.executable, "-m", "e2e.lab.api", self._admin], env=ENVIRONMENT, stdin=subprocess.PIPE
                )
                assert self._client.stdout
                if self._client.stdout.readline() != "ready\n":
                    assert self._client.stderr
                    raise BedError(f"cloud: no client of the API: {self._client.stderr.read()[-500:]}")
            assert self._client.stdin
            assert self._client.stdout
            try:
                self._client.stdin.write(json.dumps(order) + "\n")
                self._client.stdin.flush()
                answer = self._client.stdout.readline()
            except (BrokenPipeError, ValueError):
                answer = ""
        if not answer:
            raise BedError("cloud: the client of the API has ended")
        found: dict[str, Any] = json.loads(answer)
        return found
