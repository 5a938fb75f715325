"""An administrator's commands: token create, list, revoke; node list, delete; in memory, and on Kubernetes' own API."""

import json
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, trio_test

from bench import apiserver
from edgemesh import authority, cli, nodes
from edgemesh.join import csr, objects, record, revocation
from edgemesh.join.endpoint import Endpoint
from edgemesh.nodes import CommandError
from sync.client.connection import Api, resource_path
from sync.client.kubeconfig import load
from tests.edgemesh.join.cluster import NOW, Cloud, at, config_map


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "pki")


async def enter(endpoint: Endpoint, token: str, name: str) -> None:
    request = {"token": token, "csr": csr.make(csr.read_key(csr.new_key()), name), "nodeName": name}
    answer = await endpoint.handle("POST", "/join", json.dumps(request).encode(), "192.0.2.9")
    assert answer.code == 200, answer.body


@trio_test
async def test_tokens(cloud: Cloud) -> None:
    line = await nodes.create_token(cloud.api, at(), node="a1")
    assert line.command.startswith(f"edgemesh join https://127.0.0.1:10002 --token {line.id}.")
    assert line.command.endswith(f".{cloud.authority.pin} --node-name a1")
    later = await nodes.create_token(cloud.api, at(NOW + 3600))
    assert [token.id for token in await nodes.list_tokens(cloud.api, at(NOW + 3600))] == [line.id, later.id]
    assert [token.id for token in await nodes.list_tokens(cloud.api, at(NOW + 86400))] == [later.id]
    assert cloud.api.names("secrets") == [f"edgemesh-token-{later.id}"]
    await nodes.revoke_token(cloud.api, later.id)
    with pytest.raises(CommandError, match="there is no token"):
        await nodes.revoke_token(cloud.api, later.id)
    with pytest.raises(CommandError, match="can't be a node's name"):
        await nodes.create_token(cloud.api, at(), node="A")
    del cloud.api.objects[objects.CLUSTER]
    with pytest.raises(CommandError, match="'edgemesh cloud' writes it"):
        await nodes.create_token(cloud.api, at())


async def fill(cloud: Cloud) -> None:
    """Two nodes, with all that there is of one."""
    for name in ("a1", "b-1"):
        token = (await nodes.create_token(cloud.api, at(), node=name)).command.split()[4]
        await enter(cloud.endpoint, token, name)
        mesh = {"metadata": {"name": name}, "spec": {"publicKey": "K"}, "status": {"meshAddresses": ["10.222.0.7"]}}
        await cloud.api.create(objects.MESH_NODES, mesh)
        for namespace in nodes.LEASES:
            await cloud.api.create(objects.leases(namespace), {"metadata": {"name": name}})


@trio_test
async def test_delete_leaves_nothing_of_the_node_and_all_of_others(cloud: Cloud) -> None:
    await fill(cloud)
    before = set(cloud.api.objects)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_revoking, cloud)
        done = await nodes.delete_node(cloud.api, "a1")
        nursery.cancel_scope.cancel()
    assert done == [
        *("certificate revoked", "MeshNode deleted", "Node deleted", "Leases deleted"),
        *("CertificateSigningRequests deleted", "tokens deleted"),
    ]
    gone = before - set(cloud.api.objects)
    assert len(gone) == 7
    assert not any("b-1" in path for path in gone)
    assert [line.name for line in await nodes.list_nodes(cloud.api)] == ["b-1"]
    with pytest.raises(CommandError, match="there is no node a1"):
        await nodes.delete_node(cloud.api, "a1")


async def _revoking(cloud: Cloud) -> None:
    while True:
        await revocation.revoke(cloud.api, cloud.authority, cloud.folder / "ca.crl", at())
        await trio.sleep(0.05)


def test_delete_without_the_cloud_says_so(cloud: Cloud, autojump_clock: MockClock) -> None:
    async def main() -> None:
        await fill(cloud)
        with pytest.raises(CommandError, match="'edgemesh cloud' has not revoked the certificate within 4 s"):
            await nodes.delete_node(cloud.api, "a1")

    trio.run(main, clock=autojump_clock)
    assert cloud.api.names("nodes") == ["b-1"]
    assert cloud.api.objects[record.path("a1")]["metadata"]["deletionTimestamp"]


@trio_test
async def test_list(cloud: Cloud) -> None:
    await fill(cloud)
    node = cloud.api.objects[f"{objects.NODES}/a1"]
    node["status"] = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    node["metadata"]["labels"]["topology.kubernetes.io/zone"] = "harbour"
    first, second = await nodes.list_nodes(cloud.api)
    assert first[:5] == ("a1", "NotReady", "harbour", "10.222.0.7", "K")
    assert first.ends == at(NOW + 365 * 86400)
    assert second[:3] == ("b-1", "", "")


@pytest.mark.skipif(bool(apiserver.missing()), reason=apiserver.missing() or "-")
def test_on_kubernetes_own_api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands and the endpoint as a user sees them, with `edgemesh cloud`'s part played by the test."""
    with apiserver.running(tmp_path / "api") as server:
        ca = authority.load_or_make(tmp_path / "pki", at(time.time()))
        words = ["--kubeconfig", str(server.kubeconfig)]

        async def begin() -> None:
            async with Api(load(server.kubeconfig)) as api:
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "edgemesh-system"}}
                await api.create(resource_path("", "v1", "namespaces"), namespace)
                await api.create(objects.CONFIG_MAPS, config_map(ca, "https://192.0.2.1:10002"))

        async def come(token: str) -> None:
            async with Api(load(server.kubeconfig)) as api:
                endpoint = Endpoint(ca, api)
                await enter(endpoint, token, "a1")

        async def requests() -> list[dict[str, object]]:
            async with Api(load(server.kubeconfig)) as api:
                return list((await api.list(objects.REQUESTS))["items"])

        async def delete() -> int:
            async with Api(load(server.kubeconfig)) as api, trio.open_nursery() as nursery:

                async def revoking() -> None:
                    while True:
                        await revocation.revoke(api, ca, tmp_path / "ca.crl", at(time.time()))
                        await trio.sleep(0.1)

                nursery.start_soon(revoking)
                status = await trio.to_thread.run_sync(cli.main, ["node", "delete", "a1", *words])
                nursery.cancel_scope.cancel()
                return status

        trio.run(begin)
        assert cli.main(["token", "create", "--node", "a1", *words]) == 0
        token = capsys.readouterr().out.split()[4]
        trio.run(come, token)
        (request,) = trio.run(requests)
        status = request["status"]
        assert isinstance(status, dict)
        assert [each["type"] for each in status["conditions"]] == ["Approved"]
        assert status["certificate"]
        assert cli.main(["token", "list", *words]) == 0
        assert token[:6] in capsys.readouterr().out
        assert cli.main(["node", "list", *words]) == 0
        assert "a1 " in capsys.readouterr().out
        began = time.monotonic()
        assert trio.run(delete) == 0
        assert time.monotonic() - began < 5
        assert "a1: certificate revoked, Node deleted" in capsys.readouterr().out
        assert cli.main(["node", "list", *words]) == 0
        assert "a1" not in capsys.readouterr().out
        assert cli.main(["token", "revoke", "zzzzzz", *words]) == 1
        assert "there is no token zzzzzz" in capsys.readouterr().err
