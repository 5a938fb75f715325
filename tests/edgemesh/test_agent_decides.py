"""What the agent tells its receivers, and when: with fakes for engine and kernel, on virtual time."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from dns.client import ResolverClient
from edgemesh import agent as module
from edgemesh.agent import UNREACHABLE_AFTER, Agent, AgentError
from edgemesh.config import Config
from edgemesh.devices import Devices
from edgemesh.identity import Identity
from edgemesh.rules import Rules
from edgemesh.snapshot import Affected, Snapshot
from edgemesh.snapshot_file import SnapshotFile, encode
from proxy.service import ServicePort
from sync.client.manifests import UNREAD, FileState, Manifests
from sync.resources.kinds import Resource
from tests.edgemesh import objects
from tests.edgemesh.running import eventually
from tunnel.mesh import Mesh
from tunnel.peer import PathKind, PeerPath

START = 1_800_000_000.0
WORLD: tuple[Resource, ...] = (
    objects.mesh_node("a", 1),
    objects.mesh_node("b", 2),
    objects.service(selector={"app": "orders"}),
    objects.pod("here", "10.244.1.5", "a"),
    objects.pod("there", "10.244.2.5", "b"),
)


class Paths:
    """What the fake mesh says."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.found: list[PeerPath] = []

    def set(self, kind: PathKind, since: float) -> None:
        self.found = [PeerPath("b", objects.public_key(2), kind, since=since, reason="as the test says")]
        self.event.set()
        self.event = trio.Event()

    async def changed(self) -> None:
        await self.event.wait()


