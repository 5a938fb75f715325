"""Where something may be made: in a namespace that is there, of a kind that stays (upstream's NamespaceLifecycle)."""

from __future__ import annotations

from typing import Any

import msgspec

from sync.api import status
from sync.api.registry import ResourceType
from sync.api.status import Cause
from sync.store import Entry, Key, Store

NAMESPACES = "namespaces"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


def admit(store: Store, type: ResourceType, namespace: str, name: str) -> None:
    """Raises ApiError: 404 for a namespace that is not there, 403 where it, or the kind, is on its way out."""
    definition = store.get(Key(DEFINITIONS, "", type.storage)) if type.custom else None
    if definition is not None and _ends(definition):
        why = "create not allowed while custom resource definition is terminating"
        raise status.forbidden(type.group_resource, name, why)
    if not namespace:
        return
    entry = store.get(Key(NAMESPACES, "", namespace))
    if entry is None:
        raise status.not_found(status.GroupResource("", NAMESPACES), namespace)
    if _ends(entry):
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        error = status.forbidden(type.group_resource, name, why)
        cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
        error.details["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field}]
        raise error


def _ends(entry: Entry) -> bool:
    if b'"deletionTimestamp"' not in entry.data:  # most are told by that, unread
        return False
    obj: dict[str, Any] = msgspec.json.decode(entry.data)
    return bool(obj["metadata"].get("deletionTimestamp"))
