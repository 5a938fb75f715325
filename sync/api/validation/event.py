"""Event, v1 and events.k8s.io/v1 (pkg/apis/core/validation/events.go); fields are told by their names in core v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync.api.events import to_core
from sync.api.status import Cause
from sync.api.validation.fields import each_invalid, immutable, invalid, required
from sync.api.validation.metadata import metadata, metadata_update
from sync.api.validation.names import dns_subdomain, path_segment, qualified_name

Json = Mapping[str, Any]

LENGTH, NOTE = 128, 1024
"""Characters of a reason, an action or an instance; of a message."""
_FIXED = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)


def core_event(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    """Through v1: lenient, as events came before there were rules."""
    meta = obj["metadata"]
    found = _both(obj, "reportingComponent")
    if old is not None:
        return found + metadata_update(meta, old["metadata"])
    return found + metadata(meta, namespaced=True, name_rule=path_segment)


def new_event(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    """Through events.k8s.io/v1."""
    obj, old = to_core(obj), to_core(old) if old is not None else None
    meta = obj["metadata"]
    found = _both(obj, "reportingController")
    if old is not None:
        found += metadata_update(meta, old["metadata"])
        if obj.get("series") != old.get("series"):
            found += _series(obj)
        for name in _FIXED:
            said = "reportingController" if name == "reportingComponent" else name
            found += immutable(said, obj.get(name), old.get(name))
        return found
    found += metadata(meta, namespaced=True) + _series(obj)
    if not obj.get("eventTime"):
        found.append(required("eventTime"))
    if obj.get("type") not in ("Normal", "Warning"):
        found.append(invalid("type", "", f"has invalid value: {obj.get('type', '')}"))
    for name in ("firstTimestamp", "lastTimestamp", "count", "source"):
        if obj.get(name):
            found.append(invalid(name, "", "needs to be unset"))
    return found


def _series(obj: Json) -> list[Cause]:
    series = obj.get("series")
    if series is None:
        return []
    found = []
    if series.get("count", 0) < 2:
        found.append(invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        found.append(required("series.lastObservedTime"))
    return found


def _both(obj: Json, reporter: str) -> list[Cause]:
    namespace = obj["metadata"].get("namespace", "")
    about = obj.get("involvedObject", {}).get("namespace", "")
    found: list[Cause] = []
    at = "involvedObject.namespace"
    if not obj.get("eventTime"):
        if about != namespace and not (not about and namespace in ("", "default")):
            found.append(invalid(at, about, "does not match event.namespace"))
    else:
        if not about and namespace not in ("default", "kube-system"):
            found.append(invalid(at, about, "does not match event.namespace"))
        controller = obj.get("reportingComponent", "")
        if not controller:
            found.append(required(reporter))
        found += each_invalid(reporter, controller, qualified_name(controller))
        for name, limit in (("reportingInstance", LENGTH), ("action", LENGTH), ("reason", LENGTH), ("message", NOTE)):
            value = obj.get(name, "")
            if not value and name != "message":
                found.append(required(name))
            if len(value.encode()) > limit:
                found.append(invalid(name, "", f"can have at most {limit} characters"))
    return found + each_invalid("namespace", namespace, dns_subdomain(namespace))
