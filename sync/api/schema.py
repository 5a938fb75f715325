"""What a schema says of a value, for whoever walks an object along it: prune, default, patch, apply.

One type for both sources: definitions of Kubernetes' published OpenAPI v3 (`data/schemas.json`, without descriptions)
and a CRD's `openAPIV3Schema`. Nothing is decoded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import msgspec

DATA = Path(__file__).with_name("data")
_REFERENCE = "#/components/schemas/"


class Definitions:
    """Schemas by name, such as "io.k8s.api.core.v1.ServicePort"; each is decoded when first asked for."""

    def __init__(self, raw: Mapping[str, msgspec.Raw]) -> None:
        self._raw = raw
        self._known: dict[str, dict[str, Any]] = {}

    @classmethod
    def load(cls) -> Definitions:
        return cls(msgspec.json.decode((DATA / "schemas.json").read_bytes(), type=dict[str, msgspec.Raw]))

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._known:
            self._known[name] = msgspec.json.decode(self._raw[name])
        return self._known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._raw


NONE = Definitions({})
"""For CRDs, whose schemas refer to nothing."""


@cache
def builtin() -> Definitions:
    """Kubernetes' own."""
    return Definitions.load()


def go_name(definition: str) -> str:
    """ "v1.ServicePort" for "io.k8s.api.core.v1.ServicePort"."""
    return ".".join(definition.split(".")[-2:])


class Schema:
    """A value's schema. What a field says beside its `$ref` (default, patch strategy) wins over the definition."""

    def __init__(self, node: Mapping[str, Any], definitions: Definitions = NONE, *, custom: bool = False) -> None:
        self._written = node
        self._definitions = definitions
        self.custom = custom
        """From a CRD: defaults are applied, `null` is kept where nullable, x-kubernetes-* as structural schemas say."""

    @classmethod
    def of(cls, definitions: Definitions, name: str) -> Schema:
        """A definition by its name."""
        return cls({"$ref": _REFERENCE + name}, definitions)

    @cached_property
    def name(self) -> str:
        """The definition's name, or empty: "io.k8s.api.core.v1.ServicePort"."""
        node: Any = self._written
        if "$ref" not in node and len(node.get("allOf", ())) == 1:
            node = node["allOf"][0]
        return str(node.get("$ref", "")).removeprefix(_REFERENCE)

    @cached_property
    def node(self) -> Mapping[str, Any]:
        """The schema as JSON, references followed one step."""
        if not self.name:
            return self._written
        own = {key: value for key, value in self._written.items() if key not in ("allOf", "$ref")}
        return {**self._definitions[self.name], **own} if own else self._definitions[self.name]

    @cached_property
    def properties(self) -> Mapping[str, Schema]:
        """Fields by name; empty for maps, lists and scalars."""
        return {name: self._child(node) for name, node in self.node.get("properties", {}).items()}

    @cached_property
    def items(self) -> Schema | None:
        """The schema of a list's elements."""
        node = self.node.get("items")
        return self._child(node) if isinstance(node, dict) else None

    @cached_property
    def additional(self) -> Schema | None:
        """The schema of a map's values; an empty one where any will do."""
        node = self.node.get("additionalProperties")
        if node is True:
            return self._child({})
        return self._child(node) if isinstance(node, dict) else None

    def field(self, name: str) -> Schema | None:
        """What `name` in an object of this schema is: a field, or a map's value; None if it is unknown."""
        return self.properties.get(name) or self.additional

    @cached_property
    def type(self) -> str:
        """object, array, string, integer, number, boolean, or empty: any (IntOrString, Quantity, untyped)."""
        return str(self.node.get("type", ""))

    @cached_property
    def format(self) -> str:
        return str(self.node.get("format", ""))

    @cached_property
    def required(self) -> frozenset[str]:
        return frozenset(self.node.get("required", ()))

    @property
    def has_default(self) -> bool:
        return "default" in self.node

    @property
    def default(self) -> Any:
        """As the schema says it (not a copy). Built-in kinds' defaults are in `defaults.py`: here `{}`, `""` and `0`
        only mean that Go writes the field always; but an associative list's keys do have theirs (protocol: TCP)."""
        return self.node.get("default")

    @cached_property
    def nullable(self) -> bool:
        return bool(self.node.get("nullable", False))

    @cached_property
    def omits_zero(self) -> bool:
        """Go leaves the field out when it is empty or zero (`omitempty`, no pointer)."""
        return self.node.get("x-zero") == "omit"

    @cached_property
    def always(self) -> tuple[tuple[str, Schema], ...]:
        """The fields that Go writes even if nobody set them, as `{}`, "", 0, false or null."""
        return tuple((name, field) for name, field in self.properties.items() if field.node.get("x-zero") == "write")

    @cached_property
    def go_type(self) -> str:
        """The Go type's name in messages: int32, v1.ServiceSpec, []v1.ServicePort, map[string]string."""
        if named := self.node.get("x-go"):
            return str(named)
        if self.name:
            return go_name(self.name)
        if self.type == "array":
            return f"[]{self.items.go_type if self.items else 'interface {}'}"
        if self.type == "object":
            return f"map[string]{self.additional.go_type if self.additional else 'interface {}'}"
        if self.format == "byte":
            return "[]uint8"
        return {"integer": self.format, "boolean": "bool", "number": "float64"}.get(self.type, self.type)

    @cached_property
    def list_type(self) -> str:
        """atomic, set or map; a list whose schema says nothing is atomic."""
        return str(self.node.get("x-kubernetes-list-type", "atomic"))

    @cached_property
    def list_map_keys(self) -> tuple[str, ...]:
        return tuple(self.node.get("x-kubernetes-list-map-keys", ()))

    @cached_property
    def map_type(self) -> str:
        """granular or atomic; an object whose schema says nothing is granular."""
        return str(self.node.get("x-kubernetes-map-type", "granular"))

    @cached_property
    def patch_strategy(self) -> frozenset[str]:
        """merge, replace, retainKeys: what the field's `patchStrategy` lists (strategic merge patch)."""
        return frozenset(filter(None, str(self.node.get("x-kubernetes-patch-strategy", "")).split(",")))

    @cached_property
    def patch_merge_key(self) -> str:
        return str(self.node.get("x-kubernetes-patch-merge-key", ""))

    @cached_property
    def preserve_unknown(self) -> bool:
        """Unknown fields stay: said so, or nothing is known of the value at all (RawExtension, FieldsV1, JSON)."""
        node = self.node
        if node.get("x-kubernetes-preserve-unknown-fields"):
            return True
        return not self.custom and self.type in ("", "object") and not self.properties and self.additional is None

    @cached_property
    def int_or_string(self) -> bool:
        return bool(self.node.get("x-kubernetes-int-or-string")) or self.format == "int-or-string"

    @cached_property
    def embedded(self) -> bool:
        """A whole object with apiVersion, kind and metadata."""
        return bool(self.node.get("x-kubernetes-embedded-resource"))

    def _child(self, node: Mapping[str, Any]) -> Schema:
        return Schema(node, self._definitions, custom=self.custom and "$ref" not in node)
