"""Kubernetes' own API server in the demo's topology, and site B's node on it: the cloud's objects, another API.

etcd and kube-apiserver run on the cloud host beside the cloud role. The nodes, their MeshNodes and what was revoked are
copied; site B's agent follows the copy, with the certificates that it has, so that all but the API is as before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import apiserver
from bench.sites import Sites, wait
from e2e.lab.api import MERGE_PATCH, STRATEGIC_PATCH, Object
from e2e.lab.cluster import Cluster
from e2e.lab.namespaces import BedError
from e2e.lab.topology import CLOUD, CONFIG, STATE

NAMESPACES = ("bench", "shop", "edgemesh-system")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MESH_NODES = "/apis/edgemesh.kubeedge.io/v1alpha1/meshnodes"
REVOKED = "/api/v1/namespaces/edgemesh-system/configmaps/edgemesh-revoked"
READY_WITHIN = 60.0


def start(sites: Sites, folder: Path) -> tuple[Cluster, Path]:
    """Run it, with what the mesh needs; the API and its administrator's kubeconfig."""
    made = apiserver.prepare(folder, host=CLOUD.address)
    cloud = sites.node(CLOUD.name)
    cloud.start("etcd", made.etcd)
    cloud.start("kube-apiserver", made.server)
    peer = Cluster(sites.topology, str(made.kubeconfig))
    peer.wait_ready(READY_WITHIN)
    ours = sites.cluster
    assert isinstance(ours, Cluster)
    for name in NAMESPACES:
        _create(peer, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for item in ours.list(DEFINITIONS):
        _create(peer, DEFINITIONS, item)
    wait("the kinds at kube-apiserver", lambda: peer.ask("GET", MESH_NODES)[0] == 200, 20)
    for item in ours.list("/api/v1/nodes"):
        _create(peer, "/api/v1/nodes", item)
        status = {key: item["status"][key] for key in ("addresses", "conditions")}
        peer.request("PATCH", f"/api/v1/nodes/{_name(item)}/status", {"status": status}, STRATEGIC_PATCH)
    for item in ours.list(MESH_NODES):
        _create(peer, MESH_NODES, item)
        peer.request("PATCH", f"{MESH_NODES}/{_name(item)}/status", {"status": item["status"]}, MERGE_PATCH)
    code, revoked = ours.ask("GET", REVOKED)
    if code == 200:
        _create(peer, REVOKED.rpartition("/")[0], revoked)
    return peer, made.kubeconfig


def switch(sites: Sites, name: str, kubeconfig: Path) -> None:
    """Have a node's agent follow that API."""
    node = sites.node(name)
    config = node.space.path(CONFIG)
    before = config.read_text()
    after = before.replace(f"{STATE}/node.kubeconfig", str(kubeconfig))
    if after == before:
        raise BedError(f"{CONFIG} on {name} does not name {STATE}/node.kubeconfig")
    node.stop("agent")
    config.write_text(after)
    node.start_service("agent")


def _create(peer: Cluster, path: str, item: Object) -> None:
    """What is there already stays."""
    bare: dict[str, Any] = {key: value for key, value in item.items() if key != "status"}
    meta = item["metadata"]
    bare["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
    try:
        peer.request("POST", path, bare)
    except BedError:
        if peer.ask("GET", f"{path}/{_name(item)}")[0] != 200:
            raise


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
