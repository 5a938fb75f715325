"""The agent's parts, asked for how they stand: what `edgemesh status` shows is put together here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dns.client import ResolverClient
from dns.control import Status as Resolver
from edgemesh import status
from edgemesh.config import Config, Notice
from edgemesh.devices import Devices
from edgemesh.plan.planner import Planner
from edgemesh.rules import Rules
from edgemesh.snapshot_file import SnapshotFile
from tunnel.mesh import Mesh
from tunnel.peer import PathKind, PeerPath

NO_PROOF = "from manifests, without proof: the directory's owner is the authority"
PROVEN = "from an API; each node's key is proven by the certificate it got when it joined"

SHOWN = 50
"""Problems of the source that are listed, at most."""


class Source(NamedTuple):
    """Where objects come from, who answers for nodes' keys, what is wrong there, and how it stands if it is an API."""

    text: str
    identity: str
    problems: Sequence[str] = ()
    api: status.ApiStatus | None = None


@dataclass(frozen=True)
class Report:
    """The parts; `loaded` is what was wrong with the snapshot at the start, `since` when that was (Unix seconds)."""

    config: Config
    notices: list[Notice]
    listen_port: int
    planner: Planner
    resolver: ResolverClient
    rules: Rules
    mesh: Mesh
    devices: Devices
    file: SnapshotFile
    loaded: str
    source: Callable[[], Source]
    since: float = field(default_factory=time.time)

    async def compose(self) -> status.Status:
        """The status as it is now; the resolver has two seconds to answer."""
        config, mesh = self.config, self.planner.mesh
        resolver = await self.resolver.status() if config.dns else None
        rules = self.rules.status()
        paths = self.mesh.paths() if config.tunnel else []
        source = self.source()
        broken = self._broken(resolver, source)
        return status.Status(
            node=config.node_name,
            healthy=not broken,
            since=self.since,
            mesh_address=mesh.addresses.get(config.node_name, ""),
            pod_range=", ".join(mesh.pod_ranges),
            identity=source.identity,
            peers=tuple(map(_peer, paths)),
            services=status.ServiceStatus(rules.services, rules.backends, rules.error or ""),
            resolver=_resolver(resolver),
            engine=status.EngineStatus(self.mesh.connected, self.listen_port, self.mesh.buffers),
            source=source.text,
            api=source.api,
            problems=(*broken, *self._wrong(source, resolver, paths)),
            notices=tuple(map(str, self.notices)),
        )

    def _broken(self, resolver: Resolver | None, source: Source) -> list[str]:
        """What keeps this node from its work. One that is alone, without an API, needs no place in a mesh."""
        config, addresses = self.config, self.planner.mesh.addresses
        found = [self.devices.trouble, self.rules.status().error or ""]
        if config.tunnel:
            found.append(self.mesh.trouble)
            if not self.mesh.connected and not self.mesh.trouble:
                found.append(f"the engine does not answer on {config.engine_socket}: start it, edgemesh engine")
            if config.node_name not in addresses and (addresses or source.identity == PROVEN):
                found.append(
                    "this node is not in the mesh: no MeshNode of it is accepted and has a mesh address (IPv4)"
                )
        if config.dns and resolver is None:
            found.append(f"the resolver does not answer on {config.resolver_socket}: start it, edgemesh resolver")
        return list(filter(None, found))

    def _wrong(self, source: Source, resolver: Resolver | None, paths: list[PeerPath]) -> list[str]:
        """What an operator should mend, while this node does its work."""
        away = f": {source.api.reason}; what was known is served" if source.api and not source.api.reachable else ""
        more = len(source.problems) - SHOWN
        found = [
            f"{source.text} is not followed{away}" if away else "",
            *source.problems[:SHOWN],
            f"and {more} more objects that can't be used" if more > 0 else "",
            *(f"no path to {path.name}: {path.reason}" for path in paths if path.kind is PathKind.NONE),
            *(_silence(path) for path in paths if path.silent is not None),
            *map(str, self.planner.problems),
            self.loaded,
            self.file.trouble,
            self.resolver.problem if resolver else "",
            *(resolver.problems if resolver else ()),
        ]
        return list(filter(None, found))


def _peer(path: PeerPath) -> status.PeerStatus:
    return status.PeerStatus(
        name=path.name,
        path=path.kind,
        endpoint=f"{path.endpoint.host}:{path.endpoint.port}" if path.endpoint else "",
        round_trip_ms=None if path.round_trip is None else path.round_trip * 1000,
        last_handshake=path.last_handshake,
        rx_bytes=path.rx_bytes,
        tx_bytes=path.tx_bytes,
        framing=path.framing,
        since=path.since,
        reason=path.reason,
    )


def _silence(path: PeerPath) -> str:
    assert path.silent is not None
    who = "the relay" if path.kind is PathKind.RELAYED else "what is between"
    since = status.age(time.time() - path.silent)
    return f"nothing has come from {path.name} for {since}: its agent is away, or {who} passes nothing on"


def _resolver(answer: Resolver | None) -> status.ResolverStatus:
    if answer is None:
        return status.ResolverStatus(connected=False)
    upstreams = tuple(status.UpstreamStatus(each.address, each.ok, each.error) for each in answer.upstreams)
    return status.ResolverStatus(True, answer.names, answer.queries, upstreams)
