"""What of the plan a change touches, and the difference it makes.

The planner remembers of each service which names and ports it gave out, and on which nodes its endpoints are. They are
the very objects that resolver and proxy hold, so that to remember them costs next to nothing. Invariant, tested: after
any sequence of changes what was given out is what a new planner gives out for the same objects.
"""

from collections.abc import Iterable, Set
from typing import NamedTuple, TypeVar

import msgspec

from dns.records import Name
from edgemesh.config import Config
from edgemesh.plan.peers import Mesh, Problem, mesh
from edgemesh.plan.records import names
from edgemesh.plan.services import View, ports
from edgemesh.snapshot import Affected, Snapshot
from proxy.service import ServicePort
from sync.controllers.addresses import Allocation, Claim, allocate
from sync.controllers.slices import made_here, slices
from sync.resources.kinds import EndpointSlice, Key, Service

T = TypeVar("T", Name, ServicePort)


class Difference(NamedTuple):
    """What is to be sent. `mesh` is None if no node changed; problems are asked from the planner."""

    names: list[Name]
    names_gone: list[str]
    ports: list[ServicePort]
    ports_gone: list[str]
    mesh: Mesh | None = None

    def __bool__(self) -> bool:
        return any((self.names, self.names_gone, self.ports, self.ports_gone, self.mesh is not None))


