"""An object in the version that is asked for, from the version that is stored, and back.

Versions of a custom kind differ in `apiVersion` alone. Events are served by two groups which name their fields
differently; stored are core ones. What needs no change is handed on as the bytes that it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sync.api import status
from sync.api.registry import ResourceType

MAX_OBJECT = 1536 * 1024
"""Bytes of an object's JSON (etcd's limit of a request)."""

_EVENT_FIELDS = {  # core v1: events.k8s.io/v1
    "reportingComponent": "reportingController",
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_CORE_FIELDS = {new: core for core, new in _EVENT_FIELDS.items()}


def head(type: ResourceType) -> bytes:
    """How the JSON of a stored object begins that needs no conversion."""
    return f'{{"kind":"{type.kind}","apiVersion":"{type.api_version}",'.encode()


def show(type: ResourceType, data: bytes) -> bytes:
    """A stored object's JSON as `type`'s version has it."""
    return data if data.startswith(head(type)) else msgspec.json.encode(_shown(type, msgspec.json.decode(data)))


def read(type: ResourceType, data: bytes) -> dict[str, Any]:
    """The same as a dict of one's own."""
    return _shown(type, msgspec.json.decode(data))


def write(type: ResourceType, obj: dict[str, Any], revision: int) -> bytes:
    """An object's JSON as it is stored, with `revision` as its resourceVersion. Raises ApiError for a large one."""
    obj["metadata"]["resourceVersion"] = str(revision)
    data = msgspec.json.encode(_stored(type, obj))
    if len(data) > MAX_OBJECT:
        raise status.too_large(MAX_OBJECT)
    return data


def _shown(type: ResourceType, stored: dict[str, Any]) -> dict[str, Any]:
    if stored.get("apiVersion") == type.api_version:
        return stored
    if type.group == "events.k8s.io":
        stored = _renamed(stored, _EVENT_FIELDS)
    return {**stored, "kind": type.kind, "apiVersion": type.api_version}


def _stored(type: ResourceType, obj: dict[str, Any]) -> dict[str, Any]:
    version = type.api_version
    if type.group == "events.k8s.io":
        obj, version = _renamed(obj, _CORE_FIELDS), "v1"
    elif type.custom:
        version = f"{type.group}/{type.storage_version}"
    first = {"kind": type.kind, "apiVersion": version, "metadata": obj["metadata"]}
    return {**first, **{name: value for name, value in obj.items() if name not in first}}


def _renamed(obj: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in obj.items()}
