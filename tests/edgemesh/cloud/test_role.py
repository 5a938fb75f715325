"""The cloud as a user has it: nodes join, get what is theirs, and are cut off; with its own API and beside another."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from bench import apiserver
from edgemesh import authority
from edgemesh.cloud import setup
from sync.client import kubeconfig
from sync.client.connection import APPLY_PATCH, MERGE_PATCH, ApiStatus, ApiUnreachable
from tests.edgemesh.cloud.clouds import Cloud, beside_kubernetes, embedded

KEY = "A" * 42 + "E="
MESH_NODES = "/apis/edgemesh.kubeedge.io/v1alpha1/meshnodes"
APPLY = {"fieldManager": "test", "force": "true"}


@pytest.fixture(scope="module", params=["embedded", "kubernetes"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        with embedded(folder) as found:
            yield found
        return
    if problem := apiserver.missing():
        pytest.skip(problem)
    with beside_kubernetes(folder) as found:
        yield found


def join(cloud: Cloud, name: str, folder: Path) -> Path:
    """Join by the printed command; the node's kubeconfig."""
    words = cloud.edgemesh("token", "create", "--node", name).split()
    token = words[words.index("--token") + 1]
    places: list[str | Path] = ["--state-dir", folder, "--config-dir", folder / "config", "--no-systemd"]
    cloud.edgemesh("join", cloud.join, "--token", token, "--node-name", name, "--zone", "site-x", *places)
    return folder / "node.kubeconfig"


def mesh_node(name: str) -> dict[str, Any]:
    spec = {"publicKey": KEY, "listenPort": 20000}
    return {"apiVersion": "edgemesh.kubeedge.io/v1alpha1", "kind": "MeshNode", "metadata": {"name": name}, "spec": spec}


def refused(cloud: Cloud, *request: Any, as_node: Path) -> bool:
    try:
        cloud.ask(*request, kubeconfig_file=as_node)
    except ApiStatus as error:
        return error.code in (401, 403)
    except ApiUnreachable:
        return True
    return False


def test_a_node_joins_and_gets_what_is_its_own(cloud: Cloud, tmp_path: Path) -> None:
    node = join(cloud, "joins", tmp_path / "joins")
    if not cloud.embedded:  # a kubelet's, and a controller manager's
        labels = {"topology.kubernetes.io/zone": "site-x"}
        spec = {"podCIDR": "10.244.9.0/24", "podCIDRs": ["10.244.9.0/24"]}
        obj = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "joins", "labels": labels}, "spec": spec}
        cloud.ask("create", "/api/v1/nodes", obj)
    path = f"{MESH_NODES}/joins"
    cloud.wait(
        lambda: cloud.ask("patch", path, mesh_node("joins"), APPLY_PATCH, APPLY, kubeconfig_file=node), "its right"
    )
    found = cloud.wait(lambda: cloud.ask("get", path).get("status", {}), "an address")
    assert found["meshAddresses"][0].startswith("10.222.")
    ranges = cloud.wait(lambda: cloud.ask("get", path)["status"].get("podRanges"), "a range")
    of_node = cloud.ask("get", "/api/v1/nodes/joins")
    assert ranges == [of_node["spec"]["podCIDR"]]
    assert of_node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "site-x"
    assert cloud.ask("list", "/api/v1/services", kubeconfig_file=node)["items"]


def test_an_api_that_does_not_believe_the_ca_is_told_from_one_that_does(cloud: Cloud, tmp_path: Path) -> None:
    if cloud.embedded:
        pytest.skip("its CA is its own")
    given = cloud.admin.parent
    genuine = authority.load(given / "client-ca.crt", given / "client-ca.key")
    assert genuine.pem == (cloud.state / "ca.crt").read_bytes()
    now = datetime.now(UTC)
    access = kubeconfig.load(cloud.admin)
    assert trio.run(setup.believes, access, genuine, now)
    assert not trio.run(setup.believes, access, authority.load_or_make(tmp_path, now), now)
    assert "does not believe" not in cloud.log.read_text()


