"""meta.k8s.io/v1 Table: the columns that kubectl prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sync.api.duration import ago
from sync.api.events import to_core
from sync.api.json_path import find
from sync.api.printing import PRINTERS, Cell
from sync.api.registry import Column, ResourceType

Json = dict[str, Any]

METADATA, OBJECT, NONE = "Metadata", "Object", "None"


class _Column(NamedTuple):
    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


def table(
    type: ResourceType,
    objects: Sequence[Json],
    version: str = "v1",
    include_object: str = METADATA,
    *,
    now: float,
    headers: bool = True,
) -> Json:
    """A Table of `objects` without the list's metadata, which the caller adds. `include_object` is Metadata, Object or
    None; `now` in seconds since 1970, for ages; `headers` False leaves columnDefinitions empty, as watches' later
    events do."""
    columns, cells = _shape(type, now)
    rows = []
    for each in objects:
        row: Json = {"cells": cells(each), "object": _shown(each, include_object, version)}
        if type.kind == "Pod" and (condition := _ended(each)):
            row["conditions"] = [condition]
        if row["object"] is None:
            del row["object"]
        rows.append(row)
    definitions = [column._asdict() for column in columns] if headers else []
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {},
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _shape(type: ResourceType, now: float) -> tuple[Sequence[_Column], Callable[[Json], list[Cell]]]:
    if type.custom:
        return _custom(type.columns, now)
    if printer := PRINTERS.get(type.kind):
        columns = [
            _Column(name, format="name" if name == "Name" else "", priority=wide) for name, wide in printer.columns
        ]
        if type.group == "events.k8s.io":
            return columns, lambda obj: printer.cells(to_core(obj), now)
        return columns, lambda obj: printer.cells(obj, now)
    columns = [_Column("Name", format="name"), _Column("Created At", "date")]
    return columns, lambda obj: [obj["metadata"].get("name"), obj["metadata"].get("creationTimestamp")]


def _custom(columns: Sequence[Column], now: float) -> tuple[Sequence[_Column], Callable[[Json], list[Cell]]]:
    shown = columns or (Column("Age", "date", ".metadata.creationTimestamp"),)
    definitions = [_Column("Name", format="name")]
    definitions += [_Column(each.name, each.type, each.format, each.priority, each.description) for each in shown]

    def cells(obj: Json) -> list[Cell]:
        return [obj["metadata"].get("name"), *(_cell(obj, each, now) for each in shown)]

    return definitions, cells


def _cell(obj: Json, column: Column, now: float) -> Cell:
    """A custom column's value; null where there is none, or one of another type than the column says."""
    values = find(obj, column.json_path)
    if not values:
        return None
    value = values[0] if len(values) == 1 else values
    match column.type:
        case "integer":
            return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "number":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return ago(value, now) if isinstance(value, str) else "<unknown>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        import msgspec

        return msgspec.json.encode(value).decode()
    return None if value is None else str(value)


def _shown(obj: Json, include: str, version: str) -> Json | None:
    if include == OBJECT:
        return obj
    return partial(obj, version) if include == METADATA else None


def partial(obj: Mapping[str, Any], version: str = "v1") -> Json:
    """PartialObjectMetadata: an object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj["metadata"],
    }


def _ended(pod: Json) -> Json | None:
    phase = pod.get("status", {}).get("phase")
    if phase not in ("Succeeded", "Failed"):
        return None
    message = {
        "Succeeded": "The pod has completed successfully.",
        "Failed": "The pod failed.",
    }
    return {"type": "Completed", "status": "True", "reason": phase, "message": message[phase]}
