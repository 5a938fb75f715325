"""The agent of a node: follows the objects, decides, applies.

    API or    ─► snapshot ─► planner ─┬─ names ─► resolver
    manifests   (kept on disk)        ├─ ports ─► rules (nftables)
                                      └─ nodes ─► mesh (engine, paths, routes), devices

Level-triggered: what should be is a function of the snapshot; what differs is applied, and what could not be applied
is tried again until it is. Deciding never waits: each receiver is told at once, in order, and catches up in a task of
its own. Nothing is touched before anything is known: an agent that has lost its snapshot must not empty what serves.
Nothing is taken down at the end: names, rules and tunnels go on without the agent, and the next one takes them over.
"""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dns.client import ResolverClient
from edgemesh.agent_socket import AgentSocket, AgentSocketError
from edgemesh.config import Config, Notice
from edgemesh.devices import Devices
from edgemesh.identity import Identity
from edgemesh.plan.planner import Planner
from edgemesh.plan.records import zones
from edgemesh.report import NO_PROOF, PROVEN, Report, Source
from edgemesh.rules import Rules
from edgemesh.saver import Saver
from edgemesh.snapshot import Affected
from edgemesh.snapshot_file import SnapshotFile, encode
from edgemesh.status import ApiStatus
from proxy.proxy import probe
from proxy.service import NodeNetwork
from sync.client.manifests import Changes, Manifests
from sync.resources.kinds import Key
from tunnel.control.uapi import UapiEngine
from tunnel.links import LinkError, Links
from tunnel.mesh import Mesh
from tunnel.paths.socket import PathSocket
from tunnel.peer import LocalNode, PathKind, PeerPath

if TYPE_CHECKING:
    from types import ModuleType

    from edgemesh.cluster import Cluster

log = logging.getLogger("edgemesh.agent")

UNREACHABLE_AFTER = 3.0
"""Seconds without a path before a node's endpoints are left out (while others remain): a path that is only being
replaced is back within one."""

SETTLE = 1.0
"""Seconds at most that an agent with a snapshot leaves to its tunnels, before it imports what an API needs: that takes
some tenths of a second of the processor, and a first call waits for a path."""


class AgentError(Exception):
    """The agent can't run here; the message says why and what to do."""


async def run(config: Config, notices: list[Notice], identity: Identity, directory: Path | None) -> None:
    """Run this node's agent until SIGTERM or SIGINT. Raises AgentError.

    `directory` is where the manifests are; None for the API of the configuration, or for the snapshot alone.
    """
    if config.proxy and (problem := probe()):
        raise AgentError(problem)
    try:
        with AgentSocket(config) as agent_socket:
            agent = Agent(config, notices, identity, directory)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(agent.run, agent_socket)
                    await anext(signals)
                    nursery.cancel_scope.cancel()
    except (AgentSocketError, LinkError) as error:
        raise AgentError(str(error)) from None