class _Given(msgspec.Struct, gc=False):
    """What was given out of one service, and its endpoints' nodes."""

    names: tuple[Name, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    pointers: tuple[Name, ...] = ()
    nodes: tuple[str, ...] = ()


class Planner:
    """The plan of one node. With `controllers` addresses and slices are computed here, as no API server does."""

    def __init__(self, config: Config, public_key: bytes = b"", *, controllers: bool = True) -> None:
        self.mesh = Mesh()
        self._config = config
        self._public_key = public_key
        self._controllers = controllers
        self._unreachable: frozenset[str] = frozenset()
        self._claims: dict[Key, str] = {}
        self._allocation = Allocation({}, ())
        self._given: dict[Key, _Given] = {}
        self._on_node: dict[str, dict[Key, None]] = {}
        self._pointers: dict[str, tuple[Name, ...]] = {}
        self._problems: dict[Key, list[Problem]] = {}

    @property
    def problems(self) -> list[Problem]:
        """What has no effect at present, and why."""
        clashes = [Problem(str(notice.key), notice.text) for notice in self._allocation.notices]
        rules = [problem for _, found in sorted(self._problems.items()) for problem in found]
        return [*self.mesh.problems, *clashes, *rules]

    def address(self, service: Service) -> str:
        """A service's cluster IP, set or computed; empty if it has none."""
        if service.headless or service.spec.type == "ExternalName":
            return ""
        return self._allocation.addresses.get(service.key, "") if self._controllers else service.spec.cluster_ip

    def slices(self, snapshot: Snapshot, service: Service) -> tuple[EndpointSlice, ...]:
        """All slices of a service: those that are objects, and those computed from its selector."""
        kept = snapshot.slices(service.key)
        if not self._controllers:
            return kept
        made = slices(service, snapshot.pods(service), snapshot.nodes)
        return (*(piece for piece in kept if not made_here(piece)), *made) if kept else made

    def update(self, snapshot: Snapshot, affected: Affected, unreachable: Set[str] | None = None) -> Difference:
        """The difference that a change makes: of objects, or of the nodes without a working path (None: as before)."""
        services = set(affected.services)
        new_mesh = self._update_mesh(snapshot, affected.nodes, services) if affected.nodes else None
        if unreachable is not None and unreachable != self._unreachable:
            self._on_nodes(self._unreachable ^ unreachable, services)
            self._unreachable = frozenset(unreachable)
        if self._controllers:
            self._update_addresses(snapshot, services)
        difference = Difference([], [], [], [], new_mesh)
        pointers: dict[str, None] = {}
        view = View(self._config, self.mesh, self._unreachable)
        for key in sorted(services):
            self._update_service(snapshot, key, view, difference, pointers)
        for owner in pointers:
            if owner in self._pointers:
                difference.names.append(self._pointer(owner))
            else:
                difference.names_gone.append(owner)
        return difference

    def _pointer(self, owner: str) -> Name:
        """A PTR name, with what all services have for it."""
        given = self._pointers[owner]
        if len(given) == 1:
            return given[0]
        return Name(owner, ptr=tuple(sorted({host for name in given for host in name.ptr})))

    def _update_mesh(self, snapshot: Snapshot, nodes: Set[str], services: set[Key]) -> Mesh | None:
        """Look at all nodes again; services on nodes that are reached elsewhere now must be looked at, too."""
        old, self.mesh = self.mesh, mesh(snapshot.mesh_nodes, snapshot.nodes, self._config, self._public_key)
        moved = {name for name, _ in old.addresses.items() ^ self.mesh.addresses.items()}
        self._on_nodes(nodes | moved | (old.cut_off ^ self.mesh.cut_off), services)
        if old.zone != self.mesh.zone or bool(old.known) != bool(self.mesh.known):
            services.update(snapshot.services)
        return None if old == self.mesh else self.mesh

    def _on_nodes(self, nodes: Iterable[str], services: set[Key]) -> None:
        for node in nodes:
            services.update(self._on_node.get(node, ()))

    def _update_addresses(self, snapshot: Snapshot, services: set[Key]) -> None:
        """Give addresses anew if a service came, went or asks for another; those whose address changed are added."""
        changed = False
        for key in services:
            service = snapshot.services.get(key)
            if service is None or service.headless or service.spec.type == "ExternalName":
                changed |= self._claims.pop(key, None) is not None
            elif self._claims.get(key) != service.spec.cluster_ip:
                self._claims[key] = service.spec.cluster_ip
                changed = True
        if changed:
            old = self._allocation.addresses
            claims = (Claim(key, address) for key, address in self._claims.items())
            self._allocation = allocate(claims, self._config.service_range)
            services.update(key for key, _ in old.items() ^ self._allocation.addresses.items())

    def _update_service(
        self, snapshot: Snapshot, key: Key, view: View, difference: Difference, pointers: dict[str, None]
    ) -> None:
        """Compute one service, and add what differs; owners of PTR names that may differ are added to `pointers`."""
        service = snapshot.services.get(key)
        old = self._given.pop(key, None) or _Given()
        new = _Given()
        self._problems.pop(key, None)
        if service is not None:
            pieces = self.slices(snapshot, service)
            address = self.address(service)
            new.nodes = tuple({e.node_name: None for piece in pieces for e in piece.endpoints if e.node_name})
            found = names(service, address, pieces, view.mesh, self._config.cluster_domain)
            new.pointers = tuple(name for name in found if name.ptr)
            new.names = _differ(
                [name for name in found if not name.ptr], old.names, difference.names, difference.names_gone
            )
            given, problems = ports(service, address, pieces, snapshot.rule(key), view)
            new.ports = _differ(given, old.ports, difference.ports, difference.ports_gone)
            if problems:
                self._problems[key] = problems
            self._given[key] = new
        else:
            _differ((), old.names, difference.names, difference.names_gone)
            _differ((), old.ports, difference.ports, difference.ports_gone)
        self._file(key, old, new, pointers)

    def _file(self, key: Key, old: _Given, new: _Given, pointers: dict[str, None]) -> None:
        """Keep the indexes by node and by PTR name."""
        for node in old.nodes:
            if node not in new.nodes:
                del self._on_node[node][key]
                if not self._on_node[node]:
                    del self._on_node[node]
        for node in new.nodes:
            self._on_node.setdefault(node, {})[key] = None
        if old.pointers == new.pointers:
            new.pointers = old.pointers  # the index has these very objects
            return
        for name in old.pointers:
            if rest := tuple(each for each in self._pointers[name.name] if each is not name):
                self._pointers[name.name] = rest
            else:
                del self._pointers[name.name]
            pointers[name.name] = None
        for name in new.pointers:
            self._pointers[name.name] = (*self._pointers.get(name.name, ()), name)
            pointers[name.name] = None


def _differ(found: Iterable[T], old: tuple[T, ...], changed: list[T], gone: list[str]) -> tuple[T, ...]:
    """Sort what was found by whether it is as it was; what isn't found any more is gone.

    Returns what is given out now; of what is as it was the old object, which its receiver has.
    """
    before = {item.name: item for item in old}
    now = {}
    for item in found:
        was = before.get(item.name)
        if was == item:
            now[item.name] = was
        else:
            changed.append(item)
            now[item.name] = item
    gone.extend(name for name in before if name not in now)
    return tuple(now.values())
