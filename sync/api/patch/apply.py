"""Server-side apply: a configuration merged into an object, with the ownership of its fields.

Source: structured-merge-diff v6 (`merge/update.go`) and apimachinery's `util/managedfields`, v0.34. Other than there,
all managers are compared in the version of the request: kinds that are served in several differ in `apiVersion` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sync.api import status
from sync.api.patch import managers as owners
from sync.api.patch.fieldset import BadFields, FieldSet, Path, path_text
from sync.api.patch.managers import APPLY, UPDATE, Manager, Managers, Owned
from sync.api.patch.merging import Comparison, compare, merge
from sync.api.patch.ownership import NEVER_OWNED, empty_object, ignored, settled, taken, updated, without_managers
from sync.api.patch.shape import Shape, shape_of
from sync.api.patch.structured import Misfit, check, fields, remove, with_named
from sync.api.patch.values import MISSING, copy, same
from sync.api.registry import ResourceType
from sync.api.status import ApiError, Cause

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MOST_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of an object."""
BEFORE_FIRST_APPLY = "before-first-apply"
_KUBECTL = "kubectl"


def server_side_apply(
    live: Mapping[str, Any] | None,
    applied: Mapping[str, Any],
    manager: str,
    force: bool,
    type: ResourceType,
    now: str,
    *,
    subresource: str = "",
) -> dict[str, Any]:
    """The object with what `applied` says, fields taken away that this manager applied before and nobody else owns, and
    managedFields. Defaults are not set, unknown fields are refused. `live` None: it is made.

    An apply that changes nothing gives the live object, its times as they were. Raises ApiError: 409 with a cause for
    each field that another manager owns with another value (not if `force`), 400 for what can't be applied.
    """
    _check_applied(applied, type)
    try:
        made, after = _apply(live, applied, manager, force, type, now, subresource)
    except RecursionError:
        raise status.bad_request("the object is too deeply nested") from None
    owners.put(made, after)
    if manager == _KUBECTL:
        _keep_last_applied(made, applied)
    return made


def _check_applied(applied: Mapping[str, Any], type: ResourceType) -> None:
    said = applied.get("apiVersion"), applied.get("kind")
    if said != (type.api_version, type.kind):
        version = said[0] if isinstance(said[0], str) else ""
        group_version = version if "/" in version else f"/{version}"
        raise status.bad_request(f"invalid object type: {group_version}, Kind={said[1] or ''}")
    metadata = applied.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("managedFields") is not None:
        raise status.bad_request("metadata.managedFields must be nil")


def _apply(
    live: Mapping[str, Any] | None,
    applied: Mapping[str, Any],
    name: str,
    force: bool,
    type: ResourceType,
    now: str,
    subresource: str,
) -> tuple[dict[str, Any], Managers]:
    shape = shape_of(type)
    before = _managers(live)
    current = without_managers(live) if live else {"apiVersion": type.api_version, "kind": type.kind}
    _fit(applied, shape, type, "patch")
    _fit(current, shape, type, "live", duplicates=True)
    if not before:
        first = owners.manager(BEFORE_FIRST_APPLY, UPDATE, type.api_version, subresource)
        before = updated(empty_object(type), current, {}, first, type, now, subresource)
    before = settled(before, shape)
    who = owners.manager(name, APPLY, type.api_version, subresource)
    unwritable = ignored(type, subresource)
    last = before.get(who)
    own = fields(applied, shape).without(unwritable)
    after = {**before, who: Owned(own, type.api_version, last.time if last else "")}
    made = merge(current, applied, shape)
    if last is not None and last.fields:
        made = _pruned(made, last.fields, after, shape)
    changed = compare(current, made, shape).without(unwritable)
    conflicts = _conflicts(after, changed, who)
    if conflicts and not force and not _only_last_applied(conflicts, name, current, shape, type):
        raise _conflict_error(conflicts)
    after = taken(after, changed, who)
    effective = live is None or not same(made, current)
    own -= NEVER_OWNED
    if own:
        after[who] = after[who]._replace(fields=own, time=now if effective else after[who].time)
    else:
        after.pop(who, None)
    return made if effective else copy(current), after


