"""An object as its kind's Go type would read and write it again: unknown fields dropped, types checked, defaults set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync.api.registry import ResourceType
from sync.api.status import ApiError


def prune_and_default(obj: dict[str, Any], type: ResourceType, *, found: list[str]) -> None:
    """In place. Paths of unknown fields ("spec.ports[0].foo") are added to `found`. Raises ApiError 400 for a value of
    the wrong type in a built-in kind (a custom one's is validate's to tell)."""
    raise NotImplementedError


def strict_error(type: ResourceType, unknown: Sequence[str], duplicate: Sequence[str]) -> ApiError:
    """400, for fieldValidation=Strict."""
    raise NotImplementedError


def warnings(unknown: Sequence[str], duplicate: Sequence[str]) -> list[str]:
    """The texts of Warning headers, for fieldValidation=Warn."""
    raise NotImplementedError
