"""What a node writes of itself, on real APIs and on one that refuses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from edgemesh import cluster, lease, proof, publish
from edgemesh.config import Config, RelayNode
from edgemesh.identity import Identity
from edgemesh.publish import Publisher
from sync.client.connection import Api, ApiStatus
from sync.client.kubeconfig import load
from sync.client.objects import SourceState
from sync.client.wire import Decoder
from sync.resources.kinds import MeshNode
from tests.edgemesh import objects
from tests.edgemesh.crds import make_crds
from tests.edgemesh.running import eventually
from tests.edgemesh.test_vetting import Cluster
from tests.sync.client.apis import api as api  # a fixture
from tests.sync.client.serving import Asked, response, saying, serving, status
from tunnel.endpoint import Address

MESH_NODES = "/apis/edgemesh.kubeedge.io/v1alpha1/meshnodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/edgemesh-system/leases"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Of a node that has joined."""
    state = tmp_path / "state"
    (state / "pki").mkdir(parents=True)
    certificate, key = Cluster(tmp_path / "ca").join("a")
    (state / "pki" / "node.crt").write_bytes(certificate)
    (state / "pki" / "node.key").write_bytes(key)
    relays = (RelayNode("cloud", (Address("203.0.113.1", 20006), Address("fd00::1", 4500))),)
    return Config(node_name="a", relays=relays, state_dir=str(state))


IDENTITY = Identity(bytes(32), objects.public_key(1), 20001)


def publisher(connection: Api, config: Config, addresses: list[str], nonce: str = "one") -> Publisher:
    return Publisher(connection, config, IDENTITY, addresses=lambda _: addresses, nonce=nonce)


def test_the_mesh_node_and_the_lease(api: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "PERIOD", 0.05)

    async def main() -> None:
        async with Api(load(api)) as connection, trio.open_nursery() as nursery:
            await make_crds(connection)
            addresses = ["192.0.2.1"]
            it = publisher(connection, config, addresses)
            nursery.start_soon(it.run)

            async def written() -> dict[str, Any]:
                with trio.fail_after(10):
                    while True:
                        try:
                            return await connection.get(f"{MESH_NODES}/a")
                        except ApiStatus:
                            await trio.sleep(0.02)

            found = await written()
            assert found["spec"]["addresses"] == ["192.0.2.1"]
            assert found["spec"]["relays"] == ["203.0.113.1:20006", "[fd00::1]:4500"]
            (item,) = (
                Decoder(MeshNode)
                .page(msgspec.json.encode({"metadata": {"resourceVersion": "1"}, "items": [found]}))
                .items
            )
            assert isinstance(item.resource, MeshNode)
            assert proof.read(item.resource.spec.proof).serial
            await eventually(lambda: not it.problems)
            # as the watch would say it; then nothing is written any more
            it.seen(item.resource)
            revision = found["metadata"]["resourceVersion"]
            await trio.sleep(0.2)
            before = await connection.get(f"{MESH_NODES}/a")
            await trio.sleep(0.2)
            assert (await connection.get(f"{MESH_NODES}/a"))["metadata"] == before["metadata"]
            assert int(before["metadata"]["resourceVersion"]) >= int(revision)
            # another address: written, and what was set by others stays
            await connection.patch(f"{MESH_NODES}/a", {"status": {"meshAddresses": ["10.222.0.1"]}})
            addresses[0] = "192.0.2.2"
            with trio.fail_after(10):
                while (await written())["spec"]["addresses"] != ["192.0.2.2"]:  # noqa: ASYNC110  # an API has no event
                    await trio.sleep(0.02)
            held = await connection.get(f"{LEASES}/a")
            assert held["spec"]["holderIdentity"] == "a_one"
            assert held["spec"]["leaseDurationSeconds"] == lease.DURATION
            # a clone of the machine
            nursery.start_soon(publisher(connection, config, addresses, "two").run)
            clone = "two machines have this node's identity: the other is a_two, this one a_one"
            await eventually(lambda: any(problem.startswith(clone) for problem in it.problems))
            nursery.cancel_scope.cancel()

    trio.run(main)


@trio.testing.trio_test
async def test_what_is_refused_is_said_once_and_tried_again(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "RETRY", 0.01)
    monkeypatch.setattr(publish, "PERIOD", 0.02)
    refusal = status(403, "Forbidden", "meshnodes is forbidden")
    async with serving(saying(refusal)) as server, Api(server.access) as connection:
        it = publisher(connection, config, [])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.run)
            await eventually(lambda: len(server.asked) > 8)
            assert it.problems == [
                "MeshNode a can't be written: meshnodes is forbidden",
                "Lease edgemesh-system/a can't be written: meshnodes is forbidden",
            ]
            assert len(caplog.records) == 2
            server.answer = saying(response({"metadata": {"resourceVersion": "1"}}))
            await eventually(lambda: not it.problems)
            nursery.cancel_scope.cancel()


