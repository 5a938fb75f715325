"""The agent of a node: follows the objects, decides, applies.

    manifests ─► snapshot ─► planner ─┬─ names ─► resolver
         (kept on disk)               ├─ ports ─► proxy (nftables)
                                      └─ nodes ─► mesh (engine, paths, routes), devices

Level-triggered: what should be is a function of the snapshot; what differs is applied, and what could not be applied
is tried again until it is. The order of a start is that of a call's needs: the tunnels first, since they wait for
answers from elsewhere, then the names and the rules. Nothing is taken down at the end: names, rules and tunnels go on
without the agent, and the next one takes them over.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from dns.client import ResolverClient
from edgemesh import status
from edgemesh.config import Config, Notice
from edgemesh.identity import Identity
from edgemesh.plan.planner import Difference, Planner
from edgemesh.plan.records import zones
from edgemesh.snapshot import Affected
from edgemesh.snapshot_file import SnapshotFile, encode
from proxy.proxy import Proxy, ProxyError, probe
from proxy.service import NodeNetwork, ServicePort
from sync.client.manifests import Manifests
from tunnel.control.uapi import UapiEngine
from tunnel.endpoint import Address
from tunnel.links import LinkError, Links, enable_forwarding
from tunnel.mesh import Mesh
from tunnel.paths.socket import PathSocket
from tunnel.peer import LocalNode, PathKind, PeerPath

log = logging.getLogger("edgemesh.agent")

UNREACHABLE_AFTER = 3.0
"""Seconds without a path before a node's endpoints are left out (while others remain): a path that is only being
replaced is back within one."""
SAVE_AFTER = 0.5
"""Seconds that changes are gathered before the snapshot is written."""
RETRY = 1.0
"""Seconds until what failed in the kernel is tried again."""
SETTLE = 0.1
"""Seconds that changes of devices are gathered before they are looked at."""
NO_PROOF = "from manifests, without proof: the directory's owner is the authority"


class AgentError(Exception):
    """The agent can't run here; the message says why and what to do."""


