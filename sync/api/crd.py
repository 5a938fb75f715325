"""Custom resource definitions: the kinds that they serve, and the conditions of the definition itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sync.api.registry import ResourceType


def resource_types(crd: Mapping[str, Any]) -> tuple[ResourceType, ...]:
    """The served versions of an established definition, preferred first; none of one that is not established."""
    raise NotImplementedError


def accept(crd: dict[str, Any], others: Iterable[Mapping[str, Any]], now: str) -> None:
    """In place: status.acceptedNames, storedVersions and the conditions NamesAccepted and Established, as they are with
    the `others` there; what is so already keeps its time. Called after each write of a definition. `now` is RFC 3339."""
    raise NotImplementedError
