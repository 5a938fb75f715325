"""A custom resource against its schema, in the words of kube-openapi's validator.

jsonschema-rs finds the faults (draft 4, as OpenAPI 3.0; regular expressions in linear time). As upstream since 1.33, an
update may keep a value that was there before the schema forbade it. Rules in CEL are not evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from sync.api.registry import ResourceType
from sync.api.schema import Schema
from sync.api.status import Cause
from sync.api.validation.fields import (
    duplicate,
    invalid,
    not_supported,
    required,
    shown,
    too_long,
    too_many,
    type_invalid,
)
from sync.api.validation.metadata import metadata, metadata_update

if TYPE_CHECKING:
    import jsonschema_rs

FORMATS = frozenset(("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"))
"""Of those that Kubernetes checks; others are let through, as there."""
_NESTED = ("allOf", "anyOf", "oneOf")
_WHOLE = "<nil>"
"""The field of a fault that upstream gives no field."""

Json = Mapping[str, Any]


def custom_object(obj: Json, old: Json | None, type: ResourceType, subresource: str) -> list[Cause]:
    meta = obj["metadata"]
    found = metadata(meta, namespaced=type.namespaced) if old is None else metadata_update(meta, old["metadata"])
    found += against_schema({name: value for name, value in obj.items() if name != "metadata"}, old, type.schema)
    return found + list(_lists(obj, type.schema, ""))


def against_schema(value: Any, old: Any, schema: Schema) -> list[Cause]:
    """Faults of a value; with `old`, only of what has changed."""
    found: list[Cause] = []
    for error in _validator(schema).iter_errors(value):
        if old is None or not _kept(value, old, error.instance_path):
            found += _causes(error)
    return found


def compiled(node: Json) -> jsonschema_rs.Draft4Validator:
    """The validator of an openAPIV3Schema. Raises ValueError for a schema that can't be, such as a wrong pattern."""
    import jsonschema_rs

    return jsonschema_rs.Draft4Validator(
        _draft4(node),
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(),
    )


@lru_cache(maxsize=128)
def _validator(schema: Schema) -> jsonschema_rs.Draft4Validator:
    return compiled(schema.node)


def _draft4(node: Json) -> dict[str, Any]:
    """OpenAPI's own words said in draft 4's; metadata, which has its own rules, left out."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        match name:
            case "properties":
                found[name] = {key: _draft4(each) for key, each in value.items() if "$ref" not in each}
            case "items" | "not":
                found[name] = _draft4(value) if isinstance(value, dict) else value
            case "additionalProperties":
                found[name] = _draft4(value) if isinstance(value, dict) else value
            case "allOf" | "anyOf" | "oneOf":
                found[name] = [_draft4(each) for each in value]
            case "format":
                if value in FORMATS:
                    found[name] = value
            case "type" | "required" | "enum" | "pattern" | "uniqueItems" | "multipleOf":
                found[name] = value
            case _ if name.startswith(("min", "max", "exclusive")):
                found[name] = value
    if not found.get("required", True):
        del found["required"]
    if node.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if node.get("nullable") and "type" in found:
        types = found["type"]
        found["type"] = [*(types if isinstance(types, list) else [types]), "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    return found


def _kept(value: Any, old: Any, path: Sequence[str | int]) -> bool:
    try:
        for part in path:
            value, old = value[part], old[part]
    except (KeyError, IndexError, TypeError):
        return False
    if not path and isinstance(old, Mapping):
        old = {name: each for name, each in old.items() if name != "metadata"}
    return bool(value == old)


def _causes(error: jsonschema_rs.ValidationError) -> Iterator[Cause]:
    kind: Any = error.kind
    value: Any = error.instance
    path = _text(error.instance_path)
    what = f"{path} in body" if path else "body"
    match kind.name:
        case "required":
            yield required(f"{path}.{kind.property}" if path else kind.property)
        case "type":
            types = [each for each in kind.types if each != "null"]
            said = _type_name(value)
            yield type_invalid(path, said, f'{what} must be of type {",".join(types)}: "{said}"')
        case "enum":
            options = [each if isinstance(each, str) else shown(each) for each in kind.options]
            yield not_supported(path, value, options)
        case "maxLength":
            yield too_long(path, kind.limit)
        case "maxItems" | "maxProperties":
            yield too_many(path, len(value), kind.limit)
        case "oneOf" | "oneOfNotValid" | "oneOfMultipleValid" | "anyOf" | "not" | "allOf":
            yield invalid(_WHOLE, "", f'"{path}" {_composite(kind)}')
            for branch in getattr(kind, "context", None) or ():
                for below in branch[:1]:
                    yield from _causes(below)
                break
        case _:
            yield invalid(path, value, f"{what} {_rule(kind)}")


def _composite(kind: Any) -> str:
    match kind.name:
        case "anyOf":
            return "must validate at least one schema (anyOf)"
        case "not":
            return "must not validate the schema (not)"
        case "allOf":
            return "must validate all the schemas (allOf)"
    found = "Found none valid" if type(kind).__name__ == "OneOfNotValid" else "Found 2 valid alternatives"
    return f"must validate one and only one schema (oneOf). {found}"


def _rule(kind: Any) -> str:
    match kind.name:
        case "minimum":
            return f"should be greater than or equal to {shown(kind.limit)}"
        case "exclusiveMinimum":
            return f"should be greater than {shown(kind.limit)}"
        case "maximum":
            return f"should be less than or equal to {shown(kind.limit)}"
        case "exclusiveMaximum":
            return f"should be less than {shown(kind.limit)}"
        case "minLength":
            return f"should be at least {kind.limit} chars long"
        case "minItems":
            return f"should have at least {kind.limit} items"
        case "minProperties":
            return f"should have at least {kind.limit} properties"
        case "pattern":
            return f"should match '{kind.pattern}'"
        case "uniqueItems":
            return "shouldn't contain duplicates"
        case "multipleOf":
            return f"should be a multiple of {shown(kind.multiple_of)}"
        case "format":
            return f"must be of type {kind.format}"
    return "is not as its schema says"


def _text(path: Sequence[str | int]) -> str:
    return re.sub(r"^\.", "", "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path))


def _type_name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _lists(value: Any, schema: Schema, path: str) -> Iterator[Cause]:
    """Elements that stand twice in a list that is a set, or a map by its keys."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if (below := schema.field(name)) and below.custom:
                yield from _lists(each, below, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and schema.items:
        if schema.list_type in ("set", "map"):
            yield from _repeated(value, schema, path)
        for index, each in enumerate(value):
            yield from _lists(each, schema.items, f"{path}[{index}]")


def _repeated(values: Sequence[Any], schema: Schema, path: str) -> Iterator[Cause]:
    seen: set[bytes] = set()
    for index, each in enumerate(values):
        key = each
        if schema.list_type == "map":
            if not isinstance(each, dict):
                continue
            key = {name: each.get(name) for name in schema.list_map_keys if name in each}
        encoded = msgspec.json.encode(key, order="deterministic")
        if encoded in seen:
            yield duplicate(f"{path}[{index}]", key)
        seen.add(encoded)
