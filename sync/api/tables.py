"""meta.k8s.io/v1 Table: the columns that kubectl prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync.api.registry import ResourceType


def table(
    type: ResourceType,
    objects: Sequence[dict[str, Any]],
    version: str = "v1",
    include_object: str = "Metadata",
    *,
    now: float,
    headers: bool = True,
) -> dict[str, Any]:
    """A Table of `objects` without the list's metadata, which the caller adds. `include_object` is Metadata, Object or
    None; `now` in seconds since 1970, for ages; `headers` False leaves columnDefinitions empty, as watches' later
    events do."""
    raise NotImplementedError
