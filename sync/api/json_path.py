"""The part of JSONPath that printer columns use (client-go `util/jsonpath`).

`.spec.replicas`, `.metadata.labels.app\\.kubernetes\\.io/name`, `.list[0].x`, `.list[*].x`, `['a key']` and
`.conditions[?(@.type=="Ready")].status`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

_STEP = re.compile(
    r"\.?\[\?\(@((?:\.[\w-]+)+)\s*(==|!=)\s*(?:\"([^\"]*)\"|'([^']*)'|([\w.-]+))\)\]"
    r"|\.?\[(\*|-?\d+|'[^']*'|\"[^\"]*\")\]"
    r"|\.(\*|(?:\\.|[^.\[\]\\])+)"
)

_LONGEST = 4096


class Step(NamedTuple):
    """One step: a field, an index, all of them, or those that a field's value picks."""

    field: str = ""
    place: int | None = None
    every: bool = False
    where: tuple[str, ...] = ()
    equal: bool = True
    value: str = ""


@lru_cache(maxsize=256)
def parse(path: str) -> tuple[Step, ...]:
    """Raises ValueError with the place that can't be read."""
    path = path.removeprefix("{").removesuffix("}").removeprefix("$")
    if len(path) > _LONGEST:
        raise ValueError(f"can't read a path of more than {_LONGEST} characters")
    steps: list[Step] = []
    place = 0
    while place < len(path):
        found = _STEP.match(path, place)
        if not found:
            raise ValueError(f"can't read {path[place:]!r}")
        where, operator, double, single, bare, bracket, field = found.groups()
        if where is not None:
            value = next(each for each in (double, single, bare, "") if each is not None)
            steps.append(Step(where=tuple(where[1:].split(".")), equal=operator == "==", value=value))
        elif bracket is not None:
            steps.append(_bracket(bracket))
        else:
            steps.append(Step(every=True) if field == "*" else Step(field=re.sub(r"\\(.)", r"\1", field)))
        place = found.end()
    return tuple(steps)


def find(value: Any, path: str) -> list[Any]:
    """All values at a path; none if the path can't be read."""
    try:
        steps = parse(path)
    except ValueError:
        return []
    found = [value]
    for step in steps:
        found = [below for each in found for below in _below(each, step)]
    return found


def _bracket(text: str) -> Step:
    if text == "*":
        return Step(every=True)
    return Step(field=text[1:-1]) if text[0] in "'\"" else Step(place=int(text))


def _below(value: Any, step: Step) -> list[Any]:
    if step.every:
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if step.where:
        return [each for each in value if _picked(each, step)] if isinstance(value, list) else []
    if step.place is not None:
        fits = isinstance(value, list) and -len(value) <= step.place < len(value)
        return [value[step.place]] if fits else []
    return [value[step.field]] if isinstance(value, dict) and step.field in value else []


def _picked(value: Any, step: Step) -> bool:
    for name in step.where:
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    text = {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return (text == step.value) is step.equal
