"""Custom resource definitions: the kinds that they serve, and the conditions of the definition itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sync.api.registry import Column, ResourceType, Subresource
from sync.api.schema import Schema, builtin

_VERBS = frozenset(("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"))
_META = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_TYPE_META = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
_KUBE_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")

Json = Mapping[str, Any]


def resource_types(crd: Json) -> tuple[ResourceType, ...]:
    """The served versions of an established definition, preferred first; none of one that is not established."""
    if not established(crd):
        return ()
    spec = crd["spec"]
    served = [each for each in spec["versions"] if each.get("served")]
    stored = next(each["name"] for each in spec["versions"] if each.get("storage"))
    return tuple(_resource_type(spec, each, stored) for each in sorted(served, key=_priority))


def established(crd: Json) -> bool:
    """Its kinds are served."""
    return _condition(crd, "Established").get("status") == "True"


def accept(crd: dict[str, Any], others: Iterable[Json], now: str) -> None:
    """In place: status.acceptedNames, storedVersions and the conditions NamesAccepted and Established, as they are with
    the `others` there; what is so already keeps its time. For each write of a definition; `now` is RFC 3339."""
    status = crd.setdefault("status", {})
    names = crd["spec"]["names"]
    rivals = [
        each["status"].get("acceptedNames", {})
        for each in others
        if each["spec"]["group"] == crd["spec"]["group"] and each["metadata"]["name"] != crd["metadata"]["name"]
    ]
    clash = next(_clashes(names, rivals), None)
    if clash is None:
        status["acceptedNames"] = dict(names)
        _set(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now)
        _set(status, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now)
    else:
        status.setdefault("acceptedNames", {"kind": "", "plural": ""})
        _set(status, "NamesAccepted", "False", *clash, now)
        if not established(crd):
            _set(status, "Established", "False", "NotAccepted", "not all names are accepted", now)
    stored = next(each["name"] for each in crd["spec"]["versions"] if each.get("storage"))
    versions = status.setdefault("storedVersions", [])
    if stored not in versions:
        versions.append(stored)


def _resource_type(spec: Json, version: Json, stored: str) -> ResourceType:
    names = spec["names"]
    written = version.get("schema", {}).get("openAPIV3Schema") or {"x-kubernetes-preserve-unknown-fields": True}
    known = {**(written.get("properties") or {}), **_TYPE_META, "metadata": _META}
    kind = names["kind"]
    subresources: tuple[Subresource, ...] = ()
    if "status" in version.get("subresources", {}):
        subresources = (Subresource("status", ("get", "patch", "update"), kind),)
    warning = version.get("deprecationWarning") or f"{spec['group']}/{version['name']} {kind} is deprecated"
    return ResourceType(
        group=spec["group"],
        version=version["name"],
        kind=kind,
        plural=names["plural"],
        singular=names.get("singular") or kind.lower(),
        schema=Schema({**written, "properties": known}, builtin(), custom=True),
        namespaced=spec["scope"] == "Namespaced",
        verbs=_VERBS,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        served_subresources=subresources,
        list_kind=names.get("listKind") or f"{kind}List",
        custom=True,
        storage_version=stored,
        columns=tuple(_column(each) for each in version.get("additionalPrinterColumns") or ()),
        selectable=tuple(each["jsonPath"].lstrip(".") for each in version.get("selectableFields") or ()),
        deprecated=warning if version.get("deprecated") else "",
    )


def _column(column: Json) -> Column:
    return Column(
        name=column["name"],
        type=column["type"],
        json_path=column["jsonPath"],
        format=column.get("format", ""),
        description=column.get("description", ""),
        priority=column.get("priority", 0),
    )


def _priority(version: Json) -> tuple[Any, ...]:
    """Kubernetes' order of versions: v2, v1, v1beta2, v1beta1, v1alpha1, then other names by the alphabet."""
    found = _KUBE_VERSION.fullmatch(version["name"])
    if not found:
        return (1, version["name"])
    major, stage, minor = found.groups()
    return (0, ("", "beta", "alpha").index(stage or ""), -int(major), -int(minor or 0))


def _clashes(names: Json, rivals: list[Json]) -> Iterator[tuple[str, str]]:
    """(reason, message) of each name that another definition of the group has."""
    resources = {
        name for each in rivals for name in (each.get("plural"), each.get("singular"), *(each.get("shortNames") or ()))
    }
    kinds = {name for each in rivals for name in (each.get("kind"), each.get("listKind"))}
    for field, taken in (("plural", resources), ("singular", resources), ("kind", kinds), ("listKind", kinds)):
        if names.get(field) and names[field] in taken:
            yield f"{field[0].upper()}{field[1:]}Conflict", f'"{names[field]}" is already in use'
    for name in names.get("shortNames") or ():
        if name in resources:
            yield "ShortNamesConflict", f'"{name}" is already in use'


def _condition(crd: Json, kind: str) -> Json:
    conditions = crd.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), {})


def _set(status: dict[str, Any], kind: str, value: str, reason: str, message: str, now: str) -> None:
    conditions = status.get("conditions") or []
    status["conditions"] = conditions
    old = next((each for each in conditions if each.get("type") == kind), None)
    since = old["lastTransitionTime"] if old and old.get("status") == value and "lastTransitionTime" in old else now
    new = {"type": kind, "status": value, "lastTransitionTime": since, "reason": reason, "message": message}
    if old is None:
        conditions.append(new)
    else:
        old.clear()
        old.update(new)