def test_a_node_writes_nobody_elses(cloud: Cloud, tmp_path: Path) -> None:
    node = join(cloud, "honest", tmp_path / "honest")
    cloud.wait(lambda: cloud.ask("list", MESH_NODES, kubeconfig_file=node), "its rights")
    cloud.ask("patch", f"{MESH_NODES}/honest", mesh_node("honest"), APPLY_PATCH, APPLY, kubeconfig_file=node)
    assert refused(cloud, "patch", f"{MESH_NODES}/other", mesh_node("other"), APPLY_PATCH, APPLY, as_node=node)
    status = {"status": {"meshAddresses": ["10.222.0.1"]}}
    assert refused(cloud, "patch", f"{MESH_NODES}/honest/status", status, as_node=node)
    claim = {"spec": {"listenPort": 20001}, "status": {"meshAddresses": ["10.222.0.1"], "podRanges": ["10.244.0.0/16"]}}
    said = cloud.ask("patch", f"{MESH_NODES}/honest", claim, kubeconfig_file=node)
    assert said["spec"]["listenPort"] == 20001
    assert said.get("status", {}).get("meshAddresses") != ["10.222.0.1"]
    assert said.get("status", {}).get("podRanges") != ["10.244.0.0/16"]
    assert refused(cloud, "patch", "/api/v1/nodes/honest", {"spec": {"podCIDR": "10.244.0.0/24"}}, as_node=node)
    assert refused(cloud, "list", "/api/v1/secrets", as_node=node)
    lease = "/apis/coordination.k8s.io/v1/namespaces/edgemesh-system/leases"
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "other"}, "spec": {}}
    assert refused(cloud, "patch", f"{lease}/other", body, APPLY_PATCH, APPLY, as_node=node)
    own = {**body, "metadata": {"name": "honest", "namespace": "edgemesh-system"}}
    cloud.ask("patch", f"{lease}/honest", own, APPLY_PATCH, APPLY, kubeconfig_file=node)


def test_a_deleted_node_is_cut_off_within_five_seconds(cloud: Cloud, tmp_path: Path) -> None:
    node = join(cloud, "goes", tmp_path / "goes")
    cloud.wait(lambda: cloud.ask("list", MESH_NODES, kubeconfig_file=node), "its rights")
    cloud.edgemesh("node", "delete", "goes")
    cloud.wait(lambda: refused(cloud, "list", MESH_NODES, as_node=node), "refused", seconds=5.0)
    assert "goes" not in cloud.edgemesh("node", "list")


def test_a_deleted_node_leaves_nothing_behind_that_it_tied_down(cloud: Cloud, tmp_path: Path) -> None:
    node = join(cloud, "clings", tmp_path / "clings")
    cloud.wait(lambda: cloud.ask("list", MESH_NODES, kubeconfig_file=node), "its rights")
    leases = "/apis/coordination.k8s.io/v1/namespaces/edgemesh-system/leases"
    metadata = {"name": "clings", "finalizers": ["example.com/stays"]}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
    mesh = {**mesh_node("clings"), "metadata": metadata}
    for path, obj in ((f"{MESH_NODES}/clings", mesh), (f"{leases}/clings", lease)):
        cloud.ask("patch", path, obj, APPLY_PATCH, APPLY, kubeconfig_file=node)
    cloud.edgemesh("node", "delete", "clings")
    for path in (f"{MESH_NODES}/clings", f"{leases}/clings"):
        with pytest.raises(ApiStatus, match="not found"):
            cloud.ask("get", path)


