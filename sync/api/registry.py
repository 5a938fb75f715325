"""The kinds that are served: Kubernetes' own (`data/resources.json`) and those of custom resource definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from sync.api.schema import DATA, Schema, builtin
from sync.api.status import GroupResource

EVENTS = GroupResource("", "events")


class Subresource(msgspec.Struct, frozen=True):
    """A path below an object, the kind that it takes and its verbs."""

    name: str
    verbs: tuple[str, ...]
    kind: str
    group: str = ""
    """Of `kind`, where it is another than the resource's; with `version`."""
    version: str = ""


class Column(msgspec.Struct, frozen=True, rename="camel"):
    """A CRD's additionalPrinterColumn."""

    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


class ResourceType(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A kind in one version: where it is served, what may be done with it, and its schema."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    schema: Schema
    namespaced: bool
    verbs: frozenset[str]
    """create delete deletecollection get list patch update watch; create alone for reviews and bindings."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    served_subresources: tuple[Subresource, ...] = ()
    list_kind: str = ""
    custom: bool = False
    storage_version: str = ""
    """The version that objects are stored in; conversion changes `apiVersion` alone."""
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    """Field paths that a CRD's field selectors may name besides metadata.name and .namespace ("spec.color")."""
    deprecated: str = ""
    """The warning for whoever uses this version."""
    storage_hash: str = ""

    @property
    def api_version(self) -> str:
        """ "v1", "coordination.k8s.io/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> GroupResource:
        """Its text is "pods", "leases.coordination.k8s.io"."""
        return GroupResource(self.group, self.plural)

    @property
    def storage(self) -> str:
        """`resource` of the store's keys. Events of both groups are the same objects, stored as core v1."""
        return str(EVENTS) if self.plural == "events" and self.group == "events.k8s.io" else str(self.group_resource)

    @property
    def subresources(self) -> frozenset[str]:
        """ "status", "binding", "approval", "finalize"."""
        return frozenset(each.name for each in self.served_subresources)

    def subresource(self, name: str) -> Subresource | None:
        return next((each for each in self.served_subresources if each.name == name), None)


class Registry:
    """All kinds that are served now. `set_crds` replaces the custom ones; `generation` rises with each such change."""

    def __init__(self) -> None:
        self._builtin = _builtin()
        self._custom: tuple[ResourceType, ...] = ()
        self.generation = 0
        self._index()

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> ResourceType | None:
        return self._by_kind.get((api_version, kind))

    def all(self) -> tuple[ResourceType, ...]:
        """Built-in kinds, then custom ones by group, preferred version first."""
        return self._builtin + self._custom

    def set_crds(self, crds: Iterable[Mapping[str, Any]]) -> None:
        """Serve the versions of these definitions, as far as their conditions say Established."""
        from sync.api.crd import resource_types

        self._custom = tuple(each for crd in crds for each in resource_types(crd))
        self.generation += 1
        self._index()

    def _index(self) -> None:
        everything = self.all()
        self._by_path = {(each.group, each.version, each.plural): each for each in everything}
        self._by_kind = {(each.api_version, each.kind): each for each in everything}


class _Builtin(msgspec.Struct):
    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    verbs: tuple[str, ...]
    definition: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    storage_hash: str = ""


class _File(msgspec.Struct):
    source: str
    kubernetes: str
    resources: tuple[_Builtin, ...]


def _builtin() -> tuple[ResourceType, ...]:
    file = msgspec.json.decode((DATA / "resources.json").read_bytes(), type=_File)
    return tuple(_resource_type(each) for each in file.resources)


def _resource_type(each: _Builtin) -> ResourceType:
    return ResourceType(
        group=each.group,
        version=each.version,
        kind=each.kind,
        plural=each.plural,
        singular=each.singular,
        schema=Schema.of(builtin(), each.definition),
        namespaced=each.namespaced,
        verbs=frozenset(each.verbs),
        short_names=each.short_names,
        categories=each.categories,
        served_subresources=each.subresources,
        list_kind=f"{each.kind}List",
        storage_version=each.version,
        storage_hash=each.storage_hash,
    )


def by_group(types: Sequence[ResourceType]) -> dict[str, dict[str, list[ResourceType]]]:
    """Types by group and version, in their order."""
    found: dict[str, dict[str, list[ResourceType]]] = {}
    for each in types:
        found.setdefault(each.group, {}).setdefault(each.version, []).append(each)
    return found
