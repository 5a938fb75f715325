"""A custom resource's own pruning and defaults, by its structural schema (apiextensions-apiserver `schema`)."""

from __future__ import annotations

import copy
from typing import Any

from sync.api.schema import Schema


def prune_custom(obj: dict[str, Any], schema: Schema, path: str, found: list[str]) -> None:
    """A whole object: apiVersion, kind and metadata are known without being in the schema."""
    own: dict[str, Any] = {name: obj.pop(name) for name in ("apiVersion", "kind", "metadata") if name in obj}
    _prune(obj, schema, path, found)
    obj |= own


def _prune(value: Any, schema: Schema, path: str, found: list[str]) -> None:
    """What the schema doesn't know goes, and is told."""
    if isinstance(value, list):
        if schema.items:
            for index, each in enumerate(value):
                _prune_below(each, schema.items, f"{path}[{index}]", found)
        return
    if not isinstance(value, dict):
        return
    for name in list(value):
        here = f"{path}.{name}" if path else name
        below = schema.field(name)
        if below is not None:
            _prune_below(value[name], below, here, found)
        elif not schema.preserve_unknown:
            found.append(here)
            del value[name]


def _prune_below(value: Any, schema: Schema, path: str, found: list[str]) -> None:
    if schema.embedded and isinstance(value, dict):
        prune_custom(value, schema, path, found)
    else:
        _prune(value, schema, path, found)


def default_custom(value: Any, schema: Schema) -> None:
    """In place: a CRD's defaults. A `null` that the schema doesn't allow counts as absent."""
    if isinstance(value, list):
        if schema.items:
            for each in value:
                default_custom(each, schema.items)
        return
    if not isinstance(value, dict):
        return
    for name, field in schema.properties.items():
        if name in value and value[name] is None and not field.nullable:
            del value[name]
        if field.has_default and name not in value:
            value[name] = copy.deepcopy(field.default)
        if name in value:
            default_custom(value[name], field)
    if schema.additional:
        for name, each in value.items():
            if name not in schema.properties:
                default_custom(each, schema.additional)
