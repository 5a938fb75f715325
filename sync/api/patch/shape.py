"""What a value is for merging: a scalar, a list (atomic, a set, keyed) or a map (atomic or granular), by its schema.

Source: kube-openapi's schemaconv, which makes such types of OpenAPI for kube-apiserver. A value whose schema says no
type may be each of the three; which one, the value tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from sync.api.patch import fieldset
from sync.api.registry import ResourceType
from sync.api.schema import Definitions, Schema

META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
RAW_EXTENSION = "io.k8s.apimachinery.pkg.runtime.RawExtension"
NUMERIC, STRING, BOOLEAN, UNTYPED = "numeric", "string", "boolean", "untyped"
_SCALARS = {"integer": NUMERIC, "number": NUMERIC, "boolean": BOOLEAN}


class NoKey(ValueError):
    """An element of a list that can't be told from others."""


class ListShape(NamedTuple):
    """`keys` are those of a keyed list; without them an associative list is a set."""

    element: Shape
    atomic: bool
    keys: tuple[str, ...] = ()

    def step(self, item: Any) -> fieldset.Step:
        """The step to this element. Raises NoKey."""
        if not self.keys:
            if isinstance(item, dict):
                raise NoKey("associative list without keys has an element that's a map type")
            if isinstance(item, list):
                raise NoKey("not supported: associative list with lists as elements")
            if item is None:
                raise NoKey("associative list without keys has an element that's an explicit null")
            return fieldset.value(item)
        if not isinstance(item, dict):
            what = "a null element" if item is None else "non-map elements"
            raise NoKey(f"associative list with keys may not have {what}")
        found = {name: item[name] if name in item else self._default(name) for name in self.keys}
        found = {name: said for name, said in found.items() if said is not None or name in item}
        if not found:
            names = " ".join(f'"{name}"' for name in self.keys)
            raise NoKey(
                f"associative list with keys has an element that omits all key fields [{names}] "
                "(and doesn't have default values for any key fields)"
            )
        return fieldset.key(found)

    def _default(self, name: str) -> Any:
        inner = self.element.map
        schema = inner.schema.properties.get(name) if inner and inner.schema else None
        return schema.default if schema else None


class MapShape:
    """Fields by name, then what any other key holds (`element`; None: there is no other)."""

    def __init__(
        self, schema: Schema | None, element: Shape | None, *, atomic: bool, known: Mapping[str, Shape]
    ) -> None:
        self.schema = schema
        self.element: Shape | None = element
        self.atomic = atomic
        self._known = dict(known)

    def named(self, name: str) -> Shape | None:
        """A field that the schema names."""
        if name not in self._known and self.schema is not None and name in self.schema.properties:
            self._known[name] = Shape(self.schema.properties[name])
        return self._known.get(name)

    def at(self, name: str) -> Shape | None:
        """What is at a key."""
        return self.named(name) or self.element


class Shape:
    """How the values of a schema merge; `map`, `list` and `scalar` are what such a value may be."""

    def __init__(self, schema: Schema, *, preserve: bool = False, root: bool = False) -> None:
        self._schema = schema
        self._preserve = preserve or bool(schema.node.get("x-kubernetes-preserve-unknown-fields"))
        self._whole_object = schema.custom and (root or schema.embedded)

    @cached_property
    def _open(self) -> bool:
        return not self._schema.type and self._schema.name != QUANTITY

    @cached_property
    def scalar(self) -> str:
        """numeric, string, boolean, untyped (any scalar); empty if no scalar is allowed."""
        schema = self._schema
        if schema.type in ("object", "array"):
            return ""
        if schema.type == "string":
            return STRING if schema.format in ("", "byte") else UNTYPED
        return _SCALARS.get(schema.type, UNTYPED)

    @cached_property
    def list(self) -> ListShape | None:
        schema = self._schema
        if self._schema.name == RAW_EXTENSION:
            return ANYTHING.list
        if schema.type != "array" and not self._open:
            return None
        element = self._below(schema.items) if schema.items is not None else ANYTHING
        if "x-kubernetes-list-type" in schema.node:
            return ListShape(element, schema.list_type == "atomic", schema.list_map_keys)
        if "merge" in schema.patch_strategy:
            return ListShape(element, False, (schema.patch_merge_key,) if schema.patch_merge_key else ())
        return ListShape(element, True)

    @cached_property
    def map(self) -> MapShape | None:
        schema = self._schema
        if schema.name == RAW_EXTENSION:
            return ANYTHING.map
        if schema.type != "object" and not self._open:
            return None
        if schema.additional is not None:
            element = self._below(schema.additional) if schema.additional.node else DEDUCED
        else:
            element = DEDUCED if self._preserve or not schema.properties else None
        known = {name: self._below(node) for name, node in schema.properties.items()} if self._preserve else {}
        if self._whole_object:
            known |= {"apiVersion": _text(), "kind": _text(), "metadata": _meta()}
        return MapShape(schema, element, atomic=schema.map_type == "atomic", known=known)

    def _below(self, schema: Schema) -> Shape:
        return Shape(schema, preserve=self._preserve and not schema.name)

    def of(self, value: Any) -> Kind:
        """Which of the three this value is; what it may be at first, if the value is null or fits none."""
        if isinstance(value, dict):
            if self.map is not None:
                return self.map
        elif isinstance(value, list):
            if self.list is not None:
                return self.list
        elif value is not None and self.scalar:
            return self.scalar
        return self.map or self.scalar or self.list or UNTYPED


Kind = MapShape | ListShape | str
"""A scalar is its name."""


class _Deduced(Shape):
    """Of what no schema tells: maps are merged, lists and scalars are wholes."""

    def __init__(self) -> None:
        super().__init__(Schema({}))

    @cached_property
    def list(self) -> ListShape | None:
        return ListShape(ANYTHING, True)

    @cached_property
    def map(self) -> MapShape | None:
        return MapShape(None, self, atomic=False, known={})


class _Anything(_Deduced):
    """A whole, whatever it is."""

    @cached_property
    def map(self) -> MapShape | None:
        return MapShape(None, self, atomic=True, known={})


DEDUCED = _Deduced()
ANYTHING = _Anything()


@lru_cache(1)
def _meta() -> Shape:
    return Shape(Schema.of(Definitions.load(), META))


@lru_cache(1)
def _text() -> Shape:
    return Shape(Schema({"type": "string"}))


@lru_cache(256)
def shape_of(type: ResourceType) -> Shape:
    """The shape of a kind's objects."""
    return Shape(type.schema, root=True)


def empty(schema: Schema) -> dict[str, Any]:
    """An object of a built-in kind with nothing in it, as Go writes it: fields that are always there."""
    made: dict[str, Any] = {}
    for name, field in schema.properties.items():
        if field.node.get("x-zero") != "write":
            continue
        if field.properties and field.default == {}:
            made[name] = empty(field)
        else:
            made[name] = _ZEROS.get(field.type) if not field.name else None
    return made


_ZEROS = {"string": "", "integer": 0, "number": 0, "boolean": False}
