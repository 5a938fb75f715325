"""Who owns what after a write that is no apply: what it changed is its manager's, and no longer another's.

Source: structured-merge-diff v6 (`merge/update.go`), apimachinery's `util/managedfields` v0.34, and upstream's
strategies for what an endpoint can't change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync.api.patch import managers as owners
from sync.api.patch.fieldset import FieldSet
from sync.api.patch.managers import UPDATE, Manager, Managers, Owned
from sync.api.patch.merging import Comparison, compare
from sync.api.patch.shape import Shape, empty, shape_of
from sync.api.patch.structured import Misfit, check, settle
from sync.api.patch.values import copy, same
from sync.api.registry import ResourceType

_META_PARTS = "name namespace creationTimestamp selfLink uid clusterName generation managedFields resourceVersion"
NEVER_OWNED = FieldSet.of(
    ("f:apiVersion",), ("f:kind",), ("f:metadata",), *(("f:metadata", f"f:{part}") for part in _META_PARTS.split())
)

_STATUS, _SPEC = FieldSet.of(("f:status",)), FieldSet.of(("f:spec",))
_IGNORED: dict[tuple[str, str, str], FieldSet] = {
    ("certificates.k8s.io", "CertificateSigningRequest", ""): _STATUS | _SPEC,
    ("certificates.k8s.io", "CertificateSigningRequest", "status"): FieldSet.of(
        ("f:spec",), ("f:status", "f:conditions")
    ),
    ("certificates.k8s.io", "CertificateSigningRequest", "approval"): FieldSet.of(
        ("f:spec",), ("f:status", "f:certificate")
    ),
    ("", "Pod", "status"): FieldSet.of(
        ("f:spec",), ("f:metadata", "f:deletionTimestamp"), ("f:metadata", "f:ownerReferences")
    ),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "status"): FieldSet.of(("f:metadata",), ("f:spec",)),
}


def ignored(type: ResourceType, subresource: str) -> FieldSet:
    """What a write by this endpoint can't change, so that nobody owns it by it (upstream's GetResetFields)."""
    if (found := _IGNORED.get((type.group, type.kind, subresource))) is not None:
        return found
    if subresource == "status":
        return _SPEC
    return _STATUS if "status" in type.subresources else FieldSet()


def taken(managers: Managers, changed: Comparison, who: Manager | None = None) -> Managers:
    """All managers but `who` lose what is written and what is gone; those with nothing left go."""
    lost = changed.written | changed.removed
    made = {
        other: owned if other == who else owned._replace(fields=owned.fields - lost)
        for other, owned in managers.items()
    }
    return {other: owned for other, owned in made.items() if owned.fields}


def track(
    live: Mapping[str, Any] | None,
    new: dict[str, Any],
    manager: str,
    operation: str,
    subresource: str,
    type: ResourceType,
    now: str,
) -> None:
    """Set `new`'s managedFields for a write that is no apply (`operation` is "Update"). `live` None: it is made.

    Called when defaults are set, before the server adds what is its own (addresses, node ports): that is nobody's. An
    object that has no managers, because somebody took them away, goes on without.
    """
    if operation != UPDATE:
        raise ValueError(f"operation is {UPDATE}, an apply goes to server_side_apply; not {operation}")
    try:
        before = owners.of_write(live, new, subresource=bool(subresource))
        bare = without_managers(new)
        if live is not None and not before:
            after: Managers = {}
        else:
            who = owners.manager(manager, UPDATE, type.api_version, subresource)
            old = without_managers(live) if live is not None else empty_object(type)
            after = owners.cap(updated(old, bare, before, who, type, now, subresource))
    except (Misfit, RecursionError):
        after = {}
    owners.put(new, after)


def settled(managers: Managers, shape: Shape) -> Managers:
    """The managers with their fields as the schema now tells wholes."""
    return {who: owned._replace(fields=settle(owned.fields, shape)) for who, owned in managers.items()}


def updated(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    before: Managers,
    who: Manager,
    type: ResourceType,
    now: str,
    subresource: str,
) -> Managers:
    """The managers after an update by `who`, who owns what it changed besides what it owned. Raises Misfit."""
    shape = shape_of(type)
    check(old, shape, duplicates=True)
    check(new, shape, duplicates=True)
    unwritable = ignored(type, subresource)
    changed = compare(old, new, shape).without(unwritable)
    own = changed.written - NEVER_OWNED
    after = taken(settled(before, shape), changed)
    if own:
        kept = after[who].fields if who in after else FieldSet()
        after[who] = Owned(own | kept, type.api_version, now)
    return after


def empty_object(type: ResourceType) -> dict[str, Any]:
    """What a created object is compared with: one with nothing in it."""
    named = {"apiVersion": type.api_version, "kind": type.kind}
    return named if type.custom else {**empty(type.schema), **named}


def without_managers(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The object without its managedFields; shares the rest."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(obj)
    return {**obj, "metadata": {key: said for key, said in metadata.items() if key != "managedFields"}}


def keep_times(old: Mapping[str, Any], new: dict[str, Any]) -> None:
    """Give managers in `new` their old times if nothing else differs, so that a write without effect is none."""
    before, after = ((obj.get("metadata") or {}).get("managedFields") or [] for obj in (old, new))
    if len(before) != len(after) or not before:
        return
    timeless = [
        [{key: said for key, said in entry.items() if key != "time"} for entry in side] for side in (before, after)
    ]
    if same(*timeless) and same(without_managers(old), without_managers(new)):
        new["metadata"]["managedFields"] = copy(before)
