"""The kubelet of a node in the bed: runs the Pods that are the node's, and says how they fare. Runs on the node.

With a kubeconfig it follows its node's Pods at the API, writes their status, finishes their deletion, reports the node
with its addresses as ready and renews its Lease; the range of its pods is the one that the API gives to the node.
Without one it is told the range, and Pods by its socket. Either way it keeps both on disk, so that a node that boots
without the API has its pods again.

On its socket it takes one JSON object a line and answers each by the state of all pods, {"NAMESPACE/NAME": {"pid",
"address", "ready", "error"}}, pid being that of the pod's first process as the node numbers it, 0 while it doesn't run:

    {"run": POD}          run it
    {"state": ""}         changes nothing

A pod that has ended is started again after `BACK_OFF` seconds, as upstream's kubelet does after a second crash.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from e2e.lab.api import MERGE_PATCH, STRATEGIC_PATCH, Api, Refused, Unreachable, load
from e2e.lab.runtime import Object, PodError, Runtime, Sandbox, ports, timestamp

SOCKET = "/run/kubelet.sock"
CHECKPOINT = "/var/lib/kubelet/checkpoint.json"
MAX_PODS = 110
"""As upstream's kubelet has it by default."""
BACK_OFF = 10.0
LOOK = 0.01
"""Seconds between looks at the ports of a pod that starts."""
HEARTBEAT = 10.0
REPORT = 300.0
"""Seconds between two Leases, and between two reports of a node's status that is as it was (kubelet's
nodeStatusUpdateFrequency and nodeStatusReportFrequency)."""
RETRY = (0.1, 2.0)
"""Seconds until the first and, doubling, the later attempts at what the API did not take."""

Name = tuple[str, str]


def name_of(pod: Object) -> Name:
    """A pod's namespace and name."""
    return pod["metadata"].get("namespace", "default"), pod["metadata"]["name"]


class Worker(threading.Thread):
    """One pod, from its start to its deletion; its own thread, which the pod's processes end with."""

    def __init__(self, kubelet: Kubelet, pod: Object, address: str) -> None:
        super().__init__(daemon=True)
        self.pod = pod
        self.address = address
        self.sandbox: Sandbox | None = None
        self.ready = False
        self.error = ""
        self.restarts = 0
        self._kubelet = kubelet
        self._deleted = threading.Event()
        self._lock = threading.Lock()

    def delete(self) -> None:
        """End the pod."""
        with self._lock:
            self._deleted.set()
            if self.sandbox:
                self.sandbox.kill()

    def state(self) -> Object:
        """For the socket."""
        pid = self.sandbox.pid if self.sandbox else 0
        return {"pid": pid, "address": self.address, "ready": self.ready, "error": self.error}

    def run(self) -> None:
        """Until it is deleted."""
        while not self._deleted.is_set():
            reason = "CrashLoopBackOff"
            try:
                sandbox = self._kubelet.runtime.start(self.pod, self.address)
            except PodError as error:
                self.error, reason = str(error), error.reason
            else:
                self._attend(sandbox)
            self._report(reason)
            self._deleted.wait(BACK_OFF)
            self.restarts += 1
        self._kubelet.ended(self)

    def _attend(self, sandbox: Sandbox) -> None:
        """From the start of its processes to their end."""
        with self._lock:
            self.sandbox = sandbox
            if self._deleted.is_set():
                sandbox.kill()
        self.error = ""
        missing = ports(self.pod)
        while missing and sandbox.process.poll() is None:
            missing -= sandbox.listening()
            time.sleep(LOOK if missing else 0)
        if not missing:
            self.ready = True
            self._report("")
        status = sandbox.process.wait()
        with self._lock:
            self.sandbox, self.ready = None, False
        if not self._deleted.is_set():
            log = self._kubelet.runtime.log(self.pod)
            last = log.read_text(errors="replace")[-1000:] if log.exists() else ""
            self.error = f"its command ended ({status})\n{last}".strip()

    def _report(self, waiting: str) -> None:
        if not self._deleted.is_set():
            self._kubelet.report(self, waiting)

    def status(self, waiting: str) -> Object:
        """PodStatus; `waiting` is the reason for which its container doesn't run, or empty."""
        now = timestamp()
        container = self.pod["spec"]["containers"][0]
        conditions = {"Initialized": True, "ContainersReady": self.ready, "Ready": self.ready}
        state: Object = {"running": {"startedAt": now}}
        if waiting:
            state = {"waiting": {"reason": waiting, "message": self.error.splitlines()[0] if self.error else waiting}}
        return {
            "phase": "Running" if self.ready or self.restarts else "Pending",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "hostIP": self._kubelet.runtime.node_address,
            "startTime": now,
            "conditions": [
                {"type": kind, "status": str(true), "lastTransitionTime": now} for kind, true in conditions.items()
            ],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container.get("image", ""),
                    "imageID": container.get("image", ""),
                    "ready": self.ready,
                    "started": self.ready,
                    "restartCount": self.restarts,
                    "state": state,
                }
            ],
        }