def test_pods_become_endpoints_of_their_service(tmp_path: Path) -> None:
    with embedded(tmp_path) as cloud:
        metadata = {"name": "web", "namespace": "default"}
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        made = cloud.ask("create", "/api/v1/namespaces/default/services", service)
        assert made["spec"]["clusterIP"].startswith("10.")
        for number in (1, 2):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"web-{number}", "namespace": "default", "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            }
            cloud.ask("create", "/api/v1/namespaces/default/pods", pod)
            ready = [{"type": "Ready", "status": "True"}]
            status = {"phase": "Running", "podIP": f"10.244.1.{number}", "conditions": ready}
            path = f"/api/v1/namespaces/default/pods/web-{number}/status"
            cloud.ask("patch", path, {"status": status}, MERGE_PATCH)

        def endpoints() -> list[dict[str, Any]]:
            path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
            query = {"labelSelector": "kubernetes.io/service-name=web"}
            return [each for piece in cloud.ask("list", path, query)["items"] for each in piece["endpoints"]]

        cloud.wait(lambda: len(endpoints()) == 2, "two endpoints")
        assert {each["targetRef"]["name"] for each in endpoints()} == {"web-1", "web-2"}
        assert all(each["conditions"]["ready"] for each in endpoints())
        options = {"gracePeriodSeconds": 0}
        cloud.ask("delete", "/api/v1/namespaces/default/pods/web-1", None, options)
        cloud.wait(lambda: len(endpoints()) == 1, "one endpoint")
        cloud.ask("delete", "/api/v1/namespaces/default/services/web")
        cloud.wait(lambda: endpoints() == [], "none")


def test_killed_and_started_again_it_is_the_same_cloud(tmp_path: Path) -> None:
    with embedded(tmp_path) as cloud:
        node = join(cloud, "stays", tmp_path / "node")
        authority = (cloud.state / "ca.crt").read_bytes()
        cloud.process.send_signal(signal.SIGKILL)
        cloud.process.wait()
    with embedded(tmp_path) as cloud:
        assert (cloud.state / "ca.crt").read_bytes() == authority
        assert cloud.ask("get", "/api/v1/nodes/stays")["metadata"]["name"] == "stays"
        text = node.read_text()
        old = next(line for line in text.splitlines() if "server:" in line)
        url = next(line for line in cloud.admin.read_text().splitlines() if "server:" in line)
        node.write_text(text.replace(old.strip(), url.strip()))
        assert cloud.ask("list", MESH_NODES, kubeconfig_file=node)["items"] == []


def test_it_ends_when_told_and_says_what_is_wrong(tmp_path: Path) -> None:
    with embedded(tmp_path) as cloud:
        assert (cloud.state.stat().st_mode & 0o777, (cloud.state / "ca.key").stat().st_mode & 0o777) == (0o700, 0o600)
        port = cloud.join.rpartition(":")[2]
        second = [*cloud.process.args[:3], "cloud", "--state-dir", str(tmp_path / "second")]  # type: ignore[index]
        options = ["--listen", f"127.0.0.1:{port}", "--advertise", "127.0.0.1"]
        done = subprocess.run([*second, *options], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert f"127.0.0.1:{port}: Address already in use: stop what listens there" in done.stderr
        assert "--listen" in done.stderr
        assert "Traceback" not in done.stderr
        cloud.process.terminate()
        assert cloud.process.wait(5) == 0


def test_a_nodes_key_is_no_other_nodes(cloud: Cloud, tmp_path: Path) -> None:
    names = ("z-honest", "a-thief")
    kubeconfigs = {name: join(cloud, name, tmp_path / name) for name in names}
    keys = {"z-honest": "B" * 42 + "E=", "a-thief": "C" * 42 + "E="}

    def publish(name: str, key: str) -> None:
        obj = mesh_node(name)
        obj["spec"]["publicKey"] = key
        path = f"{MESH_NODES}/{name}"
        cloud.wait(
            lambda: cloud.ask("patch", path, obj, APPLY_PATCH, APPLY, kubeconfig_file=kubeconfigs[name]), "its right"
        )

    def accepted(name: str) -> str:
        return str(cloud.ask("get", f"{MESH_NODES}/{name}").get("status", {}).get("publicKey", ""))

    for name in names:
        publish(name, keys[name])
        cloud.wait(lambda name=name: accepted(name) == keys[name], "accepted")  # type: ignore[misc]
    publish("a-thief", keys["z-honest"])
    publish("a-thief", "D" * 42 + "E=")  # after the other, and in order: what was before it is decided
    cloud.wait(lambda: accepted("a-thief") == "D" * 42 + "E=", "its own new key is accepted")
    assert accepted("z-honest") == keys["z-honest"]
    publish("a-thief", keys["z-honest"])
    cloud.wait(lambda: "has the public key of z-honest" in cloud.log.read_text(), "told")
    assert accepted("a-thief") == "D" * 42 + "E="
