"""The scheduler of the bed: gives each Pod that has no node the one that its nodeSelector allows. Runs on the cloud.

Of the ready nodes that fit it takes the one with the fewest pods, of these the first by name. Without a nodeSelector a
pod goes to no node of the zone `cloud`, which is there for others. A pod that fits nowhere waits, with the reason.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from e2e.lab.api import STRATEGIC_PATCH, Api, Object, Refused, Unreachable, load
from e2e.lab.runtime import timestamp

ZONE = "topology.kubernetes.io/zone"
CLOUD_ZONE = "cloud"
UNBOUND = "/api/v1/pods?fieldSelector=spec.nodeName%3D"
RETRY = 0.2
LOOK_AGAIN = 2.0
"""Seconds until a pod that fits nowhere is looked at again."""


class Unschedulable(Exception):
    """No node fits; the message says what was wanted."""


def choose(pod: Object, nodes: Iterable[Object], pods: Iterable[Object]) -> str:
    """The node for a pod. Raises Unschedulable."""
    spec = pod["spec"]
    wanted = spec.get("nodeSelector") or {}
    fitting: list[str] = []
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if wanted.items() <= labels.items() and (wanted or labels.get(ZONE) != CLOUD_ZONE) and _ready(node):
            fitting.append(node["metadata"]["name"])
    if not fitting:
        raise Unschedulable(f"no ready node has the labels {wanted}")
    held = Counter((each["spec"].get("nodeName") or "") for each in pods)
    return min(fitting, key=lambda name: (held[name], name))


def _ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    spec = node.get("spec") or {}
    return not spec.get("unschedulable") and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


def schedule(api: Api, pod: Object) -> bool:
    """Bind a pod, or write why not; whether it has a node. Raises Refused, Unreachable."""
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
    nodes, pods = (api.request("GET", f"/api/v1/{kind}").get("items") or () for kind in ("nodes", "pods"))
    try:
        node = choose(pod, nodes, pods)
    except Unschedulable as error:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": str(error)}
        condition["lastTransitionTime"] = timestamp()
        api.request("PATCH", f"{path}/status", {"status": {"conditions": [condition]}}, STRATEGIC_PATCH)
        return False
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    names = {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}
    api.request("POST", f"{path}/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": names, "target": target})
    print(f"pod {meta['namespace']}/{meta['name']} goes to {node}", flush=True)
    return True


def run(api: Api) -> None:
    """Schedule, for ever."""
    while True:
        try:
            found = api.request("GET", UNBOUND)
            waiting = [_try(api, pod) for pod in sorted(found.get("items") or (), key=_age)]
            if not all(waiting):
                time.sleep(LOOK_AGAIN)
                continue
            for event in api.watch(UNBOUND, found["metadata"]["resourceVersion"]):
                if event["type"] == "ADDED" and not _try(api, event["object"]):
                    break
        except (Unreachable, Refused, KeyError, TypeError) as error:
            print(f"pods can't be scheduled: {error}; tried again", flush=True)
            time.sleep(RETRY)


def _try(api: Api, pod: Object) -> bool:
    try:
        return bool(pod["metadata"].get("deletionTimestamp")) or schedule(api, pod)
    except Refused as error:
        if error.code not in (404, 409):  # it is gone, or has a node
            raise
        return True


def _age(pod: Object) -> int:
    return int(pod["metadata"]["resourceVersion"])


if __name__ == "__main__":
    run(load(Path(sys.argv[1])))