class Kubelet:
    """All pods of the node. `api` is None without one."""

    def __init__(self, runtime: Runtime, api: Api | None, checkpoint: Path) -> None:
        self.runtime = runtime
        self.workers: dict[Name, Worker] = {}
        self._api = api
        self._checkpoint = checkpoint
        self._lock = threading.RLock()
        self._news = threading.Condition()
        self._reports: dict[Name, tuple[Worker, Object | None]] = {}
        """The latest status of each pod that the API has not got; None: it has to go."""

    def begin(self, pod_range: str) -> None:
        """Take up what is on disk, and the range. Raises PodError."""
        held: Object = {}
        with contextlib.suppress(OSError, ValueError):
            held = json.loads(self._checkpoint.read_text())
        if pod_range := pod_range or held.get("range", ""):
            self.runtime.set_up(pod_range)
        for pod, address in held.get("pods", ()):
            self.run(pod, address)

    def run(self, pod: Object, address: str = "") -> None:
        """Run a pod, if it isn't. Raises PodError."""
        with self._lock:
            if name_of(pod) in self.workers:
                return
            address = address or self.runtime.address({each.address for each in self.workers.values()})
            worker = self.workers[name_of(pod)] = Worker(self, pod, address)
            self._save()
            worker.start()

    def ended(self, worker: Worker) -> None:
        """A pod that was deleted is no more."""
        with self._lock:
            if self.workers.get(name_of(worker.pod)) is worker:
                del self.workers[name_of(worker.pod)]
                self._save()
        self._tell(worker, None)

    def report(self, worker: Worker, waiting: str) -> None:
        """The state of a pod has changed."""
        self._tell(worker, worker.status(waiting))

    def state(self) -> Object:
        """For the socket."""
        with self._lock:
            return {"/".join(name): worker.state() for name, worker in self.workers.items()}

    def _save(self) -> None:
        kept = {"range": self.runtime.range, "pods": [(each.pod, each.address) for each in self.workers.values()]}
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        draft = self._checkpoint.with_suffix(".draft")
        draft.write_text(json.dumps(kept))
        draft.rename(self._checkpoint)

    def _tell(self, worker: Worker, status: Object | None) -> None:
        if self._api:
            with self._news:
                self._reports[name_of(worker.pod)] = (worker, status)
                self._news.notify()

    # at the API

    def follow(self, node: str) -> None:
        """Follow the node's pods, for ever."""
        assert self._api
        path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
        wait = RETRY[0]
        while True:
            try:
                found = self._api.request("GET", path)
                wait = RETRY[0]
                pods = {name_of(pod): pod for pod in sorted(found.get("items") or (), key=_age)}
                with self._lock:
                    gone = [each for name, each in self.workers.items() if _uid(pods.get(name)) != _uid(each.pod)]
                for worker in gone:
                    worker.delete()
                for pod in pods.values():
                    self._take(pod)
                for event in self._api.watch(path, found["metadata"]["resourceVersion"]):
                    self._take(event["object"], gone=event["type"] == "DELETED")
            except (Unreachable, Refused, KeyError, TypeError) as error:
                print(f"pods can't be followed: {error}; tried again", flush=True)
                time.sleep(wait)
                wait = min(2 * wait, RETRY[1])

    def _take(self, pod: Object, gone: bool = False) -> None:
        with self._lock:
            worker = self.workers.get(name_of(pod))
        if worker and (gone or pod["metadata"].get("deletionTimestamp")) and _uid(worker.pod) == _uid(pod):
            worker.delete()
        elif gone or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        elif pod["metadata"].get("deletionTimestamp"):
            self._tell(Worker(self, pod, ""), None)  # it ended while nobody followed
        elif worker is None:
            try:
                self.run(pod)
            except PodError as error:
                print(f"pod {'/'.join(name_of(pod))}: {error}", flush=True)
        elif _uid(worker.pod) == _uid(pod):
            worker.pod = pod
        else:
            worker.delete()
            worker.join()
            self._take(pod)

    def report_all(self) -> None:
        """Bring every report to the API, for ever; one that it doesn't answer is tried again."""
        wait = RETRY[0]
        while True:
            with self._news:
                while not self._reports:
                    self._news.wait()
                name, (worker, status) = next(iter(self._reports.items()))
            try:
                self._report(name, worker, status)
                wait = RETRY[0]
            except Refused as error:
                if error.code not in (404, 409):
                    print(f"the status of pod {'/'.join(name)} is refused: {error}", flush=True)
            except Unreachable:
                time.sleep(wait)
                wait = min(2 * wait, RETRY[1])
                continue
            with self._news:
                if self._reports.get(name) == (worker, status):
                    del self._reports[name]

    def _report(self, name: Name, worker: Worker, status: Object | None) -> None:
        assert self._api
        path = f"/api/v1/namespaces/{name[0]}/pods/{name[1]}"
        uid = _uid(worker.pod)
        if status is None:
            self._api.request("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
        else:
            body = {"metadata": {"uid": uid}, "status": status}
            self._api.request("PATCH", f"{path}/status", body, STRATEGIC_PATCH)


def _uid(pod: Object | None) -> str:
    return str(pod["metadata"].get("uid", "")) if pod else "-"


def _age(pod: Object) -> int:
    return int(pod["metadata"]["resourceVersion"])


class Registration:
    """The node itself at the API: its range, its addresses, its readiness and its Lease."""

    def __init__(self, api: Api, node: str, address: str) -> None:
        self._api = api
        self._node = node
        self._address = address
        self._ready_since = timestamp()
        self._reported = -REPORT

    def pod_range(self) -> str:
        """The range that the API gives the node; waits for it."""
        wait = RETRY[0]
        while True:
            try:
                node = self._api.request("GET", f"/api/v1/nodes/{self._node}")
                if found := (node.get("spec") or {}).get("podCIDR"):
                    return str(found)
                time.sleep(0.05)
            except (Unreachable, Refused) as error:
                print(f"the node's range is not known: {error}; tried again", flush=True)
                time.sleep(wait)
                wait = min(2 * wait, RETRY[1])

    def keep(self) -> None:
        """Say that the node is there, and go on saying it, for ever."""
        said = ""
        while True:
            try:
                self._heartbeat()
                said = ""
            except (Unreachable, Refused) as error:
                if str(error) != said:
                    print(f"the node's status can't be written: {error}; tried again", flush=True)
                said = str(error)
            time.sleep(1.0 if said else HEARTBEAT)

    def _heartbeat(self) -> None:
        now = time.time()
        micro = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        spec = {"holderIdentity": self._node, "leaseDurationSeconds": 40, "renewTime": micro}
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        try:
            self._api.request("PATCH", f"{leases}/{self._node}", {"spec": spec}, MERGE_PATCH)
        except Refused as error:
            if error.code != 404:
                raise
            meta = {"name": self._node, "namespace": "kube-node-lease"}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            self._api.request("POST", leases, lease)
        found = self._api.request("GET", f"/api/v1/nodes/{self._node}").get("status") or {}
        wanted = self._status()
        if not _within(wanted, found) or now - self._reported >= REPORT:
            wanted["conditions"][0]["lastHeartbeatTime"] = timestamp()
            self._api.request("PATCH", f"/api/v1/nodes/{self._node}/status", {"status": wanted}, STRATEGIC_PATCH)
            self._reported = now

    def _status(self) -> Object:
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastTransitionTime": self._ready_since,
        }
        addresses = [{"type": "InternalIP", "address": self._address}, {"type": "Hostname", "address": self._node}]
        system = os.uname()
        about = {
            "kubeletVersion": "edgemesh-demo",
            "containerRuntimeVersion": "namespaces://edgemesh-demo",
            "operatingSystem": system.sysname.lower(),
            "osImage": system.sysname,
            "kernelVersion": system.release,
            "architecture": system.machine,
        }
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        resources = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": str(MAX_PODS)}
        return {
            "addresses": addresses,
            "conditions": [condition],
            "nodeInfo": about,
            "capacity": resources,
            "allocatable": resources,
        }