class Agent:
    """One node's agent; `run` until cancelled."""

    def __init__(self, config: Config, notices: list[Notice], identity: Identity, directory: Path | None) -> None:
        self._config = config
        self._notices = tuple(map(str, notices))
        self._identity = identity
        self._since = time.time()
        self._file = SnapshotFile(config.snapshot_file)
        loaded = self._file.load(config.service_range)
        if directory is None and not loaded.snapshot.objects:
            raise AgentError("nothing is known yet: say where the objects are, with --manifests DIR")
        self._loaded = loaded.message
        self._snapshot = loaded.snapshot
        self._files = loaded.files
        self._manifests = (
            Manifests(directory, known=loaded.files, service_range=config.service_range) if directory else None
        )
        self._planner = Planner(config, identity.public_key)
        self._resolver = ResolverClient(Path(config.resolver_socket))
        self._proxy = Proxy(self._network())
        try:
            self._links = Links()
        except LinkError as error:
            raise AgentError(str(error)) from None
        self._mesh = Mesh(
            self._local_node(),
            UapiEngine(Path(config.engine_socket)),
            PathSocket,
            self._links,
            device=config.tunnel_device,
            excluded=(config.service_range,),
        )
        self._shown: dict[str, tuple[PathKind, str]] = {}
        self._kernel = trio.Lock()
        self._device_trouble = ""
        self._unsaved = trio.Event()

    async def run(self) -> None:
        """Serve this node; raises AgentError when another agent runs here, or the kernel will not have it."""
        if self._config.proxy and (problem := probe()):
            raise AgentError(problem)
        listener = await self._listen()
        known = self._planner.update(self._snapshot, self._snapshot.everything())
        self._apply_nodes(known)
        async with trio.open_nursery() as nursery:
            if self._config.tunnel:
                await nursery.start(_started, self._mesh.run)
                nursery.start_soon(self._follow_paths)
            if self._config.dns:
                nursery.start_soon(self._resolver.run)
            nursery.start_soon(self._keep_devices)
            nursery.start_soon(self._serve_status, listener)
            nursery.start_soon(self._save)
            # whole, so that a resolver which serves an older table never has less than one of them
            self._resolver.set(zones(self._config), {name.name: name for name in known.names})
            await self._rules(partial(self._load_rules, known.ports))
            nursery.start_soon(self._keep_rules)
            if self._manifests:
                nursery.start_soon(self._follow, self._manifests)

    # what is known

    async def _follow(self, manifests: Manifests) -> None:
        """Take in the objects' changes, as they come."""
        try:
            async for changed, gone in manifests:
                affected = self._snapshot.apply(changed, gone)
                await self._apply(self._planner.update(self._snapshot, affected))
                self._unsaved.set()
        finally:
            manifests.close()

    async def _save(self) -> None:
        """Keep the snapshot on disk, so that a node that boots without anybody serves at once."""
        while True:
            await self._unsaved.wait()
            self._unsaved = trio.Event()
            await trio.sleep(SAVE_AFTER)
            files = self._manifests.files if self._manifests else self._files
            document = encode(self._snapshot, files, self._config.service_range)
            if not await trio.to_thread.run_sync(self._file.write, document):
                await trio.sleep(RETRY)
                self._unsaved.set()

    # what should be

    async def _apply(self, difference: Difference) -> None:
        """Bring a difference to the resolver, the kernel and the tunnels."""
        if difference.mesh is not None:
            self._apply_nodes(difference)
            await self._rules(lambda: self._proxy.set_network(self._network()))
        if difference.names or difference.names_gone:
            self._resolver.update(difference.names, difference.names_gone)
        if difference.ports or difference.ports_gone:
            await self._rules(lambda: self._proxy.update(difference.ports, difference.ports_gone))

    def _apply_nodes(self, difference: Difference) -> None:
        """Bring a changed mesh to the tunnels and the node's own devices."""
        if difference.mesh is None:
            return
        self._mesh.set_node(self._local_node())
        self._mesh.apply({peer.name: peer for peer in difference.mesh.peers})
        self._set_devices()

    def _local_node(self) -> LocalNode:
        name = self._config.node_name
        own = self._snapshot.mesh_nodes.get(name)
        said = tuple(_address(text, self._config.relay_port) for text in own.spec.relays) if own else ()
        return LocalNode(
            name=name,
            private_key=self._identity.private_key,
            listen_port=self._identity.listen_port,
            mesh_address=self._planner.mesh.addresses.get(name, ""),
            relays=tuple(dict.fromkeys((*self._config.relay_addresses, *said))),
        )

    def _network(self) -> NodeNetwork:
        ranges = [text for text in self._planner.mesh.pod_ranges if ":" not in text]
        return NodeNetwork(
            mesh_address=self._planner.mesh.addresses.get(self._config.node_name, ""),
            pod_range=ranges[0] if ranges else "",
            tunnel_device=self._config.tunnel_device,
            service_range=self._config.service_range,
        )

    # the kernel

    async def _rules(self, work: Callable[[], None]) -> None:
        """Change the service rules; what fails is tried again by `_keep_rules`.

        In a thread, as a large load takes a while; the lock keeps changes in their order.
        """
        if not self._config.proxy:
            return
        async with self._kernel:
            try:
                await trio.to_thread.run_sync(work)
            except ProxyError as error:
                log.error("%s", error)

    def _load_rules(self, ports: list[ServicePort]) -> None:
        self._proxy.set_network(self._network())
        self._proxy.apply({port.name: port for port in ports})

    async def _keep_rules(self) -> None:
        """Try again what failed."""
        while True:
            await trio.sleep(RETRY)
            if self._proxy.status().error:
                async with self._kernel:
                    try:
                        self._proxy.update((), ())
                    except ProxyError:
                        log.debug("still failing")

    def _set_devices(self) -> None:
        """Have the bridge that the resolver answers on, and the route that services are called by.

        The mesh address is on the bridge, which never goes: connections outlive a tunnel device that does.
        """
        config = self._config
        own = self._planner.mesh.addresses.get(config.node_name, "")
        addresses = [f"{config.bridge_address}/32", *([f"{own}/32"] if own else [])]
        try:
            enable_forwarding()
            self._links.ensure_bridge(config.bridge_device, addresses)
            self._links.apply_routes(config.bridge_device, {config.service_range: own})
            trouble = ""
        except LinkError as error:
            trouble = str(error)
        if trouble and trouble != self._device_trouble:
            log.error("%s; trying again", trouble)
        self._device_trouble = trouble

    async def _keep_devices(self) -> None:
        """Look after the devices when anybody changed one, and when something had failed."""
        changes = self._links.changes()
        while True:
            with trio.move_on_after(RETRY if self._device_trouble else float("inf")):
                await trio.lowlevel.wait_readable(changes.fileno())
                await trio.sleep(SETTLE)
            if changes.drain() or self._device_trouble:
                self._set_devices()

    # paths

    async def _follow_paths(self) -> None:
        """Tell the operator of each path's change once; leave out endpoints on nodes that have been without any."""
        while True:
            with trio.CancelScope() as until:
                now = time.time()
                lost = [path for path in self._mesh.paths() if path.kind is PathKind.NONE]
                gone = {path.name for path in lost if path.since and path.since + UNREACHABLE_AFTER <= now}
                due = [path.since + UNREACHABLE_AFTER - now for path in lost if path.since and path.name not in gone]
                if due:
                    until.deadline = trio.current_time() + min(due)
                self._tell_paths(self._mesh.paths())
                await self._apply(self._planner.update(self._snapshot, Affected(set(), set()), gone))
                await self._mesh.changed()

    def _tell_paths(self, paths: list[PeerPath]) -> None:
        shown = {path.name: (path.kind, path.reason) for path in paths}
        for path in paths:
            kind, reason = shown[path.name]
            if self._shown.get(path.name) != (kind, reason):
                way = f" by {path.endpoint.host}:{path.endpoint.port}" if path.endpoint else ""
                log.info("path to %s: %s%s%s", path.name, kind, way, f" ({reason})" if reason else "")
        self._shown = shown

    # status

    async def _listen(self) -> trio.SocketListener:
        """Listen on the agent's socket; raises AgentError when another agent does."""
        path = self._config.agent_socket
        try:
            os.makedirs(self._config.run_dir, exist_ok=True)
            with trio.socket.socket(trio.socket.AF_UNIX) as other:
                try:
                    await other.connect(path)
                    raise AgentError(f"another agent runs here: it answers on {path}")
                except FileNotFoundError:
                    pass
                except ConnectionRefusedError:
                    os.unlink(path)  # left by an agent that was killed
            listening = trio.socket.socket(trio.socket.AF_UNIX)
            await listening.bind(path)
            os.chmod(path, 0o600)
            listening.listen(8)
        except OSError as error:
            raise AgentError(f"{path}: {error.strerror}: it needs a place for its socket (runDir)") from None
        return trio.SocketListener(listening)

    async def _serve_status(self, listener: trio.SocketListener) -> None:
        async def answer(stream: trio.SocketStream) -> None:
            try:
                with trio.move_on_after(status.TIMEOUT):
                    await stream.send_all(status.encode(await self._status()))
            except trio.BrokenResourceError:
                log.debug("who asked for the status is gone")
            finally:
                await trio.aclose_forcefully(stream)

        await trio.serve_listeners(answer, [listener])

    async def _status(self) -> status.Status:
        config, rules = self._config, self._proxy.status()
        resolver = await self._resolver.status() if config.dns else None
        paths = self._mesh.paths()
        broken = [
            self._device_trouble,
            rules.error or "",
            self._mesh.trouble if config.tunnel else "",
            "" if resolver or not config.dns else f"the resolver does not answer on {config.resolver_socket}",
        ]
        wrong = [
            *(f"no path to {path.name}: {path.reason}" for path in paths if path.kind is PathKind.NONE),
            *(f"manifest {problem}" for found in self._manifest_problems() for problem in found),
            *map(str, self._planner.problems),
            self._loaded,
            self._file.trouble,
            self._resolver.problem if resolver else "",
            *(resolver.problems if resolver else ()),
        ]
        return status.Status(
            node=config.node_name,
            healthy=not any(broken),
            since=self._since,
            mesh_address=self._planner.mesh.addresses.get(config.node_name, ""),
            pod_range=", ".join(self._planner.mesh.pod_ranges),
            identity=NO_PROOF,
            peers=tuple(map(_peer_status, paths)),
            services=status.ServiceStatus(rules.services, rules.backends, rules.error or ""),
            resolver=status.ResolverStatus(
                connected=resolver is not None,
                names=resolver.names if resolver else 0,
                queries=resolver.queries if resolver else 0,
                upstreams=tuple(status.UpstreamStatus(u.address, u.ok, u.error) for u in resolver.upstreams)
                if resolver
                else (),
            ),
            engine=status.EngineStatus(
                connected=self._mesh.connected,
                listen_port=self._identity.listen_port,
                buffers=self._mesh.buffers,
            ),
            source=f"manifests in {self._manifests.directory}" if self._manifests else "the snapshot alone",
            problems=tuple(filter(None, (*broken, *wrong))),
            notices=self._notices,
        )

    def _manifest_problems(self) -> list[list[object]]:
        return [list(found) for found in self._manifests.problems.values()] if self._manifests else []


def _peer_status(path: PeerPath) -> status.PeerStatus:
    endpoint = path.endpoint
    return status.PeerStatus(
        name=path.name,
        path=path.kind,
        endpoint=f"{endpoint.host}:{endpoint.port}" if endpoint else "",
        round_trip_ms=None if path.round_trip is None else path.round_trip * 1000,
        last_handshake=path.last_handshake,
        rx_bytes=path.rx_bytes,
        tx_bytes=path.tx_bytes,
        framing=path.framing,
        since=path.since,
        reason=path.reason,
    )


def _address(text: str, default_port: int) -> Address:
    from sync.resources.validate import split_host_port

    return Address(*split_host_port(text, default_port))


async def _started(
    run: Callable[..., Awaitable[None]], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    await run(task_status=task_status)


async def run(agent: Agent) -> None:
    """Run an agent until SIGTERM or SIGINT."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.run)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return