class Told:
    """All that receivers were told, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.backends: dict[str, list[str]] = {}

    def ports(self, changed: list[ServicePort]) -> None:
        for port in changed:
            self.backends[port.name] = sorted(backend.address for backend in port.backends)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()

    def ruled(what: str, ports: list[ServicePort]) -> None:
        told.log.append(f"rules {what}")
        told.ports(ports)

    monkeypatch.setattr(Rules, "set", lambda self, ports: ruled("set", ports))
    monkeypatch.setattr(Rules, "update", lambda self, ports, gone: ruled("update", ports))
    monkeypatch.setattr(ResolverClient, "set", lambda self, zones, names: told.log.append(f"names set {len(names)}"))
    monkeypatch.setattr(ResolverClient, "update", lambda self, names, gone: told.log.append("names update"))
    monkeypatch.setattr(Devices, "set", lambda self, address: told.log.append(f"devices {address or 'none'}"))
    monkeypatch.setattr(Mesh, "apply", lambda self, peers: told.log.append(f"mesh {' '.join(peers)}"))
    return told


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Paths:
    paths = Paths()
    monkeypatch.setattr(Mesh, "paths", lambda self: paths.found)
    monkeypatch.setattr(Mesh, "changed", lambda self: paths.changed())
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: START + trio.current_time()))
    return paths


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(node_name="a", state_dir=str(tmp_path / "state"), run_dir=str(tmp_path / "run"))


def identity() -> Identity:
    return Identity(bytes(32), objects.public_key(1), 20001)


@pytest.fixture
def agent(config: Config, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(config, [], identity(), tmp_path / "manifests")
    yield agent
    agent._devices._changes.close()
    agent._mesh._links.close()  # type: ignore[union-attr]


def know(agent: Agent, *found: Resource) -> Affected:
    return agent._snapshot.apply(found)


def test_nothing_is_touched_before_anything_is_known(agent: Agent, told: Told) -> None:
    agent._decide(agent._snapshot.everything())
    assert told.log == []
    agent._decide(know(agent, *WORLD))
    assert told.log == ["mesh b", "devices 10.222.0.1", "names set 3", "rules set"]
    assert told.backends == {"shop/orders:http": ["10.244.1.5", "10.244.2.5"]}


def test_only_what_differs_is_told_then(agent: Agent, told: Told) -> None:
    agent._decide(know(agent, *WORLD))
    told.log.clear()
    agent._decide(know(agent, *WORLD))
    assert told.log == []
    agent._decide(know(agent, objects.pod("here", "10.244.1.6", "a")))
    assert "rules update" in told.log
    assert not {"mesh b", "devices 10.222.0.1"} & set(told.log)
    assert told.backends == {"shop/orders:http": ["10.244.1.6", "10.244.2.5"]}
    told.log.clear()
    agent._decide(know(agent, objects.mesh_node("c", 3)))
    assert told.log[:2] == ["mesh b c", "devices 10.222.0.1"]


def test_objects_without_nodes_are_served(agent: Agent, told: Told) -> None:
    agent._decide(know(agent, objects.service()))
    assert told.log == ["mesh ", "devices none", "names set 3", "rules set"]


@trio.testing.trio_test
async def test_endpoints_behind_no_path_are_left_out_after_a_while(
    autojump_clock: trio.testing.MockClock, agent: Agent, told: Told, paths: Paths
) -> None:
    both, near = ["10.244.1.5", "10.244.2.5"], ["10.244.1.5"]
    agent._decide(know(agent, *WORLD))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent._follow_paths)
        paths.set(PathKind.NONE, START)
        await trio.sleep(UNREACHABLE_AFTER - 0.5)
        assert told.backends["shop/orders:http"] == both
        await trio.sleep(1)
        assert told.backends["shop/orders:http"] == near
        # a change of objects meanwhile does not bring it back
        agent._decide(know(agent, objects.pod("here", "10.244.1.7", "a")))
        assert told.backends["shop/orders:http"] == ["10.244.1.7"]
        paths.set(PathKind.RELAYED, START + trio.current_time())
        await eventually(lambda: len(told.backends["shop/orders:http"]) == 2)
        # away for less than that: nobody notices
        paths.set(PathKind.NONE, START + trio.current_time())
        await trio.sleep(UNREACHABLE_AFTER - 0.5)
        paths.set(PathKind.DIRECT, START + trio.current_time())
        await trio.sleep(UNREACHABLE_AFTER * 2)
        assert told.log.count("rules update") == 3
        nursery.cancel_scope.cancel()


def test_an_agent_needs_something_to_know(config: Config) -> None:
    with pytest.raises(AgentError, match=r"say where the objects are: 'edgemesh join', .*--manifests DIR"):
        Agent(config, [], identity(), None)


def test_the_snapshot_is_enough(config: Config, told: Told) -> None:
    snapshot = Snapshot()
    snapshot.apply(WORLD)
    assert SnapshotFile(config.snapshot_file).write(
        encode(snapshot, {"all.yaml": FileState(UNREAD, WORLD)}, config.service_range)
    )
    agent = Agent(config, [], identity(), None)
    agent._decide(agent._snapshot.everything())
    assert told.log == ["mesh b", "devices 10.222.0.1", "names set 3", "rules set"]
    agent._devices._changes.close()
    agent._mesh._links.close()  # type: ignore[union-attr]


@trio.testing.trio_test
async def test_objects_of_an_api_followed_before_go_with_the_first_manifests(
    config: Config, told: Told, tmp_path: Path
) -> None:
    snapshot = Snapshot()
    snapshot.apply(WORLD)
    assert SnapshotFile(config.snapshot_file).write(encode(snapshot, {}, config.service_range))
    directory = tmp_path / "manifests"
    directory.mkdir()
    agent = Agent(config, [], identity(), directory)
    assert agent._manifests
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent._follow, agent._manifests)
        await trio.testing.wait_all_tasks_blocked()
        assert len(agent._snapshot.objects) == len(WORLD)  # an empty directory is hardly meant
        nursery.cancel_scope.cancel()
    (directory / "all.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: orders, namespace: shop}\nspec: {ports: [{port: 80}]}\n"
    )
    agent._manifests = Manifests(directory, service_range=config.service_range)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent._follow, agent._manifests)
        await eventually(lambda: len(agent._snapshot.objects) == 1)
        nursery.cancel_scope.cancel()
    agent._devices._changes.close()
    agent._mesh._links.close()  # type: ignore[union-attr]
