"""The controllers of nodes: pod ranges, mesh addresses, and whether a node is ready, by its lease.

On a cluster that is there, ranges and readiness are its own controllers' work: only MeshNode.status is written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import trio

from edgemesh.authority import utc
from edgemesh.cloud.work import Work
from edgemesh.names import SYSTEM_NAMESPACE
from edgemesh.snapshot import Affected, Snapshot
from edgemesh.token import spell
from sync.client.connection import STRATEGIC_PATCH, Api, ApiStatus, ApiUnreachable, resource_path
from sync.controllers.nodes import LOST, Readiness, mesh_addresses, ranges, readiness
from sync.resources.kinds import Key, MeshNode, MeshNodeStatus, Pod

PERIOD = 5.0
"""Seconds between looks at leases (upstream's --node-monitor-period)."""
KUBELET_LEASES = "kube-node-lease"

log = logging.getLogger("edgemesh.cloud")

Object = dict[str, Any]


class Addresses:
    """What nodes are given. Run `work.run` as a task; tell it what changes touch."""

    def __init__(self, api: Api, snapshot: Snapshot, *, pod_range: str, mesh_range: str, embedded: bool) -> None:
        self._api = api
        self._snapshot = snapshot
        self._pod_range = pod_range
        self._mesh_range = mesh_range
        self._embedded = embedded
        self._told: set[tuple[str, str]] = set()
        self.work: Work[str] = Work("node", self._look)  # one at a time: what is given must be seen by the next

    def changed(self, affected: Affected) -> None:
        """Look at the nodes that a change touches."""
        self.work.add(affected.nodes)

    async def _look(self, name: str) -> None:
        node = self._snapshot.nodes.get(name)
        if self._embedded and node and not node.pod_ranges:
            given = ranges(self._snapshot.nodes.values(), self._pod_range).given.get(name, "")
            if given:
                await self._api.patch(
                    resource_path("", "v1", "nodes", name=name), {"spec": {"podCIDR": given, "podCIDRs": [given]}}
                )
                spec = msgspec.structs.replace(node.spec, pod_cidr=given, pod_cidrs=(given,))
                node = msgspec.structs.replace(node, spec=spec)
                self._snapshot.apply([node])
                log.info("node %s has the pod range %s", name, given)
            elif (name, "") not in self._told:
                self._told.add((name, ""))
                log.error("node %s has no pod range: %s is full", name, self._pod_range)
        mesh_node = self._snapshot.mesh_nodes.get(name)
        if mesh_node is None:
            return
        key = mesh_node.spec.public_key
        if holder := self._holder(key, name):
            if (name, key) not in self._told:
                self._told.add((name, key))
                log.error("MeshNode %s has the public key of %s: it is refused", name, holder)
            return
        address = self._address(name)
        status = MeshNodeStatus((address,) if address else (), node.pod_ranges if node else (), key)
        if status == mesh_node.status:
            return
        group, _, version = MeshNode.api_version.partition("/")
        path = resource_path(group, version, "meshnodes", name=name, subresource="status")
        wanted = {"meshAddresses": status.mesh_addresses, "podRanges": status.pod_ranges, "publicKey": key}
        await self._api.patch(path, {"status": wanted})
        self._snapshot.apply([msgspec.structs.replace(mesh_node, status=status)])
        log.info("node %s is in the mesh at %s, its pods at %s", name, address, ", ".join(status.pod_ranges) or "none")

    def _holder(self, key: str, name: str) -> str:
        """Which other node has a key already; empty if none."""
        nodes = self._snapshot.mesh_nodes.items()
        return next((other for other, node in nodes if node.status.public_key == key and other != name), "")

    def _address(self, name: str) -> str:
        """Its mesh address: the one it has, unless another node has it by right; empty where the range is full."""
        nodes = self._snapshot.mesh_nodes
        key = Key("MeshNode", "", name)
        found = mesh_addresses(nodes, self._mesh_range)
        if key not in found.addresses:
            bare = msgspec.structs.replace(nodes[name], status=MeshNodeStatus())
            found = mesh_addresses({**nodes, name: bare}, self._mesh_range)
        return found.addresses.get(key, "")


class Heartbeats:
    """Leases to the Ready condition of nodes, and the end of pods whose node is no more; run it as a task."""

    def __init__(self, api: Api, snapshot: Snapshot, grace: float) -> None:
        self._api = api
        self._snapshot = snapshot
        self._grace = grace
        self._trouble = ""
        self._orphans: set[Key] = set()

    async def run(self) -> None:
        """Look every `PERIOD`, until cancelled."""
        while True:
            try:
                await self.look(time.time())
                self._trouble = ""
            except (ApiStatus, ApiUnreachable) as error:
                if str(error) != self._trouble:
                    log.warning("leases of nodes can't be looked at: %s", error)
                self._trouble = str(error)
            await trio.sleep(PERIOD)

    async def look(self, now: float) -> None:
        """One look at all nodes. Raises ApiStatus, ApiUnreachable."""
        nodes = (await self._api.list(resource_path("", "v1", "nodes"))).get("items") or ()
        own = await self._renewals(SYSTEM_NAMESPACE)
        kubelets = await self._renewals(KUBELET_LEASES)
        for node in nodes:
            name = node["metadata"]["name"]
            renewals = [when for when in (own.get(name), kubelets.get(name)) if when is not None]
            found = readiness(max(renewals, default=None), now, self._grace)
            before = _ready(node)
            lives, was_lost = found.status == "True", before.get("reason") == LOST
            if not before or lives == was_lost:  # what a kubelet says of a node that lives stays
                await self._write(name, found, before, now)
        await self._delete_orphans({node["metadata"]["name"] for node in nodes})

    async def _renewals(self, namespace: str) -> Mapping[str, float]:
        leases = (await self._api.list(resource_path("coordination.k8s.io", "v1", "leases", namespace))).get("items")
        found: dict[str, float] = {}
        for lease in leases or ():
            when = _seconds((lease.get("spec") or {}).get("renewTime"))
            if when is not None:
                found[lease["metadata"]["name"]] = when
        return found

    async def _write(self, name: str, found: Readiness, before: Object, now: float) -> None:
        condition = {
            "type": "Ready",
            "status": found.status,
            "reason": found.reason,
            "message": found.message,
            "lastHeartbeatTime": spell(utc(now)),
        }
        if before.get("status") != found.status:
            condition["lastTransitionTime"] = spell(utc(now))
        if found.status != "True":
            await self._pods_not_ready(name, now)  # first: once the node is said to be lost nobody looks again
        path = resource_path("", "v1", "nodes", name=name, subresource="status")
        await self._api.patch(path, {"status": {"conditions": [condition]}}, STRATEGIC_PATCH)
        if found.status == "True":
            log.info("node %s is ready", name)
        elif before:
            log.warning("node %s is lost: no lease for %.0f s", name, self._grace)

    async def _pods_not_ready(self, name: str, now: float) -> None:
        """Take the pods of a lost node out of their services, as upstream's node lifecycle controller does."""
        pods = await self._api.list(resource_path("", "v1", "pods"), {"fieldSelector": f"spec.nodeName={name}"})
        for pod in pods.get("items") or ():
            if _ready(pod).get("status") != "True":
                continue
            metadata = pod["metadata"]
            path = resource_path("", "v1", "pods", metadata["namespace"], metadata["name"], "status")
            condition = {"type": "Ready", "status": "False", "lastTransitionTime": spell(utc(now))}
            await self._api.patch(path, {"status": {"conditions": [condition]}}, STRATEGIC_PATCH)

    async def _delete_orphans(self, names: set[str]) -> None:
        """Delete the pods of nodes that are not there, now and at the look before (upstream's PodGC waits as well)."""
        found = {
            key
            for key, pod in self._snapshot.objects.items()
            if isinstance(pod, Pod) and pod.spec.node_name and pod.spec.node_name not in names
        }
        before, self._orphans = self._orphans, found
        for key in sorted(found & before):
            path = resource_path("", "v1", "pods", key.namespace, key.name)
            try:
                pod = await self._api.get(path)
                node = pod["spec"].get("nodeName", "")  # of a new one of that name, perhaps: it may have none yet
                if node and node not in names:
                    same = {"uid": pod["metadata"]["uid"]}
                    await self._api.delete(path, options={"gracePeriodSeconds": 0, "preconditions": same})
                    log.info("pod %s/%s is deleted, as its node %s is", key.namespace, key.name, node)
            except ApiStatus as error:
                if error.code not in (404, 409):
                    raise


def _ready(obj: Object) -> Object:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((dict(each) for each in conditions if each.get("type") == "Ready"), {})


def _seconds(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
