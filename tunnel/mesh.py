"""The package's face: peers in, routes that work and the state of each path out.

Two tasks: one has the path socket (what comes, what is due, what goes out: `tunnel.paths.finder` decides), one has the
engine (configures it in full whenever it appears, moves its peers, reads its counters). Both sleep until something is
due, and wake each other by moving a deadline.

Invariants: the mesh is the engine's only writer; what `apply` was told last holds, whatever is away at the moment; a
peer whose key can't be used is shown; no trouble of engine, socket or routes ends the mesh.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import trio

from tunnel.control.engine import DeviceConfig, DeviceState, Engine, EngineError, PeerConfig
from tunnel.endpoint import Address
from tunnel.links import LinkError
from tunnel.paths.finder import PathFinder
from tunnel.paths.pair import Pair
from tunnel.paths.socket import PathSocketError
from tunnel.peer import LocalNode, PathKind, Peer, PeerPath

log = logging.getLogger(__name__)

DEVICE = "edgemesh-wg"

FIRST_RETRY = 0.02
LAST_RETRY = 0.5
"""Seconds until the engine or the socket is tried again after an error: doubling from the first to the last."""


class Datagrams(Protocol):
    """What the mesh needs of `tunnel.paths.socket.PathSocket`."""

    def send(self, data: bytes, to: Address) -> bool:
        """Send one datagram; whether it went out."""

    def receive(self) -> tuple[bytes, Address] | None:
        """The next datagram and its source, None when there is none now."""

    def fileno(self) -> int:
        """For waiting."""

    def close(self) -> None:
        """Close the socket."""


class Routes(Protocol):
    """What the mesh needs of `tunnel.links.Links`."""

    def apply_routes(self, device: str, desired: Mapping[str, str]) -> int:
        """Make the routes through a device these: destination → source address ("" for none)."""


class Mesh:
    """All tunnels of one node."""

    def __init__(
        self,
        node: LocalNode,
        engine: Engine,
        open_socket: Callable[[int], Datagrams],
        links: Routes | None = None,
        *,
        device: str = DEVICE,
        excluded: tuple[str, ...] = (),
        clock: Callable[[], float] = trio.current_time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`open_socket` makes the path socket for a port (`PathSocket`).

        `links` sets the routes through `device`; None for no routes. `excluded` are ranges, beside those of the
        peers, in which no peer's address can lie (this node's pods, the services).
        """
        self._node = node
        self._engine = engine
        self._open_socket = open_socket
        self._links = links
        self._device = device
        self._excluded = excluded
        self._clock = clock
        self._random = random
        self._peers: dict[str, Peer] = {}
        self._refused: dict[str, str] = {}
        self._finder: PathFinder | None = None
        self._state: DeviceState | None = None
        self._troubles: dict[str, str] = {}
        self._polled = -math.inf
        self._configured = False
        self._routed = False
        self._changed = trio.Event()
        self._life = trio.CancelScope()
        self._due = trio.CancelScope()
        self._control = trio.CancelScope()

    # the face

    def apply(self, peers: Mapping[str, Peer]) -> None:
        """Make the peers these, by name; no two have one key or overlapping ranges (whoever plans sees to that).

        Takes effect at once, or when the engine is there.
        """
        self._peers = dict(peers)
        self._arrange()

    def set_node(self, node: LocalNode) -> None:
        """This node's new description. A new key or port begins everything anew."""
        before, self._node = self._node, node
        if (before.private_key, before.listen_port) != (node.private_key, node.listen_port):
            self._life.cancel()
        else:
            self._arrange()

    def check_routes(self) -> None:
        """Somebody changed devices or routes: see that ours are there."""
        self._routed = False
        self._control.deadline = self._clock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; started when peers can be applied, whether or not the engine is there."""
        while True:
            finder = PathFinder(self._node.private_key, self._node.listen_port, self._random, self._clock())
            self._finder = finder
            self._arrange()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with trio.CancelScope() as self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._find, finder)
                    nursery.start_soon(self._steer, finder)
                    await trio.sleep_forever()

    def paths(self) -> list[PeerPath]:
        """The state of the way to each peer, by name; those refused too, with the reason."""
        refused = [
            PeerPath(name, self._peers[name].public_key, PathKind.NONE, reason=reason)
            for name, reason in self._refused.items()
        ]
        taken = [self._path(name, peer) for name, peer in self._peers.items() if name not in self._refused]
        return sorted([*taken, *refused], key=lambda path: path.name)

    async def changed(self) -> None:
        """Return when the kind or endpoint of a path has changed since this was called."""
        await self._changed.wait()

    @property
    def trouble(self) -> str:
        """What keeps the mesh from working at present, and what to do; empty for nothing."""
        refusals = self._finder.refusals.values() if self._finder else ()
        return "; ".join(filter(None, (*self._troubles.values(), *refusals)))

    @property
    def connected(self) -> bool:
        """Whether the engine answered when it was last asked."""
        return self._state is not None and not self._troubles.get("engine")

    @property
    def buffers(self) -> tuple[int, int]:
        """Receive and send buffer that the engine got, in bytes; (0, 0) where it can't say."""
        return self._state.buffers if self._state else (0, 0)

    # what should be

    def _arrange(self) -> None:
        """Bring peers, refusals and paths in line with what was applied."""
        finder = self._finder
        if finder is None:
            return
        served = [cidr for peer in self._peers.values() for cidr in peer.allowed_ips]
        mesh = [self._node.mesh_address] if self._node.mesh_address else []
        now = self._clock()
        self._refused = finder.set_peers(self._peers, self._node.relays, [*served, *mesh, *self._excluded], now)
        self._configured = self._routed = False
        self._due.deadline = self._control.deadline = now
        self._tell()

    def _config(self, finder: PathFinder) -> DeviceConfig:
        peers = []
        for peer in self._peers.values():
            known = finder.pairs.get(peer.public_key)
            if known is not None:
                peers.append(PeerConfig(peer.public_key, peer.allowed_ips, known.endpoint, pinned=known.chooser))
        return DeviceConfig(self._node.private_key, self._node.listen_port, tuple(peers))

    def _desired_routes(self) -> dict[str, str]:
        source = self._node.mesh_address
        return {
            cidr: source if (":" in cidr) == (":" in source) else ""
            for peer in self._peers.values()
            for cidr in peer.allowed_ips
        }

    # the path socket

    async def _find(self, finder: PathFinder) -> None:
        """Have the path socket, and a new one when it breaks."""
        while True:
            try:
                socket = self._open_socket(self._node.listen_port)
                self._report("socket", "")
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._listen, finder, socket)
                        nursery.start_soon(self._keep_time, finder, socket)
                finally:
                    socket.close()
            except* PathSocketError as group:
                self._report("socket", str(group.exceptions[0]))
            await trio.sleep(LAST_RETRY)

    async def _listen(self, finder: PathFinder, socket: Datagrams) -> None:
        while True:
            await trio.lowlevel.wait_readable(socket.fileno())
            now = self._clock()
            while (received := socket.receive()) is not None:
                finder.receive(*received, now)
            self._work(finder, socket, now)

    async def _keep_time(self, finder: PathFinder, socket: Datagrams) -> None:
        while True:
            with trio.CancelScope() as self._due:
                self._work(finder, socket, self._clock())
                await trio.sleep_forever()

    def _work(self, finder: PathFinder, socket: Datagrams, now: float) -> None:
        """Do what is due, send, and say when to come again."""
        finder.tick(now)
        while finder.outbox:
            socket.send(*finder.outbox.popleft())
        self._due.deadline = max(finder.deadline(now), now + 0.001)
        self._control.deadline = min(self._control.deadline, self._next_look(finder))
        if finder.changed:
            finder.changed = False
            self._tell()

    # the engine

    async def _steer(self, finder: PathFinder) -> None:
        """Have the engine as it should be, again and again."""
        retry = FIRST_RETRY
        while True:
            await self._engine.ready()
            try:
                finder.adopt(await self._engine.state(), carries=self._engine.channels, now=self._clock())
                self._configured = self._routed = False
                while True:
                    await self._settle(finder)
                    retry = FIRST_RETRY
                    with trio.CancelScope(deadline=self._next_look(finder)) as self._control:
                        await trio.sleep_forever()
            except EngineError as error:
                self._report("engine", str(error))
            await trio.sleep(retry)
            retry = min(2 * retry, LAST_RETRY)

    def _next_look(self, finder: PathFinder) -> float:
        """When the engine wants attention."""
        if finder.moves or not self._configured:
            return self._clock()
        return self._polled + finder.poll(self._clock())

    async def _settle(self, finder: PathFinder) -> None:
        """Configuration, endpoints, routes, counters: whatever of it is due; raises EngineError."""
        if not self._configured:
            self._configured = True
            await self._engine.configure(self._config(finder))
            finder.ready(self._clock())
        await self._move(finder)
        if not self._routed:
            self._route()
        if self._clock() >= self._polled + finder.poll(self._clock()):
            self._state = await self._engine.state()
            self._polled = self._clock()
            self._report("engine", "")
            self._look_for_changes(finder)
            finder.state(self._state, self._polled)
            await self._move(finder)
        now = self._clock()
        self._due.deadline = now if finder.outbox or finder.changed else finder.deadline(now)

    def _look_for_changes(self, finder: PathFinder) -> None:
        """Somebody else changed the engine's peers or port (`wg set`): it is told all again."""
        state = self._state
        if state is None or not self._configured:
            return
        self._configured = state.listen_port == self._node.listen_port and state.peers.keys() == finder.pairs.keys()
        self._report("settings", "" if self._configured else "somebody else has changed the engine's peers or port")

    async def _move(self, finder: PathFinder) -> None:
        while finder.moves:
            key, (endpoint, pinned) = finder.moves.popitem()
            await self._engine.set_endpoint(key, endpoint, pinned=pinned)

    def _route(self) -> None:
        """Set the routes; what fails is tried again at the next look."""
        try:
            if self._links is not None:
                self._links.apply_routes(self._device, self._desired_routes())
            self._routed = True
            self._report("routes", "")
        except LinkError as error:
            self._report("routes", str(error))

    # what is

    def _path(self, name: str, peer: Peer) -> PeerPath:
        known = self._finder.pairs.get(peer.public_key) if self._finder else None
        if known is None:
            return PeerPath(name, peer.public_key, PathKind.NONE, reason="the mesh is not running")
        state = self._state.peers.get(peer.public_key) if self._state else None
        kind, reason = _shown(known)
        now, wall = self._clock(), time.time()
        silent = known.silent(now)
        return PeerPath(
            name,
            peer.public_key,
            kind,
            endpoint=known.endpoint,
            round_trip=known.current.round_trip if known.current else None,
            last_handshake=(state.last_handshake or None) if state else None,
            rx_bytes=state.rx_bytes if state else 0,
            tx_bytes=state.tx_bytes if state else 0,
            framing=state.framing if state else "",
            since=wall - (now - known.since),
            reason=reason,
            silent=None if silent is None else wall - (now - silent),
        )

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _report(self, what: str, trouble: str) -> None:
        """Note trouble with the engine, the socket or the routes; log it once."""
        if self._troubles.get(what, "") == trouble:
            return
        self._troubles[what] = trouble
        if trouble:
            log.warning("%s; trying again", trouble)
        else:
            log.info("%s: well again", what)


def _shown(known: Pair) -> tuple[PathKind, str]:
    """Kind and reason to tell: a way that is being proven does not count yet."""
    if known.current is None:
        return known.kind, known.reason or "no answer from it yet"
    if known.proven:
        return known.kind, known.reason
    return known.before, known.reason or f"a {known.kind} path is being tried"
