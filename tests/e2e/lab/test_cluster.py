"""The bed's cluster on the API: nodes join, pods are scheduled and run, deleted, and there again after a reboot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.lab.api import path_of
from e2e.lab.caller import Caller
from e2e.lab.cluster import Cluster
from e2e.lab.namespaces import Bed, BedError
from e2e.lab.routers import Nat
from e2e.lab.runtime import IMAGE
from e2e.lab.topology import ADMIN, CLOUD, NODE_KUBECONFIG, STATE, Topology
from e2e.lab.workloads import Workloads, load
from tests.e2e.lab.test_namespaces import wait_until

pytestmark = [pytest.mark.bed, pytest.mark.timeout(120)]

FILE = Path(__file__).with_name("workloads.yaml")
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lab"}}
POD = "/api/v1/namespaces/lab/pods"


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workloads]:
    logs = tmp_path_factory.mktemp("logs")
    with Bed(writable=[logs]) as bed:
        topology = Topology(bed, logs, Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED, api=True)
        cluster = Cluster(topology)
        cluster.start()
        command = cluster.token()
        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(lambda node: cluster.join(node, command), topology))
        assert all("joined as" in each for each in said)
        cluster.wait_nodes(node.name for node in topology)
        workloads = Workloads(topology, cluster)
        workloads.publish([NAMESPACE, *load([FILE])])
        yield workloads


@pytest.fixture
def cluster(workloads: Workloads) -> Cluster:
    assert isinstance(workloads.cluster, Cluster)
    return workloads.cluster


def pod(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "command": ["sleep", "infinity"]}
    meta = {"name": name, "namespace": "lab"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], **spec}}


def runs(cluster: Cluster, path: str) -> bool:
    return bool(cluster.request("GET", path)["status"]["phase"] == "Running")


def waits(cluster: Cluster, path: str, reason: str) -> bool:
    statuses = cluster.request("GET", path)["status"].get("containerStatuses") or [{}]
    return bool(statuses[0].get("state", {}).get("waiting", {}).get("reason", "") == reason)


def test_nodes_have_ranges_addresses_and_leases(workloads: Workloads, cluster: Cluster) -> None:
    nodes = {item["metadata"]["name"]: item for item in cluster.list("/api/v1/nodes")}
    assert set(nodes) == {"cloud", "a1", "a2", "b1"}
    ranges = {nodes[name]["spec"]["podCIDR"] for name in nodes}
    assert len(ranges) == 4
    for node in workloads._topology:
        item = nodes[node.name]
        assert item["spec"]["podCIDR"] == node.pod_range
        assert item["metadata"]["labels"]["topology.kubernetes.io/zone"] == node.place.zone
        assert {"type": "InternalIP", "address": node.place.address} in item["status"]["addresses"]
        for field in ("capacity", "allocatable"):
            assert item["status"][field]["cpu"] == str(os.cpu_count())
            assert re.fullmatch(r"[1-9]\d*(Ki|Mi|Gi)", item["status"][field]["memory"])
            assert item["status"][field]["pods"] == "110"
        lease = cluster.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}")
        assert lease["spec"]["holderIdentity"] == node.name
        assert node.space.path(NODE_KUBECONFIG).stat().st_mode & 0o777 == 0o600


def test_pods_run_where_they_may_and_the_api_has_their_status(workloads: Workloads, cluster: Cluster) -> None:
    assert {workloads.pod(name, "lab").node.name for name in ("echo", "web")} == {"a1", "a2"}
    for name in ("echo", "web", "client"):
        found = workloads.pod(name, "lab")
        path = f"{POD}/{name}"
        wait_until(partial(runs, cluster, path), 5)
        item = cluster.request("GET", path)
        assert item["spec"]["nodeName"] == found.node.name
        assert item["status"]["podIP"] == found.address
        conditions = {each["type"]: each["status"] for each in item["status"]["conditions"]}
        assert conditions["Ready"] == conditions["PodScheduled"] == "True"
    client, echo = Caller(workloads.pod("client", "lab")), workloads.pod("echo", "lab")
    answer = client.until_ok("tcp", 3, name=echo.address, port=7, text="hello")
    assert answer["ok"] or echo.node.name != "a1", answer  # to another node no mesh runs here
    assert client.node.space.run(["cat", "/etc/hosts"]).stdout
    assert f"{echo.address} echo" in echo.space.run(["cat", "/etc/hosts"]).stdout


def test_a_service_has_its_slice(workloads: Workloads, cluster: Cluster) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/lab/endpointslices?labelSelector=kubernetes.io/service-name%3Decho"

    def ready() -> list[str]:
        endpoints = [each for item in cluster.list(path) for each in item["endpoints"] or ()]
        return [each["addresses"][0] for each in endpoints if each["conditions"]["ready"]]

    wait_until(lambda: ready() == [workloads.pod("echo", "lab").address], 5)


def test_a_deleted_pod_is_gone_from_its_node_and_the_api(workloads: Workloads, cluster: Cluster) -> None:
    (made,) = workloads.publish([pod("short", nodeSelector={"kubernetes.io/hostname": "b1"})])
    assert made.node.name == "b1"
    code, item = cluster.ask("GET", f"{POD}/short")
    assert code == 200
    cluster.request("DELETE", path_of(pod("short")))
    wait_until(lambda: cluster.ask("GET", f"{POD}/short")[0] == 404, 5)
    wait_until(lambda: ("lab", "short") not in workloads.states(), 5)
    (again,) = workloads.publish([pod("short", nodeSelector={"kubernetes.io/hostname": "b1"})])
    assert cluster.request("GET", f"{POD}/short")["metadata"]["uid"] != item["metadata"]["uid"]
    assert again.space.pid != made.space.pid
    cluster.request("DELETE", path_of(pod("short")))


def test_what_fits_nowhere_waits_with_the_reason(workloads: Workloads, cluster: Cluster) -> None:
    cluster.run([pod("nowhere", nodeSelector={"disk": "fast"})])

    def reason() -> str:
        conditions = cluster.request("GET", f"{POD}/nowhere")["status"].get("conditions") or [{}]
        return str(conditions[0].get("message", ""))

    wait_until(lambda: "no ready node has the labels {'disk': 'fast'}" in reason(), 5)
    cluster.request("DELETE", f"{POD}/nowhere")
    wait_until(lambda: cluster.ask("GET", f"{POD}/nowhere")[0] == 404, 5)


def test_a_command_that_ends_and_an_image_that_is_not_here_are_told(workloads: Workloads, cluster: Cluster) -> None:
    ends, strange = pod("ends"), pod("strange")
    ends["spec"]["containers"][0]["command"] = ["sh", "-c", "echo no bread; exit 3"]
    ends["spec"]["containers"][0]["ports"] = [{"containerPort": 1}]
    strange["spec"]["containers"][0]["image"] = "redis:8"
    for item, message, reason in (
        (ends, "its command ended.*\nno bread", "CrashLoopBackOff"),
        (strange, "image 'redis:8' is not here", "ErrImageNeverPull"),
    ):
        name = item["metadata"]["name"]
        with pytest.raises(BedError, match=message):
            workloads.publish([item])

        wait_until(partial(waits, cluster, f"{POD}/{name}", reason), 5)
        cluster.request("DELETE", f"{POD}/{name}")


def test_a_killed_kubelet_has_its_pods_again(workloads: Workloads) -> None:
    client = workloads.pod("client", "lab")
    before = client.space.pid
    client.node.kill("kubelet")
    wait_until(lambda: not Path(f"/proc/{before}/ns/net").exists(), 2)  # its pods end with it
    wait_until(lambda: bool(workloads.states().get(("lab", "client"), (None, {}))[1].get("ready")), 8)
    workloads.refresh()
    assert workloads.pod("client", "lab").address == client.address
    assert workloads.pod("client", "lab").space.pid != before


def test_a_node_that_boots_without_the_api_has_its_pods(workloads: Workloads, cluster: Cluster) -> None:
    topology = workloads._topology
    topology.cut_off(CLOUD.name)
    node = workloads.pod("echo", "lab").node
    topology.reboot(node.name)
    assert node.space.path(f"{STATE}/pki/node.key").exists()
    workloads.restart(node.name)
    echo = workloads.pod("echo", "lab")
    answer = Caller(node).until_ok("tcp", 3, name=echo.address, port=7, text="again")
    assert answer["ok"], answer
    topology.plug_in(CLOUD.name)
    cluster.wait_ready()


def test_kubectl_has_its_kubeconfig(cluster: Cluster) -> None:
    config = yaml.safe_load(cluster.cloud.space.path(ADMIN).read_text())
    assert config["clusters"][0]["cluster"]["server"] == f"https://{CLOUD.address}:6443"
