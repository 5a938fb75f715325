"""Bodies: JSON and YAML to a dict, with the paths of fields that stand twice."""

from __future__ import annotations

from typing import Any


def decode(body: bytes, media_type: str) -> tuple[dict[str, Any], list[str]]:
    """An object, and the paths of duplicate fields ("spec.foo"). `media_type` is application/json or application/yaml,
    without parameters. Raises ApiError: 415 for another type, 400 for what can't be read or is no object."""
    raise NotImplementedError