def _within(wanted: Any, found: Any) -> bool:
    """Whether all that is wanted is found: of objects each field, of lists each item somewhere."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_within(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and all(any(_within(each, one) for one in found) for each in wanted)
    return bool(wanted == found)


class Orders(socketserver.ThreadingUnixStreamServer):
    """The socket."""

    daemon_threads = True

    def __init__(self, kubelet: Kubelet) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        super().__init__(SOCKET, _Order)
        self.kubelet = kubelet


class _Order(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        kubelet: Kubelet = server.kubelet
        for line in self.rfile:
            order = json.loads(line)
            said: Object = {}
            if pod := order.get("run"):
                try:
                    kubelet.run(pod)
                except PodError as error:
                    said["/".join(name_of(pod))] = {"pid": 0, "address": "", "ready": False, "error": str(error)}
            said |= kubelet.state()
            self.wfile.write(json.dumps(said).encode() + b"\n")


def ask(path: Path, order: Object) -> dict[str, Object]:
    """Give a kubelet an order by its socket: the state of all pods. Raises OSError, ValueError."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(10)
        asking.connect(str(path))
        asking.sendall(json.dumps(order).encode() + b"\n")
        with asking.makefile("rb") as answers:
            found: dict[str, Object] = json.loads(answers.readline())
    return found


def main(words: Iterable[str]) -> None:
    parser = argparse.ArgumentParser("python -m e2e.lab.kubelet")
    parser.add_argument("--node", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--resolver", required=True)
    parser.add_argument("--logs", type=Path, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--kubeconfig", type=Path)
    source.add_argument("--pod-range")
    given = parser.parse_args([*words])
    api = load(given.kubeconfig) if given.kubeconfig else None
    kubelet = Kubelet(Runtime(given.node, given.address, given.resolver, given.logs), api, Path(CHECKPOINT))
    kubelet.begin(given.pod_range or "")
    threading.Thread(target=Orders(kubelet).serve_forever, daemon=True).start()
    if api:
        registration = Registration(load(given.kubeconfig), given.node, given.address)
        if not kubelet.runtime.range:
            kubelet.runtime.set_up(registration.pod_range())
        for task, arguments in ((registration.keep, ()), (kubelet.report_all, ()), (kubelet.follow, (given.node,))):
            threading.Thread(target=task, args=arguments, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
