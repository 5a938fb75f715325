"""Leases to the Ready condition, over an API that is a dictionary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio

from edgemesh.cloud.nodes import Heartbeats
from edgemesh.snapshot import Snapshot
from sync.client.connection import Api, ApiStatus, ApiUnreachable
from sync.controllers.nodes import LOST, READY
from sync.resources.kinds import Metadata, Pod, PodSpec

Object = dict[str, Any]


class Cluster:
    """As much of an API as is asked."""

    def __init__(self) -> None:
        self.nodes: dict[str, Object] = {}
        self.leases: dict[str, dict[str, float]] = {"edgemesh-system": {}, "kube-node-lease": {}}
        self.pods: dict[str, Object] = {}
        self.snapshot = Snapshot()
        self.writes: list[str] = []
        self.away_after = 1000
        """Writes until the API goes away."""

    async def list(self, path: str, query: dict[str, str] | None = None) -> Object:
        if path.endswith("/leases"):
            found = self.leases[path.split("/")[-2]]
            return {"items": [_lease(name, when) for name, when in found.items()]}
        if path.endswith("/pods"):
            node = (query or {})["fieldSelector"].removeprefix("spec.nodeName=")
            return {"items": [pod for pod in self.pods.values() if pod["spec"].get("nodeName") == node]}
        return {"items": list(self.nodes.values())}

    async def patch(self, path: str, patch: Object, content_type: str) -> Object:
        if len(self.writes) >= self.away_after:
            raise ApiUnreachable("away")
        self.writes.append(path)
        kind, name = path.split("/")[-3:-1]
        target = {"nodes": self.nodes, "pods": self.pods}[kind][name]
        (condition,) = patch["status"]["conditions"]
        kept = next(
            (each for each in target["status"]["conditions"] if each["type"] == condition["type"]), cast(Object, {})
        )
        target["status"]["conditions"] = [{**kept, **condition}]
        return target

    def node(self, name: str) -> None:
        self.nodes[name] = {"metadata": {"name": name}, "status": {"conditions": []}}

    def pod(self, name: str, node: str) -> None:
        conditions = [{"type": "Ready", "status": "True"}]
        self.pods[name] = {
            "metadata": {"name": name, "namespace": "shop", "uid": f"uid-of-{name}-on-{node}"},
            "spec": {"nodeName": node},
            "status": {"conditions": conditions},
        }

    def ready(self, name: str) -> str:
        return next((str(each["status"]) for each in self.nodes[name]["status"]["conditions"]), "")

    async def get(self, path: str) -> Object:
        return self.pods[path.rpartition("/")[2]]

    async def delete(self, path: str, options: Object) -> Object:
        name = path.rpartition("/")[2]
        if self.pods[name]["metadata"]["uid"] != options["preconditions"]["uid"]:
            raise ApiStatus(409, "Conflict", "another uid", {})
        assert options["gracePeriodSeconds"] == 0, "there is no kubelet that would end it"
        return self.pods.pop(name)

    def heartbeats(self, grace: float = 40.0) -> Heartbeats:
        return Heartbeats(cast(Api, self), self.snapshot, grace)

    def condition(self, name: str) -> Object:
        """Ready, but for its words."""
        (found,) = self.nodes[name]["status"]["conditions"]
        return {field: value for field, value in found.items() if field != "message"}

    def look(self, now: float, grace: float = 40.0) -> Sequence[str]:
        self.writes = []
        trio.run(self.heartbeats(grace).look, now)
        return self.writes

    def watched(self) -> None:
        """What a watch has shown."""
        held = [
            Pod(metadata=Metadata(name=name, namespace="shop"), spec=PodSpec(node_name=pod["spec"].get("nodeName", "")))
            for name, pod in self.pods.items()
        ]
        gone = self.snapshot.objects.keys() - {pod.key for pod in held}
        self.snapshot.apply(held, gone)


def living(*pods: tuple[str, str]) -> Cluster:
    """A node a whose lease is of 1000 s, ready; and pods, by name and node."""
    cluster = Cluster()
    cluster.node("a")
    for name, node in pods:
        cluster.pod(name, node)
    cluster.leases["edgemesh-system"] = {"a": 1000.0}
    cluster.look(1001.0)
    return cluster


def _lease(name: str, when: float) -> Object:
    micros = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1e6):06d}Z"
    return {"metadata": {"name": name}, "spec": {"renewTime": micros}}


def at(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_a_node_is_ready_with_its_lease_and_unknown_without() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.node(name)
    cluster.leases["edgemesh-system"] = {"a": 1000.5}
    cluster.look(1010.0)
    assert (cluster.ready("a"), cluster.ready("b")) == ("True", "Unknown")
    assert cluster.look(1039.0) == [], "what is right is not written again"


def test_a_lost_node_takes_its_pods_out_and_comes_back() -> None:
    cluster = living(("web", "a"), ("other", "b"))
    cluster.look(1041.0)
    assert cluster.ready("a") == "Unknown"
    assert cluster.pods["web"]["status"]["conditions"][0]["status"] == "False"
    assert cluster.pods["other"]["status"]["conditions"][0]["status"] == "True"
    cluster.leases["edgemesh-system"] = {"a": 1042.0}
    cluster.look(1043.0)
    assert cluster.ready("a") == "True"


def test_the_time_of_a_transition_is_that_of_the_status() -> None:
    """Another reason, or another heartbeat, is none (Kubernetes' API conventions, "typical status properties")."""
    cluster = Cluster()
    cluster.node("a")
    cluster.look(1000.0)
    lost = {"type": "Ready", "status": "Unknown", "reason": LOST, "lastTransitionTime": at(1000)}
    assert cluster.condition("a") == {**lost, "lastHeartbeatTime": at(1000)}
    cluster.leases["edgemesh-system"] = {"a": 1010.0}
    cluster.look(1011.0)
    lives = {"type": "Ready", "status": "True", "reason": READY, "lastTransitionTime": at(1011)}
    assert cluster.condition("a") == {**lives, "lastHeartbeatTime": at(1011)}
    cluster.nodes["a"]["status"]["conditions"][0] |= {"status": "Unknown", "reason": "Rebooting"}
    cluster.look(1100.0)
    kept = {**lost, "lastTransitionTime": at(1011)}
    assert cluster.condition("a") == {**kept, "lastHeartbeatTime": at(1100)}


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_what_an_api_that_goes_away_leaves_undone_is_done_later(writes: int) -> None:
    cluster = living(("web", "a"), ("shop", "a"))
    cluster.away_after = writes
    with pytest.raises(ApiUnreachable):
        cluster.look(1041.0)
    cluster.away_after = 1000
    cluster.look(1046.0)
    assert cluster.ready("a") == "Unknown"
    assert {pod["status"]["conditions"][0]["status"] for pod in cluster.pods.values()} == {"False"}


def test_a_kubelets_lease_counts_as_well_and_its_word_is_left() -> None:
    cluster = Cluster()
    cluster.node("a")
    cluster.leases["kube-node-lease"] = {"a": 1000.0}
    cluster.nodes["a"]["status"]["conditions"] = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    assert cluster.look(1001.0) == []
    cluster.nodes["a"]["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]
    assert cluster.look(1002.0) == []


def test_pods_of_a_deleted_node_go_at_the_second_look() -> None:
    """Not at the first: the node may have just been registered, and the watch of pods be ahead of the list of nodes."""
    cluster = Cluster()
    cluster.node("a")
    for name, node in (("web", "a"), ("lost", "b"), ("again", "b"), ("waiting", "b"), ("unscheduled", "")):
        cluster.pod(name, node)
    cluster.watched()
    heartbeats = cluster.heartbeats()
    trio.run(heartbeats.look, 1000.0)
    assert len(cluster.pods) == 5
    cluster.pod("again", "c")  # made anew meanwhile, which the watch has not shown yet
    del cluster.pods["waiting"]["spec"]["nodeName"]  # this one too, and it has no node yet
    cluster.node("c")
    trio.run(heartbeats.look, 1005.0)
    assert set(cluster.pods) == {"web", "again", "waiting", "unscheduled"}
    cluster.watched()
    for now in (1010.0, 1015.0):
        trio.run(heartbeats.look, now)
    assert set(cluster.pods) == {"web", "again", "waiting", "unscheduled"}