class Agent:
    """One node's agent; `run` until cancelled."""

    def __init__(self, config: Config, notices: list[Notice], identity: Identity, directory: Path | None) -> None:
        self._config = config
        self._identity = identity
        file = SnapshotFile(config.snapshot_file)
        loaded = file.load(config.service_range)
        self._api = None if directory else config.api
        if directory is None and self._api is None and not loaded.snapshot.objects:
            raise AgentError(
                "nothing is known yet: say where the objects are: 'edgemesh join', kubeAPIConfig.kubeConfig in the "
                "configuration file, or --manifests DIR"
            )
        self._snapshot = loaded.snapshot
        self._serials = loaded.serials
        self._files = loaded.files
        self._manifests = (
            Manifests(directory, known=loaded.files, service_range=config.service_range) if directory else None
        )
        self._cluster: Cluster | None = None
        # an API has controllers of its own, and so has a snapshot that is an API's
        controllers = self._manifests is not None or (self._api is None and bool(loaded.files))
        self._planner = Planner(config, identity.public_key, controllers=controllers)
        self._resolver = ResolverClient(Path(config.resolver_socket))
        self._rules = Rules(self._network())
        links = Links()
        self._mesh = Mesh(
            self._local_node(),
            UapiEngine(Path(config.engine_socket)),
            PathSocket,
            links,
            device=config.tunnel_device,
            excluded=(config.service_range,),
        )
        self._devices = Devices(links, config, self._mesh.check_routes)
        self._saver = Saver(file, self._document)
        self._report = Report(
            config=config,
            notices=notices,
            listen_port=identity.listen_port,
            planner=self._planner,
            resolver=self._resolver,
            rules=self._rules,
            mesh=self._mesh,
            devices=self._devices,
            file=file,
            loaded=loaded.message,
            source=self._source,
        )
        self._known = trio.Event()
        self._told_paths: dict[str, tuple[PathKind, str]] = {}
        self._told_problems: set[str] = set()

    async def run(self, agent_socket: AgentSocket) -> None:
        """Serve this node, and whoever asks for the status."""
        config = self._config
        source = self._source().text
        log.info("node %s: %d objects known, following %s", config.node_name, len(self._snapshot.objects), source)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent_socket.serve, self._report.compose)
            nursery.start_soon(self._devices.run)
            nursery.start_soon(self._saver.run)
            if config.tunnel:  # first, since tunnels wait for answers from elsewhere
                nursery.start_soon(self._when_known, nursery)
            if config.dns:
                nursery.start_soon(self._resolver.run)
            if config.proxy:
                nursery.start_soon(self._rules.run)
            self._decide(self._snapshot.everything())
            if not self._known.is_set():
                self._devices.begin()
            if self._manifests:
                nursery.start_soon(self._follow, self._manifests)
            elif self._api:
                nursery.start_soon(self._follow_api, self._api)

    async def _when_known(self, nursery: trio.Nursery) -> None:
        """Run the tunnels once there is anything to run, and follow their paths."""
        await self._known.wait()
        await nursery.start(self._mesh.run)
        await self._follow_paths()

    # what is known

    async def _follow(self, manifests: Manifests) -> None:
        """Take in the objects' changes, as they come."""
        first = True
        try:
            async for changed, gone in manifests:
                if first:
                    gone = [*gone, *self._strangers(manifests)]
                    first = False
                self._decide(self._snapshot.apply(changed, gone))
                if manifests.files != self._files:
                    self._files = dict(manifests.files)
                    self._saver.changed()
        finally:
            manifests.close()

    def _strangers(self, manifests: Manifests) -> list[Key]:
        """Objects of the snapshot that no file has: they are an API's, which was followed before."""
        held = {item.key for state in manifests.files.values() for item in state.objects}
        return [key for key in self._snapshot.objects if key not in held] if held else []

    async def _follow_api(self, api: tuple[str, str]) -> None:
        """Take in what the API says and is believed. Its modules are imported beside what runs already."""
        if self._known.is_set():
            with trio.move_on_after(SETTLE):
                await self._all_have_paths()
        module = await trio.to_thread.run_sync(_cluster_module)
        config = self._config
        self._cluster = module.Cluster(
            module.location(api, config.state_dir),
            self._snapshot.objects,
            self._serials,
            service_range=config.service_range,
            own=config.node_name,
            publish=lambda connection: module.Publisher(connection, config, self._identity),
        )
        await self._cluster.run(self._take)

    async def _all_have_paths(self) -> None:
        while any(path.kind is PathKind.NONE for path in self._mesh.paths()):
            await self._mesh.changed()

    def _take(self, changes: Changes) -> None:
        version = self._snapshot.version
        self._decide(self._snapshot.apply(*changes))
        if self._snapshot.version != version or self._files:
            self._files = {}
            self._saver.changed()

    def _document(self) -> bytes:
        serials = self._cluster.serials if self._cluster else self._serials
        return encode(self._snapshot, self._files, self._config.service_range, serials)

    def _source(self) -> Source:
        if self._manifests:
            problems = [f"manifest {problem}" for found in self._manifests.problems.values() for problem in found]
            return Source(f"manifests in {self._manifests.directory}", NO_PROOF, problems)
        if self._cluster:
            state = self._cluster.state()
            api = ApiStatus(self._cluster.server, state.reachable, state.since, state.reason)
            return Source(f"the API at {api.server}", PROVEN, self._cluster.problems, api)
        if self._api:
            return Source(f"the API of {self._api[0] or self._api[1]}", PROVEN)
        return Source("the snapshot alone", NO_PROOF if self._files else PROVEN)

    # what should be

    def _decide(self, affected: Affected, unreachable: set[str] | None = None) -> None:
        """Find out what should be otherwise than before, and tell those who see to it.

        They get all there is the first time, whole: so that a resolver or a kernel which serves what an earlier
        agent left never has less than one of the two.
        """
        first = not self._known.is_set()
        if first and not self._snapshot.objects:
            return
        difference = self._planner.update(self._snapshot, affected, unreachable)
        if first or difference.mesh is not None:
            self._mesh.set_node(self._local_node())
            self._mesh.apply({peer.name: peer for peer in self._planner.mesh.peers})
            self._devices.set(self._mesh_address)
            self._rules.set_network(self._network())
        if first:
            self._resolver.set(zones(self._config), {name.name: name for name in difference.names})
            self._rules.set(difference.ports)
            self._known.set()
        elif difference:
            self._resolver.update(difference.names, difference.names_gone)
            self._rules.update(difference.ports, difference.ports_gone)
        self._tell_problems()

    @property
    def _mesh_address(self) -> str:
        return self._planner.mesh.addresses.get(self._config.node_name, "")

    def _local_node(self) -> LocalNode:
        return LocalNode(
            name=self._config.node_name,
            private_key=self._identity.private_key,
            listen_port=self._identity.listen_port,
            mesh_address=self._mesh_address,
            relays=tuple(dict.fromkeys((*self._config.relay_addresses, *self._planner.mesh.relays))),
        )

    def _network(self) -> NodeNetwork:
        ranges = (text for text in self._planner.mesh.pod_ranges if ":" not in text)
        return NodeNetwork(
            mesh_address=self._mesh_address,
            pod_range=next(ranges, ""),
            tunnel_device=self._config.tunnel_device,
            service_range=self._config.service_range,
        )

    # paths

    async def _follow_paths(self) -> None:
        """Leave out endpoints on nodes that have been without any path for a while, until they have one again."""
        while True:
            paths = self._mesh.paths()
            self._tell_paths(paths)
            now = time.time()
            due = {
                path.name: path.since + UNREACHABLE_AFTER - now
                for path in paths
                if path.kind is PathKind.NONE and path.since is not None
            }
            self._decide(Affected(set(), set()), {name for name, seconds in due.items() if seconds <= 0})
            with trio.move_on_after(min((seconds for seconds in due.values() if seconds > 0), default=float("inf"))):
                await self._mesh.changed()

    # what the operator is told

    def _tell_paths(self, paths: list[PeerPath]) -> None:
        """Tell of each path's change once."""
        told = self._told_paths
        self._told_paths = {path.name: (path.kind, path.reason) for path in paths}
        for path in paths:
            if told.get(path.name) != self._told_paths[path.name]:
                way = f" by {path.endpoint.host}:{path.endpoint.port}" if path.endpoint else ""
                log.info("path to %s: %s%s%s", path.name, path.kind, way, f" ({path.reason})" if path.reason else "")

    def _tell_problems(self) -> None:
        """Tell once of each object that has no effect."""
        problems = {str(problem): None for problem in self._planner.problems}
        for text in problems:
            if text not in self._told_problems:
                log.warning("%s", text)
        self._told_problems = set(problems)


def _cluster_module() -> ModuleType:
    from edgemesh import cluster

    return cluster
