"""The agent on an API: what it serves, what it refuses, and what of that is left when the API is away."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from edgemesh import cluster as cluster_module
from edgemesh import identity, publish
from edgemesh.agent import Agent
from edgemesh.config import Config
from edgemesh.report import NO_PROOF, PROVEN, Source
from sync.client.connection import MERGE_PATCH, Api
from sync.client.kubeconfig import load
from tests.edgemesh import objects
from tests.edgemesh.crds import make_crds
from tests.edgemesh.running import eventually
from tests.edgemesh.test_agent_decides import Told
from tests.edgemesh.test_agent_decides import told as told  # a fixture
from tests.edgemesh.test_publish import MESH_NODES
from tests.edgemesh.test_vetting import Cluster
from tests.sync.client.apis import api as api  # a fixture

SHOP = "/api/v1/namespaces/shop"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
OUTSIDE = "this node is not in the mesh: no MeshNode of it is accepted and has a mesh address (IPv4)"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "ca")


@pytest.fixture
def config(tmp_path: Path, cluster: Cluster, api: Path) -> Config:
    """Of node a, which has joined."""
    state = tmp_path / "state"
    pki = state / "pki"
    pki.mkdir(parents=True)
    certificate, key = cluster.join("a")
    (pki / "ca.crt").write_bytes(cluster.authority.pem)
    (pki / "node.crt").write_bytes(certificate)
    (pki / "node.key").write_bytes(key)
    shutil.copy(api, state / "node.kubeconfig")
    return Config(node_name="a", state_dir=str(state), run_dir=str(tmp_path / "run"))


@contextmanager
def running(config: Config) -> Iterator[Agent]:
    agent = Agent(config, [], identity.load(config.state_dir), None)
    try:
        yield agent
    finally:
        agent._devices._changes.close()
        agent._mesh._links.close()  # type: ignore[union-attr]


def slice_of(*addresses: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "orders-1", "labels": {"kubernetes.io/service-name": "orders"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "nodeName": "b"} for address in addresses],
        "ports": [{"name": "http", "port": 8080}],
    }


def mesh_node(name: str, number: int, proven: str) -> dict[str, Any]:
    spec = {
        "publicKey": base64.b64encode(objects.public_key(number)).decode(),
        "listenPort": 20000 + number,
        "proof": proven,
    }
    return {
        "apiVersion": "edgemesh.kubeedge.io/v1alpha1",
        "kind": "MeshNode",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.mark.parametrize("tunnel", [True, False])
def test_who_has_tunnels_needs_a_place_in_the_mesh(config: Config, tunnel: bool) -> None:
    with running(msgspec.structs.replace(config, tunnel=tunnel)) as agent:
        assert (OUTSIDE in agent._report._broken(None, agent._source())) == tunnel
        alone = Source("manifests in /etc/edgemesh/manifests", NO_PROOF)
        assert OUTSIDE not in agent._report._broken(None, alone)


def test_from_the_api_to_the_node_and_on_without_it(
    config: Config, cluster: Cluster, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "PERIOD", 0.1)
    defaults = publish.Publisher.__init__.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "addresses", lambda _: ["192.0.2.1"])
    kubeconfig = Path(config.state_dir, "node.kubeconfig")

    async def write(api: Api) -> None:
        await make_crds(api)
        await api.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        ports = [{"name": "http", "port": 80}]
        await api.create(f"{SHOP}/services", {"metadata": {"name": "orders"}, "spec": {"ports": ports}})
        await api.create(SLICES, slice_of("10.244.2.5"))
        b = cluster.node("b", 2, cluster.join("b"))
        await api.create(MESH_NODES, mesh_node("b", 2, b.spec.proof))
        status = {"status": {"meshAddresses": ["10.222.0.2"], "podRanges": ["10.244.2.0/24"]}}
        await api.patch(f"{MESH_NODES}/b/status", status, MERGE_PATCH)
        await api.create(MESH_NODES, mesh_node("c", 3, b.spec.proof))  # says that b's proof is its own

    async def with_it() -> None:
        async with Api(load(kubeconfig)) as api, trio.open_nursery() as nursery:
            await write(api)
            with running(config) as agent:
                assert agent._source().identity == PROVEN
                assert config.api is not None
                nursery.start_soon(agent._saver.run)
                nursery.start_soon(agent._follow_api, config.api)
                await eventually(lambda: told.backends.get("shop/orders:http") == ["10.244.2.5"])
                assert "mesh b" in told.log
                assert not any(" c" in line for line in told.log)
                await api.patch(f"{SLICES}/orders-1", {"endpoints": slice_of("10.244.2.6")["endpoints"]}, MERGE_PATCH)
                await eventually(lambda: told.backends.get("shop/orders:http") == ["10.244.2.6"])
                await eventually(lambda: "a" in agent._snapshot.mesh_nodes)  # its own, published and accepted
                assert agent._snapshot.mesh_nodes["a"].spec.addresses == ("192.0.2.1",)
                source = agent._source()
                assert OUTSIDE in agent._report._broken(None, source)
                status = {"status": {"meshAddresses": ["10.222.0.1"], "podRanges": ["10.244.1.0/24"]}}
                await api.patch(f"{MESH_NODES}/a/status", status, MERGE_PATCH)
                await eventually(lambda: OUTSIDE not in agent._report._broken(None, source))
                assert source.api is not None
                assert (source.api.reachable, source.api.reason) == (True, "")
                assert [text for text in source.problems if text.startswith("MeshNode c: refused: its certificate is")]
                revoked = cluster.revoked("b", number=1)
                metadata = {"name": revoked.metadata.name}
                path = "/api/v1/namespaces/edgemesh-system/configmaps"
                await api.create(path, {"metadata": metadata, "data": revoked.data})
                await eventually(lambda: "b" not in agent._snapshot.mesh_nodes)
                assert told.log[-1] != "mesh b"
                await eventually(lambda: told.backends.get("shop/orders:http") == [])  # b was all that it had
                await eventually(lambda: not agent._saver._unsaved.is_set())
                nursery.cancel_scope.cancel()

    async def without_it() -> None:
        with running(config) as agent:
            agent._decide(agent._snapshot.everything())
            assert told.backends["shop/orders:http"] == []
            assert set(agent._snapshot.mesh_nodes) == {"a"}
            assert set(agent._serials) == {"a"}  # all that b had is revoked
            assert config.api is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent._follow_api, config.api)
                await eventually(lambda: (api := agent._source().api) and "Connection refused" in api.reason)
                assert told.backends["shop/orders:http"] == []
                nursery.cancel_scope.cancel()

    trio.run(with_it)
    text = kubeconfig.read_text()
    server = next(line.split()[1] for line in text.splitlines() if "server:" in line)
    kubeconfig.write_text(text.replace(server, "https://127.0.0.1:1"))
    told.backends.clear()
    trio.run(without_it)


def test_a_kubeconfig_with_a_mistake_is_told_and_tried_again(
    config: Config, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "RETRY", 0.02)
    kubeconfig = Path(config.state_dir, "node.kubeconfig")
    good = kubeconfig.read_text()
    kubeconfig.write_text(good.replace("server:", "servre:"))

    def mend() -> None:
        kubeconfig.write_text(good)

    async def main() -> None:
        with running(config) as agent:
            assert config.api is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent._follow_api, config.api)
                await eventually(lambda: (api := agent._source().api) and "'server' is missing" in api.reason)
                mend()
                await eventually(lambda: (api := agent._source().api) and api.reachable)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert told.log