def _managers(live: Mapping[str, Any] | None) -> Managers:
    entries = ((live or {}).get("metadata") or {}).get("managedFields")
    try:
        return owners.decode(entries) if entries else {}
    except BadFields as error:
        raise status.bad_request(f"failed to decode managed fields: {error}") from error


def _fit(obj: Any, shape: Shape, type: ResourceType, what: str, *, duplicates: bool = False) -> None:
    try:
        check(obj, shape, duplicates=duplicates)
    except Misfit as error:
        metadata = obj.get("metadata")
        metadata = metadata if isinstance(metadata, Mapping) else {}
        place = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {type.group}/{type.version}"
        raise status.bad_request(
            f"failed to create typed {what} object ({place}, Kind={type.kind}): {error}"
        ) from error


def _pruned(merged: dict[str, Any], last: FieldSet, managers: Managers, shape: Shape) -> dict[str, Any]:
    """Take away what the manager applied `last` and nobody owns now, but nothing that another's fields are in."""
    held = with_named(last, shape)
    pruned = remove(merged, held, shape)
    owned = FieldSet()
    for each in managers.values():
        owned |= each.fields
    there = with_named(fields(merged, shape), shape)

    def left(value: Any) -> FieldSet:
        return with_named(fields(value, shape), shape) if value is not MISSING else FieldSet()

    pruned = remove(merged, there - (left(pruned) | with_named(owned, shape)), shape)
    kept = remove(merged, (there - left(pruned)) & held, shape)
    return kept if isinstance(kept, dict) else {}


def _conflicts(managers: Managers, changed: Comparison, who: Manager) -> list[tuple[Manager, Path]]:
    found = ((other, owned.fields & changed.written) for other, owned in managers.items() if other != who)
    return [(other, path) for other, common in sorted(found, key=lambda item: item[0]) for path in common]


def _conflict_error(conflicts: list[tuple[Manager, Path]]) -> ApiError:
    causes = [Cause(path_text(path), "FieldManagerConflict", f"conflict with {who}") for who, path in conflicts]
    if len(conflicts) == 1:
        return status.apply_conflict(f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}", causes)
    lines: list[str] = []
    for who in dict.fromkeys(who for who, _ in conflicts):
        lines += [f"conflicts with {who}:", *(f"- {path_text(path)}" for other, path in conflicts if other == who)]
    return status.apply_conflict(f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines), causes)


def _only_last_applied(
    conflicts: list[tuple[Manager, Path]], name: str, live: Mapping[str, Any], shape: Shape, type: ResourceType
) -> bool:
    """Whether kubectl itself wrote these fields, by client-side apply, and nobody changed them since."""
    text = _annotations(live).get(LAST_APPLIED)
    if name != _KUBECTL or not isinstance(text, str) or not text:
        return False
    try:
        last = msgspec.json.decode(text, type=dict[str, Any])
        check(last, shape)
    except (msgspec.DecodeError, Misfit, RecursionError):
        return False
    if last.get("apiVersion") != type.api_version:
        return False
    changed = compare(last, live, shape)
    own = fields(last, shape) - changed.written - changed.removed
    return all(path in own for _, path in conflicts)


def _keep_last_applied(made: dict[str, Any], applied: Mapping[str, Any]) -> None:
    """Keep kubectl's annotation in step, so that client-side apply can follow; without it, if it gets too large."""
    annotations = _annotations(made)
    if not annotations.get(LAST_APPLIED):
        return
    said = copy(dict(applied))
    if isinstance(_annotations(said), dict):
        _annotations(said).pop(LAST_APPLIED, None)
    annotations[LAST_APPLIED] = msgspec.json.encode(said, order="sorted").decode() + "\n"
    if sum(len(str(key).encode()) + len(str(text).encode()) for key, text in annotations.items()) > MOST_ANNOTATIONS:
        del annotations[LAST_APPLIED]


def _annotations(obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = obj.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return found if isinstance(found, dict) else {}
