"""What is known of the cluster: objects by key, with the indexes that make work proportional to a change.

`apply` takes changes from any source and says which services and nodes they touch; everything else is asked by
service. Indexes are a function of the objects, never kept on disk.

Which services a pod belongs to is found without looking at all of them: a service is filed under one label of its
selector, and a pod looks under each of its own labels.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sync.controllers.slices import selects
from sync.resources.kinds import DestinationRule, EndpointSlice, Key, MeshNode, Node, Pod, Resource, Service

Label = tuple[str, str, str]
"""Namespace, label name, value."""


class Affected(NamedTuple):
    """What a change touches: services by key, and nodes by name (their Node or MeshNode changed)."""

    services: set[Key]
    nodes: set[str]


class Snapshot:
    """The objects. Those it gives out are its own and immutable."""

    def __init__(self) -> None:
        self.objects: dict[Key, Resource] = {}
        self.version = 0
        """Rises with each object that changes."""
        self.nodes: dict[str, Node] = {}
        self.mesh_nodes: dict[str, MeshNode] = {}
        self.services: dict[Key, Service] = {}
        self._slices: dict[Key, tuple[EndpointSlice, ...]] = {}
        self._pods: dict[Label, dict[Key, None]] = {}
        self._selectors: dict[Label, dict[Key, None]] = {}

    def apply(self, changed: Iterable[Resource], gone: Iterable[Key] = ()) -> Affected:
        """Take in changes. An object that is as it was, or a key that isn't there, touches nothing."""
        affected = Affected(set(), set())
        for key in gone:
            if (old := self.objects.pop(key, None)) is not None:
                self.version += 1
                self._remove(old, affected)
        for new in changed:
            key = new.key
            old = self.objects.get(key)
            if old == new:
                continue
            self.version += 1
            if old is not None:
                self._remove(old, affected)
            self.objects[key] = new
            self._add(key, new)
            self._touch(new, affected)
        return affected

    def slices(self, service: Key) -> tuple[EndpointSlice, ...]:
        """The slices that name a service."""
        return self._slices.get(service, ())

    def pods(self, service: Service) -> list[Pod]:
        """The pods that a service selects."""
        label = _label(service)
        if label is None:
            return []
        found = (self.objects[key] for key in self._pods.get(label, ()))
        return [pod for pod in found if isinstance(pod, Pod) and selects(service, pod)]

    def rule(self, service: Key) -> DestinationRule | None:
        """The DestinationRule of a service: the one with its name."""
        found = self.objects.get(Key("DestinationRule", service.namespace, service.name))
        return found if isinstance(found, DestinationRule) else None

    def everything(self) -> Affected:
        """As if all objects had just come."""
        return Affected({*self.services, *self._slices}, {*self.nodes, *self.mesh_nodes})

    def _add(self, key: Key, new: Resource) -> None:
        if isinstance(new, Service):
            self.services[key] = new
            if label := _label(new):
                self._selectors.setdefault(label, {})[key] = None
        elif isinstance(new, EndpointSlice):
            self._slices[new.service] = (*self._slices.get(new.service, ()), new)
        elif isinstance(new, Pod):
            for label in _labels(new.metadata.namespace, new.metadata.labels):
                self._pods.setdefault(label, {})[key] = None
        elif isinstance(new, Node):
            self.nodes[new.metadata.name] = new
        elif isinstance(new, MeshNode):
            self.mesh_nodes[new.metadata.name] = new

    def _remove(self, old: Resource, affected: Affected) -> None:
        self._touch(old, affected)
        if isinstance(old, Service):
            del self.services[old.key]
            if label := _label(old):
                _discard(self._selectors, label, old.key)
        elif isinstance(old, EndpointSlice):
            rest = tuple(piece for piece in self._slices[old.service] if piece is not old)
            if rest:
                self._slices[old.service] = rest
            else:
                del self._slices[old.service]
        elif isinstance(old, Pod):
            for label in _labels(old.metadata.namespace, old.metadata.labels):
                _discard(self._pods, label, old.key)
        elif isinstance(old, Node):
            del self.nodes[old.metadata.name]
        elif isinstance(old, MeshNode):
            del self.mesh_nodes[old.metadata.name]

    def _touch(self, resource: Resource, affected: Affected) -> None:
        """Note what an object has to do with."""
        match resource:
            case Service():
                affected.services.add(resource.key)
            case EndpointSlice():
                affected.services.add(resource.service)
            case DestinationRule():
                affected.services.add(Key("Service", resource.metadata.namespace, resource.metadata.name))
            case Pod():
                affected.services.update(self._selecting(resource))
            case Node() | MeshNode():
                affected.nodes.add(resource.metadata.name)

    def _selecting(self, pod: Pod) -> Iterator[Key]:
        for label in _labels(pod.metadata.namespace, pod.metadata.labels):
            for key in self._selectors.get(label, ()):
                if selects(self.services[key], pod):
                    yield key


def _labels(namespace: str, labels: Mapping[str, str]) -> Iterator[Label]:
    return ((namespace, name, value) for name, value in labels.items())


def _label(service: Service) -> Label | None:
    """The label a service is filed under: the first by name of its selector."""
    selector = service.spec.selector
    if not selector:
        return None
    name = min(selector)
    return service.metadata.namespace, name, selector[name]


def _discard(index: dict[Label, dict[Key, None]], label: Label, key: Key) -> None:
    keys = index[label]
    del keys[key]
    if not keys:
        del index[label]
