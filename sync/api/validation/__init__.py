"""Whether an object can be: names, types, required fields, enums, what may not change; in Kubernetes' words."""

from __future__ import annotations

from typing import Any

from sync.api.registry import ResourceType
from sync.api.status import Cause


def validate(obj: dict[str, Any], old: dict[str, Any] | None, type: ResourceType, subresource: str = "") -> list[Cause]:
    """All faults of an object after prune_and_default and the strategy's preparation; of an update with `old` given,
    through `subresource` or the main endpoint."""
    raise NotImplementedError