@trio.testing.trio_test
async def test_without_a_certificate_nothing_is_published(config: Config) -> None:
    (Path(config.state_dir) / "pki" / "node.crt").unlink()
    answer = saying(response({"metadata": {"resourceVersion": "1"}}))
    async with serving(answer) as server, Api(server.access) as connection, trio.open_nursery() as nursery:
        it = publisher(connection, config, [])
        nursery.start_soon(it.run)
        await eventually(lambda: it.problems)
        assert "run 'edgemesh join' first" in it.problems[0]
        await eventually(lambda: server.asked)
        assert all("/leases/" in asked.path for asked in server.asked)
        nursery.cancel_scope.cancel()


class LeaseStore:
    """Answers as an API that has one Lease, and takes any MeshNode."""

    def __init__(self) -> None:
        self.revision = 0
        self.renewals: dict[str, int] = {}

    async def __call__(self, stream: trio.abc.Stream, asked: Asked) -> None:
        body = msgspec.json.decode(asked.body) if asked.body else {}
        lease = {"metadata": {"resourceVersion": str(self.revision)}, "spec": {"holderIdentity": "a_other"}}
        if asked.method == "PATCH" and "/leases/" in asked.path:
            if body["metadata"].get("resourceVersion", str(self.revision)) != str(self.revision):
                await stream.send_all(status(409, "Conflict"))
                return
            self.revision += 1
            holder = body["spec"]["holderIdentity"]
            self.renewals[holder] = self.renewals.get(holder, 0) + 1
            lease = {"metadata": {"resourceVersion": str(self.revision)}, "spec": body["spec"]}
        await stream.send_all(response(lease))

    async def renewed(self, holder: str, times: int) -> None:
        """Wait until that often from now on."""
        until = self.renewals.get(holder, 0) + times
        await eventually(lambda: self.renewals.get(holder, 0) >= until)


@trio.testing.trio_test
async def test_a_clone_is_a_problem_as_long_as_it_lasts_and_told_once(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "PERIOD", 0.01)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    caplog.set_level("INFO", "edgemesh.agent")

    def told(of: str) -> list[str]:
        return [record.levelname for record in caplog.records if of in record.getMessage()]

    begins, ends = "this one a_one", "no other machine"
    store = LeaseStore()
    async with serving(store) as server, Api(server.access) as connection, trio.open_nursery() as nursery:
        it = publisher(connection, config, ["192.0.2.1"])
        nursery.start_soon(it.run)

        async def cloned(nonce: str, times: int) -> None:
            nonlocal now
            await store.renewed("a_one", 3)
            assert not it.problems
            async with trio.open_nursery() as other:
                other.start_soon(publisher(connection, config, ["192.0.2.2"], nonce).run)
                await eventually(lambda: len(told(begins)) == times)
                for _ in range(9):  # longer than is remembered
                    it.seen(None)  # its MeshNode is overwritten again and again
                    await store.renewed(f"a_{nonce}", 1)
                    await store.renewed("a_one", 1)
                    now += 4 * lease.PERIOD
                    await store.renewed(f"a_{nonce}", 1)
                    await store.renewed("a_one", 1)
                    assert it.problems[0].startswith("two machines have this node's identity")
                other.cancel_scope.cancel()
            now += lease.MEMORY - 5 * lease.PERIOD
            await store.renewed("a_one", 3)
            assert it.problems
            assert told(begins) == ["ERROR"] * times
            now += 5 * lease.PERIOD
            await eventually(lambda: told(ends) == ["INFO"] * times)
            assert not it.problems

        await cloned("two", 1)
        await cloned("three", 2)
        nursery.cancel_scope.cancel()
    assert told("MeshNode a is written").count("INFO") < 10


class Followed:
    """Objects as of an API whose watches are up."""

    def state(self) -> SourceState:
        return SourceState(True, 1.0, "")


async def hanging(_stream: trio.abc.Stream, _asked: Asked) -> None:
    await trio.sleep_forever()


@trio.testing.trio_test
async def test_an_api_that_hangs_is_noticed_by_what_is_written(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its watches are up and silent, as a good one's are."""
    monkeypatch.setattr(publish, "RETRY", 0.01)
    monkeypatch.setattr(publish, "PERIOD", 0.02)
    good = saying(response({"metadata": {"resourceVersion": "1"}}))
    async with serving(good) as server, Api(server.access, request_timeout=0.2) as connection:
        it = publisher(connection, config, [])
        followed = cluster.Cluster(cluster.Location("", "", str(tmp_path)), {}, {})
        followed._publisher, followed._objects = it, Followed()  # type: ignore[assignment]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.run)
            await eventually(lambda: len(server.asked) > 3)
            assert followed.state() == (True, 1.0, "", ())
            began = time.time()
            server.answer = hanging
            await eventually(lambda: not followed.state().reachable)
            since, reason = followed.state().since, followed.state().reason
            assert began <= since + 0.1 <= time.time() + 0.1
            assert reason.endswith("does not answer within 0.2 s")
            await trio.sleep(0.3)
            assert followed.state().since == since
            server.answer = good
            await eventually(lambda: followed.state().reachable)
            nursery.cancel_scope.cancel()
