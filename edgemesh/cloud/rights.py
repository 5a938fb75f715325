"""On a cluster that is there: what each node may do, by Roles that name its own objects.

All nodes read what the mesh is made of; a node writes its own MeshNode and its own Lease, no others. The embedded API
has these rules built in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from edgemesh.names import CLUSTER_CONFIG, NODE_LABEL, NODE_USER, NODES, REVOKED_CONFIG, SYSTEM_NAMESPACE, node_user

RBAC = "rbac.authorization.k8s.io"
READERS = NODES
PREFIX = NODE_USER

Object = dict[str, Any]

_READ = ["get", "list", "watch"]
_WRITE = ["get", "create", "update", "patch"]


def shared() -> Iterator[Object]:
    """What all nodes may read."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "nodes"], "verbs": _READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
        {"apiGroups": ["edgemesh.kubeedge.io"], "resources": ["meshnodes"], "verbs": _READ},
        {"apiGroups": ["networking.istio.io"], "resources": ["destinationrules"], "verbs": _READ},
    ]
    yield _object("ClusterRole", READERS, rules=rules)
    configs = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [CLUSTER_CONFIG, REVOKED_CONFIG],
        "verbs": _READ,
    }
    yield _object("Role", READERS, SYSTEM_NAMESPACE, rules=[configs])


def of_node(name: str) -> Iterator[Object]:
    """What one node may, beside."""
    own = PREFIX + name
    mesh_node = {
        "apiGroups": ["edgemesh.kubeedge.io"],
        "resources": ["meshnodes"],
        "resourceNames": [name],
        "verbs": _WRITE,
    }
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [name], "verbs": _WRITE}
    label = {NODE_LABEL: name}
    yield _object("ClusterRole", own, labels=label, rules=[mesh_node])
    yield _object("Role", own, SYSTEM_NAMESPACE, labels=label, rules=[lease])
    for role, suffix in ((own, ""), (READERS, ":reads")):
        yield _binding("ClusterRoleBinding", own + suffix, "", "ClusterRole", role, name)
        yield _binding("RoleBinding", own + suffix, SYSTEM_NAMESPACE, "Role", role, name)


def gone(objects: Iterable[Object], names: Iterable[str]) -> list[Object]:
    """Of objects with the label of a node those of nodes that are none any more."""
    kept = set(names)
    return [each for each in objects if each["metadata"].get("labels", {}).get(NODE_LABEL, "") not in kept]


def _object(kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None, **fields: Any) -> Object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {}) | ({"labels": labels} if labels else {})
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, **fields}


def _binding(kind: str, name: str, namespace: str, role_kind: str, role: str, node: str) -> Object:
    return _object(
        kind,
        name,
        namespace,
        labels={NODE_LABEL: node},
        subjects=[{"kind": "User", "name": node_user(node), "apiGroup": RBAC}],
        roleRef={"kind": role_kind, "name": role, "apiGroup": RBAC},
    )


PLURALS = {
    "ClusterRoleBinding": "clusterrolebindings",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "Role": "roles",
}
"""In the order in which they are taken away."""
