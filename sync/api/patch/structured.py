"""Objects field by field along their shape: check them, list fields, take fields away.

Source: structured-merge-diff v6, package typed. A null is a value; `MISSING` is none. What comes here
after `check` has a step for each element of a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sync.api.patch import fieldset
from sync.api.patch.fieldset import FieldSet, Path, Step
from sync.api.patch.shape import BOOLEAN, DEDUCED, NUMERIC, STRING, ListShape, MapShape, NoKey, Shape
from sync.api.patch.values import MISSING, Missing

_GO_TYPES = {str: "string", bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}


class Misfit(ValueError):
    """A value that does not fit its schema; the message names the field."""


def check(value: Any, shape: Shape, *, duplicates: bool = False) -> None:
    """Raise Misfit, with Kubernetes' text, if `value` is not as its shape says. `duplicates`: lists may have them."""
    faults = list(_faults(value, shape, (), duplicates=duplicates))
    if faults:
        raise Misfit(faults[0] if len(faults) == 1 else "\n".join(["errors:", *(f"  {fault}" for fault in faults)]))


def _faults(value: Any, shape: Shape, path: Path, *, duplicates: bool) -> Iterator[str]:
    kind = shape.of(value)
    if value is None:
        return
    if isinstance(kind, MapShape):
        if not isinstance(value, dict):
            yield _said(path, f"expected map, got &{{{_go(value)}}}")
            return
        for name, item in value.items():
            below = kind.at(name)
            if below is None:
                yield _said((*path, fieldset.field(name)), "field not declared in schema")
            else:
                yield from _faults(item, below, (*path, fieldset.field(name)), duplicates=duplicates)
    elif isinstance(kind, ListShape):
        yield from _list_faults(value, kind, path, duplicates=duplicates)
    elif wanted := _scalar_fault(value, kind):
        yield _said(path, wanted)


def _list_faults(value: Any, kind: ListShape, path: Path, *, duplicates: bool) -> Iterator[str]:
    if not isinstance(value, list):
        yield _said(path, f"expected list, got &{{{_go(value)}}}")
        return
    seen: set[Step] = set()
    for index, item in enumerate(value):
        step = f"i:{index}"
        if not kind.atomic:
            try:
                step = kind.step(item)
            except NoKey as error:
                yield _said(path, f"element {index}: {error}")
                return
            if step in seen and not duplicates:
                yield _said(path, f"duplicate entries for key {fieldset.path_text((step,))}")
            seen.add(step)
        yield from _faults(item, kind.element, (*path, step), duplicates=duplicates)


def _scalar_fault(value: Any, kind: str) -> str:
    if kind == NUMERIC:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        return "" if fits else f"expected numeric (int or float), got {_GO_TYPES[type(value)]}"
    if kind == STRING:
        return "" if isinstance(value, str) else f"expected string, got &value.valueUnstructured{{Value:{_go(value)}}}"
    if kind == BOOLEAN:
        return "" if isinstance(value, bool) else f"expected boolean, got &{{{_go(value)}}}"
    return f"expected any scalar, got &{{{_go(value)}}}" if isinstance(value, dict | list) else ""


def _go(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "map[" + " ".join(f"{name}:{_go(item)}" for name, item in sorted(value.items())) + "]"
    return "[" + " ".join(map(_go, value)) + "]" if isinstance(value, list) else str(value)


def _said(path: Path, message: str) -> str:
    return f"{fieldset.path_text(path)}: {message}" if path else message


def fields(value: Any, shape: Shape) -> FieldSet:
    """The fields that whoever writes `value` owns: leaves, elements of lists, empty maps and nulls."""
    found = FieldSet()
    _fields(value, shape, (), found)
    return found


def _fields(value: Any, shape: Shape, path: Path, found: FieldSet) -> None:
    kind = shape.of(value)
    if isinstance(kind, str) or kind.atomic:
        found.insert(path)
    elif isinstance(kind, MapShape) and isinstance(value, dict):
        for name, item in value.items():
            inner = (*path, fieldset.field(name))
            _fields(item, kind.at(name) or DEDUCED, inner, found)
            if item is None or item == {} or kind.named(name) is None:
                found.insert(inner)
    elif isinstance(kind, ListShape) and isinstance(value, list):
        steps = [kind.step(item) for item in value]
        counted = Counter(steps)
        for step, item in zip(steps, value, strict=True):
            if counted[step] == 1:
                _fields(item, kind.element, (*path, step), found)
            found.insert((*path, step))


def remove(value: Any, gone: FieldSet, shape: Shape) -> Any:
    """`value` without these fields; MISSING if nothing is left."""
    kind = shape.of(value)
    if isinstance(kind, str):
        return value
    if isinstance(kind, MapShape) and isinstance(value, dict) and not kind.atomic:
        made = {}
        for name, item in value.items():
            left = _remaining(item, fieldset.field(name), gone, kind.at(name) or DEDUCED)
            if left is not MISSING:
                made[name] = left
        return made or MISSING
    if isinstance(kind, ListShape) and isinstance(value, list) and not kind.atomic:
        items = (_remaining(item, kind.step(item), gone, kind.element) for item in value)
        return [item for item in items if item is not MISSING] or MISSING
    return MISSING


def _remaining(item: Any, step: Step, gone: FieldSet, shape: Shape) -> Any | Missing:
    if step in gone.members:
        return MISSING
    below = gone.below(step)
    return remove(item, below, shape) if below else item


def with_named(found: FieldSet, shape: Shape) -> FieldSet:
    """The set, and every field named in the schema that has something of it below."""
    kind = shape.map
    members, children = set(found.members), {}
    for step, child in found.children.items():
        below: Shape = DEDUCED
        if step[0] == "f" and kind is not None:
            if kind.named(step[2:]) is not None:
                members.add(step)
            below = kind.at(step[2:]) or DEDUCED
        elif step[0] == "k" and shape.list is not None:
            below = shape.list.element
        children[step] = with_named(child, below)
    return FieldSet(members, children)


def settle(found: FieldSet, shape: Shape) -> FieldSet:
    """The set with a whole owned where the schema has come to say atomic since, instead of fields below it."""
    gone, whole = FieldSet(), FieldSet()
    _settle(found, shape, (), False, gone, whole)
    return found.without(gone) | whole if whole else found


def _settle(found: FieldSet, shape: Shape, path: Path, leaf: bool, gone: FieldSet, whole: FieldSet) -> None:
    kind = shape.map or (None if shape.scalar else shape.list)
    if kind is None or _told_nothing(kind):
        return
    if kind.atomic and not leaf and found:
        gone.insert(path)
        whole.insert(path)
        return
    for step in {*found.members, *found.children}:
        if isinstance(kind, ListShape):
            below: Shape | None = kind.element
        else:
            below = kind.at(step[2:]) if step[0] == "f" else kind.element
        if below is not None:
            has_children = step in found.children
            _settle(found.below(step), below, (*path, step), step in found.members and not has_children, gone, whole)


def _told_nothing(kind: MapShape | ListShape) -> bool:
    if isinstance(kind, ListShape):
        return False
    return kind.element is DEDUCED and not (kind.schema and kind.schema.properties)
