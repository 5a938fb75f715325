"""Two objects field by field along their shape: what differs, and one put over the other.

Source: structured-merge-diff v6, package typed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from sync.api.patch import fieldset
from sync.api.patch.fieldset import FieldSet, Path, Step
from sync.api.patch.shape import DEDUCED, Kind, ListShape, MapShape, Shape
from sync.api.patch.values import MISSING, copy, same


class Comparison(NamedTuple):
    """What is other in the second of two objects."""

    removed: FieldSet
    modified: FieldSet
    added: FieldSet

    def without(self, ignored: FieldSet) -> Comparison:
        return Comparison(*(each.without(ignored) for each in self)) if ignored else self

    @property
    def written(self) -> FieldSet:
        return self.modified | self.added


def compare(old: Any, new: Any, shape: Shape) -> Comparison:
    """What changes from `old` to `new`."""
    found = Comparison(FieldSet(), FieldSet(), FieldSet())
    _compare(old, new, shape, (), found)
    return found


def _compare(old: Any, new: Any, shape: Shape, path: Path, found: Comparison) -> None:
    before = None if old is MISSING else shape.of(old)
    after = None if new is MISSING else shape.of(new)
    if before is not None and after is not None and before is not after and before != after:
        _compare_as(before, old, new, path, found)
    kind = after if after is not None else before
    assert kind is not None
    leaf = _compare_as(kind, old, new, path, found)
    if not leaf and old is MISSING:
        found.added.insert(path)
    elif not leaf and new is MISSING:
        found.removed.insert(path)


def _compare_as(kind: Kind, old: Any, new: Any, path: Path, found: Comparison) -> bool:
    """Compare two values as this kind of value; whether they were compared as wholes."""
    before, after = _inside(kind, old), _inside(kind, new)
    if isinstance(kind, str) or kind.atomic or not (before or after):
        if old is MISSING:
            found.added.insert(path)
        elif new is MISSING:
            found.removed.insert(path)
        elif not same(old, new):
            found.modified.insert(path)
        return True
    if isinstance(kind, MapShape):
        for name in {**before, **after}:
            below = kind.at(name) or DEDUCED
            _compare(before.get(name, MISSING), after.get(name, MISSING), below, (*path, fieldset.field(name)), found)
    else:
        _compare_lists(kind, before, after, path, found)
    return False


def _inside(kind: Kind, value: Any) -> Any:
    """A value as a map or list of this kind: an empty one where it is something else."""
    wanted: type[Any] = dict if isinstance(kind, MapShape) else list
    return value if isinstance(value, wanted) else wanted()


def _compare_lists(kind: ListShape, old: list[Any], new: list[Any], path: Path, found: Comparison) -> None:
    before, after = _by_step(kind, old), _by_step(kind, new)
    for step in {**before, **after}:
        inner = (*path, step)
        lefts, rights = before.get(step, []), after.get(step, [])
        if len(lefts) < 2 and len(rights) < 2:
            left, right = (values[0] if values else MISSING for values in (lefts, rights))
            _compare(left, right, kind.element, inner, found)
        elif len(lefts) > 1 and len(rights) > 1:
            if not same(lefts, rights):
                found.modified.insert(inner)
        elif len(lefts) > 1:
            if rights:
                _compare(MISSING, rights[0], kind.element, inner, found)
            found.removed.insert(inner)
        else:
            if lefts:
                _compare(lefts[0], MISSING, kind.element, inner, found)
            found.added.insert(inner)


def _by_step(kind: ListShape, values: list[Any]) -> dict[Step, list[Any]]:
    found: dict[Step, list[Any]] = {}
    for value in values:
        found.setdefault(kind.step(value), []).append(value)
    return found


def merge(live: Any, applied: Any, shape: Shape) -> Any:
    """`live` with what `applied` says put over it, a copy. MISSING if nothing is left."""
    kind = shape.of(live if applied is MISSING else applied)
    if not isinstance(kind, str) and not kind.atomic:
        before, after = _inside(kind, live), _inside(kind, applied)
        if before or after:
            return _merge_maps(kind, before, after) if isinstance(kind, MapShape) else _merge_lists(kind, before, after)
    return copy(live if applied is MISSING else applied)


def _merge_maps(kind: MapShape, live: dict[str, Any], applied: dict[str, Any]) -> Any:
    made = {}
    for name in {**live, **applied}:
        value = merge(live.get(name, MISSING), applied.get(name, MISSING), kind.at(name) or DEDUCED)
        if value is not MISSING:
            made[name] = value
    return made or MISSING


def _merge_lists(kind: ListShape, live: list[Any], applied: list[Any]) -> Any:
    """Elements of `applied` in their order; those of `live` alone keep their place after the one that they follow."""
    old, new = [kind.step(item) for item in live], [kind.step(item) for item in applied]
    counted = Counter(old)
    lefts = dict(zip(old, live, strict=True))
    rights = dict(zip(new, applied, strict=True))
    shared = iter([step for step in new if step in lefts])
    next_shared = next(shared, None)
    made: list[Any] = []
    taken: set[Step] = set()

    def put(left: Any, right: Any) -> None:
        value = merge(left, right, kind.element)
        if value is not MISSING:
            made.append(value)

    def left_of(step: Step) -> Any:
        return None if counted[step] > 1 else lefts.get(step, MISSING)

    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new):
            if old[i] == new[j]:
                taken.add(old[i])
                put(left_of(old[i]), rights[new[j]])
                i, j, next_shared = i + 1, j + 1, next(shared, None)
                continue
            if old[i] in rights and next_shared is not None and next_shared != old[i]:
                i += 1
                continue
        if i < len(old):
            if old[i] not in rights:
                put(live[i], MISSING)
                i += 1
                continue
            if old[i] in taken:
                i += 1
        if j < len(new):
            taken.add(new[j])
            put(left_of(new[j]), rights[new[j]])
            if new[j] == next_shared:
                next_shared = next(shared, None)
            j += 1
    return made or MISSING
