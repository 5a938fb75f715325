"""Events of both groups are one object: stored as core v1's, served by events.k8s.io/v1 with other names.

The names are those of Kubernetes' conversion (pkg/apis/events/v1/conversion.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NEW_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
"""By core v1's names."""
_CORE_NAMES = {new: core for core, new in _NEW_NAMES.items()}


def to_core(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event of events.k8s.io/v1 as it is stored."""
    return {_CORE_NAMES.get(name, name): value for name, value in event.items()} | {"apiVersion": "v1"}


def to_new(event: Mapping[str, Any]) -> dict[str, Any]:
    """A stored event as events.k8s.io/v1 shows it."""
    return {_NEW_NAMES.get(name, name): value for name, value in event.items()} | {"apiVersion": "events.k8s.io/v1"}
