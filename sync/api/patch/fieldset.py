"""Sets of fields of an object: what a manager owns, what changed; and their JSON form, FieldsV1.

A field's path is a tuple of steps. A step is its own text in FieldsV1: `f:NAME` a field, `k:{…}` the element of a list
with these keys, `v:VALUE` the element of a set, `i:N` an index. Source: structured-merge-diff v6, package fieldpath.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

Step = str
Path = tuple[Step, ...]
DEEPEST = 200
"""Steps of a path; deeper ones are no object's."""


class BadFields(ValueError):
    """FieldsV1 that is none."""


class FieldSet:
    """A tree of steps. `members` are in the set themselves, `children` are what is in it below a step.

    Sets are values: no operation but `insert` changes one, and results may share branches.
    """

    __slots__ = ("children", "members")

    def __init__(
        self, members: frozenset[Step] | set[Step] = frozenset(), children: dict[Step, FieldSet] | None = None
    ):
        self.members = set(members)
        self.children = children or {}

    @classmethod
    def of(cls, *paths: Path) -> FieldSet:
        """The set of these paths."""
        made = cls()
        for path in paths:
            made.insert(path)
        return made

    def insert(self, path: Path) -> None:
        """Add a path; the empty one, the whole object, is never owned."""
        if not path:
            return
        node = self
        for step in path[:-1]:
            node = node.children.setdefault(step, FieldSet())
        node.members.add(path[-1])

    def __bool__(self) -> bool:
        return bool(self.members) or any(self.children.values())

    def __contains__(self, path: Path) -> bool:
        node = self
        for step in path[:-1]:
            if step not in node.children:
                return False
            node = node.children[step]
        return bool(path) and path[-1] in node.members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSet) and set(self) == set(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"FieldSet({', '.join(map(path_text, self))})"

    def __iter__(self) -> Iterator[Path]:
        """All paths: at each level members, then what is below, each in the order of steps."""
        for step in sorted(self.members, key=_order):
            yield (step,)
        for step in sorted(self.children, key=_order):
            for path in self.children[step]:
                yield (step, *path)

    def __or__(self, other: FieldSet) -> FieldSet:
        children = dict(self.children)
        for step, child in other.children.items():
            children[step] = children[step] | child if step in children else child
        return FieldSet(self.members | other.members, children)

    def __and__(self, other: FieldSet) -> FieldSet:
        common = (
            (step, child & other.children[step]) for step, child in self.children.items() if step in other.children
        )
        return FieldSet(self.members & other.members, {step: child for step, child in common if child})

    def __sub__(self, other: FieldSet) -> FieldSet:
        return self._without(other, whole=False)

    def without(self, other: FieldSet) -> FieldSet:
        """`self` less the paths of `other` and all that is below them."""
        return self._without(other, whole=True)

    def _without(self, other: FieldSet, *, whole: bool) -> FieldSet:
        children = {}
        for step, child in self.children.items():
            if whole and step in other.members:
                continue
            left = child._without(other.children[step], whole=whole) if step in other.children else child
            if left:
                children[step] = left
        return FieldSet(self.members - other.members, children)

    def below(self, step: Step) -> FieldSet:
        """What is in the set below a step."""
        return self.children.get(step) or FieldSet()

    def encode(self) -> dict[str, Any]:
        """The set as FieldsV1."""
        document: dict[str, Any] = {}
        for step in sorted({*self.members, *self.children}, key=_order):
            child = self.children.get(step)
            inside = child.encode() if child is not None else {}
            document[step] = {".": {}, **inside} if inside and step in self.members else inside
        return document

    @classmethod
    def decode(cls, document: Any) -> FieldSet:
        """The set that FieldsV1 says. Raises BadFields."""
        return _decode(document, 0)[0]


def _decode(document: Any, depth: int) -> tuple[FieldSet, bool]:
    if not isinstance(document, Mapping) or depth > DEEPEST:
        raise BadFields(f"fieldsV1 must be an object, at most {DEEPEST} deep")
    found, member = FieldSet(), False
    for text, inside in document.items():
        if text == ".":
            member = True
            continue
        step = canonical(text)
        if step is None:
            continue
        child, is_member = _decode(inside, depth + 1)
        if is_member:
            found.members.add(step)
        if child:
            found.children[step] = child
    return found, member or not (found.members or found.children)


def field(name: str) -> Step:
    """The step to a field of a map."""
    return f"f:{name}"


def value(element: Any) -> Step:
    """The step to an element of a set."""
    return f"v:{_json(element)}"


def key(keys: Mapping[str, Any]) -> Step:
    """The step to the element of a list with these keys."""
    return f"k:{_json(keys)}"


@lru_cache(4096)
def canonical(text: str) -> Step | None:
    """A step of FieldsV1 as this module writes it; None for a kind of step not known. Raises BadFields."""
    if len(text) < 2 or text[1] != ":":
        raise BadFields(f"missing colon: {text}")
    kind, rest = text[0], text[2:]
    if kind == "f":
        return text
    if kind not in "kvi":
        return None
    try:
        said = json.loads(rest)
    except (ValueError, RecursionError) as error:
        raise BadFields(f"{text}: {error}") from error
    if kind == "k" and isinstance(said, dict):
        return key(said)
    if kind == "v":
        return value(said)
    if kind == "i" and type(said) is int:
        return f"i:{said}"
    raise BadFields(f"no step of a path: {text}")


def path_text(path: Path) -> str:
    """A path as messages say it: `.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(_step_text, path))


def _step_text(step: Step) -> str:
    kind, rest = step[0], step[2:]
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        return "[" + ",".join(f"{name}={_json(said)}" for name, said in json.loads(rest).items()) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"


@lru_cache(4096)
def _order(step: Step) -> tuple[Any, ...]:
    """Fields, then keyed elements, then values, then indexes; numbers by value."""
    kind, rest = step[0], step[2:]
    if kind == "f":
        return (0, rest)
    said = json.loads(rest)
    if kind == "k":
        return (1, [(name, *_rank(item)) for name, item in said.items()])
    return (2, *_rank(said)) if kind == "v" else (3, said)


def _rank(said: Any) -> tuple[int, Any]:
    if isinstance(said, bool):
        return (2, said)
    if isinstance(said, int | float):
        return (0, said)
    return (1, said) if isinstance(said, str) else (3, _json(said))


def _json(said: Any) -> str:
    """JSON with sorted keys, whole numbers without a point, and Go's escapes for HTML."""
    text = json.dumps(_whole(said), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _whole(said: Any) -> Any:
    if isinstance(said, dict):
        return {name: _whole(item) for name, item in said.items()}
    if isinstance(said, list):
        return [_whole(item) for item in said]
    return int(said) if isinstance(said, float) and said.is_integer() else said
