"""Pods from plain YAML: scheduled by their selectors, run, called, and published as a kubelet publishes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.lab.caller import Caller
from e2e.lab.namespaces import Bed, BedError
from e2e.lab.routers import Nat
from e2e.lab.topology import MANIFESTS, Topology
from e2e.lab.workloads import Directory, Workloads

pytestmark = pytest.mark.bed

FILE = Path(__file__).with_name("workloads.yaml")


@pytest.fixture(scope="module")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workloads]:
    logs = tmp_path_factory.mktemp("logs")
    with Bed(writable=[logs]) as bed:
        topology = Topology(bed, logs, Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED)
        workloads = Workloads(topology, Directory(topology, logs / "cluster"))
        workloads.apply([FILE])
        yield workloads


def test_pods_are_spread_over_the_nodes_that_their_selector_allows(workloads: Workloads) -> None:
    nodes = {name: workloads.pod(name, "lab").node.name for name in ("echo", "web", "client")}
    assert {nodes["echo"], nodes["web"]} == {"a1", "a2"}
    assert nodes["client"] == "a1"
    addresses = {pod.address for pod in workloads.pods.values()}
    assert len(addresses) == 3
    assert all(pod.address.startswith(f"10.244.{pod.node.place.number}.") for pod in workloads.pods.values())


def test_every_node_has_the_pod_with_its_status_and_the_service_as_it_was(workloads: Workloads) -> None:
    for node in workloads._topology:
        directory = node.space.path(MANIFESTS)
        assert sorted(path.name for path in directory.iterdir()) == [
            "pod-lab-client.yaml",
            "pod-lab-echo.yaml",
            "pod-lab-web.yaml",
            "service-lab-echo.yaml",
        ]
        pod = yaml.safe_load((directory / "pod-lab-echo.yaml").read_text())
        assert pod["spec"]["nodeName"] == "a1"
        assert pod["status"]["podIP"] == workloads.pod("echo", "lab").address
        assert {"type": "Ready", "status": "True"} in pod["status"]["conditions"]
        service = yaml.safe_load((directory / "service-lab-echo.yaml").read_text())
        assert service["spec"]["selector"] == {"app": "echo"}
        assert "clusterIP" not in service["spec"]


def test_a_pod_has_its_name_its_resolver_and_the_declared_environment(workloads: Workloads) -> None:
    client = workloads.pod("client", "lab").space
    assert client.run("hostname; cat /etc/resolv.conf").stdout.splitlines() == [
        "client",
        "nameserver 169.254.96.16",
        "search lab.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ]
    web = workloads.pod("web", "lab")
    caller = Caller(web)
    answer = caller.call("http", name=web.address, port=8080)
    assert answer["ok"], answer
    assert answer["body"] == f"web {web.address}"


def test_pods_of_one_node_meet_at_layer_3(workloads: Workloads) -> None:
    echo, client = workloads.pod("echo", "lab"), workloads.pod("client", "lab")
    assert echo.node is client.node
    said = client.space.run(["ping", "-c1", "-W2", echo.address]).stdout
    assert "ttl=63" in said  # the node has forwarded it: 64 less one
    caller = Caller(client)
    for protocol in ("tcp", "udp"):
        answer = caller.call(protocol, name=echo.address, port=7, text="hello")
        assert answer["ok"], answer
        assert answer["destination"] == [echo.address, 7]


def test_flows_count_compare_and_see_gaps(workloads: Workloads) -> None:
    echo, web = workloads.pod("echo", "lab"), workloads.pod("web", "lab")
    for caller, flow_kind, host, port in (
        (Caller(workloads.pod("client", "lab")), "echo", echo.address, 7),
        (Caller(web), "download", web.address, 8080),
    ):
        flow = caller.flow("f", flow_kind, host, port, "/download")
        assert flow.moves()
        flow.state(mark=True)
        if flow_kind == "echo":
            echo.node.space.run(["ip", "link", "set", "dev", f"pod{echo.address.rsplit('.', 1)[1]}", "down"])
            assert not flow.moves(patience=0.5)
            echo.node.space.run(["ip", "link", "set", "dev", f"pod{echo.address.rsplit('.', 1)[1]}", "up"])
            assert flow.moves()
            assert flow.state()["longest_gap_ms"] > 400
        end = flow.shut()
        assert end["ok"]
        assert not end["broken"]
        assert end["bytes"] > 4096


def test_calls_that_fail_say_so(workloads: Workloads) -> None:
    caller = Caller(workloads.pod("client", "lab"))
    echo = workloads.pod("echo", "lab")
    assert "refused" in caller.call("tcp", name=echo.address, port=9, text="x")["error"]
    assert not caller.call("srv", name="x.lab", server=echo.address, timeout=0.2)["ok"]
    with pytest.raises(BedError, match="can't be opened"):
        caller.flow("g", "echo", echo.address, 9)


def test_from_the_node_itself(workloads: Workloads) -> None:
    echo = workloads.pod("echo", "lab")
    caller = Caller(echo.node)
    answer = caller.call("udp", name=echo.address, port=7, text="hello")
    assert answer["ok"], answer
    assert "nameserver 169.254.96.16" not in echo.node.space.run(["cat", "/etc/resolv.conf"]).stdout


def test_unknown_images_and_labels_are_refused(workloads: Workloads, tmp_path: Path) -> None:
    for change, message in (
        (("python:3.11-slim", "redis:8"), "image 'redis:8' is not here"),
        (("kubernetes.io/hostname: a1", "kubernetes.io/hostname: a9"), "no node has the labels"),
    ):
        file = tmp_path / "pod.yaml"
        pod = yaml.safe_dump_all(d for d in yaml.safe_load_all(FILE.read_text()) if d["metadata"]["name"] == "client")
        file.write_text(pod.replace("name: client", "name: other").replace(*change))
        with pytest.raises(BedError, match=message):
            workloads.apply([file])


def test_a_rebooted_node_has_its_disk_and_its_pods_but_no_manifests(workloads: Workloads) -> None:
    topology = workloads._topology
    node = topology.nodes["a1"]
    node.space.run("echo kept > /var/lib/edgemesh/key")
    before = node.space.pid
    topology.reboot("a1")
    assert node.space.pid != before
    assert not node.space.path(MANIFESTS).exists()
    assert node.space.path("/var/lib/edgemesh/key").read_text() == "kept\n"
    workloads.restart("a1")  # by what its kubelet has on disk
    echo = workloads.pod("echo", "lab")
    answer = Caller(workloads.pod("client", "lab")).until_ok("tcp", 3, name=echo.address, port=7, text="again")
    assert answer["ok"], answer
